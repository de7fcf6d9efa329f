"""Ask a chat model: the reply's text, one of a few choices, or JSON of the form that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from curator_llm.errors import ConfigurationError
from curator_llm.operations.base import TEXT, ChatRequests, ClientMethod, Column, Outcome, final_verdict
from curator_llm.operations.structured import JsonForm
from curator_llm.prompt.messages import Table
from curator_llm.prompt.templates import is_utf8
from curator_llm.wire.answers import answer_in
from curator_llm.wire.envelopes import Choice, Completion, one_line
from curator_llm.wire.exchange import Request, Skip, Status


@dataclass(frozen=True, kw_only=True)
class Chat(ChatRequests):
    """Ask once per row; the first choice's text is the row's value.

    Parameters
    ----------
    choices : tuple of str
        When given, the reply must be one of them. Else a ``response_format`` among the fields of the body says whether
        it must be JSON, and of which schema.

    Raises
    ------
    ConfigurationError
        For a schema that is not valid.
    """

    choices: tuple[str, ...] = ()
    form: JsonForm | None = field(default=None, init=False, repr=False)
    id: str = field(default="chat/1", init=False)
    client_method: ClientMethod = field(default="query_model", init=False, repr=False)

    def __post_init__(self) -> None:
        form = None if self.choices else JsonForm.of(self.body_fields.get("response_format"))
        object.__setattr__(self, "form", form)

    def requests(self, table: Table, rows: int) -> list[Request | Skip]:
        """Encode the bodies of `rows` rows; before anything is paid for, see that replies can be checked here."""
        if self.form is not None:
            self.form.prepare()
        return super().requests(table, rows)

    @property
    def own_columns(self) -> tuple[Column, ...]:
        """The text."""
        return ((self.output, TEXT),)

    def read_completion(self, completion: Completion) -> Outcome:
        """Say what the first choice means."""
        status, code, why, text = _read_choice(completion.choices[0])
        if self.choices and status in {"ok", "truncated"}:
            said, cut = text or "", status == "truncated"
            text = self._match(said, cut=cut)
            status, code, why = "ok", None, None
            if text is None:
                status, code = "invalid", "truncated_choice" if cut else "not_a_choice"
                why = f"{said[:80]!r} is none of the choices" + ("; raise max_tokens" if cut else "")
        elif self.form is not None and status == "ok":
            reading = self.form.read(text or "")
            text, code, why = reading.text, reading.code, reading.why
            status = "ok" if code is None else "invalid"
        return Outcome(final_verdict(completion, status, code, why), {"": text})

    def _match(self, text: str, *, cut: bool) -> str | None:
        """Return the choice that is meant, from bare text or from the JSON object that was asked for."""
        said = _folded(text)
        if cut and sum(_folded(choice).startswith(said) for choice in self.choices) > 1:
            return None  # "new" may have been on its way to "new york"
        return self._choice(said) or self._choice(_folded(_unwrapped(text)))

    def _choice(self, said: str) -> str | None:
        return next((choice for choice in self.choices if _folded(choice) == said), None)


def choice_format(choices: Sequence[str]) -> dict[str, Any]:
    """Return the ``response_format`` that asks for one of the choices.

    An object around the enum: OpenAI's strict mode takes no other root.

    Raises
    ------
    ConfigurationError
        When there are fewer than two, or two that differ only in case or spaces.
    """
    texts = () if isinstance(choices, str) else [text for text in choices if isinstance(text, str) and is_utf8(text)]
    distinct = {_folded(text) for text in texts} - {""}
    if len(distinct) < max(len(choices), 2):
        msg = f"`choices` is {choices!r}: give two or more texts that differ in more than case and spaces."
        raise ConfigurationError(msg)
    schema = {
        "type": "object",
        "properties": {"choice": {"type": "string", "enum": list(choices)}},
        "required": ["choice"],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "choice", "strict": True, "schema": schema}}


def _read_choice(choice: Choice) -> tuple[Status, str | None, str | None, str | None]:
    """Return status, code, error text and text of a choice."""
    message = choice.message
    answer = answer_in(message)
    text = answer.text
    if message and isinstance(message.refusal, str) and message.refusal:
        return "refused", "refusal", one_line(message.refusal), None
    if choice.finish_reason == "content_filter":
        return "filtered", "content_filter", "the server's content filter stopped the reply", text
    if choice.finish_reason == "length":
        return "truncated", "max_tokens", "the reply reached the token limit; raise max_tokens", text
    if text is not None:
        return "ok", None, None, text
    if message and message.tool_calls:
        return "empty", "tool_calls_only", "the model called a tool instead of answering", None
    if answer.reasoning is not None:
        return "empty", "only_reasoning", "the reply is reasoning without an answer", None
    return "empty", "no_content", "the reply has no text", None


def _folded(said: object) -> str:
    return said.strip().casefold() if isinstance(said, str) else ""


def _unwrapped(text: str) -> object:
    try:
        said = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return said.get("choice") if isinstance(said, dict) else said
