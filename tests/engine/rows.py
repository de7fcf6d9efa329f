"""A row on its way through the retry rules, on a clock of its own, and the verdicts it may get."""

from __future__ import annotations

import random
from typing import Any

from curator_llm.engine.retry import Again, History, LineHistory, RetryPolicy, Step, next_step
from curator_llm.wire.verdicts import Verdict

OK = Verdict("final", status="ok", billed=True)
THROTTLED = Verdict("throttled", code="rate_limited")
SERVER_ERROR = Verdict("transient", code="server_error")
RESET = Verdict("transient", code="reset", billed=True)
TIMEOUT = Verdict("transient", code="timeout", billed=True)
MALFORMED = Verdict("transient", code="malformed", billed=True)
ERROR_IN_200 = Verdict("transient", code="error_in_200", billed=True)
CONNECT = Verdict("transient", code="connect", sent=False)
CLIENT_ERROR = Verdict("transient", code="client_error", sent=False)
FORBIDDEN = Verdict("run", code="authentication", text="403 no")
NOT_FOUND = Verdict("run", code="not_found", text="404 no")


def throttled(retry_after_s: float) -> Verdict:
    return Verdict("throttled", code="rate_limited", retry_after_s=retry_after_s)


class Row:
    """A row on its way: takes verdicts and keeps the time."""

    def __init__(self, *, answered: bool = True, line: LineHistory | None = None, seed: int = 0, **policy: Any) -> None:
        bounds = {"max_attempts": 5, "row_deadline_s": 3600.0, "unreachable_after_s": 60.0, **policy}
        self.line = line or LineHistory(answered=answered)
        self.history = History(RetryPolicy(**bounds), self.line, first_sent_at=0.0)
        self.rng = random.Random(seed)
        self.now = 0.0

    def take(self, verdict: Verdict) -> Step:
        """Take a verdict and let the time pass until the row is due."""
        self.line.note(verdict, self.now, self.now)
        step = next_step(self.history, verdict, self.now, self.rng)
        if isinstance(step, Again):
            assert step.due >= self.now
            self.now = step.due
        return step

    def take_all(self, *verdicts: Verdict) -> list[Step]:
        return [self.take(verdict) for verdict in verdicts]
