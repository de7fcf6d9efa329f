"""What to do after a verdict: done, again at a time, or stop the run. Pure: clock and random source are passed in.

Numbers: 5 attempts; timeouts and malformed bodies 2 (each may have been billed); throttled tries wait as the server
asks, else 1 s doubling to 60 s, and count as no attempt; what never reached a server costs nothing and waits too. A
server that asks for more than a quarter of an hour is asked again after that: it may have meant something else.

A row is given up when failing so often by chance is improbable. Five failures are that on a server that fails one
attempt in sixteen; where three in ten fail they happen to one row in 400, so there a row has twelve attempts.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from curator_llm.engine.repeats import Repeats
from curator_llm.wire.exchange import Status
from curator_llm.wire.verdicts import Verdict

MAX_TIMEOUTS = 2
MAX_MALFORMED = 2
MAX_BACKOFF_S = 8.0
MAX_THROTTLED_BACKOFF_S = 60.0
MAX_RETRY_AFTER_S = 900.0
#: From this throttled try on the server is given a whole window to recover.
PATIENT_FROM_TRY = 10
#: From this throttled try on a row that others overtake is on its own, and holds nobody up.
SINGLED_OUT_FROM_TRY = 4
#: A server that fails a larger share of its attempts is browned out: this chance bounds a row's attempts instead.
BROWN_OUT_RATE = 1 / 16
IMPROBABLE = 1e-6
#: So many times `max_attempts` are the most then.
MOST_TIMES = 4
#: Over how many attempts a line's share of failures is averaged.
AVERAGED_ATTEMPTS = 200
#: After the line has had an answer, so many requests in a row that are refused (403, 404, a schema) end the run.
MAX_REFUSALS_IN_A_ROW = 3
_PASSING = frozenset({"authentication", "not_found", "request_refused"})

#: What may have been paid for and is likely to come again: tried twice.
_MALFORMED = frozenset({"malformed", "error_in_200", "client_error"})
#: Faults that say nothing about a server at the other end.
_NO_ANSWER = frozenset({"connect", "dns", "tls", "certificate", "reset", "timeout", "closed", "local"})


#: Rejections that may be of what stands in every request.
_OF_ALL = frozenset({"bad_request", "max_tokens_renamed", "max_completion_tokens_renamed"})
#: What an attempt ends with; the others are none.
_COUNTED = frozenset({"final", "transient"})
#: Failures that say nothing about the row; many in a row are an outage.
_OUTAGE = frozenset({"connect", "dns", "tls", "reset", "timeout", "server_error", "server_timeout"})


def is_outage(verdict: Verdict) -> bool:
    """Tell whether a verdict speaks against the server, and not against the row."""
    return verdict.kind == "transient" and verdict.code in _OUTAGE


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The bounds of an endpoint.

    Parameters
    ----------
    max_attempts : int
    row_deadline_s : float
        From the first send; waiting for a throttling server is not counted.
    unreachable_after_s : float
        How long a server may be out of reach before its first answer.
    """

    max_attempts: int
    row_deadline_s: float
    unreachable_after_s: float


@dataclass(slots=True)
class LineHistory:
    """What a line has seen of its server.

    Attributes
    ----------
    answered : bool
        Whether any reply came that was no refusal.
    answers : int
        Replies that were neither refusals nor throttled.
    timeouts : int
    refusals : int
        Requests in a row that were refused (403, 404, a schema), each counted once.
    out_of_reach_since : float or None
        When the first request of an unanswered line failed to reach a server.
    passed_at : float
        When the last of the answered requests was sent.
    repeats : Repeats
        How the last requests were rejected.
    failure_rate : float
        Which share of rows' first attempts the server fails, averaged over the last ones; 0 until something fails.
        Later attempts say more about their rows.
    refused_since : float or None
        When a request was refused, while nothing that was sent later has passed.
    """

    answered: bool = False
    answers: int = 0
    timeouts: int = 0
    refusals: int = 0
    out_of_reach_since: float | None = None
    passed_at: float = -math.inf
    repeats: Repeats = field(default_factory=lambda: Repeats(0))
    failure_rate: float = 0.0
    refused_since: float | None = None

    def note(self, verdict: Verdict, now: float, sent_at: float, *, is_first: bool = True) -> None:
        """Take the verdict on what was sent at `sent_at` into account, before `next_step`."""
        if is_first and verdict.sent and verdict.kind in _COUNTED:
            failed = is_outage(verdict) or verdict.code == "request_conflict"
            self.failure_rate += (failed - self.failure_rate) / AVERAGED_ATTEMPTS
        if verdict.kind == "transient" and not verdict.sent:
            self.out_of_reach_since = now if self.out_of_reach_since is None else self.out_of_reach_since
        elif verdict.kind != "run" and verdict.code not in _NO_ANSWER:
            self.answered, self.refusals, self.out_of_reach_since = True, 0, None
            self.answers += verdict.kind != "throttled"
            self.passed_at = max(self.passed_at, sent_at)
            if self.refused_since is not None and sent_at > self.refused_since:
                self.refused_since = None
        elif verdict.code == "timeout":
            # A server that takes requests and is slow: waiting for each one alone would take for ever.
            self.timeouts += 1
            self.answered |= self.timeouts >= MAX_TIMEOUTS


