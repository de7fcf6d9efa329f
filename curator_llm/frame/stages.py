"""Stages: built once, applied to frames. On a pandas frame a stage runs at once, on a Dask frame lazily."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import pandas as pd

from curator_llm import config, runtime
from curator_llm.errors import ConfigurationError
from curator_llm.frame.at_once import run_at_once
from curator_llm.frame.budgets import with_budget
from curator_llm.frame.columns import attach, check_columns
from curator_llm.frame.run_rows import Plan, StageSpec, plan_rows, replay_rows
from curator_llm.journal.upkeep import remove
from curator_llm.operations.base import ChatRequests, check_details
from curator_llm.operations.chat import Chat, choice_format
from curator_llm.operations.reward import HELPSTEER_ATTRIBUTES, Reward
from curator_llm.prompt.messages import ChatColumn, Messages, TemplatedMessages
from curator_llm.spec.budget import Budget
from curator_llm.spec.endpoint import Endpoint
from curator_llm.spec.generation import GenerationConfig
from curator_llm.spec.html import html_table
from curator_llm.spec.prices import price_of
from curator_llm.wire.exchange import Request

FrameT = TypeVar("FrameT")


class Stage:
    """A model asked once per row: what all stages share. Frozen; travels in graphs."""

    spec: StageSpec
    #: Name of Dask's tasks.
    __name__ = "stage"

    def __call__(self, frame: FrameT) -> FrameT:
        """Add the stage's columns to a frame.

        Parameters
        ----------
        frame : pandas.DataFrame or dask.dataframe.DataFrame, n rows

        Returns
        -------
        DataFrame of the same kind, n rows
            Same index, order, partitions and columns, the added ones behind them.

        Raises
        ------
        MissingColumnError
            Now, when the stage reads a column that is not there.
        RunError
            At compute, when no row can work: key, model, quota, address, journal.
        RowsFailedError
            At compute, when more rows fail than the stage allows.

        Notes
        -----
        Cost: one request for each distinct row the journal has no reply for.
        """
        if not isinstance(frame, pd.DataFrame):
            return cast("FrameT", self._dask_room(frame).apply(self, frame, self.meta(frame)))
        if "dask.dataframe" in sys.modules:
            from curator_llm.cluster.expression import in_meta_inference

            if in_meta_inference():
                return cast("FrameT", self.meta(frame))
        if "distributed" in sys.modules or "dask.multiprocessing" in sys.modules:
            from curator_llm.cluster.task import current_worker, in_dask_task, run_partition

            if in_dask_task():
                return cast("FrameT", run_partition(frame, self.spec, current_worker()).frame)
        return cast("FrameT", run_at_once(frame, self.spec, runtime.engine()))

    def meta(self, frame: Any) -> Any:
        """Return an empty pandas frame with the columns and dtypes that the stage gives for `frame`.

        Parameters
        ----------
        frame : pandas.DataFrame or dask.dataframe.DataFrame
        """
        empty = (frame if isinstance(frame, pd.DataFrame) else self._dask_room(frame).empty_like(frame)).iloc[:0]
        operation = self.spec.operation
        check_columns(empty, operation.inputs, self.spec.output, [name for name, _ in operation.columns])
        return attach(empty, operation.columns, {name: [] for name, _ in operation.columns})

    def dry_run(self, frame: pd.DataFrame) -> Plan:
        """Return what would be asked for a pandas frame; nothing is sent and no key is needed."""
        return plan_rows(frame, self.spec, runtime.engine())

    def replay(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a pandas frame with the answers the journal has; rows without one are ``not_attempted``."""
        worker = None
        if "distributed" in sys.modules:
            from curator_llm.cluster.task import current_worker

            worker = current_worker()
        return replay_rows(frame, self.spec, runtime.engine(worker))

    def forget(self, frame: pd.DataFrame) -> int:
        """Remove the replies that the journal has for the rows of a pandas frame.

        Parameters
        ----------
        frame : pandas.DataFrame
            With the columns the stage reads.

        Returns
        -------
        int
            How many records went, those of failures with them. The rows are asked again when they are needed.

        Raises
        ------
        JournalError
            When a process still writes to the journal; in this one, ``curator_llm.runtime.close()`` ends that.
        """
        plan = self.dry_run(frame)
        if plan.journal is None or not plan.journal.exists():
            return 0
        keys = {request.key.hex() for request in plan.requests if isinstance(request, Request)}
        return remove(plan.journal, lambda record: record.key in keys).removed

    def with_run(self, *, run: str | None, journal: str | bool, budget: str | None = None) -> Stage:
        """Return this stage as part of a run: replies kept in the run's journal, failures counted over all its rows.

        `budget` is the name that all stages of the run spend under.
        """
        limit = self.spec.budget and dataclasses.replace(self.spec.budget, name=budget)
        return self._changed(run=run, journal=journal, fail_on_error=None, budget=limit)

    def with_draw(self, draw: int) -> Stage:
        """Return this stage with other requests for the same rows, so that they are asked anew."""
        operation = cast("ChatRequests", self.spec.operation)
        return self._changed(operation=dataclasses.replace(operation, draw=draw))

    def for_preview(self, details: Sequence[str]) -> Stage:
        """Return this stage with further `details`, and failed rows shown rather than raised."""
        operation = cast("ChatRequests", self.spec.operation)
        free = [name for name in details if f"{self.spec.output}__{name}" not in operation.inputs]
        operation = dataclasses.replace(operation, details=check_details([*operation.details, *free]))
        return self._changed(operation=operation, on_error="column", fail_on_error=None)

    def _changed(self, **values: Any) -> Stage:
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.spec = dataclasses.replace(self.spec, **values)
        return copy

    def _repr_html_(self) -> str:
        """Return what the stage asks, for notebooks."""
        spec = self.spec
        operation = cast("ChatRequests", spec.operation)
        shown: list[tuple[object, ...]] = [("endpoint", repr(spec.endpoint)), ("reads", ", ".join(operation.inputs))]
        shown += [("asks", operation.messages.shown), *operation.body_fields.items()]
        shown.append(("adds", ", ".join(name for name, _ in operation.columns)))
        shown.append(("replies kept in", spec.journal_directory() or "nothing (journal=False)"))
        return html_table(f"{type(self).__name__} {spec.output!r}", shown)

    def _dask_room(self, frame: object) -> Any:
        """Return what knows Dask, loaded only when there is a Dask frame."""
        if "dask.dataframe" in sys.modules:
            from curator_llm.cluster import expression

            if expression.is_dask_frame(frame):
                expression.listen_to_workers(self.spec.endpoint)
                return expression
        msg = f"A stage takes a pandas or Dask DataFrame, not {type(frame).__name__}."
        raise ConfigurationError(msg)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (type(self).__qualname__, repr(self.spec))

    def __repr__(self) -> str:
        spec = self.spec
        return (
            f"{type(self).__name__}({spec.endpoint!r}, output={spec.output!r}, reads={list(spec.operation.inputs)!r})"
        )


