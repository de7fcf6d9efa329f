"""The answers of the fake server are pure functions of what it is asked."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator_llm.testing import FakeServer, answer_to, choice_of, draw, prompt_of, reward_of, tokens_of


def schema_of(**properties):
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": schema}}


@given(st.text(st.characters(codec=None)))
def test_an_answer_can_be_encoded_whatever_the_prompt(prompt):
    assert answer_to(prompt) == answer_to(prompt)
    answer_to(prompt).encode()


def test_prompts_that_start_alike_have_different_answers():
    start = "x" * 100
    assert answer_to(f"{start} 1") != answer_to(f"{start} 2")


@given(st.lists(st.integers()), st.text())
def test_a_draw_is_at_least_0_and_below_1(numbers, text):
    assert 0 <= draw(*numbers, text) < 1


def test_the_default_answer_is_answer_to_of_the_last_user_message(ask):
    with FakeServer() as server:
        assert ask(server, "Why?").message == {"role": "assistant", "content": answer_to("Why?")}


def test_the_prompt_is_the_text_of_the_last_user_message():
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "text", "text": "b"},
    ]
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "first"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "last"},
    ]
    assert prompt_of({"messages": messages}) == "ab"


def test_a_prompt_without_user_message_is_empty():
    assert prompt_of({"messages": [{"role": "system", "content": "s"}]}) == ""
    assert prompt_of({}) == ""


def test_choices_are_numbered_and_have_their_own_answers(ask):
    with FakeServer() as server:
        choices = ask(server, "Why?", n=3).json["choices"]
    assert [(c["index"], c["message"]["content"]) for c in choices] == [(i, answer_to("Why?", i)) for i in range(3)]


def test_an_enum_is_answered_with_the_member_of_choice_of(ask):
    labels = ["red", "green", "blue"]
    with FakeServer() as server:
        for prompt in map(str, range(10)):
            got = ask(server, prompt, response_format=schema_of(choice={"type": "string", "enum": labels}))
            assert json.loads(got.message["content"]) == {"choice": choice_of(prompt, labels)}


def test_every_member_of_an_enum_is_chosen_by_some_prompt():
    assert {choice_of(str(i), ["a", "b", "c"]) for i in range(100)} == {"a", "b", "c"}


def test_a_schema_is_filled(ask):
    wanted = schema_of(
        text={"type": "string"},
        count={"type": "integer"},
        share={"type": "number"},
        sure={"type": "boolean"},
        none={"type": "null"},
        fixed={"const": 7},
        many={"type": "array", "items": {"enum": ["only"]}},
        either={"anyOf": [{"enum": ["first"]}, {"type": "null"}]},
        inner={"$ref": "#/$defs/inner"},
        maybe={"type": ["string", "null"]},
    )
    wanted["json_schema"]["schema"]["$defs"] = {"inner": {"type": "object", "properties": {"a": {"enum": ["b"]}}}}
    with FakeServer() as server:
        found = json.loads(ask(server, "p", response_format=wanted).message["content"])
    assert found["text"] == found["maybe"] == answer_to("p")
    assert isinstance(found["count"], int)
    assert isinstance(found["share"], float)
    assert isinstance(found["sure"], bool)
    assert found["none"] is None
    assert found["fixed"] == 7
    assert found["many"] == ["only"]
    assert found["either"] == "first"
    assert found["inner"] == {"a": "b"}


def test_a_schema_that_refers_to_itself_ends(ask):
    wanted = schema_of(next={"$ref": "#"})
    with FakeServer() as server:
        assert "next" in json.loads(ask(server, "p", response_format=wanted).message["content"])


def test_json_mode_is_answered_with_an_object(ask):
    with FakeServer() as server:
        got = ask(server, "p", response_format={"type": "json_object"})
    assert json.loads(got.message["content"]) == {"answer": answer_to("p")}


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_longer_answer_is_cut_to_its_first_words(ask, name):
    with FakeServer("one two  three four") as server:
        choice = ask(server, "p", **{name: 3}).json["choices"][0]
    assert choice["message"]["content"] == "one two  three"
    assert choice["finish_reason"] == "length"


def test_an_answer_as_long_as_allowed_is_whole(ask):
    with FakeServer("one two three") as server:
        choice = ask(server, "p", max_tokens=3).json["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two three", "stop")


def test_usage_counts_words(ask):
    with FakeServer("four words of answer") as server:
        assert ask(server, "two words").json["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    assert tokens_of("four words of answer") == 4


def test_the_answer_may_be_a_function_of_the_prompt(ask):
    with FakeServer(str.upper) as server:
        assert ask(server, "why").message["content"] == "WHY"


def test_the_answer_may_be_a_function_of_prompt_and_body(ask):
    with FakeServer(lambda prompt, body: f"{prompt} by {body['model']}") as server:
        assert ask(server, "why", model="m").message["content"] == "why by m"


def test_an_answer_of_none_is_the_default(ask):
    with FakeServer(lambda prompt: "short" if prompt == "a" else None) as server:
        assert ask(server, "a").message["content"] == "short"
        assert ask(server, "b").message["content"] == answer_to("b")


def test_the_answer_may_be_the_fields_of_a_message(ask):
    fields = {"content": None, "refusal": "no", "finish_reason": "content_filter", "logprobs": {"content": []}}
    with FakeServer(fields) as server:
        choice = ask(server, "p").json["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": None, "refusal": "no"}
    assert choice["finish_reason"] == "content_filter"
    assert choice["logprobs"] == {"content": []}


def test_an_answer_that_cannot_be_utf_8_is_sent_as_an_escape(ask):
    with FakeServer("half \ud83d") as server:
        got = ask(server, "p")
    assert rb"half \ud83d" in got.raw


def test_logprobs_come_when_asked_for(ask):
    with FakeServer("one two") as server:
        tokens = ask(server, "p", logprobs=True).json["choices"][0]["logprobs"]["content"]
        assert ask(server, "p").json["choices"][0]["logprobs"] is None
    assert [token["token"] for token in tokens] == ["one", "two"]
    assert all(-1 <= token["logprob"] <= 0 for token in tokens)


def test_a_reward_model_gives_the_scores_of_reward_of_as_logprobs(post):
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    with FakeServer() as server:
        choice = post(server, {"model": "a-reward-model", "messages": messages}).json["choices"][0]
    assert {t["token"]: t["logprob"] for t in choice["logprobs"]["content"]} == reward_of(messages)


def test_a_reward_model_may_give_its_scores_as_content(ask):
    expected = reward_of([{"role": "user", "content": "p"}])
    with FakeServer(reward_dialect="content") as server:
        content = ask(server, "p", model="reward").message["content"]
        assert {k: float(v) for k, v in (one.split(":") for one in content.split(","))} == expected
        server.change(reward_dialect="number")
        assert float(ask(server, "p", model="reward").message["content"]) == expected["helpfulness"]


def test_other_conversations_have_other_scores():
    first = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}]
    second = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "B"}]
    assert reward_of(first) != reward_of(second)
