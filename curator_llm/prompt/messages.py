"""Where a request's messages come from: templates over columns, or a chat column. Both encode whole tables at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from curator_llm.errors import ConfigurationError, PromptError
from curator_llm.prompt.cells import BAD_TEXT, cell_texts
from curator_llm.prompt.chat_columns import chat_messages, encode_messages
from curator_llm.prompt.templates import Template, is_utf8
from curator_llm.wire.exchange import Skip

Table = Mapping[str, Sequence[Any]]

#: OpenAI's reasoning models call it developer.
_SYSTEM_ROLES = frozenset({"system", "developer"})


class Messages(Protocol):
    """A source of messages."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""

    @property
    def shown(self) -> str:
        """What is asked, for people."""

    def encode(self, table: Table, rows: int) -> list[bytes | Skip]:
        """Return each row's ``messages`` array as JSON, or why there is none."""


@dataclass(frozen=True, slots=True)
class TemplatedMessages:
    """Messages whose contents are templates, for example a system and a user message.

    Parameters
    ----------
    roles : tuple of str
    templates : tuple of Template
        As many as roles.
    """

    roles: tuple[str, ...]
    templates: tuple[Template, ...]

    @classmethod
    def of(cls, messages: Sequence[Mapping[str, str]]) -> TemplatedMessages:
        """Read ``[{"role": ..., "content": template}, ...]``.

        Raises
        ------
        ConfigurationError
            When a message is not of this form.
        PromptError
            When a template cannot be read, or none names a column.
        """
        for message in messages:
            known = isinstance(message, Mapping) and set(message) == {"role", "content"}
            if not known or not all(isinstance(text, str) for text in message.values()) or not is_utf8(message["role"]):
                form = "{'role': 'user', 'content': 'template'}"
                msg = f"`messages` holds {message!r}: give {form}, or the name of a chat column."
                raise ConfigurationError(msg)
        source = cls(tuple(m["role"] for m in messages), tuple(Template.parse(m["content"]) for m in messages))
        if not source.columns:
            shown = "\n".join(message["content"] for message in messages)
            msg = f"The prompt names no column, so every row asks the same: add one, like {{text}}. It reads:\n{shown}"
            raise PromptError(msg)
        return source

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns the templates name."""
        return tuple(dict.fromkeys(name for template in self.templates for name in template.columns))

    @property
    def shown(self) -> str:
        """The templates."""
        return "\n".join(f"{role}: {template.text}" for role, template in zip(self.roles, self.templates, strict=True))

    def encode(self, table: Table, rows: int) -> list[bytes | Skip]:
        """Render and encode; a row with a null or unusable cell becomes a Skip."""
        cells = {name: cell_texts(table[name]) for name in self.columns}
        skips: list[Skip | None] = [None] * rows
        for texts in cells.values():
            for row, text in enumerate(texts):
                if isinstance(text, Skip):
                    skips[row] = skips[row] or text
        readable = {name: [text if isinstance(text, str) else "" for text in texts] for name, texts in cells.items()}
        contents = [template.render(readable, rows) for template in self.templates]
        openings = [b'{"role":%b,"content":' % msgspec.json.encode(role) for role in self.roles]
        encode = msgspec.json.encode
        encoded: list[bytes | Skip] = []
        for skip, texts_of_row in zip(skips, zip(*contents, strict=True), strict=True):
            if skip is not None:
                encoded.append(skip)
                continue
            try:
                parts = [opening + encode(text) for opening, text in zip(openings, texts_of_row, strict=True)]
            except UnicodeEncodeError:
                encoded.append(BAD_TEXT)
                continue
            encoded.append(b"[" + b"},".join(parts) + b"}]")
        return encoded


@dataclass(frozen=True, slots=True)
class ChatColumn:
    """Messages as they stand in a column.

    Parameters
    ----------
    column : str
    system : str, optional
        Put before chats that have no system (or developer) message of their own.

    Raises
    ------
    PromptError
        When `system` cannot be sent.
    """

    column: str
    system: str | None = None

    def __post_init__(self) -> None:
        if self.system is not None and not is_utf8(self.system):
            msg = "`system` holds a lone surrogate, half of a character, which no request can carry: remove it."
            raise PromptError(msg)

    @property
    def columns(self) -> tuple[str, ...]:
        """The chat column."""
        return (self.column,)

    @property
    def shown(self) -> str:
        """The column, and what stands before each chat."""
        return f"the chats of column {self.column!r}" + (f", after system: {self.system}" if self.system else "")

    def encode(self, table: Table, rows: int) -> list[bytes | Skip]:
        """Check and encode each chat."""
        del rows
        return [self._encode(value) for value in table[self.column]]

    def _encode(self, value: Any) -> bytes | Skip:
        messages = chat_messages(value)
        if isinstance(messages, Skip):
            return messages
        if self.system is not None and messages[0]["role"] not in _SYSTEM_ROLES:
            messages.insert(0, {"role": "system", "content": self.system})
        return encode_messages(messages)