@dataclass(slots=True)
class History:
    """What has happened to a flight.

    Attributes
    ----------
    attempts, timeouts, malformed, throttled, unsent : int
        By class; `attempts` counts what a server may have worked on.
    billed_attempts : int
        Those of the attempts that failed and may have to be paid.
    answers_before : int
        What the line had been answered when this flight was first throttled.
    first_sent_at : float or None
    waited_s : float
        For a throttling server.
    billed : bool
        Whether any attempt was, or may have been.
    refused : bool
        Whether it counts among the line's refusals.
    client_errors : int
        Exceptions of the client's own code before it sent anything.
    client_error_at : float
        When the first of them came.
    failed_at : float or None
        When its last attempt failed.
    """

    policy: RetryPolicy
    line: LineHistory
    attempts: int = 0
    timeouts: int = 0
    malformed: int = 0
    billed_attempts: int = 0
    throttled: int = 0
    answers_before: int = 0
    unsent: int = 0
    first_sent_at: float | None = None
    waited_s: float = 0.0
    billed: bool = False
    refused: bool = False
    client_errors: int = 0
    client_error_at: float = math.inf
    failed_at: float | None = None

    @property
    def is_suspect(self) -> bool:
        """Whether something that was sent after its last failure has passed: if it fails again, it may be the row."""
        return self.failed_at is not None and self.line.passed_at > self.failed_at

    def deadline(self) -> float:
        """Return the moment after which nothing is sent."""
        return (self.first_sent_at or 0.0) + self.policy.row_deadline_s + self.waited_s


@dataclass(frozen=True, slots=True)
class Done:
    """The row has its outcome; `final` says whether a rerun takes it."""

    status: Status
    final: bool


@dataclass(frozen=True, slots=True)
class Again:
    """Ask again at `due`; where a throttling server asks for it, nothing of the line starts before `pause_until`."""

    due: float
    throttled: bool = False
    pause_until: float | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """The run cannot go on."""


Step = Done | Again | Stop


def next_step(history: History, verdict: Verdict, now: float, rng: random.Random) -> Step:
    """Decide, and count the verdict into `history`.

    Parameters
    ----------
    history : History
        Its `first_sent_at` is set.
    verdict : Verdict
    now : float
        Seconds of a monotonic clock.
    rng : random.Random
        Spreads the waits.
    """
    history.billed |= verdict.billed
    match verdict.kind:
        case "final":
            history.attempts += verdict.sent
            if history.line.repeats.add(verdict.code if verdict.code in _OF_ALL else None):
                return Stop()
            return Done(verdict.status, final=verdict.status != "failed")
        case "run":
            return _after_refusal(history, verdict, now, rng)
        case "throttled":
            return _after_throttle(history, verdict, now, rng)
        case "transient":
            return _after_transient(history, verdict, now, rng)


def _after_refusal(history: History, verdict: Verdict, now: float, rng: random.Random) -> Step:
    """Stop at once, except for a refusal in the middle of a run that was going well, which may be about one row."""
    line = history.line
    line.refusals += not history.refused
    line.refused_since = now if line.refused_since is None else line.refused_since
    history.refused = True
    passing = verdict.code in _PASSING and not (verdict.text or "").startswith("401")
    if not passing or not line.answered or line.refusals >= MAX_REFUSALS_IN_A_ROW:
        return Stop()
    history.attempts += 1
    if history.attempts >= history.policy.max_attempts:
        return Done(verdict.status, final=verdict.status == "rejected")
    return _again_or_failed(history, now + _backoff_s(history.attempts, rng), now)


