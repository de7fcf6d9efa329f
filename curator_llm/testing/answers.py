"""What the fake server answers, as pure functions: a test computes the answer it must find in each row.

This module covers the default text, the choice out of an enum, reward scores and the token counts. Nothing here depends
on time, on the order of requests or on the process: equal input gives equal output, on every machine.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

#: The attributes a reward model of the HelpSteer family scores, in the order of its reply.
HELPSTEER_ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")

_DEEPEST_SCHEMA = 20


def draw(*parts: object) -> float:
    """Give a number that looks random and depends on `parts` alone.

    Parameters
    ----------
    *parts : object
        Anything whose ``str`` is stable: seeds, prompts, attempts.

    Returns
    -------
    float
        At least 0, below 1.

    Examples
    --------
    >>> draw(7, "a prompt", 1) == draw(7, "a prompt", 1)
    True
    >>> draw(7, "a prompt", 1) == draw(7, "a prompt", 2)
    False
    """
    text = "\x1f".join(map(str, parts))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    # 53 bits are what a float holds: with all 64 the highest draws would round up to 1.
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def answer_to(prompt: str, index: int = 0) -> str:
    """Give the text the fake server answers to a prompt.

    Parameters
    ----------
    prompt : str
        The text of the last user message.
    index : int
        Which choice, for requests with ``n > 1``.

    Returns
    -------
    str
        A hash of the whole prompt and its first 40 characters; a lone surrogate in them reads ``?``.

    Examples
    --------
    >>> answer_to("Why is the sky blue?")
    'answer to 09ea2679: Why is the sky blue?'
    >>> answer_to("Why is the sky blue?", 1)
    'answer 1 to 09ea2679: Why is the sky blue?'
    """
    digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    start = prompt[:40].encode("utf-8", "replace").decode()
    return f"answer {index} to {digest}: {start}" if index else f"answer to {digest}: {start}"


def choice_of(prompt: str, choices: Sequence[Any]) -> Any:
    """Give the member of an enum that the fake server answers to a prompt.

    Parameters
    ----------
    prompt : str
        The text of the last user message.
    choices : sequence
        The ``enum`` of the schema in the request's ``response_format``, in its order.

    Returns
    -------
    object
        One of `choices`, picked by a hash of the prompt.

    Examples
    --------
    >>> choice_of("a tale of two cities", ["fiction", "science", "news"])
    'science'
    """
    return choices[int(draw("choice", prompt) * len(choices))]


def reward_of(messages: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Give the scores the fake server answers to a conversation.

    Parameters
    ----------
    messages : sequence of mapping
        The request's messages, each with ``role`` and ``content``.

    Returns
    -------
    dict of str to float
        The five HelpSteer attributes, each from -4 to 4 with six decimals.

    Examples
    --------
    >>> scores = reward_of([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}])
    >>> list(scores)
    ['helpfulness', 'correctness', 'coherence', 'complexity', 'verbosity']
    """
    whole = json.dumps([[m.get("role"), text_of(m.get("content"))] for m in messages])
    return {name: round(draw(name, whole) * 8 - 4, 6) for name in HELPSTEER_ATTRIBUTES}


def tokens_of(text: str | Sequence[Mapping[str, Any]]) -> int:
    """Count tokens the way the fake server bills them: one per word.

    Parameters
    ----------
    text : str or sequence of mapping
        A text, or messages, of which the contents are counted.

    Returns
    -------
    int
        The number of words between white space.

    Examples
    --------
    >>> tokens_of("one two  three")
    3
    >>> tokens_of([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    3
    """
    if isinstance(text, str):
        return len(text.split())
    return sum(tokens_of(text_of(message.get("content"))) for message in text)


def text_of(content: object) -> str:
    """Read a message's content, which is a text or a list of parts (text parts are joined by nothing)."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    return ""


def prompt_of(body: Mapping[str, Any]) -> str:
    """Give the prompt of a request: the text of its last user message.

    Parameters
    ----------
    body : mapping
        The decoded body of a chat completion request.

    Returns
    -------
    str
        The text, parts joined; empty when no message has the role ``user``.

    Examples
    --------
    >>> prompt_of({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]})
    'Hi'
    """
    messages = body.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            return text_of(message.get("content"))
    return ""


def cut(text: str, max_tokens: int) -> tuple[str, bool]:
    """Keep the first `max_tokens` words of a text, and tell whether any were lost."""
    ends = [word.end() for word in itertools.islice(re.finditer(r"\S+", text), max_tokens + 1)]
    if len(ends) <= max_tokens:
        return text, False
    return text[: ends[max_tokens - 1]] if max_tokens > 0 else "", True


def default_answer(prompt: str, body: Mapping[str, Any], index: int = 0) -> str:
    """Answer a request: a text, or JSON where its ``response_format`` asks for JSON."""
    wanted = body.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_object":
        return json.dumps({"answer": answer_to(prompt, index)}, separators=(",", ":"))
    if kind == "json_schema" and isinstance(wanted, dict):
        schema = (wanted.get("json_schema") or {}).get("schema") or {}
        return json.dumps(_fill(schema, schema, prompt, index, 0), separators=(",", ":"))
    return answer_to(prompt, index)


def _fill(schema: Any, root: Any, prompt: str, index: int, depth: int) -> Any:
    """Build the simplest value a JSON schema allows."""
    if not isinstance(schema, dict) or depth > _DEEPEST_SCHEMA:
        return None
    if "$ref" in schema:
        target = root
        for name in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
            target = target.get(name, {}) if isinstance(target, dict) else {}
        return _fill(target, root, prompt, index, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return choice_of(prompt, schema["enum"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return _fill(schema[union][0], root, prompt, index, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {k: _fill(v, root, prompt, index, depth + 1) for k, v in schema.get("properties", {}).items()}
    if kind == "array":
        return [_fill(schema.get("items", {}), root, prompt, index, depth + 1)]
    return _fill_leaf(kind, prompt, index)


def _fill_leaf(kind: str, prompt: str, index: int) -> Any:
    match kind:
        case "integer":
            return int(draw("integer", prompt) * 10)
        case "number":
            return round(draw("number", prompt), 6)
        case "boolean":
            return draw("boolean", prompt) < 0.5
        case "null":
            return None
    return answer_to(prompt, index)
