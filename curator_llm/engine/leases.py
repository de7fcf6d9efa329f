"""An engine's part in the lease books: it reports what it holds and could use, and takes what is granted.

Lives on the engine's loop. Without grants the engine starts nothing; who carries reports and grants is not its job.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping

from curator_llm.engine.line import Line
from curator_llm.engine.scopes import Scopes
from curator_llm.limits.allowance import PERMITS, REQUESTS, TOKENS
from curator_llm.limits.lease_book import VALID_S, Grant, Report

#: So much more than it takes now an engine asks for, where it does not lack it.
HEADROOM = 1.1


class Leases:
    """One member of the books of all scopes.

    Parameters
    ----------
    lines : mapping of str to Line
        By scope.
    scopes : Scopes
        What their endpoints ask for.
    """

    def __init__(self, lines: Mapping[str, Line], scopes: Scopes) -> None:
        self.incarnation = uuid.uuid4().hex
        self._lines = lines
        self._scopes = scopes
        self._seq = 0
        self._short: dict[str, tuple[str, ...]] = {}
        self._reported_at: dict[str, float] = {}
        self._told: dict[str, tuple[int, int]] = {}
        #: Whether this process is about to end: it wants nothing more.
        self.leaving = False

    @property
    def waits(self) -> bool:
        """Whether a share has to move: rows wait for permits here, or rows of others for what is idle here."""
        for scope, line in list(self._lines.items()):
            permits = line.allowance.permits
            could_use, short = line.backlog and permits.free <= 0, PERMITS in self._short.get(scope, ())
            if could_use and (not permits.cap or not short):
                return True
            if short and permits.cap and not line.backlog and not permits.in_flight:
                return True
        return False

    def report(self, *, interval_s: float) -> dict[str, Report]:
        """Say what is held and wanted, by scope; `interval_s` seconds pass until the next report."""
        self._seq += 1
        now, reports = time.monotonic(), {}
        for scope, line in list(self._lines.items()):
            allowance = line.allowance
            want = self._want(scope, line, interval_s)
            allowance.give_back(want if self.leaving else self._short.get(scope, ()), want, now)
            before, told = self._told.get(scope, (0, 0)), (allowance.answered, allowance.throttles)
            self._told[scope] = told
            reports[scope] = Report(
                incarnation=self.incarnation,
                seq=self._seq,
                held=allowance.held,
                want=want,
                limits=self._scopes.limits(scope),
                longest_s=line.longest_s,
                answered=told[0] - before[0],
                throttled=told[1] - before[1],
                pause_s=allowance.pause_asked_s(now),
            )
        return reports

    def take(self, seq: int, grants: Mapping[str, Grant], sent_at: float) -> None:
        """Use what was granted to the report of this number, sent at this time; only the latest one counts."""
        if seq != self._seq:
            return
        now = time.monotonic()
        for scope, grant in grants.items():
            line = self._lines.get(scope)
            if line is None:
                continue
            self._short[scope] = grant.short
            amounts = self._scopes.grant(scope, dict.fromkeys(grant.amounts, 0.0) if self.leaving else grant.amounts)
            if grant.pause_s:
                line.allowance.pause(now + grant.pause_s)
            line.allowance.expires_at = sent_at + VALID_S
            line.allowance.grant(amounts, now)
            line.pump()

    def _want(self, scope: str, line: Line, interval_s: float) -> dict[str, float]:
        """Say what could be used: of permits and of what there was too little of all, of the rest a bit more than now.

        One who lacks tokens needs few requests a minute: they are of use where prompts are short.
        """
        if self.leaving:
            return dict.fromkeys((PERMITS, REQUESTS, TOKENS), 0.0)
        now, before = time.monotonic(), self._reported_at.get(scope)
        self._reported_at[scope] = now
        taken, missed = line.allowance.demand()
        most = {REQUESTS: line.backlog * 60 / interval_s}
        most[TOKENS] = most[REQUESTS] * line.mean_tokens
        want: dict[str, float] = {
            PERMITS: min(line.allowance.permits.in_flight + line.backlog, self._scopes.most_permits(scope))
        }
        for name, all_of_it in most.items():
            if before is None or name in missed or (line.backlog and not taken):
                want[name] = all_of_it
            else:
                more = HEADROOM * taken.get(name, 0.0) * 60 / max(now - before, 1e-3)
                want[name] = min(all_of_it, more) if line.backlog else more
        return want
