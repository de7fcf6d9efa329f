"""The fake server's endpoints, refusals, quotas and life."""

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from contextlib import closing

import pytest

from curator_llm.testing import FakeServer, answer_to

KEY = "sk-CANARY-0123456789abcdef"


def test_the_models_are_listed():
    with (
        FakeServer(models=["a", "b"]) as server,
        urllib.request.urlopen(f"{server.base_url}/models") as reply,
    ):
        assert [model["id"] for model in json.load(reply)["data"]] == ["a", "b"]


def test_an_unknown_model_is_a_404_in_openais_envelope(ask):
    with FakeServer(models=["a"]) as server:
        got = ask(server, "p", model="b")
        assert ask(server, "p", model="a").http == 200
    assert got.http == 404
    assert got.error["code"] == "model_not_found"
    assert "`b` does not exist" in got.error["message"]


def test_any_prefix_may_stand_before_chat_completions(post):
    body = {"model": "m", "messages": [{"role": "user", "content": "p"}]}
    with FakeServer() as server:
        assert post(server, body, path="/openai/deployments/x/chat/completions?api-version=1").http == 200
        assert server.ledger.seen[0].path == "/openai/deployments/x/chat/completions"


@pytest.mark.parametrize("path", ["/", "/v1/completions", "/v1/chat/completion"])
def test_an_unknown_path_is_a_404(post, path):
    with FakeServer() as server:
        assert post(server, {}, path=path).http == 404


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"messages": 1}', b"\xff", b"[" * 100_000])
def test_a_body_without_messages_is_a_400(post, raw):
    with FakeServer() as server:
        assert post(server, raw).http == 400
        assert server.ledger.seen[0].raw == raw


def test_without_the_key_it_is_a_401(ask):
    with FakeServer(api_key=KEY) as server:
        got = ask(server, "p")
        assert ask(server, "p", headers={"Authorization": f"Bearer {KEY}"}).http == 200
    assert got.http == 401
    assert "didn't provide an API key" in got.error["message"]


def test_a_wrong_key_is_echoed_masked(ask):
    with FakeServer(api_key=KEY) as server:
        got = ask(server, "p", headers={"Authorization": "Bearer sk-WRONG-0123456789wxyz"})
    assert (got.http, got.error["code"]) == (401, "invalid_api_key")
    assert "sk-WRONG***********wxyz" in got.error["message"]
    assert b"0123456789" not in got.raw


def test_a_server_may_know_max_completion_tokens_alone(ask):
    with FakeServer(only_max_completion_tokens=True) as server:
        got = ask(server, "p", max_tokens=5)
        assert ask(server, "p", max_completion_tokens=5).http == 200
    assert got.http == 400
    assert (got.error["code"], got.error["param"]) == ("unsupported_parameter", "max_tokens")
    assert "Use 'max_completion_tokens' instead." in got.error["message"]


def test_requests_above_the_quota_are_told_when_to_come_back(ask):
    with FakeServer(requests_per_minute=1, burst=2) as server:
        first, second, third = (ask(server, "p") for _ in range(3))
    assert [first.http, second.http, third.http] == [200, 200, 429]
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert third.error["code"] == "rate_limit_exceeded"
    assert 0 < int(third.headers["retry-after-ms"]) <= int(third.headers["retry-after"]) * 1000 <= 60_000


def test_refused_requests_are_no_attempts(ask):
    with FakeServer(requests_per_minute=1, burst=1) as server:
        ask(server, "p")
        ask(server, "p")
        assert [seen.attempt for seen in server.ledger.seen] == [1, 0]
        assert server.ledger.attempts == {"p": 2}


def test_tokens_above_the_quota_are_refused(ask):
    with FakeServer(tokens_per_minute=10) as server:
        assert ask(server, "one two", max_tokens=5).http == 200
        got = ask(server, "one two", max_tokens=5)
        assert (got.http, got.error["type"]) == (429, "tokens")
        assert ask(server, "one").http == 200


def test_requests_above_the_concurrency_are_a_503(ask):
    with FakeServer(max_concurrent_requests=0) as server:
        assert ask(server, "p").http == 503


