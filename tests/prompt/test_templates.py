"""Templates: column names in braces, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator_llm.errors import PromptError
from curator_llm.prompt.templates import Template

_any_machine = settings(deadline=None, database=None, max_examples=200)

PAYLOADS = [
    "{other}",
    "{0}",
    "{}",
    "{{x}}",
    "%s",
    "%(text)s",
    "{text.__class__}",
    "{cfg.api_key}",
    "{{ ''.__class__.__mro__ }}",
    "${HOME}",
    "\\N{BULLET}",
    "{text!r:>{width}}",
]


def filled(template: str, **cells: str) -> str:
    """Render one row."""
    return Template.parse(template).render({name: [text] for name, text in cells.items()}, 1)[0]


def test_names_in_braces_become_the_texts_of_their_columns() -> None:
    template = Template.parse("{title}: {body} ({title})")
    assert template.columns == ("title", "body")
    assert template.render({"title": ["a", "b"], "body": ["x", "y"]}, 2) == ["a: x (a)", "b: y (b)"]


@pytest.mark.parametrize(
    "name", ["a b", "Full name (2026)", "größe", "text_1", "a-b", "1st", "a,b", "naïve & co", "a/b", "名"]
)
def test_a_name_may_have_spaces_and_most_characters(name: str) -> None:
    assert Template.parse(f"Say {{{name}}}.").columns == (name,)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{text}}", "{text}"),
        ('{{"a": {{}}}}', '{"a": {}}'),
        ("{{{text}}}", "{hello}"),
        ("100 % of {text} %s %%", "100 % of hello %s %%"),
        ("}}{{", "}{"),
    ],
)
def test_doubled_braces_are_braces_and_percent_signs_are_themselves(template: str, text: str) -> None:
    assert filled(template, text="hello") == text


@pytest.mark.parametrize(
    "prompt",
    [
        "{text.upper}",
        "{text[0]}",
        "{text['a']}",
        "{text!r}",
        "{text:>10}",
        "{text:}",
        "{text!}",
        "{text:{width}}",
        "{0}",
        "{12}",
        "{}",
        "{ }",
        "{ text }",
        "{text\n}",
        "{text\\}",
        "a { b",
        "a } b",
        "{text",
        "text}",
        "{{text}",
        '{"label": "x"}',
        "{'a': 1}",
        'Answer as {"label": {text}}',
        "if (x) { return {text}; }",
    ],
)
def test_anything_else_is_refused_and_printed_with_its_braces_doubled(prompt: str) -> None:
    with pytest.raises(PromptError) as raised:
        Template.parse(prompt)
    advised = str(raised.value).partition("it reads:\n")[2]
    assert advised == prompt.replace("{", "{{").replace("}", "}}")
    assert Template.parse(advised).columns == ()
    assert Template.parse(advised).render({}, 1) == [prompt]


def test_the_message_says_which_part_is_wrong() -> None:
    with pytest.raises(PromptError, match=r"\{text\.upper\} is not a column name"):
        Template.parse("a {title} b {text.upper}")
    with pytest.raises(PromptError, match="a single '}' stands at character 3"):
        Template.parse("ab}")


def test_a_template_with_half_a_character_is_refused() -> None:
    with pytest.raises(PromptError, match="lone surrogate"):
        Template.parse("\ud83d {text}")


@pytest.mark.parametrize("value", PAYLOADS)
def test_a_value_is_never_read_as_a_template(value: str) -> None:
    assert filled("<{text}|{other}>", text=value, other="o") == f"<{value}|o>"


@_any_machine
@given(value=st.text(st.characters()), before=st.text(), after=st.text())
def test_any_value_stands_unchanged_in_the_text(value: str, before: str, after: str) -> None:
    def escaped(text: str) -> str:
        return text.replace("{", "{{").replace("}", "}}")

    rendered = filled(f"{escaped(before)}{{text}}{escaped(after)}", text=value)
    assert rendered == filled(escaped(before)) + value + filled(escaped(after))


@_any_machine
@given(st.text(alphabet="{}a .!:%\"'0[", max_size=20))
def test_every_template_is_either_read_or_refused_with_a_prompt_that_can_be_read(prompt: str) -> None:
    try:
        columns = Template.parse(prompt).columns
    except PromptError as error:
        advised = str(error).partition("it reads:\n")[2]
        assert Template.parse(advised).render({}, 1) == [prompt]
    else:
        assert all(f"{{{name}}}" in prompt for name in columns)


def test_a_template_without_names_is_the_same_for_all_rows() -> None:
    assert Template.parse("Be brief. 100%").render({}, 3) == ["Be brief. 100%"] * 3


def test_no_rows_give_no_texts() -> None:
    assert Template.parse("{text}").render({"text": []}, 0) == []
