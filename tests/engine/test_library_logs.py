"""What the SDK and the HTTP library below it log of a user's client: no key, wherever it stands."""

from __future__ import annotations

import logging

import openai
import pandas as pd
import pytest

from curator_llm import Endpoint, QueryModel, runtime
from curator_llm.engine.redaction import Redaction
from curator_llm.engine.transport.library_logs import RedactedLogs
from curator_llm.services import OpenAIClient
from tests.chaos.echoes import echo_server

KEY = "team-CANARY-0123456789abcdef"
MAKERS = {
    "key": lambda url: openai.AsyncOpenAI(api_key=KEY, base_url=url),
    "query": lambda url: openai.AsyncOpenAI(api_key="EMPTY", base_url=url, default_query={"key": KEY}),
    "header": lambda url: openai.AsyncOpenAI(api_key="EMPTY", base_url=url, default_headers={"X-Team-Token": KEY}),
    "password": lambda url: openai.AsyncOpenAI(api_key="EMPTY", base_url=url.replace("://", f"://user:{KEY}@")),
    "blocking": lambda url: OpenAIClient(openai.OpenAI(api_key=KEY, base_url=url, max_retries=0)),
}


@pytest.mark.parametrize("way", MAKERS)
def test_neither_replies_nor_logs_hold_the_key_that_a_server_says(way, house, caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx2", "httpcore2"):
        caplog.set_level(logging.DEBUG, name)
    with echo_server(KEY) as address:
        house.make = lambda: MAKERS[way](address)
        run = QueryModel(Endpoint("m", client="house:make"), prompt="{text}", output="a")
        out = run(pd.DataFrame({"text": ["200 a", "400 b", "503 c"]}))
        runtime.close()
    assert out["a__status"].tolist() == ["ok", "rejected", "ok"]
    assert "CANARY" not in out.to_csv()
    assert "send_request_headers" in caplog.text
    assert "CANARY" not in caplog.text


def test_a_record_keeps_its_place_and_its_traceback_and_loses_the_secret(caplog):
    logger = logging.getLogger("openai._base_client")
    logs = RedactedLogs(Redaction([KEY]))
    caplog.set_level(logging.DEBUG, "openai")
    try:
        int(KEY)
    except ValueError:
        logger.debug("sent %s", KEY, exc_info=True)
    assert "sent [redacted]" in caplog.text
    assert "ValueError: invalid literal for int() with base 10: '[redacted]'" in caplog.text
    logs.close()
    logger.debug("sent %s", KEY)
    assert f"sent {KEY}" in caplog.text
