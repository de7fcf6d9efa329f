"""The stages of a job file that ask a model, before they are built: an endpoint by name, and arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from curator_llm.errors import ConfigurationError
from curator_llm.frame.stages import Stage
from curator_llm.job.file.overrides import with_settings
from curator_llm.job.file.prompt_files import with_prompts
from curator_llm.job.file.stage_kinds import STAGES, output_of, parameters
from curator_llm.job.places import Place
from curator_llm.spec.budget import Budget
from curator_llm.spec.endpoint import Endpoint
from curator_llm.spec.nearest import nearest


@dataclass(frozen=True)
class Query:
    """A stage that asks a model.

    Parameters
    ----------
    kind : str
        ``query_model`` or ``query_reward_model``.
    endpoint : str
        Name of an endpoint of the job.
    arguments : mapping
        Of the stage's class.
    place : Place
        For errors.
    budget : Budget, optional
        That of the job.
    """

    kind: str
    endpoint: str
    arguments: Mapping[str, Any]
    place: Place
    budget: Budget | None = None

    @classmethod
    def read(cls, kind: str, value: Any, place: Place, endpoints: Mapping[str, object]) -> Query:
        """Make one from the values of a job file.

        Raises
        ------
        JobFileError
            With place, value and what to do.
        """
        given = place.mapping(value, list(parameters(kind)), required=["endpoint"])
        name = (place / "endpoint").text(given.pop("endpoint"), "gpt")
        if name not in endpoints:
            msg = f"there is no endpoint {name!r} in this job. {nearest(name, endpoints)}"
            raise (place / "endpoint").error(msg)
        if given.pop("journal", None) is not None:
            msg = "leave it out: a job keeps its replies in <run_dir>/journal."
            raise (place / "journal").error(msg)
        if given.pop("budget", None) is not None:
            msg = "a job has one budget for all its stages: give `budget` beside `stages`."
            raise (place / "budget").error(msg)
        for key, example in (("prompt", "Topic of {text}"), ("system", "Be brief."), ("sample_by", "id")):
            if given.get(key) is not None:
                (place / key).text(given[key], example)
        choices = given.get("choices")
        if isinstance(choices, list) and any(isinstance(choice, int | float) for choice in choices):
            msg = f"is {choices!r}: YAML reads yes, no, on, off and numbers as other than texts: put them in quotes."
            raise (place / "choices").error(msg)
        if choices is not None:
            (place / "choices").texts(choices, "[weather, money, other]")
        return cls(kind, name, given, place)

    @property
    def output(self) -> str:
        """The name of its output column, which is its own."""
        return output_of(self.kind, self.arguments)

    def changed(self, settings: Sequence[str], endpoints: Mapping[str, object]) -> Query:
        """Return this stage with other arguments.

        Parameters
        ----------
        settings : sequence of str
            Paths within the stage: ``generation.max_tokens=2000``.
        endpoints : mapping
            Those of the job.

        Raises
        ------
        JobFileError
            When they are no arguments of the stage.
        """
        given = with_settings({"endpoint": self.endpoint, **self.arguments}, settings)
        changed = Query.read(self.kind, with_prompts(given, self.place), self.place, endpoints)
        return dataclasses.replace(changed, budget=self.budget)

    def build(self, endpoint: Endpoint) -> Stage:
        """Make the stage.

        Raises
        ------
        JobFileError
            When it cannot be made.
        """
        make = cast("Any", STAGES[self.kind])
        try:
            return cast("Stage", make(endpoint, budget=self.budget, **self.arguments))
        except (ConfigurationError, TypeError, ValueError, AttributeError) as error:
            raise self.place.caused(error) from None
