"""The ledger counts what was really there, at every moment."""

import http.client
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from curator_llm.testing import FakeServer, answer_to, seeded_faults

BODY = b'{"model": "m", "messages": [{"role": "user", "content": "p"}]}'
RAW = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def test_a_request_is_remembered_whole(ask):
    with FakeServer() as server:
        ask(server, "Why?", headers={"X-Run": "7", "Authorization": "Bearer k"}, temperature=0)
        (seen,) = server.ledger.seen
    assert (seen.prompt, seen.http, seen.end, seen.attempt, seen.fault) == ("Why?", 200, "answered", 1, None)
    assert (seen.method, seen.path) == ("POST", "/v1/chat/completions")
    assert seen.body["temperature"] == 0
    assert b'"temperature": 0' in seen.raw
    assert (seen.headers["x-run"], seen.headers["authorization"]) == ("7", "Bearer k")
    assert "Bearer k" not in repr(seen)
    assert seen.at_s <= seen.done_s


def test_a_ledger_is_a_snapshot(ask):
    with FakeServer() as server:
        before = server.ledger
        ask(server, "p")
        assert (before.requests, before.seen) == (0, ())
        assert server.ledger.prompts == ["p"]


def test_statuses_are_counted(ask):
    with FakeServer(models=["a"]) as server:
        for model in "aab":
            ask(server, "p", model=model)
        assert server.ledger.by_status == {200: 2, 404: 1}
        assert server.ledger.answered == 3


def test_tokens_are_billed_for_answers_alone(ask):
    with FakeServer("one two three", models=["a"]) as server:
        ask(server, "some prompt", model="a")
        ask(server, "some prompt", model="b")
        assert (server.ledger.input_tokens, server.ledger.output_tokens) == (2, 3)


def test_a_request_is_in_flight_from_its_last_byte_on():
    with FakeServer(latency=60) as server, connect(server) as client:
        client.sendall(RAW[:-1])
        server.wait_until(lambda ledger: ledger.connections == 1)
        assert server.ledger.requests == 0
        client.sendall(RAW[-1:])
        assert server.wait_until(lambda ledger: ledger.requests == 1).in_flight == 1


def test_a_client_that_goes_away_drops_its_request():
    with FakeServer(latency=60) as server:
        with connect(server) as client:
            client.sendall(RAW)
            server.wait_until(lambda ledger: ledger.in_flight == 1)
        ledger = server.wait_until(lambda ledger: ledger.in_flight == 0)
    assert (ledger.requests, ledger.dropped, ledger.answered, ledger.input_tokens) == (1, 1, 0, 0)
    assert (ledger.seen[0].end, ledger.seen[0].http) == ("dropped", None)


def test_a_reply_the_client_does_not_read_stays_in_flight():
    with FakeServer("x" * 30_000_000) as server:
        with connect(server) as client:
            client.sendall(RAW)
            assert client.recv(10)
            assert server.ledger.in_flight == 1
        assert server.wait_until(lambda ledger: ledger.in_flight == 0).dropped == 1


def test_the_peak_is_exact():
    with FakeServer() as server, ExitStack() as stack:
        server.pause()
        clients = [stack.enter_context(connect(server)) for _ in range(50)]
        for client in clients:
            client.sendall(RAW)
        server.wait_until(lambda ledger: ledger.in_flight == 50)
        server.resume()
        for client in clients:
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        client.sendall(RAW)
        assert client.recv(65_536)
        ledger = server.ledger
    assert (ledger.requests, ledger.peak_in_flight, ledger.in_flight) == (51, 50, 0)
    assert (ledger.connections, ledger.connections_opened) == (50, 50)


def test_concurrent_clients_each_get_their_own_answer(ask):
    prompts = [f"row {i}" for i in range(400)]
    with FakeServer(latency=0.002) as server, ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda prompt: ask(server, prompt).message["content"], prompts))
    assert replies == [answer_to(prompt) for prompt in prompts]
    assert server.ledger.requests == 400
    assert server.ledger.peak_in_flight <= 8
    assert server.ledger.attempts == dict.fromkeys(prompts, 1)


def test_every_request_ends_in_one_way(ask):
    def risk(prompt):
        try:
            return ask(server, prompt).http
        except (OSError, http.client.HTTPException):
            return None

    kinds = ["reset", "close", "short_body", "http:500", "null_content"]
    with FakeServer(faults=seeded_faults(kinds, 0.5)) as server, ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(risk, map(str, range(200))))
        ledger = server.wait_until(lambda ledger: ledger.in_flight == 0)
    assert ledger.requests == 200 == ledger.answered + ledger.broken + ledger.dropped
    assert ledger.broken == statuses.count(None) > 0
    assert ledger.answered == sum(ledger.by_status.values())


