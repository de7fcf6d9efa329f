"""The openai clients with the real SDK against a server on loopback."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import openai
import pytest

from curator_llm.services import AsyncOpenAIClient, OpenAIClient

if TYPE_CHECKING:
    from collections.abc import Iterator


def _choice(index: int, content: str | None, **more: Any) -> dict[str, Any]:
    return {"index": index, "message": {"role": "assistant", "content": content}, "finish_reason": "stop", **more}


def _events(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Send the choices letter by letter, the last one first, and the usage after them."""
    for index in reversed(range(body.get("n") or 1)):
        text = _text(body, index)
        for piece in [{"role": "assistant", "content": ""}, *({"content": letter} for letter in text), {}]:
            yield {"choices": [{"index": index, "delta": piece, "finish_reason": None if piece else "stop"}]}
    yield {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}


def _text(body: dict[str, Any], index: int) -> str:
    return f"{body['messages'][-1]['content']} {index}"


def _completion(body: dict[str, Any]) -> dict[str, Any]:
    match body["model"]:
        case "reward-logprobs":
            logprobs = {"content": [{"token": "helpfulness", "logprob": 1.6}, {"token": "verbosity", "logprob": 1}]}
            return {"choices": [_choice(0, "", logprobs=logprobs)]}
        case "reward-text":
            return {"choices": [_choice(0, "helpfulness:1.2,correctness:0.4", logprobs=None)]}
        case "silent":
            return {"choices": [_choice(0, None)]}
        case _:
            return {"choices": [_choice(index, _text(body, index)) for index in reversed(range(body.get("n") or 1))]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        if body["model"] == "page":
            self._send("text/html", b"<html>Welcome</html>")
        elif body.get("stream"):
            events = [*(json.dumps(event) for event in _events(body)), "[DONE]"]
            self._send("text/event-stream", "".join(f"data: {event}\n\n" for event in events).encode())
        else:
            self._send("application/json", json.dumps(_completion(body)).encode())

    def _send(self, content_type: str, payload: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[dict[str, Any]] = []
        self.base_url = f"http://127.0.0.1:{self.server_port}/v1"


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


class _Blocking:
    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def ask(self, method: str, **given: Any) -> Any:
        with openai.OpenAI(base_url=self.base_url, api_key="none", max_retries=0) as sdk:
            return getattr(OpenAIClient(sdk), method)(**given)


class _Async(_Blocking):
    def ask(self, method: str, **given: Any) -> Any:
        async def ask() -> Any:
            async with openai.AsyncOpenAI(base_url=self.base_url, api_key="none", max_retries=0) as sdk:
                return await getattr(AsyncOpenAIClient(sdk), method)(**given)

        return asyncio.run(ask())


@pytest.fixture(params=[_Blocking, _Async], ids=["OpenAIClient", "AsyncOpenAIClient"])
def client(request: pytest.FixtureRequest, server: _Server) -> _Blocking:
    made: _Blocking = request.param(server.base_url)
    return made


def _chat(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_server_is_sent_what_was_given_and_nothing_else(client: _Blocking, server: _Server) -> None:
    assert client.ask("query_model", messages=_chat("Hello"), model="m", max_tokens=8) == ["Hello 0"]
    assert server.bodies == [{"messages": _chat("Hello"), "model": "m", "max_tokens": 8, "stream": False}]


def test_choices_sent_out_of_order_come_in_order(client: _Blocking) -> None:
    assert client.ask("query_model", messages=_chat("Hi"), model="m", n=3) == ["Hi 0", "Hi 1", "Hi 2"]


def test_a_stream_is_the_same_list(client: _Blocking) -> None:
    assert client.ask("query_model", messages=_chat("Grüße"), model="m", n=3, stream=True) == [
        "Grüße 0",
        "Grüße 1",
        "Grüße 2",
    ]


def test_a_null_content_is_none(client: _Blocking) -> None:
    assert client.ask("query_model", messages=_chat("Hi"), model="silent") == [None]


def test_scores_come_from_logprobs(client: _Blocking, server: _Server) -> None:
    scores = client.ask("query_reward_model", messages=_chat("Hi"), model="reward-logprobs")
    assert scores == {"helpfulness": 1.6, "verbosity": 1.0}
    assert server.bodies == [{"messages": _chat("Hi"), "model": "reward-logprobs"}]


def test_scores_come_from_the_text(client: _Blocking) -> None:
    scores = client.ask("query_reward_model", messages=_chat("Hi"), model="reward-text")
    assert scores == {"helpfulness": 1.2, "correctness": 0.4}


def test_a_model_that_writes_prose_is_no_reward_model(client: _Blocking) -> None:
    with pytest.raises(ValueError, match=r"Logprobs not found\. m is likely not a reward model\."):
        client.ask("query_reward_model", messages=_chat("Hi"), model="m")


@pytest.mark.parametrize("stream", [False, True])
def test_a_web_page_says_what_to_check(client: _Blocking, stream: bool) -> None:
    with pytest.raises(ValueError, match="base_url"):
        client.ask("query_model", messages=_chat("Hi"), model="page", stream=stream)


def test_one_client_serves_several_threads(server: _Server) -> None:
    with openai.OpenAI(base_url=server.base_url, api_key="none") as sdk, ThreadPoolExecutor(8) as threads:
        shared = OpenAIClient(sdk)
        texts = list(
            threads.map(
                lambda row: shared.query_model(messages=_chat(f"row {row}"), model="m", stream=bool(row % 2)), range(64)
            )
        )
    assert texts == [[f"row {row} 0"] for row in range(64)]


def test_one_async_client_serves_many_tasks_of_a_running_loop(server: _Server) -> None:
    async def ask() -> list[list[str]]:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="none") as sdk:
            shared = AsyncOpenAIClient(sdk)
            return await asyncio.gather(
                *(
                    shared.query_model(messages=_chat(f"row {row}"), model="m", stream=bool(row % 2))
                    for row in range(64)
                )
            )

    assert asyncio.run(ask()) == [[f"row {row} 0"] for row in range(64)]


def test_the_blocking_client_works_inside_a_running_loop(server: _Server) -> None:
    async def ask() -> list[str]:
        with openai.OpenAI(base_url=server.base_url, api_key="none") as sdk:
            return OpenAIClient(sdk).query_model(messages=_chat("Hi"), model="m")

    assert asyncio.run(ask()) == ["Hi 0"]