def test_the_behaviour_can_be_changed_while_it_runs(ask):
    with FakeServer(api_key="old") as server:
        assert ask(server, "p", headers={"Authorization": "Bearer new"}).http == 401
        server.change(api_key="new")
        assert ask(server, "p", headers={"Authorization": "Bearer new"}).http == 200


def test_an_unknown_setting_is_an_error():
    with FakeServer() as server, pytest.raises(TypeError, match="latnecy"):
        server.change(latnecy=1)


def test_a_function_of_the_test_may_change_the_server(ask):
    server = FakeServer(lambda _: server.change(models=["other"]))
    with server:
        assert ask(server, "p").message["content"] == answer_to("p")
        assert ask(server, "p").http == 404


def test_no_repr_holds_a_key():
    with FakeServer(api_key=KEY) as server:
        assert KEY not in repr(server) + repr(server.ledger)


def test_an_error_in_a_function_of_the_test_is_told_at_the_end(ask):
    with (
        pytest.raises(RuntimeError, match=r"1 requests failed .* ZeroDivisionError"),
        FakeServer(lambda _: 1 / 0) as server,
    ):
        assert ask(server, "p").http == 500


def test_an_unknown_fault_is_told_with_the_nearest_name(ask):
    with pytest.raises(RuntimeError, match="did you mean 'reset'"), FakeServer(faults=lambda *_: "rest") as server:
        ask(server, "p")


def test_an_error_of_the_test_itself_is_not_covered(ask):
    with pytest.raises(KeyError), FakeServer(lambda _: 1 / 0) as server:
        {}[ask(server, "p").http]


def test_after_close_nobody_listens():
    with FakeServer() as server:
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


def test_it_comes_back_on_the_same_port_with_the_same_ledger(ask):
    server = FakeServer()
    with server:
        ask(server, "before")
        port = server.port
    with server:
        ask(server, "after")
        assert server.port == port
        assert server.ledger.prompts == ["before", "after"]


def test_start_and_close_may_be_called_twice(ask):
    server = FakeServer()
    server.close()
    assert server.start() is server.start()
    assert ask(server, "p").http == 200
    server.close()
    server.close()


def test_a_port_that_is_taken_is_an_error():
    with FakeServer() as first, pytest.raises(OSError, match="address already in use"):
        FakeServer(port=first.port).start()


def test_no_thread_is_left():
    before = threading.active_count()
    for _ in range(3):
        with FakeServer() as server:
            socket.create_connection(("127.0.0.1", server.port)).close()
    assert threading.active_count() == before


def test_several_servers_run_at_once(ask):
    with FakeServer("one") as one, FakeServer("two") as two:
        assert ask(one, "p").message["content"] == "one"
        assert ask(two, "p").message["content"] == "two"
        assert (one.ledger.requests, two.ledger.requests) == (1, 1)


def test_closing_cuts_the_requests_in_flight():
    server = FakeServer(latency=60).start()
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("POST", "/v1/chat/completions", b'{"messages": []}')
        server.wait_until(lambda ledger: ledger.in_flight == 1)
        server.close()
        with pytest.raises(ConnectionResetError):
            connection.getresponse()
    assert (server.ledger.broken, server.ledger.in_flight, server.ledger.connections) == (1, 0, 0)


def test_connections_can_be_dropped_while_it_listens(ask):
    with FakeServer() as server, socket.create_connection(("127.0.0.1", server.port)) as idle:
        server.wait_until(lambda ledger: ledger.connections == 1)
        server.drop_connections()
        with pytest.raises(ConnectionResetError):
            idle.recv(1)
        assert ask(server, "p").http == 200


def test_it_speaks_tls(tmp_path):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    making = "openssl req -x509 -nodes -newkey rsa:2048 -days 1 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    subprocess.run([*making.split(), "-out", certificate, "-keyout", key], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=certificate)
    with FakeServer(ssl=context) as server:
        with urllib.request.urlopen(f"{server.base_url}/models", context=trusting) as reply:
            assert reply.status == 200
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(f"{server.base_url}/models")
