"""What the README and the pages in docs/ show works as it stands: code, jobs, commands, tables and links."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import dask
import pandas as pd
import pytest
import yaml

from curator_llm import Budget, Endpoint, QueryModel, QueryRewardModel, errors, runtime
from curator_llm.cli import main
from curator_llm.frame.lines import plan_line, summary_line
from curator_llm.job.file.cluster import CLUSTER_KEYS
from curator_llm.job.file.filters import OPERATORS
from curator_llm.job.file.job_file import load_job
from curator_llm.job.file.stage_kinds import STAGES, parameters
from curator_llm.job.meaning import differences
from curator_llm.job.run import run_job
from curator_llm.testing import FakeServer, answer_to, faults_named_in_prompt
from curator_llm.wire.exchange import STATUSES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LOCAL = re.compile(r"http://localhost:800[01]/v1")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name if page.parent == ROOT else page.stem)


class Block(NamedTuple):
    """A block of code; its info string is a language, then the name of a file that it is."""

    language: str
    file: str
    text: str


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    for info, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        language, _, file = info.partition(" ")
        if not languages or language in languages:
            yield Block(language, file, text)


def tables(page: Path) -> Iterator[list[list[str]]]:
    """Yield each table: its rows, the first one the names of the columns."""
    lines = BLOCK.sub("", page.read_text(encoding="utf-8")).splitlines()
    rows: list[list[str]] = []
    for line in [*lines, ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            yield [rows[0], *rows[2:]]
            rows = []


def table(page: str, *columns: str) -> list[list[str]]:
    """Return the rows of the one table with these first columns."""
    (found,) = [rows for rows in tables(ROOT / "docs" / page) if tuple(rows[0][: len(columns)]) == columns]
    return found[1:]


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A current directory with the data that the pages read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("docs").mkdir()
    pd.DataFrame({"id": [1, 2], "text": ["a", "b"]}).to_parquet("docs/part.parquet")
    return tmp_path


def write_files(page: Path, server: FakeServer) -> None:
    for block in blocks(page):
        if block.file and block.file != "no-run":
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(LOCAL.sub(server.base_url, block.text), encoding="utf-8")


# --- code -------------------------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:The inplace keyword")  # what Dask's to_parquet uses, pandas 3.1 is leaving
@each_page
def test_the_python_blocks_of_a_page_run_in_order(page, place, server, monkeypatch):
    for name, value in {"TEAM_KEY": "made-up", "TEAM_URL": server.base_url}.items():
        monkeypatch.setenv(name, value)
    write_files(page, server)
    names: dict = {"__name__": "page"}
    with dask.config.set(scheduler="threads"):
        for block in blocks(page, "python"):
            if not block.file:
                exec(compile(LOCAL.sub(server.base_url, block.text), page.name, "exec"), names)
    if page.name == "README.md" and page.parent == ROOT:
        assert names["df"]["topic"].tolist()[0] == answer_to("Topic of: Interest rates rise")
        assert pd.read_parquet("tagged")["topic"].tolist() == [answer_to("Topic of: a"), answer_to("Topic of: b")]


# --- jobs and commands ------------------------------------------------------------------------------------------------
@each_page
def test_the_jobs_of_a_page_are_read(page, place, server):
    write_files(page, server)
    for number, block in enumerate(blocks(page, "yaml")):
        path = Path(f"read-{number}.yaml")
        path.write_text(block.text, encoding="utf-8")
        assert load_job(path).steps


@each_page
def test_every_command_option_target_and_extra_of_a_page_is_there(page):
    text = "".join(block.text for block in blocks(page, "", "sh")).replace("\\\n", " ")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert set(words[1:2]) <= set(targets)
        for named in re.findall(r"\[([a-z,]+)\]", line) if words[:2] == ["pip", "install"] else ():
            assert set(named.split(",")) <= set(extras)
        if "curator-llm" in words and "|" not in words:
            name, *arguments = words[words.index("curator-llm") + 1 :]
            main.commands[name].make_context(name, arguments)  # refuses unknown options, and arguments that lack


# --- links ------------------------------------------------------------------------------------------------------------
@each_page
def test_the_links_of_a_page_lead_somewhere(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text):
        if "://" in target:
            continue
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", there.read_text(encoding="utf-8")), re.MULTILINE)
            assert anchor in map(slug, headings), f"{target}#{anchor}"


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if page.name != "README.md" and f"]({page.name})" not in index] == []


def test_the_rooms_and_files_that_contributors_are_told_of_are_there():
    (rooms,) = [rows[1:] for rows in tables(ROOT / "CONTRIBUTING.md") if rows[0][0] == "room"]
    package = ROOT / "curator_llm"
    named = [(room.strip("`"), file) for room, _, files in rooms for file in re.findall(r"`(\w+\.py)`", files)]
    assert [(room, file) for room, file in named if not (package / room / file).is_file()] == []
    there = {path.name + "/" * path.is_dir() for path in package.iterdir() if path.suffix == ".py" or path.is_dir()}
    listed = {room.strip("`") for room, *_ in rooms}
    assert there - {"__init__.py", "__main__.py", "__pycache__/"} <= listed


def test_the_readme_is_short_and_begins_with_the_commands_and_ten_lines_of_code():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 170
    screen = "\n".join(lines[:25])
    assert "make demo" in screen
    assert "make test" in screen
    assert "QueryModel(" in screen


# --- costs ------------------------------------------------------------------------------------------------------------
COSTS = [[call.strip("`"), *map(int, figures)] for call, *figures in table("costs.md", "call", "first", "again")]


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # as above
@pytest.mark.parametrize("kept", [True, False], ids=["journal", "no journal"])
def test_a_call_costs_what_the_page_says(kept, place):
    import dask.dataframe as dd

    df = pd.DataFrame({"n": range(80), "text": [f"text {n}" for n in range(80)]})
    names = {
        "dask": dask,
        "df": df,
        "ddf": dd.from_pandas(df, npartitions=8),
        "other": dd.from_pandas(pd.DataFrame({"n": range(80), "m": 1}), npartitions=4),
    }
    found = []
    with FakeServer() as server, dask.config.set(scheduler="threads"):
        for number, (call, *_) in enumerate(COSTS):
            model = Endpoint("m", base_url=server.base_url)
            names["stage"] = QueryModel(
                model,
                prompt="Topic of {text}",
                output="topic",
                generation={"temperature": 0},
                journal=f"journal-{number}" if kept else False,
            )
            names["tagged"] = names["stage"](names["ddf"])
            figures = []
            for _ in range(2):
                before = server.ledger.requests
                eval(call, names)
                figures.append(server.ledger.requests - before)
            found.append([call, *figures])
    assert found == [[call, *(figures[:2] if kept else figures[2:])] for call, *figures in COSTS]


# --- messages ---------------------------------------------------------------------------------------------------------
def said() -> str:
    """Return the texts of the package, those over several lines in one piece."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "curator_llm").rglob("*.py"))
    return re.sub(r"""["']\s*\n\s*f?["']""", "", sources)


