"""The answer and the reasoning in a message, however a server keeps the two apart."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.wire.answers import Answer, answer_in
from curator_llm.wire.envelopes import Message

_any_machine = settings(deadline=None, database=None, max_examples=100)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "thinking"]), inner),
    max_leaves=6,
)


def split(content: Any, **fields: Any) -> tuple[str | None, str | None]:
    answer = answer_in(Message(content=content, **fields))
    return answer.text, answer.reasoning


@pytest.mark.parametrize(
    ("content", "text", "reasoning"),
    [
        ("hello", "hello", None),
        ("<think>It rhymes.</think>A poem", "A poem", "It rhymes."),
        (" \n<think>\nIt rhymes.\n</think>\n\nA poem\n", "A poem\n", "It rhymes."),
        ("<thinking>It rhymes.</thinking> A poem", "A poem", "It rhymes."),
        ("<think></think>\n\nA poem", "A poem", None),
        ("<think>It rhymes.</think>", None, "It rhymes."),
        ("<think>It rhymes.</think>\n", None, "It rhymes."),
        ("<think>It rhy", None, "It rhy"),
        ("<think>a</thinking>b", None, "a</thinking>b"),
        ("<think>a</think>b</think>c", "b</think>c", "a"),
    ],
)
def test_reasoning_in_front_of_the_answer_is_taken_off(content: str, text: str | None, reasoning: str | None) -> None:
    assert split(content) == (text, reasoning)


@pytest.mark.parametrize(
    "content",
    [
        "It rhymes.</think>A poem",
        "A poem <think>It rhymes.</think>",
        "<thinker>It rhymes.</thinker>",
        "< think>x</think>y",
        "`<think>` opens",
        " \n",
    ],
)
def test_an_opening_tag_that_does_not_stand_in_front_is_not_guessed(content: str) -> None:
    assert split(content) == (content, None)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_beside_the_content_is_found_under_both_names(name: str) -> None:
    assert split("hello", **{name: "Hm."}) == ("hello", "Hm.")


def test_reasoning_that_is_no_text_is_none() -> None:
    assert split("hello", reasoning_content={"a": 1}, reasoning=5) == ("hello", None)


@pytest.mark.parametrize(
    "thought",
    [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "reasoning", "reasoning": "Hm."},
        {"type": "reasoning", "text": "Hm."},
        {"type": "thinking", "thinking": [{"type": "text", "text": "H"}, {"type": "text", "text": "m."}, "odd"]},
    ],
)
def test_reasoning_in_content_parts_is_kept_apart(thought: dict[str, Any]) -> None:
    assert split([thought, {"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]) == ("Hello", "Hm.")


def test_reasoning_in_several_places_is_put_together() -> None:
    assert split("<think>b</think>c", reasoning="a") == ("c", "a\n\nb")


def test_no_message_has_no_answer() -> None:
    assert answer_in(None) == Answer(None, None)


def test_a_tag_behind_a_megabyte_of_spaces_is_not_looked_for() -> None:
    content = " " * 1_000_000 + "<think>a</think>b"
    assert split(content) == (content, None)


@_any_machine
@given(_json, _json)
def test_no_message_makes_it_fail_and_all_text_can_be_written(content: Any, reasoning: Any) -> None:
    for text in split(content, reasoning=reasoning):
        assert text is None or text.encode()


def test_reasoning_in_several_parts_is_put_together_and_a_part_without_text_adds_none() -> None:
    parts = [
        {"type": "thinking", "thinking": "It "},
        {"type": "thinking", "thinking": [{"type": "text", "text": "rhymes."}, {"type": "image"}]},
        {"type": "image_url", "image_url": {}},
        {"type": "text", "text": "A "},
        {"type": "text", "text": "poem"},
    ]
    assert split(parts) == ("A poem", "It rhymes.")
