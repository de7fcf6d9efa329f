"""The openai SDK takes the fake server for the real one."""

import asyncio

import openai
import pytest

from curator_llm.testing import FakeServer, answer_to, faults_named_in_prompt, reward_of


def user(prompt):
    return [{"role": "user", "content": prompt}]


def client_of(server, **options):
    return openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0, **options)


def test_a_completion_is_read():
    with FakeServer() as server, client_of(server) as client:
        reply = client.chat.completions.create(model="m", messages=user("Why?"), n=2)
    assert [choice.message.content for choice in reply.choices] == [answer_to("Why?"), answer_to("Why?", 1)]
    assert reply.usage.prompt_tokens == 1


def test_a_stream_is_read():
    with FakeServer("one two  three") as server, client_of(server) as client:
        events = list(client.chat.completions.create(model="m", messages=user("Why?"), stream=True))
    assert "".join(event.choices[0].delta.content or "" for event in events) == "one two  three"
    assert events[-1].choices[0].finish_reason == "stop"


def test_the_choices_of_a_stream_come_by_turns_and_the_last_one_first():
    with FakeServer() as server, client_of(server) as client:
        texts = ["", ""]
        order = []
        for event in client.chat.completions.create(model="m", messages=user("Why?"), stream=True, n=2):
            (choice,) = event.choices
            order.append(choice.index)
            texts[choice.index] += choice.delta.content or ""
    assert texts == [answer_to("Why?"), answer_to("Why?", 1)]
    assert order[:4] == [1, 0, 1, 0]


def test_a_stream_gives_usage_when_asked_for():
    with FakeServer("one two") as server, client_of(server) as client:
        options = {"include_usage": True}
        *_, last = client.chat.completions.create(model="m", messages=user("p"), stream=True, stream_options=options)
    assert (last.choices, last.usage.completion_tokens) == ([], 2)


def test_a_stream_may_end_too_early():
    with FakeServer(faults=faults_named_in_prompt) as server, client_of(server) as client:
        events = list(client.chat.completions.create(model="m", messages=user("cut_stream: p"), stream=True))
    assert events
    assert all(event.choices[0].finish_reason is None for event in events)


def test_a_stream_may_end_in_an_error():
    with FakeServer(faults=faults_named_in_prompt) as server, client_of(server) as client:
        stream = client.chat.completions.create(model="m", messages=user("error_in_stream: p"), stream=True)
        with pytest.raises(openai.APIError, match="The engine died"):
            list(stream)


def test_reward_scores_are_read():
    with FakeServer() as server, client_of(server) as client:
        reply = client.chat.completions.create(model="reward", messages=user("p"))
    assert {token.token: token.logprob for token in reply.choices[0].logprobs.content} == reward_of(user("p"))


def test_models_are_listed():
    with FakeServer(models=["a", "b"]) as server, client_of(server) as client:
        assert [model.id for model in client.models.list()] == ["a", "b"]


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        ("http:401: p", openai.AuthenticationError),
        ("http:404: p", openai.NotFoundError),
        ("insufficient_quota: p", openai.RateLimitError),
        ("context_length: p", openai.BadRequestError),
        ("http:500: p", openai.InternalServerError),
        ("reset: p", openai.APIConnectionError),
    ],
)
def test_faults_are_the_sdks_errors(prompt, error):
    with FakeServer(faults=faults_named_in_prompt) as server, client_of(server) as client, pytest.raises(error):
        client.chat.completions.create(model="m", messages=user(prompt))


def test_a_hang_is_a_timeout():
    with (
        FakeServer(faults=faults_named_in_prompt) as server,
        client_of(server, timeout=0.05) as client,
        pytest.raises(openai.APITimeoutError),
    ):
        client.chat.completions.create(model="m", messages=user("hang: p"))
    assert server.ledger.dropped + server.ledger.broken == 1


def test_many_at_once_each_get_their_own_answer():
    prompts = [f"row {i}" for i in range(100)]

    async def ask_all(server):
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
            return await asyncio.gather(
                *(client.chat.completions.create(model="m", messages=user(prompt)) for prompt in prompts)
            )

    with FakeServer() as server:
        server.pause()
        with asyncio.Runner() as runner:

            async def all_held():
                asking = asyncio.ensure_future(ask_all(server))
                await asyncio.to_thread(server.wait_until, lambda ledger: ledger.in_flight == 100)
                await asyncio.to_thread(server.resume)
                return await asking

            replies = runner.run(all_held())
    assert [reply.choices[0].message.content for reply in replies] == [answer_to(prompt) for prompt in prompts]
    assert server.ledger.peak_in_flight == 100