def test_pause_holds_replies_and_resume_lets_some_go():
    with FakeServer() as server, connect(server) as first, connect(server) as second:
        server.pause()
        first.sendall(RAW)
        server.wait_until(lambda ledger: ledger.in_flight == 1)
        second.sendall(RAW)
        server.wait_until(lambda ledger: ledger.in_flight == 2)
        server.resume(1)
        assert first.recv(65_536)
        assert server.ledger.in_flight == 1
        second.setblocking(False)
        with pytest.raises(BlockingIOError):
            second.recv(1)
        second.setblocking(True)
        server.resume()
        assert second.recv(65_536)
        first.sendall(RAW)
        assert first.recv(65_536)


def test_a_held_request_whose_client_leaves_is_dropped():
    with FakeServer() as server:
        server.pause()
        with connect(server) as client:
            client.sendall(RAW)
            server.wait_until(lambda ledger: ledger.in_flight == 1)
        server.wait_until(lambda ledger: ledger.dropped == 1)
        server.resume()
        assert server.ledger.answered == 0


def test_reset_empties_the_ledger_and_counts_attempts_anew(ask):
    with FakeServer() as server:
        ask(server, "p")
        server.reset()
        assert (server.ledger.requests, server.ledger.seen, server.ledger.by_status) == (0, (), {})
        ask(server, "p")
        assert server.ledger.seen[0].attempt == 1


def test_what_was_in_flight_at_a_reset_is_not_counted_when_it_ends():
    with FakeServer() as server, connect(server) as client:
        server.pause()
        client.sendall(RAW)
        server.wait_until(lambda ledger: ledger.in_flight == 1)
        server.reset()
        assert (server.ledger.in_flight, server.ledger.peak_in_flight, server.ledger.requests) == (1, 1, 0)
        server.resume()
        assert client.recv(65_536)
        ledger = server.wait_until(lambda ledger: ledger.in_flight == 0)
    assert (ledger.answered, ledger.input_tokens) == (0, 0)


def test_wait_until_gives_the_ledger_for_which_it_held(ask):
    with FakeServer() as server, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.wait_until, lambda ledger: ledger.answered == 2)
        ask(server, "p")
        ask(server, "p")
        assert waiting.result().answered == 2


def test_wait_until_says_what_it_saw_when_time_is_over():
    with FakeServer() as server, pytest.raises(TimeoutError, match=r"last ledger: Ledger\(requests=0"):
        server.wait_until(lambda ledger: ledger.requests, timeout_s=0.01)


def test_the_predicate_may_ask_the_server():
    with FakeServer() as server:
        assert server.wait_until(lambda _: server.ledger.requests == 0)


def test_only_the_first_requests_are_remembered(ask):
    with FakeServer(remember=2) as server:
        for i in range(3):
            ask(server, str(i))
        ledger = server.ledger
        assert ledger.prompts == ["0", "1"]
        assert ledger.answered == ledger.requests == 3
        with pytest.raises(ValueError, match="2 of 3 requests are remembered"):
            ledger.mean_in_flight()


def test_the_mean_in_flight_is_weighted_by_time():
    with FakeServer() as server, connect(server) as first, connect(server) as second:
        server.pause()
        for client in (first, second):
            client.sendall(RAW)
        held = server.wait_until(lambda ledger: ledger.in_flight == 2)
        server.resume()
        assert first.recv(65_536)
        assert second.recv(65_536)
        ledger = server.wait_until(lambda ledger: ledger.in_flight == 0)
    assert ledger.mean_in_flight() == pytest.approx(1.0)
    last = held.seen[-1].at_s
    assert held.mean_in_flight(last, last + 1) == pytest.approx(2.0)
    assert ledger.mean_in_flight(0.0, 0.0) == 0.0


def test_an_empty_ledger_has_no_mean():
    assert FakeServer().ledger.mean_in_flight() == 0.0


def test_a_connection_serves_many_requests():
    with FakeServer() as server, closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        for _ in range(5):
            connection.request("POST", "/v1/chat/completions", BODY)
            assert connection.getresponse().read()
        assert server.ledger.connections_opened == 1
        assert {seen.connection for seen in server.ledger.seen} == {server.ledger.seen[0].connection}


def test_several_threads_may_read_and_reset_it(ask):
    with FakeServer() as server:
        threads = [
            threading.Thread(target=lambda: [server.reset() or server.ledger for _ in range(50)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for _ in range(50):
            ask(server, "p")
        for thread in threads:
            thread.join()
        assert server.ledger.in_flight == 0
