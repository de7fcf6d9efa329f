"""Changes the code of some rooms, one place at a time, and counts the changes no test notices: ``make mutation``.

What is changed and which tests are run stands in ``pyproject.toml`` under ``[tool.mutmut]``. All happens in a copy. The
tool leaves decorated functions (properties), constants of modules and what stands in class bodies as they are.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPY = ROOT / "build" / "mutation"
LOWEST_SCORE = 80.0

#: Exit codes of a mutant's tests, as mutmut keeps them.
_SURVIVED, _WITHOUT_TESTS = 0, 33
_IGNORED = {34, 37, None}  # told to skip, caught by a type checker, not run


def copy() -> None:
    """Put the package and the tests it takes into a fresh copy."""
    shutil.rmtree(COPY, ignore_errors=True)
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    for name in [
        *config["source_paths"],
        *config["also_copy"],
        "pyproject.toml",
        *config["pytest_add_cli_args_test_selection"],
    ]:
        source, target = ROOT / name, COPY / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for name in config["also_copy"]:  # mutmut copies these once more, and makes no directory for them
        (COPY / "mutants" / name).parent.mkdir(parents=True, exist_ok=True)


def outcomes() -> dict[str, Counter[str]]:
    """Return what became of the mutants of each file."""
    found = {}
    for meta in sorted(COPY.glob("mutants/curator_llm/**/*.py.meta")):
        codes = json.loads(meta.read_text())["exit_code_by_key"].values()
        named = {_SURVIVED: "survived", _WITHOUT_TESTS: "without tests"}
        count = Counter(named.get(code, "killed") for code in codes if code not in _IGNORED)
        if count:
            found[str(meta.relative_to(COPY / "mutants")).removesuffix(".meta")] = count
    return found


def score(count: Counter[str]) -> float:
    """Return how many of a hundred mutants a test noticed."""
    return 100 * count["killed"] / count.total()


def main() -> int:
    """Run mutmut in the copy and tell the score of each file; 1 when one of all together is too low."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rooms", nargs="*", help="errors wire limits journal engine; all without")
    given = parser.parse_args()
    copy()
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", "2"]
    command += [f"curator_llm.{room}.*" for room in given.rooms]
    log = COPY / "log"
    print(f"mutmut runs in {COPY.relative_to(ROOT)}, and tells how far it is in log", flush=True)
    with log.open("wb") as out:
        subprocess.run(command, cwd=COPY, stdout=out, stderr=subprocess.STDOUT, check=False)
    found = outcomes()
    if not found:
        print(log.read_text(errors="replace")[-2000:])
        return 1
    total: Counter[str] = sum(found.values(), Counter())
    for name, count in [*found.items(), ("all", total)]:
        missed = ", ".join(f"{count[word]} {word}" for word in ("survived", "without tests") if count[word])
        print(f"{name:<40} {score(count):5.1f} % of {count.total():5,}  {missed}")
    print(f"`mutmut results` and `mutmut show NAME` in {COPY.relative_to(ROOT)} tell which")
    return int(score(total) < LOWEST_SCORE)


if __name__ == "__main__":
    sys.exit(main())
