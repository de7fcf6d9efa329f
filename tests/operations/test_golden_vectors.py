"""Golden vectors: the bytes that are sent and the keys they are kept under.

They are a promise: as long as they hold, replies that were paid for with an earlier release are found again. A change
here needs a new key version, a reason, and a line in the changelog.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from curator_llm import Endpoint, QueryModel, QueryRewardModel
from curator_llm.frame.stages import Stage
from curator_llm.operations.base import row_key
from curator_llm.wire.exchange import Request

QWEN = Endpoint("qwen3-32b", base_url="http://vllm.ml.svc:8000/v1")


@pytest.mark.parametrize(
    ("identity", "path", "sample", "body", "key"),
    [
        ("https://api.openai.com", "chat/completions", "", b"{}", "72da8f4146e9ba9001346b55cf71a512"),
        ("https://api.openai.com\n", "chat/completions", "", b"{}", "7b4a59e461d612fca6d2630e8773f103"),
        ("a", "chat/completions", "1", b"{}", "d181a252b43486790c68aeab1310f03b"),
        ("a", "chat/completions", "\ud83d", b"{}", "6d0e068b308f28fb1590df6de48b7c2d"),
        ("", "embeddings", "", b"", "feb20e8dee34d89582f3728179282260"),
        (
            "a",
            "chat/completions",
            "",
            b'{"model":"m","messages":[{"role":"user","content":"\xc3\xa4"}]}',
            "8be01879ee670cd7f50763508a4ae521",
        ),
    ],
)
def test_a_key_is_that_of_identity_path_sample_and_body(
    identity: str, path: str, sample: str, body: bytes, key: str
) -> None:
    assert row_key(identity, path, sample, body).hex() == key


def case(name: str, stage: Stage, row: dict[str, Any], body: str, key: str) -> Any:
    return pytest.param(stage, row, body.encode(), key, id=name)


@pytest.mark.parametrize(
    ("stage", "row", "body", "key"),
    [
        case(
            "a prompt for the OpenAI API",
            QueryModel("gpt-4.1-mini", prompt="Summarise in one sentence: {text}", generation={"max_tokens": 64}),
            {"text": "Dask splits a dataframe into partitions."},
            '{"model":"gpt-4.1-mini","messages":[{"role":"user","content":"Summarise in one sentence: Dask splits a '
            'dataframe into partitions."}],"max_tokens":64}',
            "3d63e98acfb57e3de033a5f6e8f1a687",
        ),
        case(
            "templates, escapes and further fields",
            QueryModel(
                QWEN,
                prompt="{greeting}, {full name}! {{}} 100 %",
                system="Answer in {language}.",
                generation={
                    "seed": 7,
                    "temperature": 0,
                    "stop": ["\n"],
                    "extra_body": {"min_p": 0.05, "guided_regex": "a+"},
                },
            ),
            {"greeting": "Grüß Gott \U0001f600", "full name": 'Ada "L."\n', "language": "Deutsch"},
            '{"model":"qwen3-32b","messages":[{"role":"system","content":"Answer in Deutsch."},{"role":"user",'
            '"content":"Grüß Gott \U0001f600, Ada \\"L.\\"\\n! {} 100 %"}],"temperature":0,"seed":7,"stop":["\\n"],'
            '"guided_regex":"a+","min_p":0.05}',
            "787e61f7a53def7b8fbddfdf2de9ca13",
        ),
        case(
            "a chat column",
            QueryModel(QWEN, messages="chat", system="Be brief."),
            {"chat": '[{"content":"Hi","role":"user","name":null}]'},
            '{"model":"qwen3-32b","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}]}',
            "c5193693c3bd70e8d8e53769727989c2",
        ),
        case(
            "choices",
            QueryModel(QWEN, prompt="Topic: {text}", choices=["news", "sport"], generation={"max_tokens": 8}),
            {"text": "a goal"},
            '{"model":"qwen3-32b","messages":[{"role":"user","content":"Topic: a goal"}],"max_tokens":8,'
            '"response_format":{"type":"json_schema","json_schema":{"name":"choice","strict":true,"schema":{"type":'
            '"object","properties":{"choice":{"type":"string","enum":["news","sport"]}},"required":["choice"],'
            '"additionalProperties":false}}}}',
            "3ce24fa9a3d86d51d68ff840a13b7124",
        ),
        case(
            "cells of all kinds, and a sample",
            QueryModel(QWEN, prompt="{n} {x} {day} {items}", sample_by="try"),
            {"n": 3, "x": 0.1, "day": dt.date(2026, 11, 23), "items": [1, {"b": None, "a": "z"}], "try": 2},
            '{"model":"qwen3-32b","messages":[{"role":"user","content":"3 0.1 2026-11-23 '
            '[1,{\\"a\\":\\"z\\",\\"b\\":null}]"}]}',
            "2038cfbac46e41158a5f3bd153c72398",
        ),
        case(
            "replicas with a revision, headers and fields of their own",
            QueryModel(
                Endpoint(
                    "m",
                    base_url=["http://a:1/v1", "http://b:1/v1"],
                    revision="2026-11",
                    headers={"X-Tier": "batch", "X-Key": "env:TEAM_KEY"},
                    extra_body={"top_k": 20, "chat_template_kwargs": {"enable_thinking": False}},
                ),
                prompt="{text}",
                generation={"max_completion_tokens": 16},
            ),
            {"text": "x"},
            '{"model":"m","messages":[{"role":"user","content":"x"}],"chat_template_kwargs":{"enable_thinking":false},'
            '"top_k":20,"max_completion_tokens":16}',
            "64d44b40cb86a3df8c619403d806df75",
        ),
        case(
            "a reward model",
            QueryRewardModel(
                Endpoint("nvidia/nemotron-4-340b-reward", base_url="https://integrate.api.example/v1", name="nim"),
                messages="chat",
            ),
            {"chat": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]},
            '{"model":"nvidia/nemotron-4-340b-reward","messages":[{"role":"user","content":"2+2?"},{"role":"assistant",'
            '"content":"4"}]}',
            "2501ef076ecdc4fff13f42add06c8bc3",
        ),
    ],
)
def test_a_row_becomes_these_bytes_under_this_key(stage: Stage, row: dict[str, Any], body: bytes, key: str) -> None:
    (request,) = stage.spec.operation.requests({name: [value] for name, value in row.items()}, 1)
    assert isinstance(request, Request)
    assert request.body == body
    assert request.key.hex() == key
    assert request.path == "chat/completions"
