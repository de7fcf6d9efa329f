"""Ask a reward model: the scores of a conversation."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from curator_llm.errors import ConfigurationError
from curator_llm.operations.base import (
    DETAILS,
    NUMBER,
    TEXT,
    ChatRequests,
    ClientMethod,
    Column,
    Outcome,
    final_verdict,
)
from curator_llm.wire.envelopes import Completion, one_line
from curator_llm.wire.reward_scores import scores_from

#: The attributes of HelpSteer2, which NVIDIA's Nemotron reward models score.
HELPSTEER_ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


@dataclass(frozen=True, kw_only=True)
class Reward(ChatRequests):
    """Score each row's conversation.

    Parameters
    ----------
    attributes : tuple of str
        The scores that become columns of their own; a reply without one of them is ``invalid``.

    Raises
    ------
    ConfigurationError
        When an attribute stands twice, or its column would be one that every stage adds.
    """

    attributes: tuple[str, ...] = HELPSTEER_ATTRIBUTES
    id: str = field(default="reward/1", init=False)
    client_method: ClientMethod = field(default="query_reward_model", init=False, repr=False)

    def __post_init__(self) -> None:
        taken = {"status", "error", *DETAILS}
        for name in self.attributes:
            if not isinstance(name, str) or not name or name in taken:
                msg = (
                    f"`attributes` has {name!r}, which is no name, stands twice, or is a column that every stage adds."
                )
                raise ConfigurationError(msg)
            taken.add(name)

    @property
    def is_deterministic(self) -> bool:
        """A reward model does not sample."""
        return True

    @property
    def own_columns(self) -> tuple[Column, ...]:
        """All scores as JSON text, and one column per attribute."""
        return ((self.output, TEXT), *((f"{self.output}__{name}", NUMBER) for name in self.attributes))

    def read_completion(self, completion: Completion) -> Outcome:
        """Take the scores from logprobs, else from the content."""
        choice = completion.choices[0]
        entries = choice.logprobs.content if choice.logprobs else None
        pairs = [(entry.token, entry.logprob) for entry in entries] if entries else None
        scores = scores_from(choice.message.content if choice.message else None, pairs)
        missing = [name for name in self.attributes if name not in (scores or {})]
        code, why = None, None
        if scores is None:
            code, why = "no_scores", "neither logprobs nor content hold scores; the model is likely not a reward model"
        elif missing:
            found = one_line(repr([name[:40] for name in list(scores)[:10]]))
            code, why = "other_attributes", f"no score for {missing[0]!r}; attributes={found} takes those of the reply"
        verdict = final_verdict(completion, "ok" if code is None else "invalid", code, why)
        if scores is None or missing:
            return Outcome(verdict)
        text = msgspec.json.encode(scores).decode()
        return Outcome(verdict, {"": text, **{f"__{name}": scores[name] for name in self.attributes}})
