"""The fake server in another process is the same server."""

import inspect
import signal
import subprocess
import sys
import urllib.request

import pytest

from curator_llm.testing import FakeServer, FakeServerProcess, answer_to
from curator_llm.testing.__main__ import parser


@pytest.fixture(scope="module")
def shared():
    with FakeServerProcess(models=["any", "b"], faults_named=True, remember=1000) as server:
        yield server


@pytest.fixture
def server(shared):
    shared.reset()
    return shared


def port_of(server):
    return int(server.base_url.rsplit(":")[-1].removesuffix("/v1"))


@pytest.fixture
def ask(ask):
    class At:
        def __init__(self, server):
            self.port = port_of(server)

    return lambda server, *args, **body: ask(At(server), *args, **body)


def test_it_answers_as_in_a_thread(server, ask):
    assert ask(server, "Why?").message["content"] == answer_to("Why?")
    assert ask(server, "http:503@1: p").http == 503
    assert ask(server, "p", model="c").http == 404


def test_its_ledger_crosses(server, ask):
    ask(server, "half \ud83d", headers={"X-Run": "7"})
    ledger = server.ledger
    assert (ledger.requests, ledger.by_status, ledger.seen) == (1, {200: 1}, ())
    (seen,) = server.read_ledger().seen
    assert (seen.prompt, seen.headers["x-run"], seen.http, type(seen.raw)) == ("half \ud83d", "7", 200, bytes)


def test_it_can_be_waited_for(server, ask):
    ask(server, "p")
    assert server.wait_until(lambda ledger: ledger.answered == 1).requests == 1
    with pytest.raises(TimeoutError, match="last ledger"):
        server.wait_until(lambda ledger: ledger.requests == 5, timeout_s=0.01)


def test_it_can_be_steered(server, ask):
    server.pause()
    server.resume(1)
    server.resume()
    server.drop_connections()
    server.change(answer="other")
    assert ask(server, "p").message["content"] == "other"
    server.change(answer=None)
    with pytest.raises(TypeError, match="latnecy"):
        server.change(latnecy=1)


def test_the_counts_outlive_it_and_its_key_stands_in_no_command_line(ask):
    with FakeServerProcess(
        api_key="sk-CANARY", latency=0.0, long_tail=True, fault=["http:500"], fault_rate=0.0
    ) as server:
        command = server._process.args
        assert ask(server, "p").http == 401
        assert ask(server, "p", headers={"Authorization": "Bearer sk-CANARY"}).http == 200
    assert "sk-CANARY" not in " ".join(command)
    assert server.ledger.by_status == {401: 1, 200: 1}
    with pytest.raises(RuntimeError, match="call start"):
        server.pause()


def test_every_argument_of_the_server_that_is_text_or_a_number_is_an_option_of_the_program():
    arguments = set(inspect.signature(FakeServer).parameters) - {"faults", "ssl"}
    assert arguments <= set(vars(parser().parse_args([])))


def test_an_unknown_option_is_told():
    with pytest.raises(RuntimeError, match="unrecognized arguments: --latnecy=1"):
        FakeServerProcess(latnecy=1).start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_a_program_it_prints_its_url_first_and_runs_until_it_is_stopped(number):
    command = [sys.executable, "-m", "curator_llm.testing", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/models", timeout=20) as reply:
            assert reply.status == 200
        process.send_signal(number)
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()
