"""How replies are sampled: the generation parameters of a request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from curator_llm.errors import ConfigurationError
from curator_llm.spec.checks import check_json, checked_extra_body, is_count, is_number
from curator_llm.spec.nearest import nearest
from curator_llm.spec.response_format import response_format_of


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_stop(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list | tuple) and all(isinstance(text, str) for text in value))


#: What each parameter must be.
_FORMS: dict[str, tuple[Callable[[object], bool], str]] = {
    "max_tokens": (is_count, "a whole number of tokens, 1 or more"),
    "max_completion_tokens": (is_count, "a whole number of tokens, 1 or more"),
    "temperature": (is_number, "a number"),
    "top_p": (is_number, "a number"),
    "top_k": (_is_whole, "a whole number"),
    "seed": (_is_whole, "a whole number"),
    "stop": (_is_stop, "a text or a list of texts"),
    "presence_penalty": (is_number, "a number"),
    "frequency_penalty": (is_number, "a number"),
    "logprobs": (lambda value: isinstance(value, bool), "true or false"),
    "reasoning_effort": (lambda value: isinstance(value, str), "a text"),
    "response_format": (lambda value: isinstance(value, dict), "a dict"),  # by then it is one, whatever was given
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """Sampling parameters, passed to the server as they are. What is None is not sent.

    Parameters
    ----------
    max_tokens, max_completion_tokens : int, optional
        Most tokens of a reply. `max_tokens` is sent as `max_completion_tokens` to servers that ask for it.
    temperature, top_p, presence_penalty, frequency_penalty : float, optional
    top_k, seed : int, optional
    stop : str or list of str, optional
    logprobs : bool, optional
    reasoning_effort : str, optional
    response_format : mapping or pydantic model class, optional
        As the API takes it (``{"type": "json_schema", "json_schema": {...}}``), a JSON schema, or a class derived from
        pydantic's BaseModel: the latter two are wrapped as a strict ``json_schema``. Replies are checked against it
        (needs the extra ``schema``) and kept as JSON text.
    extra_body : mapping, optional
        Further fields of the body, for servers that know more (vLLM, SGLang, NIM).

    Raises
    ------
    ConfigurationError
        When a value is of another kind, or `extra_body` sets what has a parameter or is the stage's own; for a
        `response_format` that is no valid JSON schema, refers to what is not in it, or is called strict and is not.

    Notes
    -----
    Source: OpenAI, *Create chat completion*.

    Examples
    --------
    >>> GenerationConfig(max_tokens=8, temperature=0).body_fields()
    {'max_tokens': 8, 'temperature': 0}
    """

    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    reasoning_effort: str | None = None
    response_format: Mapping[str, Any] | type[Any] | None = None
    extra_body: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.response_format is not None:
            object.__setattr__(self, "response_format", response_format_of(self.response_format))
        for name, (fits, form) in _FORMS.items():
            value = getattr(self, name)
            if value is not None and not fits(value):
                msg = f"`{name}` is {value!r}: give {form}."
                raise ConfigurationError(msg)
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            msg = "Both `max_tokens` and `max_completion_tokens` are given: keep one (it is renamed where needed)."
            raise ConfigurationError(msg)
        object.__setattr__(self, "extra_body", checked_extra_body(self.extra_body, _FORMS))
        check_json("generation", self.body_fields())

    @classmethod
    def of(cls, value: GenerationConfig | Mapping[str, Any] | None) -> GenerationConfig:
        """Make one from a mapping, naming what is unknown.

        Raises
        ------
        ConfigurationError
            For an unknown name, and for ``n`` above 1: a stage takes one reply per row.
        """
        if value is None:
            return cls()
        if isinstance(value, GenerationConfig):
            return value
        if not isinstance(value, Mapping):
            msg = f"`generation` is {value!r}: give a GenerationConfig or a mapping such as {{'max_tokens': 64}}."
            raise ConfigurationError(msg)
        fields = dict(value)
        if fields.pop("n", 1) != 1:
            msg = (
                f"`generation` has n={value['n']!r}: a stage takes one reply per row. For several samples, repeat the "
                "rows with a column that numbers them and pass sample_by='that column'."
            )
            raise ConfigurationError(msg)
        known = [field.name for field in dataclasses.fields(cls)]
        for name in fields:
            if name not in known:
                near = nearest(str(name), known)
                msg = (
                    f"`generation` has no parameter {name!r}. {near} What only your server has goes into `extra_body`."
                )
                raise ConfigurationError(msg)
        return cls(**fields)

    def body_fields(self, *, with_extra: bool = True) -> dict[str, Any]:
        """Return the fields of the request body, in a fixed order: the bytes sent are the key."""
        names = (field.name for field in dataclasses.fields(self) if field.name != "extra_body")
        fields = {name: value for name in names if (value := getattr(self, name)) is not None}
        if with_extra and self.extra_body:
            fields.update(self.extra_body)
        return fields

    def __repr__(self) -> str:
        shown = self.body_fields(with_extra=False) | ({"extra_body": self.extra_body} if self.extra_body else {})
        return f"GenerationConfig({', '.join(f'{name}={value!r}' for name, value in shown.items())})"
