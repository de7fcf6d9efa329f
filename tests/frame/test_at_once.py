"""Runs on pandas frames as people see them: the lines, the bar, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import dask
import pandas as pd
import pytest

import curator_llm
from curator_llm import Endpoint, QueryModel
from curator_llm.errors import AuthenticationError, RowsFailedError
from curator_llm.testing import FakeServer


def stage(server: FakeServer, *, price_usd=None, cap=32, **arguments) -> QueryModel:
    endpoint = Endpoint("m", base_url=server.base_url, max_concurrent_requests=cap, price_usd=price_usd)
    return QueryModel(endpoint, **{"prompt": "{text}", "output": "a", **arguments})


def texts(*values: object) -> pd.DataFrame:
    return pd.DataFrame({"text": list(values)})


def test_the_line_before_bounds_the_price_of_what_is_sent_once(server, capsys):
    generation = {"max_tokens": 1_000_000, "temperature": 0}
    stage(server, price_usd=(0, 3), generation=generation)(texts("a", "a", "b", None))
    assert capsys.readouterr().err.splitlines()[0].endswith(", max $6.00")


def test_without_a_limit_of_the_reply_the_line_before_says_so(server, capsys):
    stage(server, price_usd=(1, 1))(texts("a"))
    assert "for the input, replies without limit (no max_tokens)" in capsys.readouterr().err.splitlines()[0]


def test_the_line_after_names_the_limit_that_held_the_run_back(server, capsys):
    stage(server, cap=2)(texts(*map(str, range(40))))
    assert capsys.readouterr().err.splitlines()[-1].endswith(" · held back by max_concurrent_requests")


def test_the_line_after_stands_before_the_error_when_too_many_rows_fail(server, capsys):
    server.change(faults=lambda _, __: "http:400")
    with pytest.raises(RowsFailedError):
        stage(server, fail_on_error=1)(texts("a", "b"))
    assert "a: rejected 2 (bad_request 2)" in capsys.readouterr().err


def test_a_bar_counts_rows_and_money_when_it_is_wanted(server, capsys, monkeypatch):
    monkeypatch.setattr("curator_llm.frame.bar._DELAY_S", 0)
    with dask.config.set({"curator-llm.progress": True}):
        stage(server, price_usd=(1e6, 0))(texts("one", "two", "three"))
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "$3.00" in shown


def test_no_bar_is_drawn_into_a_file(server, capsys, monkeypatch):
    monkeypatch.setattr("curator_llm.frame.bar._DELAY_S", 0)
    stage(server)(texts("a"))
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_run_that_stops_says_what_is_kept(server, capsys):
    server.change(faults=lambda prompt, _: "http:401" if prompt == "9" else None)
    with pytest.raises(AuthenticationError):
        stage(server, cap=1)(texts(*map(str, range(20))))
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("a: stopped: 9 of 20 rows answered; nothing more is sent, replies are kept in ")
    assert line.endswith("Run it again to ask only for the rest.")


def test_ctrl_c_ends_with_what_is_kept_and_a_second_run_asks_only_for_the_rest(server, own_journal):
    program = """
import signal, sys
import pandas as pd
from curator_llm import Endpoint, QueryModel
signal.signal(signal.SIGINT, signal.default_int_handler)
endpoint = Endpoint("m", base_url=sys.argv[1], max_concurrent_requests=4)
QueryModel(endpoint, prompt="{text}", output="a")(pd.DataFrame({"text": [str(n) for n in range(40)]}))
"""
    path = os.pathsep.join([str(Path(curator_llm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    server.pause()
    started = subprocess.Popen(
        [sys.executable, "-c", program, server.base_url],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    for sent in (1, *range(5, 13)):  # the first request goes alone, then four are in flight
        server.wait_until(lambda ledger, sent=sent: ledger.requests == sent, timeout_s=60)
        server.resume(1)
    server.wait_until(lambda ledger: ledger.requests == 13, timeout_s=60)
    started.send_signal(signal.SIGINT)
    assert started.stderr is not None
    lines = []
    while "interrupted" not in "".join(lines[-1:]):
        lines.append(started.stderr.readline())
    server.resume()
    started.communicate(timeout=60)
    assert re.search(rf"a: interrupted: \d of 40 rows answered; .* kept in {re.escape(str(own_journal))}, ", lines[-1])
    asked = server.ledger.requests
    assert asked <= 13
    stage(server, cap=4)(texts(*map(str, range(40))))
    assert server.ledger.requests == 40
