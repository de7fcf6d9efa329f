"""What a message says: the answer, and the reasoning before it, however the server keeps the two apart.

Reasoning stands in a field of its own, in content parts of its own, or in front of the answer between ``<think>`` and
``</think>``. An opening tag that is missing is not guessed: a model may write about tags.
"""

from __future__ import annotations

import msgspec

from curator_llm.wire.envelopes import Message, clean_text

_TAGS = ("<think>", "<thinking>")
_REASONING_PARTS = ("thinking", "reasoning")


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The text of a message and the reasoning that led to it; None where there is none."""

    text: str | None = None
    reasoning: str | None = None


def answer_in(message: Message | None) -> Answer:
    r"""Take a message apart. Linear in its length, whatever it holds.

    Examples
    --------
    >>> answer_in(Message(content="<think>It rhymes.</think>\n\nA poem"))
    Answer(text='A poem', reasoning='It rhymes.')
    >>> answer_in(Message(content="<think>It rhy")).text is None
    True
    """
    if message is None:
        return Answer()
    beside = message.reasoning_content or message.reasoning
    said, thought = _parts(message.content)
    text, before = _split(said)
    thoughts = [part for part in (beside, thought, before) if part and isinstance(part, str)]
    return Answer(clean_text(text) or None, clean_text("\n\n".join(thoughts)) if thoughts else None)


def _parts(content: object) -> tuple[str, str]:
    """Return the text and the reasoning of a content: a text, or a list of parts, as some servers send it."""
    if isinstance(content, str):
        return content, ""
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    texts = [_text_of(part) for part in parts if part.get("type") not in _REASONING_PARTS]
    thoughts = [_text_of(part) for part in parts if part.get("type") in _REASONING_PARTS]
    return "".join(texts), "".join(thoughts)


def _text_of(part: dict[str, object]) -> str:
    """Return a part's text; reasoning stands under the name of its type, as a text or as parts again (Mistral)."""
    for value in (part.get("text"), part.get("thinking"), part.get("reasoning")):
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            texts = [inner.get("text") for inner in value if isinstance(inner, dict)]
            return "".join(text for text in texts if isinstance(text, str))
    return ""


def _split(said: str) -> tuple[str, str]:
    """Return what follows the reasoning, and the reasoning, of a text that begins with it."""
    if not said[:4096].lstrip().startswith(_TAGS):  # enough to see a tag
        return said, ""
    opening, _, rest = said.lstrip().partition(">")
    inside, _, answer = rest.partition(f"</{opening[1:]}>")
    return answer.lstrip(), inside.strip()