@each_page
def test_the_messages_a_page_quotes_are_those_of_the_package(page):
    texts = said()
    for names, *rows in tables(page):
        for column, name in enumerate(names):
            if "message" in name:
                quoted = [part for row in rows for part in re.findall(r"`([^`]+)`", row[column])]
                assert quoted
                parts = [part.strip(" .():") for quote in quoted for part in re.split("…", quote)]
                assert [part for part in parts if part not in texts] == []


# --- sizing -----------------------------------------------------------------------------------------------------------
def settings(tree: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        yield from settings(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]


def test_the_settings_of_the_page_are_those_there_are_with_their_defaults():
    packaged = yaml.safe_load((ROOT / "curator_llm" / "curator-llm.yaml").read_text(encoding="utf-8"))
    shown = {name.strip("`"): yaml.safe_load(value.strip("`")) for name, value, _ in table("sizing.md", "setting")}
    assert shown == dict(settings(packaged))


# --- statuses ---------------------------------------------------------------------------------------------------------
#: What ends a row so, as a fault of the fake server; the same fault at each attempt.
FAULTS = [
    *("finish_length", "content_filter_400", "refusal", "null_content", "tool_calls_only", "huge_body:1", "http:413"),
    *("context_length", "http:400", "reset", "http:500", "http:408", "http:409", "html_200", "error_in_200"),
]
#: Codes that take a deadline, a client or a process of their own: each has its tests in the engine's rooms.
ELSEWHERE = {
    *(("failed", code) for code in ("connect", "dns", "tls", "rate_limited", "overloaded", "authentication")),
    *(("failed", code) for code in ("not_found", "client_error", "closed")),
    *(("rejected", code) for code in ("local", "request_refused")),
}
FORM = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


def ended(frame: pd.DataFrame, output: str = "a") -> set[tuple[str, str]]:
    """Return how rows ended: status and code."""
    errors = frame[f"{output}__error"].fillna("").str.partition(":")[0]
    return {pair for pair in zip(frame[f"{output}__status"], errors, strict=True) if pair[1]}


def test_the_codes_of_the_page_are_those_that_rows_end_with(own_journal):
    cut = {"content": "yes", "finish_reason": "length"}
    answers = {"cut": cut, "think": "<think>Hm.", "prose": "Perhaps.", "form": '{"a": 1}', "scores": "wit:1.0"}
    with (
        FakeServer(faults=faults_named_in_prompt, answer=answers.get) as server,
        dask.config.set({"curator-llm.engine.max-reply-bytes": "100kB"}),
    ):
        runtime.close()  # the setting is read when an engine meets a server

        def ask(*texts: object, kind=QueryModel, timeout=60, **arguments) -> set[tuple[str, str]]:
            endpoint = Endpoint("m", base_url=server.base_url, timeout=timeout, max_attempts=2)
            name = "prompt" if kind is QueryModel else "messages"
            stage = kind(endpoint, **{name: "{text}", "output": "a", **arguments})
            column = pd.Series(list(texts), dtype=object)
            return ended(stage(pd.DataFrame({"text": column})))

        found = ask(*(f"{fault}: x" for fault in FAULTS), "think", b"bytes", None, "\ud800")
        found |= ask("hang: x", timeout=0.1)
        found |= ask("prose", choices=["yes", "no"]) | ask("cut", choices=["yes", "yes, sir"])
        found |= ask("prose", "form", generation={"response_format": FORM})
        found |= ask("fine", "fine too", budget=Budget(max_requests=1, name="small"))
        found |= ask("reset: x", budget=Budget(max_requests=1, name="smaller"))
        found |= ask("no chat", prompt=None, messages="text")
        chat = [{"role": "user", "content": "{text}"}]
        found |= ask("prose", "scores", kind=QueryRewardModel, messages=chat)
        stage = QueryModel(Endpoint("m", base_url=server.base_url), prompt="{text}", output="a")
        found |= ended(stage.replay(pd.DataFrame({"text": ["new"]})))
        runtime.close()
    shown = [(status.strip("`"), code.strip("`")) for code, status, *_ in table("statuses.md", "code", "status")]
    assert len(shown) == len(set(shown))
    assert set(shown) - ELSEWHERE == found
    assert set(shown) >= ELSEWHERE


def test_the_statuses_and_stops_of_the_page_are_those_there_are():
    assert tuple(row[0].strip("`") for row in table("statuses.md", "status", "what it means")) == STATUSES
    stops = {row[0].strip("`") for row in table("statuses.md", "exception")}
    assert stops == {kind.__name__ for kind in errors.RunError.__subclasses__()}


# --- jobs -------------------------------------------------------------------------------------------------------------
JOBS = ROOT / "docs" / "jobs.md"


@pytest.fixture
def report(place, server):
    """Run the page's job, and return its report."""
    write_files(JOBS, server)
    assert run_job(load_job("job.yaml"), say=lambda _: None, processes=False).exit_code == 0
    return json.loads(Path("runs/topics/report.json").read_text())


def code_of(rows: list[list[str]], column: int = 0) -> list[str]:
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row[column])]


