"""``ddf.llm``: the stages as methods of a Dask frame. Importing this registers it; `import_hook` does so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.base import compute
from dask.dataframe.extensions import register_dataframe_accessor
from dask.delayed import delayed

from curator_llm.cluster.stage_lines import here
from curator_llm.frame.accessor import LLMAccessor
from curator_llm.frame.preview import spread
from curator_llm.frame.stages import Stage
from curator_llm.frame.summary import RunSummary


@register_dataframe_accessor("llm")
class DaskLLMAccessor(LLMAccessor):
    """Asks models about the rows of a Dask frame. Stages are lazy; `preview`, `compare` and `summary` compute."""

    _frame: dd.DataFrame

    def _rows(self) -> None:
        """Return nothing: counting the rows could cost as much as reading them all."""

    def _sample(self, n: int, columns: Sequence[str]) -> pd.DataFrame:
        """Return rows from partitions all over the frame; only those partitions are computed."""
        self._check(n, columns)
        wanted = self._frame[[name for name in self._frame.columns if name in columns]]
        chosen = np.unique(np.linspace(0, wanted.npartitions - 1, min(n, wanted.npartitions)).round().astype(int))
        each = -(-n // len(chosen))
        rows = wanted.partitions[chosen.tolist()].map_partitions(spread, each, meta=wanted).compute()
        return spread(rows if len(rows) else wanted.head(n, npartitions=-1), n)

    def _run(self, stage: Stage, sample: pd.DataFrame) -> pd.DataFrame:
        """Ask where the whole frame would be asked, so that keys and journal are those of the workers."""
        answers = delayed(stage, pure=False)(sample).compute()  # a frame of Dask's would change lists and indexes
        here.flush()
        return cast("pd.DataFrame", answers)

    def _summary(self, columns: list[str], output: str) -> RunSummary:
        count = delayed(RunSummary.of)
        first, *others = compute(*(count(part, output) for part in self._frame[columns].to_delayed()))
        for other in others:
            first.add(other)
        return cast("RunSummary", first)