class QueryModel(Stage):
    """Ask a chat model once per row.

    Parameters
    ----------
    endpoint : Endpoint or str
        A model name is an Endpoint with defaults.
    prompt : str, optional
        Template of the user message: ``{column}`` names; ``{{`` and ``}}`` are braces.
    messages : str or list of dict, optional
        Instead of `prompt`: the name of a chat column (lists of role and content, or JSON text), or messages whose
        contents are templates.
    system : str, optional
        Template of a system message; before a chat column it stands as it is, where a chat has none of its own.
    output : str, default "completion"
        Name of the output column, and prefix of those beside it.
    choices : sequence of str, optional
        The reply must be one of them: asked for by ``response_format``, matched after strip and casefold.
    generation : GenerationConfig or mapping, optional
        Sampling parameters; in ``response_format`` also a pydantic model class, or a JSON schema.
    details : bool or sequence of str, default False
        Further columns: finish_reason, input_tokens, output_tokens, cached_tokens, reasoning_tokens, reasoning,
        attempts, latency_s, cost_usd, model, request_id. Free later, from the journal.
    on_error : {"column", "raise"}
        Whether failed rows are a column, or an error once the partition's replies are kept.
    fail_on_error : float, optional
        Share (below 1) or count of failed and rejected rows that fails the stage: of the frame on pandas, of a
        partition on Dask, of all rows in a job.
    budget : Budget, optional
        The most that may be spent, over all restarts and workers; the rows it leaves are ``not_attempted``. Needs
        `max_tokens`, and for US dollars a price.
    sample_by : str, optional
        Rows with different values in this column are different requests, even if they ask the same.
    journal : str or False, optional
        Directory where replies are kept; default ``curator-llm.journal.path``; False keeps none.

    Raises
    ------
    ConfigurationError
        Now, for anything that cannot work.

    Notes
    -----
    Adds ``<output>`` (string, null unless the model gave text), ``<output>__status`` and ``<output>__error``.

    Examples
    --------
    >>> QueryModel("gpt-4.1-mini", prompt="Topic of {text}", output="topic", generation={"max_tokens": 8})
    QueryModel(Endpoint('gpt-4.1-mini', base_url='https://api.openai.com/v1', api_key='env:OPENAI_API_KEY'), \
output='topic', reads=['text'])
    """

    __name__ = "query_model"

    def __init__(
        self,
        endpoint: Endpoint | str,
        *,
        prompt: str | None = None,
        messages: str | Sequence[Mapping[str, str]] | None = None,
        system: str | None = None,
        output: str = "completion",
        choices: Sequence[str] | None = None,
        generation: GenerationConfig | Mapping[str, Any] | None = None,
        details: bool | Sequence[str] = False,
        on_error: str = "column",
        fail_on_error: float | None = None,
        budget: Budget | None = None,
        sample_by: str | None = None,
        journal: str | bool | None = None,
    ) -> None:
        endpoint = Endpoint(endpoint) if isinstance(endpoint, str) else endpoint
        fields = GenerationConfig.of(generation).body_fields()
        if choices is not None:
            if "response_format" in fields:
                msg = "Both `choices` and a `response_format` are given: `choices` makes its own, so drop one."
                raise ConfigurationError(msg)
            fields["response_format"] = choice_format(choices)
        operation = Chat(
            model=endpoint.model,
            identity=endpoint.identity,
            messages=_messages(prompt, messages, system),
            body_fields={**(endpoint.extra_body or {}), **fields},
            output=output,
            sample_by=sample_by,
            details=check_details(details),
            price_usd=price_of(endpoint),
            choices=tuple(choices or ()),
        )
        self.spec = _spec(endpoint, operation, output, journal, on_error, fail_on_error, budget)