def test_the_job_of_the_page_runs_and_its_report_and_run_directory_hold_what_the_page_says(report):
    tagged = pd.read_parquet("tagged")
    assert tagged["id"].tolist() == ["007", "008"]
    assert tagged["topic"].isin(["weather", "money", "other"]).all()
    assert sorted(code_of(table("jobs.md", "field", ""))) == sorted(report)
    assert sorted(code_of(table("jobs.md", "field of a stage"))) == sorted(report["stages"][0])
    there = {path.name + "/" * path.is_dir() for path in Path("runs/topics").iterdir()}
    assert set(code_of(table("jobs.md", "file"))) == there


def test_every_key_filter_and_option_is_on_the_page():
    text = JOBS.read_text(encoding="utf-8")
    keys = {field.name for field in dataclasses.fields(Endpoint)} | set(OPERATORS)
    keys |= set(CLUSTER_KEYS)
    for kind in STAGES:
        keys |= set(parameters(kind))
    assert [key for key in sorted(keys) if not re.search(rf"\b{key}:|`{key}`", text)] == []
    shown = set(re.findall(r"`(--[a-z-]+)", "".join(row[0] for row in table("jobs.md", "option"))))
    options = {name for command in main.commands.values() for option in command.params for name in option.opts}
    assert {name for name in options if name.startswith("--")} == shown


