"""Runs the scorecard, each check in a process of its own, and writes it down: ``make reliability``."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from tests.chaos.scorecard import Check, Figure, Setting, all_checks

ROOT = Path(__file__).parents[2]
#: No check may take longer.
LIMIT_S = 400
_PACKAGES = ("curator-llm", "dask", "distributed", "pandas", "pyarrow", "openai", "pyreqwest")


class Outcome(msgspec.Struct, omit_defaults=True):
    """How a check ended."""

    id: str
    title: str
    seed: int
    seconds: float = 0.0
    figures: list[Figure] = []
    error: str | None = None

    @property
    def passed(self) -> bool:
        """Whether it ran to its end and every mark is reached."""
        return self.error is None and bool(self.figures) and all(figure.passed for figure in self.figures)


def run_here(check: Check, seed: int) -> Outcome:
    """Run a check in this process."""
    outcome = Outcome(check.id, check.title, seed, figures=[])
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            for figure in check.figures(Setting(small=False, seed=seed, scratch=Path(scratch))):
                outcome.figures.append(msgspec.structs.replace(figure, value=float(figure.value)))  # also of a bool
        except Exception:  # noqa: BLE001  the scorecard tells it
            outcome.error = traceback.format_exc()
    return outcome


def run_apart(check: Check, seed: int) -> Outcome:
    """Run a check in a process of its own, with a home of its own: no key, no proxy, no journal of the user."""
    keep = ("PATH", "LANG", "VIRTUAL_ENV", "SSL_CERT_FILE")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        environment = {name: os.environ[name] for name in keep if name in os.environ}
        environment |= {"HOME": home, "XDG_CACHE_HOME": home, "TMPDIR": home}
        command = [sys.executable, "-m", "tests.chaos.reliability", "--one", check.id, "--seed", str(seed)]
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, timeout=LIMIT_S, text=True, check=False
            )
            said = [line for line in done.stdout.splitlines() if line.startswith('{"id"')]  # programs print lines, too
            outcome = msgspec.json.decode("".join(said[-1:]), type=Outcome)
        except subprocess.TimeoutExpired:
            outcome = Outcome(check.id, check.title, seed, error=f"took longer than {LIMIT_S} s")
        except msgspec.MsgspecError:
            outcome = Outcome(check.id, check.title, seed, error=f"ended with {done.returncode}: {done.stderr[-2000:]}")
    outcome.seconds = round(time.monotonic() - started, 1)
    return outcome


def page(outcomes: Sequence[Outcome], machine: dict[str, str]) -> str:
    """Return the scorecard as Markdown."""
    passed = sum(outcome.passed for outcome in outcomes)
    lines = [
        "# Reliability",
        "",
        f"{passed} of {len(outcomes)} checks passed. Written by `make reliability`; every figure comes from a run.",
        "",
        *(f"- {name}: {value}" for name, value in machine.items()),
        "",
        "| | check | figure | measured | mark | seed | seconds |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for outcome in outcomes:
        rows = outcome.figures or [Figure("-", float("nan"))]
        for place, figure in enumerate(rows):
            first = (outcome.id, outcome.title) if not place else ("", "")
            last = (str(outcome.seed), f"{outcome.seconds:g}") if not place else ("", "")
            value = f"{figure.value:,.6g}" + ("" if figure.passed else " **missed**")
            lines.append(f"| {' | '.join([*first, figure.name, value, figure.mark, *last])} |")
    for outcome in outcomes:
        if outcome.error:
            lines += ["", f"## {outcome.id} did not run to its end", "", "```", outcome.error.strip(), "```"]
    return "\n".join([*lines, ""])


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }


def main() -> int:
    """Run what the command line says; 1 when a mark is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids", nargs="*", help="R1 R2 ...; all without")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "reliability")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    checks = {check.id: check for check in all_checks()}
    if given.one:
        print("\n" + msgspec.json.encode(run_here(checks[given.one], given.seed)).decode(), flush=True)
        return 0
    outcomes = []
    for name in given.ids or checks:
        outcome = run_apart(checks[name], given.seed)
        outcomes.append(outcome)
        lines = [f"{outcome.id:4} {'passed' if outcome.passed else 'MISSED'} {outcome.seconds:6.1f} s  {outcome.title}"]
        lines += [f"       {figure}{'' if figure.passed else '   <-- missed'}" for figure in outcome.figures]
        print("\n".join([*lines, *filter(None, [outcome.error])]), flush=True)
    given.output.mkdir(parents=True, exist_ok=True)
    card = {"machine": machine(), "checks": outcomes}
    (given.output / "reliability.json").write_bytes(msgspec.json.format(msgspec.json.encode(card)))
    (given.output / "RELIABILITY.md").write_text(page(outcomes, machine()), encoding="utf-8")
    print(f"{sum(one.passed for one in outcomes)} of {len(outcomes)} passed; written to {given.output}")
    return 0 if all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
