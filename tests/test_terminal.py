"""What the command line prints steers no terminal, and forges no line."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from curator_llm import QueryModel
from curator_llm.cli import main
from curator_llm.errors import ConfigurationError
from curator_llm.terminal import plain, word


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe 名 · $3\nnext", "größe 名 · $3\nnext"),
        ("\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
        ("a\rb\x9b31m\x7f", "a\\rb\\x9b31m\\x7f"),
        ("\u202eevil\u2028", "\\u202eevil\\u2028"),
        ("\ud83d", "\\ud83d"),
    ],
)
def test_what_is_not_printable_is_an_escape_and_line_ends_stay(text, shown):
    assert plain(text) == shown


def test_a_name_has_no_line_ends():
    assert word("a\nERROR b") == "a\\nERROR b"


@pytest.mark.parametrize(("prompt", "code"), [("{text}", 0), ("{missing}", 2)])
def test_names_of_columns_are_words_of_a_line(prompt, code, tmp_path):
    pd.DataFrame({"text": ["x"], "a\nERROR forged": [1], "\x1b[31m": [2]}).to_parquet(tmp_path / "docs.parquet")
    job = {
        "version": 1,
        "run_dir": str(tmp_path / "run"),
        "input": {"parquet": str(tmp_path / "docs.parquet")},
        "output": {"parquet": str(tmp_path / "out")},
        "endpoints": {"m": {"model": "m", "base_url": "http://localhost:1/v1"}},
        "stages": [{"query_model": {"endpoint": "m", "prompt": prompt, "output": "a"}}],
    }
    file = Path(tmp_path / "job.yaml")
    file.write_text(yaml.safe_dump(job))
    told = CliRunner().invoke(main, ["check", str(file)], color=True)
    assert told.exit_code == code
    assert "forged" in told.output
    assert "\x1b" not in told.output
    assert not any(line.startswith("ERROR") for line in told.output.splitlines())


@pytest.mark.parametrize("output", ["a\x1b[31m", "a\nb", "\u202ea", ""])
def test_a_column_that_would_steer_a_terminal_is_not_added(output):
    with pytest.raises(ConfigurationError, match="printable"):
        QueryModel("m", prompt="{text}", output=output)