def test_the_complete_job_is_read_with_all_its_parts(place, server):
    write_files(JOBS, server)
    job = load_job("complete.yaml")
    assert [type(step).__name__ for step in job.steps] == ["Filter", "Query", "Query", "Query", "Filter"]
    assert job.cluster.memory_limit == "8GiB"


# --- the journal ------------------------------------------------------------------------------------------------------
def test_the_journal_holds_replies_and_no_prompts(own_journal):
    with FakeServer(answer="a reply") as server:
        stage = QueryModel(Endpoint("m", base_url=server.base_url), prompt="About {text}", output="a")
        stage(pd.DataFrame({"text": ["a secret of ours"]}))
    kept = b"".join(path.read_bytes() for path in own_journal.rglob("*") if path.is_file())
    assert b"a reply" in kept
    assert b"secret" not in kept
    assert b"About" not in kept


# --- the two lines ----------------------------------------------------------------------------------------------------
def test_the_lines_the_pages_show_are_those_that_are_printed():
    journal = Path("~/.cache/curator-llm/journal")
    ended = {"ok": 299_201, "truncated": 668, "failed": 131}
    failures, held = {"timeout": 120, "server_error": 11}, "max_requests_per_minute"
    printed = {
        plan_line("topic", rows=300_000, requests=299_512, reused=488, journal=journal, max_cost_usd=61),
        summary_line("topic", ended, seconds=1_260, failures=failures, cost_usd=37.9, held_back_by=held),
        plan_line("topic", rows=80, requests=75, reused=5, journal=journal, max_cost_usd=0.0013),
    }
    fewer, more = ({"stages.0.query_model.generation.max_tokens": limit} for limit in (16, 64))
    printed |= {f"  {line}" for line in differences(fewer, more)}
    printed.add("job.yaml is not the job that was run in runs/topics:")  # tests/job/test_meaning.py has it from a run
    shown = [block.text.splitlines() for page in PAGES for block in blocks(page, "text") if not block.file]
    assert {line for lines in shown for line in lines} == printed