def _after_throttle(history: History, verdict: Verdict, now: float, rng: random.Random) -> Step:
    if not history.throttled:
        history.answers_before = history.line.answers
    others_pass = history.line.answers > history.answers_before
    history.throttled += 1
    if verdict.retry_after_s is not None:
        wait_s = min(MAX_RETRY_AFTER_S, verdict.retry_after_s) * (1 + 0.25 * rng.random())
    else:
        wait_s = _doubled_s(1.0, history.throttled - 1, MAX_THROTTLED_BACKOFF_S) * (0.5 + 0.5 * rng.random())
    if history.throttled >= SINGLED_OUT_FROM_TRY and others_pass:
        # The server means this row (too many tokens for one minute, say): it waits apart, and its deadline runs.
        patience_s = _doubled_s(1.0, history.throttled - 1, MAX_THROTTLED_BACKOFF_S)
        return _again_or_failed(history, now + max(wait_s, patience_s), now)
    pause_until = None if verdict.retry_after_s is None else now + wait_s
    if history.throttled >= PATIENT_FROM_TRY:
        wait_s = max(wait_s, MAX_THROTTLED_BACKOFF_S)
    history.waited_s += wait_s
    return Again(now + wait_s, throttled=True, pause_until=pause_until)


def _after_transient(history: History, verdict: Verdict, now: float, rng: random.Random) -> Step:
    if not verdict.sent:
        if verdict.code == "client_error" and _is_singled_out(history, now):
            return Done("failed", final=False)
        return _out_of_reach(history, now, rng)
    history.attempts += 1
    history.timeouts += verdict.code == "timeout"
    history.malformed += verdict.code in _MALFORMED
    history.billed_attempts += verdict.billed
    history.failed_at = now
    if (
        history.attempts >= _most_attempts(history)
        or history.billed_attempts >= history.policy.max_attempts
        or history.timeouts >= MAX_TIMEOUTS
        or history.malformed >= MAX_MALFORMED
    ):
        return Done(verdict.status, final=verdict.status == "rejected")
    wait_s = max(_backoff_s(history.attempts, rng), min(MAX_RETRY_AFTER_S, verdict.retry_after_s or 0.0))
    return _again_or_failed(history, now + wait_s, now)


def _most_attempts(history: History) -> int:
    """Return how many attempts a row has: more than `max_attempts` while so many fail that it may be chance."""
    most, rate = history.policy.max_attempts, history.line.failure_rate
    if most == 1 or rate <= BROWN_OUT_RATE:
        return most
    return next((n for n in range(most, MOST_TIMES * most) if rate**n <= IMPROBABLE), MOST_TIMES * most)


def _is_singled_out(history: History, now: float) -> bool:
    """Tell whether a client's own code refuses this row: what was sent after its first exception passed."""
    history.client_errors += 1
    history.client_error_at = min(history.client_error_at, now)
    return history.client_errors >= history.policy.max_attempts and history.line.passed_at > history.client_error_at


def _out_of_reach(history: History, now: float, rng: random.Random) -> Step:
    """Wait for a server that cannot be reached: until the row's deadline if it ever answered, else not long."""
    history.unsent += 1
    due = now + _backoff_s(history.unsent, rng)
    since = history.line.out_of_reach_since
    if not history.line.answered and since is not None:
        end = since + history.policy.unreachable_after_s
        return Stop() if now >= end else Again(min(due, end))
    return _again_or_failed(history, due, now)


def _again_or_failed(history: History, due: float, now: float) -> Step:
    return Again(due) if max(due, now) < history.deadline() else Done("failed", final=False)


def _backoff_s(tries: int, rng: random.Random) -> float:
    """Full jitter, doubling from half a second; a tenth at least, so that nobody spins."""
    return max(0.1, rng.random() * _doubled_s(0.5, tries, MAX_BACKOFF_S))


def _doubled_s(first_s: float, times: int, most_s: float) -> float:
    return min(most_s, first_s * 2.0 ** min(times, 16))  # an outage of hours must not overflow a float
