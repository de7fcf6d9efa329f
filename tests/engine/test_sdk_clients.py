"""A user's ``openai.AsyncOpenAI``: what the SDK, its subclasses and its HTTP client do holds, as elsewhere."""

from __future__ import annotations

import asyncio
import threading

import dask
import httpx2
import openai
import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.engine.redaction import Redaction
from curator_llm.errors import AuthenticationError, EndpointUnreachableError, EngineError
from curator_llm.testing import FakeServer, answer_to

SECRET = "sk-CANARY-90ab12"


def ask(prompts, *, generation=None) -> pd.DataFrame:
    run = QueryModel(Endpoint("m", client="house:make"), prompt="{text}", output="a", generation=generation)
    return run(pd.DataFrame({"text": prompts}))


def test_texts_come_in_the_order_of_the_rows(house):
    with FakeServer() as server:
        house.make = lambda: openai.AsyncOpenAI(api_key=SECRET, base_url=server.base_url)
        assert ask(list("abc"))["a"].tolist() == [answer_to(text) for text in "abc"]


def test_a_gateways_own_class_changes_requests_as_it_does_elsewhere(house):
    class Gateway(openai.AsyncOpenAI):
        @property
        def default_headers(self):
            return {**super().default_headers, "x-team": "curation"}

    with FakeServer() as server:
        house.make = lambda: Gateway(api_key=SECRET, base_url=server.base_url, default_query={"v": "2"})
        ask(["a"], generation={"seed": 3, "presence_penalty": 0.5, "extra_body": {"priority": 4}})
        (seen,) = server.ledger.seen
    assert (seen.headers["x-team"], seen.headers["authorization"]) == ("curation", f"Bearer {SECRET}")
    assert seen.body["messages"] == [{"role": "user", "content": "a"}]
    assert (seen.body["seed"], seen.body["presence_penalty"], seen.body["priority"]) == (3, 0.5, 4)


@pytest.mark.parametrize("kind", ["azure", "provider"])
def test_a_token_that_the_sdk_got_by_itself_and_a_server_echoes_is_redacted(kind, house, own_journal):
    async def token():
        return SECRET

    with FakeServer(faults=lambda prompt, _: "echo_key" if prompt == "bad" else None) as server:
        house.make = {
            "azure": lambda: openai.AsyncAzureOpenAI(
                azure_ad_token_provider=token, azure_endpoint=server.base_url, api_version="2024-10-21"
            ),
            "provider": lambda: openai.AsyncOpenAI(api_key=token, base_url=server.base_url),
        }[kind]
        with pytest.raises(AuthenticationError, match=r"Incorrect API key provided: \[redacted\]") as caught:
            ask(["bad"])
        assert SECRET not in str(caught.value)
    assert not any(SECRET.encode() in path.read_bytes() for path in own_journal.rglob("*") if path.is_file())


def test_a_provider_of_tokens_that_fails_stops_a_run_that_had_no_answer_and_says_why(house):
    async def token():
        raise RuntimeError(f"the vault refused Bearer {SECRET}")

    with FakeServer() as server, dask.config.set({"curator-llm.engine.unreachable-after": "100ms"}):
        house.make = lambda: openai.AsyncOpenAI(api_key=token, base_url=server.base_url)
        with pytest.raises(
            EndpointUnreachableError, match=r"\(client_error: RuntimeError: the vault refused "
        ) as caught:
            ask(["a"])
        assert SECRET not in str(caught.value)
        assert server.ledger.requests == 0


def test_a_provider_of_tokens_that_fails_for_a_while_delays_rows_and_fails_none(house):
    asked = []

    async def token():
        asked.append(None)
        if 2 <= len(asked) <= 4:
            raise RuntimeError("the vault is sealed")
        return SECRET

    with FakeServer(api_key=SECRET) as server:
        house.make = lambda: openai.AsyncOpenAI(api_key=token, base_url=server.base_url)
        assert ask(["a", "b"])["a__status"].tolist() == ["ok", "ok"]
        assert server.ledger.requests == 2


