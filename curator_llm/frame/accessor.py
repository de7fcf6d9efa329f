"""``df.llm``: the stages as methods of a pandas frame, and what a researcher does before asking about every row."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pandas as pd

from curator_llm.errors import ConfigurationError
from curator_llm.frame.at_once import say
from curator_llm.frame.columns import check_columns
from curator_llm.frame.preview import compare, inputs_of, named_stages, preview, rate_line, spread
from curator_llm.frame.stages import QueryModel, QueryRewardModel, Stage
from curator_llm.frame.summary import RunSummary, stage_output, summary_columns
from curator_llm.spec.checks import check_count

MethodT = TypeVar("MethodT", bound=Callable[..., Any])


def _signature_of(stage: type[Stage]) -> Callable[[MethodT], MethodT]:
    """Give a method the signature of a stage's class, which notebooks show and complete."""

    def signed(method: MethodT) -> MethodT:
        method.__signature__ = inspect.signature(stage.__init__)  # type: ignore[attr-defined]  # any callable has one
        return method

    return signed


class LLMAccessor:
    """Asks models about the rows of a frame.

    Parameters
    ----------
    frame : pandas.DataFrame

    Examples
    --------
    >>> import pandas as pd
    >>> from curator_llm import Endpoint
    >>> from curator_llm.testing import FakeServer
    >>> df = pd.DataFrame({"text": ["Rain in Bergen"]})
    >>> with FakeServer(answer="weather") as server:
    ...     model = Endpoint("m", base_url=server.base_url)
    ...     df.llm.query_model(model, prompt="Topic of {text}", output="topic")["topic"].tolist()
    ['weather']
    """

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    @_signature_of(QueryModel)
    def query_model(self, *args: Any, **arguments: Any) -> Any:
        """Ask a chat model once per row: `QueryModel` with these arguments, applied to this frame.

        Returns
        -------
        DataFrame of the same kind
            With the stage's columns behind its own.
        """
        return QueryModel(*args, **arguments)(self._frame)

    @_signature_of(QueryRewardModel)
    def query_reward_model(self, *args: Any, **arguments: Any) -> Any:
        """Score each row's conversation: `QueryRewardModel` with these arguments, applied to this frame."""
        return QueryRewardModel(*args, **arguments)(self._frame)

    def preview(self, stage: Stage, n: int = 5) -> pd.DataFrame:
        """Ask about a few rows from everywhere in the frame, and say what all of them would cost.

        Parameters
        ----------
        stage : Stage
        n : int, default 5

        Returns
        -------
        pandas.DataFrame, n rows
            ``messages`` (as sent), ``reply``, ``status``, ``error``, ``input_tokens``, ``output_tokens``, ``cost_usd``.

        Notes
        -----
        Cost: `n` requests, once: the replies are kept and count for the whole run. A row that fails is shown, whatever
        the stage's `on_error`. On a Dask frame the rows' partitions are computed first: where another lazy stage made
        a column that is read, all their rows are asked about by that one. Persist it, or preview the first stage.
        """
        _check_stages([stage])
        shown = preview(stage, self._sample(n, stage.spec.operation.inputs), self._run)
        say(rate_line(shown, stage.spec.output, self._rows()))
        return shown

    def compare(self, stages: Mapping[str, Stage] | Iterable[Stage], n: int = 10) -> pd.DataFrame:
        """Ask several stages (prompts, models) about the same rows; rows with different replies come first.

        Parameters
        ----------
        stages : list of Stage, or dict of str to Stage
            A dict's names become columns; a list's stages have the names of their outputs.
        n : int, default 10

        Returns
        -------
        pandas.DataFrame, n rows
            ``changed``, the columns that are read, and for each stage its reply and ``<name>__status``.

        Notes
        -----
        Cost: `n` requests for each stage, once; on a Dask frame as for `preview`.
        """
        stages = stages if isinstance(stages, Mapping) else list(stages)
        _check_stages(stages.values() if isinstance(stages, Mapping) else stages)
        named = named_stages(stages)
        shown = compare(named, self._sample(n, inputs_of(named.values())), self._run)
        say(f"compare: {int(shown['changed'].sum()):,} of {len(shown):,} rows changed")
        return shown

    def summary(self, output: str | None = None) -> RunSummary:
        """Count how the rows of a stage ended.

        Parameters
        ----------
        output : str, optional
            The stage's output column; may be left out when there is one stage.

        Raises
        ------
        MissingColumnError
            When no stage has written such a column.

        Notes
        -----
        Cost: none on a pandas frame. A lazy frame is computed, and asks what the journal does not have.
        """
        output = stage_output(list(self._frame.columns), output)
        return self._summary(summary_columns(list(self._frame.columns), output), output)

    def _rows(self) -> int | None:
        return len(self._frame)

    def _sample(self, n: int, columns: Sequence[str]) -> pd.DataFrame:
        """Return rows from everywhere, with the columns that are read."""
        self._check(n, columns)
        return spread(self._frame[list(columns)], n)

    def _check(self, n: int, columns: Sequence[str]) -> None:
        check_count("n", n)
        check_columns(pd.DataFrame(columns=list(self._frame.columns)), columns, "", ())

    def _run(self, stage: Stage, sample: pd.DataFrame) -> pd.DataFrame:
        return stage(sample)

    def _summary(self, columns: list[str], output: str) -> RunSummary:
        return RunSummary.of(self._frame[columns], output)


def _check_stages(stages: Iterable[object]) -> None:
    for stage in stages:
        if not isinstance(stage, Stage):
            msg = f"{stage!r} is no stage: give a QueryModel or a QueryRewardModel."
            raise ConfigurationError(msg)


def register() -> None:
    """Make ``df.llm`` known to pandas."""
    pd.api.extensions.register_dataframe_accessor("llm")(LLMAccessor)