class QueryRewardModel(Stage):
    """Score each row's conversation with a reward model.

    Parameters
    ----------
    endpoint : Endpoint or str
    messages : str or list of dict
        The name of a chat column, or messages whose contents are templates.
    output : str, default "reward"
    attributes : sequence of str, default the five of HelpSteer2
        Scores that become columns ``<output>__<attribute>``; a reply without one of them is ``invalid``. A model that
        answers with one number has the attribute ``score``.
    details, on_error, fail_on_error, budget, sample_by, journal
        As for `QueryModel`.
    generation : GenerationConfig or mapping, optional

    Raises
    ------
    ConfigurationError
        Now, for anything that cannot work.

    Notes
    -----
    Adds ``<output>`` (all scores as JSON text), a float column per attribute, ``<output>__status`` and
    ``<output>__error``. Scores come from logprobs, as NVIDIA's reward models send them, else from the content.

    Examples
    --------
    >>> score = QueryRewardModel(Endpoint("nemotron-reward", base_url="http://localhost:8000/v1"), messages="chat")
    >>> [name for name, _ in score.spec.operation.columns][:3]
    ['reward', 'reward__helpfulness', 'reward__correctness']
    """

    __name__ = "query_reward_model"

    def __init__(
        self,
        endpoint: Endpoint | str,
        *,
        messages: str | Sequence[Mapping[str, str]],
        output: str = "reward",
        attributes: Sequence[str] = HELPSTEER_ATTRIBUTES,
        generation: GenerationConfig | Mapping[str, Any] | None = None,
        details: bool | Sequence[str] = False,
        on_error: str = "column",
        fail_on_error: float | None = None,
        budget: Budget | None = None,
        sample_by: str | None = None,
        journal: str | bool | None = None,
    ) -> None:
        endpoint = Endpoint(endpoint) if isinstance(endpoint, str) else endpoint
        if isinstance(attributes, str) or not attributes:
            msg = f"`attributes` is {attributes!r}: give the names of the scores, such as ['score']."
            raise ConfigurationError(msg)
        operation = Reward(
            model=endpoint.model,
            identity=endpoint.identity,
            messages=_messages(None, messages, None),
            body_fields={**(endpoint.extra_body or {}), **GenerationConfig.of(generation).body_fields()},
            output=output,
            sample_by=sample_by,
            details=check_details(details),
            price_usd=price_of(endpoint),
            attributes=tuple(attributes),
        )
        self.spec = _spec(endpoint, operation, output, journal, on_error, fail_on_error, budget)


def _messages(prompt: str | None, messages: str | Sequence[Mapping[str, str]] | None, system: str | None) -> Messages:
    if (prompt is None) == (messages is None):
        msg = "Give `prompt` (a template) or `messages` (a chat column, or messages with templates): one of them."
        raise ConfigurationError(msg)
    if isinstance(messages, str):
        return ChatColumn(messages, system)
    turns = [{"role": "user", "content": prompt}] if messages is None else list(messages)
    if system is not None:
        turns.insert(0, {"role": "system", "content": system})
    return TemplatedMessages.of(cast("Sequence[Mapping[str, str]]", turns))


def _spec(
    endpoint: Endpoint,
    operation: Chat | Reward,
    output: str,
    journal: str | bool | None,
    on_error: str,
    fail_on_error: float | None,
    budget: Budget | None,
) -> StageSpec:
    if not isinstance(output, str) or not output or not output.isprintable():
        msg = f"`output` is {output!r}: give the name of a column, of printable characters."
        raise ConfigurationError(msg)
    if on_error not in {"column", "raise"}:
        msg = f"`on_error` is {on_error!r}: give 'column' or 'raise'."
        raise ConfigurationError(msg)
    if fail_on_error is not None and not fail_on_error > 0:
        msg = f"`fail_on_error` is {fail_on_error!r}: give a share below 1 or a count of rows."
        raise ConfigurationError(msg)
    if journal is True or (isinstance(journal, str) and "://" in journal):
        msg = f"`journal` is {journal!r}: give a directory on a file system that all workers share, or False."
        raise ConfigurationError(msg)
    # A path is fixed here: workers have other configurations and other current directories.
    path = config.get("journal.path") if journal is None else journal
    if path and path is not True and not str(path).startswith("~"):
        path = str(Path(str(path)).absolute())
    spec = StageSpec(endpoint, operation, output, path, on_error, fail_on_error)
    return spec if budget is None else with_budget(spec, operation, budget)
