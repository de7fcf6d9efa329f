"""The embedded model as its users meet it: a real server and a real model."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from curator_llm.errors import ConfigurationError, EndpointUnreachableError
from curator_llm.local import LocalServer

LABELS = ["array", "dataframe", "scheduling"]
START = "from curator_llm.local import LocalServer, serve\n"


@pytest.fixture(scope="module")
def model() -> Iterator[LocalServer]:
    with LocalServer(slots=2) as server:
        yield server


def ask(server: LocalServer, text: str, **parameters: Any) -> dict[str, Any]:
    body = {"model": server.model, "messages": [{"role": "user", "content": text}], "max_tokens": 12, "temperature": 0}
    request = urllib.request.Request(
        f"{server.base_url}/chat/completions",
        json.dumps(body | parameters).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer: dict[str, Any] = json.load(reply)
    return answer


def run(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python program that finds the package as this process does."""
    # Where the tests run in the background of a shell, children are born deaf to Ctrl-C.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    return subprocess.Popen(
        [sys.executable, "-c", listening + START + program, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        text=True,
    )


def ends(pid: int) -> bool:
    """Wait for the end of a process that is not a child of this one."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 10)[0])
    finally:
        os.close(descriptor)


def test_it_answers_a_chat_completion(model: LocalServer) -> None:
    reply = ask(model, "Say hello.")
    assert reply["model"] == "smollm2"
    assert reply["choices"][0]["message"]["content"].strip()
    assert reply["usage"]["completion_tokens"] > 0


def test_a_reply_keeps_to_a_json_schema(model: LocalServer) -> None:
    schema = {"name": "label", "strict": True, "schema": {"type": "string", "enum": LABELS}}
    reply = ask(
        model,
        "Which topic is numpy.zeros?",
        max_tokens=32,
        response_format={"type": "json_schema", "json_schema": schema},
    )
    assert json.loads(reply["choices"][0]["message"]["content"]) in LABELS


def test_a_request_longer_than_a_slot_is_answered_with_400(model: LocalServer) -> None:
    with pytest.raises(urllib.error.HTTPError) as raised:
        ask(model, "word " * 5_000)
    with raised.value as reply:
        assert reply.code == 400
        assert b"context size" in reply.read()


def test_two_servers_at_once_have_different_ports(model: LocalServer) -> None:
    with LocalServer() as other:
        assert other.base_url != model.base_url
        assert ask(other, "Say hello.")["choices"]


def test_after_the_context_the_port_is_closed_and_the_process_gone() -> None:
    with LocalServer() as server:
        pid, port = server.pid, int(server.base_url.split(":")[2].partition("/")[0])
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_it_ends_when_its_parent_is_killed() -> None:
    program = "import signal\nserver = LocalServer()\nserver.start()\nprint(server.pid, flush=True)\nsignal.pause()"
    with run(program) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert ends(pid)


def test_serving_prints_the_address_and_how_to_use_it_and_ends_on_ctrl_c() -> None:
    with run("serve('smollm2', slots=3)") as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        usage = process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert address.startswith("http://127.0.0.1:")
    assert f'Endpoint("smollm2", base_url="{address}", max_concurrent_requests=3)' in usage


def test_a_server_that_is_not_ready_in_time_is_an_error_and_leaves_no_process() -> None:
    server = LocalServer(start_timeout="1ms")
    with pytest.raises(EndpointUnreachableError, match=r"'smollm2' was not ready within 0\.001 s"):
        server.start()
    assert server.pid is None


def test_a_server_that_cannot_start_says_what_it_wrote(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"no weights")
    monkeypatch.setattr("curator_llm.local.server.find_weights", lambda _: tmp_path / "broken.gguf")
    with pytest.raises(EndpointUnreachableError, match=r"(?s)ended at its start, code 1\..*Failed to init server"):
        LocalServer().start()


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"Port {port} .* give another one, or 0 for a free one"):
            LocalServer(port=port).start()


def test_a_server_can_be_started_again() -> None:
    again = LocalServer()
    for _ in range(2):
        with again:
            assert ask(again, "Say hello.")["choices"]


def test_without_a_start_there_is_no_address() -> None:
    with pytest.raises(ConfigurationError, match="is not running: use `with LocalServer"):
        _ = LocalServer().base_url


@pytest.mark.parametrize("wrong", [{"port": 70_000}, {"slots": 0}, {"context_tokens": 1}, {"threads": 0}])
def test_a_number_out_of_range_is_refused_by_name(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=f"`{next(iter(wrong))}` is"):
        LocalServer(**wrong)  # type: ignore[arg-type]