def test_a_row_that_a_gateways_own_class_refuses_fails_alone(house):
    class Guard(openai.AsyncOpenAI):
        async def post(self, path, *, body, **options):
            if "secret" in str(body):
                raise ValueError("must not leave the house")
            return await super().post(path, body=body, **options)

    with FakeServer() as server:
        house.make = lambda: Guard(api_key=SECRET, base_url=server.base_url)
        run = QueryModel(Endpoint("m", client="house:make", max_attempts=2), prompt="{text}", output="a")
        out = run(pd.DataFrame({"text": ["secret", "a", "b"]}))
        assert out["a__status"].tolist() == ["failed", "ok", "ok"]
        assert out["a__error"][0] == "client_error: ValueError: must not leave the house"


def test_a_provider_of_tokens_that_was_cancelled_delays_its_row_alone(house):
    asked = []

    async def token():
        asked.append(None)
        if len(asked) == 2:
            raise asyncio.CancelledError  # as of a refresh that others wait for, too
        return SECRET

    with FakeServer(api_key=SECRET) as server:
        house.make = lambda: openai.AsyncOpenAI(api_key=token, base_url=server.base_url)
        assert ask(["a", "b", "c"])["a__status"].tolist() == ["ok"] * 3


@pytest.mark.parametrize(("version", "closes"), [(b"HTTP/1.1", True), (b"HTTP/2", False)])
def test_a_connection_is_asked_to_close_where_the_protocol_has_it(version, closes, house):
    sent = []

    async def answer(request):
        sent.append(request.headers.get("connection"))
        await asyncio.sleep(0.01)
        body = {"choices": [{"message": {"content": "yes"}}]}
        return httpx2.Response(200, json=body, extensions={"http_version": version})

    house.make = lambda: openai.AsyncOpenAI(
        api_key=SECRET,
        base_url="http://127.0.0.1:1/v1",
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(answer)),
    )
    with dask.config.set({"curator-llm.engine.connection-age": "10ms"}):
        assert set(ask(map(str, range(20)))["a__status"]) == {"ok"}
    assert ("close" in sent) == closes


def test_an_engine_that_closes_ends_the_sdks_requests_and_fails_their_rows(house):
    with FakeServer(latency=lambda prompt, _: 0.0 if prompt == "first" else 60.0) as server:
        house.make = lambda: openai.AsyncOpenAI(api_key=SECRET, base_url=server.base_url)
        ask(["first"])
        failures = []

        def rows():
            with pytest.raises(EngineError) as caught:
                ask(["slow"])
            failures.append(str(caught.value))

        thread = threading.Thread(target=rows)
        thread.start()
        server.wait_until(lambda ledger: ledger.in_flight == 1)
        runtime.close(drain_s=0.01)
        thread.join()
        assert "closing" in failures[0]
        server.wait_until(lambda ledger: ledger.in_flight == 0)


def test_a_reply_keeps_words_that_were_sent_in_headers_and_are_no_keys(house):
    said = "Shakespeare managed it"
    with FakeServer(answer=said) as server:
        headers = {"X-Auth-Mode": "managed", "X-Author": "Shakespeare"}
        house.make = lambda: openai.AsyncOpenAI(api_key=SECRET, base_url=server.base_url, default_headers=headers)
        assert ask(["a"])["a"].tolist() == [said]


def test_what_is_signed_anew_for_each_request_is_redacted(house):
    signed = []

    def sign(request):
        signed.append(f"signature-{len(signed):032x}")
        request.headers["x-signature-token"] = signed[-1]
        return request

    async def answer(request):
        body = {"choices": [{"message": {"content": f"signed {request.headers['x-signature-token']}"}}]}
        return httpx2.Response(200, json=body)

    house.make = lambda: openai.AsyncOpenAI(
        api_key=SECRET,
        base_url="http://127.0.0.1:1/v1",
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(answer), auth=sign),
    )
    assert set(ask(map(str, range(200)))["a"]) == {"signed [redacted]"}


def test_of_ever_new_secrets_the_last_are_known_and_one_in_use_stays():
    redaction = Redaction()
    for number in range(1000):
        redaction.add([SECRET, f"signature-{number}"])
    said = redaction.redact(f"{SECRET}, signature-1, signature-999".encode())
    assert said == b"[redacted], signature-1, [redacted]"
