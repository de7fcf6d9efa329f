"""R18: whatever stands in a frame, the columns are those that were promised, and the frame is as it was."""

from __future__ import annotations

import copy
import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import pandas as pd
import pyarrow as pa
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from curator_llm import Endpoint, QueryModel, QueryRewardModel
from curator_llm.frame.stages import Stage
from curator_llm.testing import FakeServer, faults_named_in_prompt
from tests.chaos.scorecard import Figure, Setting

ID = "R18"
TITLE = "Frames drawn at random: dtypes, nulls, indexes, failures"
IN_TESTS = False

FRAMES = 300
MOST_ROWS = 6

FAULTS = (
    "http:400", "content_filter_400", "context_length", "refusal", "finish_length", "finish_content_filter",
    "empty_content", "null_content", "no_usage", "nan_usage", "surrogate", "nul", "reasoning", "error_in_200",
)  # fmt: skip
_words = st.sampled_from(["a", "b", "", "ä\u0000😀", "{text}"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=4
)
_texts = st.sampled_from([f"{name}: x" for name in FAULTS]) | _words
_numbers = st.integers(-3, 3)
_times = st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2030, 1, 1))  # noqa: DTZ001  zones are one of the dtypes
_MESSAGE = pa.struct({"role": pa.string(), "content": pa.string()})

#: Of a column: what its cells are, null or not, and as what dtypes they come.
COLUMNS: dict[str, tuple[st.SearchStrategy[Any], tuple[Any, ...]]] = {
    "text": (_texts, ("str", "object", "string[pyarrow]", "category", pd.ArrowDtype(pa.large_string()))),
    "whole": (_numbers, ("Int64", "object", "category", pd.ArrowDtype(pa.int8()), "float64", "Float32")),
    "real": (st.floats(width=32), ("float64", "Float64", "object", pd.ArrowDtype(pa.float32()))),
    "flag": (st.booleans(), ("boolean", "object", "category", pd.ArrowDtype(pa.bool_()))),
    "time": (_times, ("datetime64[us]", "object", pd.ArrowDtype(pa.timestamp("us", "UTC")))),
    "decimal": (st.decimals(-9, 9, places=2), ("object", pd.ArrowDtype(pa.decimal128(9, 2)))),
    "list": (st.lists(_numbers, max_size=2), ("object", pd.ArrowDtype(pa.list_(pa.int64())))),
    "struct": (st.fixed_dictionaries({"a": _numbers, "b": _words}), ("object",)),
    "bytes": (st.binary(max_size=3), ("object", pd.ArrowDtype(pa.binary()))),
}  # fmt: skip
_chats = st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": _texts}), max_size=2)

INDEXES: dict[str, Callable[[int], pd.Index]] = {
    "range": pd.RangeIndex,
    "repeated": lambda rows: pd.Index([7] * rows, name="id", dtype="int64"),
    "text": lambda rows: pd.Index([f"k{n % 2}" for n in range(rows)], name="key", dtype="str"),
    "category": lambda rows: pd.CategoricalIndex([f"k{n % 2}" for n in range(rows)], categories=["k0", "k1", "k2"]),
    "several": lambda rows: pd.MultiIndex.from_tuples([(n % 2, str(n)) for n in range(rows)], names=["n", None]),
    "times": lambda rows: pd.date_range("2026-01-01", periods=rows, tz="UTC", name="at"),
    "nulls": lambda rows: pd.Index([None if n % 2 else 1.5 for n in range(rows)], dtype="float64"),
}


@st.composite
def frames(draw: st.DrawFn) -> tuple[str, pd.DataFrame, str]:
    """Return a name of what it is, a frame, and which kind of stage to ask with."""
    rows = draw(st.integers(0, MOST_ROWS))
    index_kind = draw(st.sampled_from([*INDEXES]))
    kinds = draw(st.lists(st.sampled_from([*COLUMNS]), unique=True, min_size=1, max_size=3))
    nulls = draw(st.sampled_from(["none", "some", "all"]))

    def column(cells: st.SearchStrategy[Any], dtypes: tuple[Any, ...]) -> pd.Series:
        cells = {"none": cells, "some": st.none() | cells, "all": st.none()}[nulls]
        values = draw(st.lists(cells, min_size=rows, max_size=rows))
        return pd.Series(values, dtype="object").astype(draw(st.sampled_from(dtypes)))

    columns = {kind: column(*COLUMNS[kind]) for kind in kinds}
    how = draw(st.sampled_from(["prompt", "choices", "chat", "reward"]))
    if how in {"chat", "reward"}:
        columns["chat"] = column(_chats, ("object", pd.ArrowDtype(pa.list_(_MESSAGE))))
    frame = pd.DataFrame(columns).set_axis(INDEXES[index_kind](rows))
    frame.columns.name = draw(st.sampled_from([None, "of columns"]))
    return index_kind, frame, how


def figures(setting: Setting) -> Iterator[Figure]:
    """Ask for each frame, on pandas and on Dask."""
    seen: Counter[str] = Counter()
    quiet = dask.config.set({"curator-llm.engine.repeated-rejections": 0, "scheduler": "synchronous"})
    with FakeServer(faults=faults_named_in_prompt) as server, quiet:
        endpoint = Endpoint("m", base_url=server.base_url, max_attempts=1)

        @seed(setting.seed)
        @settings(
            max_examples=FRAMES,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(frames())
        def ask(drawn: tuple[str, pd.DataFrame, str]) -> None:
            kind, frame, how = drawn
            seen.update(["frames", f"index {kind}", *{f"dtype {dtype}" for dtype in frame.dtypes}])
            seen["empty frames"] += frame.empty
            stage = _stage(endpoint, how, frame, str(setting.scratch / "journal"))
            try:
                _look(stage, frame, setting.scratch / "out.parquet", seen)
            except Exception as error:  # noqa: BLE001  a frame that fails is a figure, and the next one is asked
                seen["raised"] += 1
                seen[f"raised {type(error).__name__}: {error}"[:200]] += 1

        ask()
    yield Figure("frames", seen["frames"], at_least=FRAMES)
    yield Figure("of these empty", seen["empty frames"], at_least=FRAMES / 30)
    yield Figure("of these without any answer", seen["without an answer"], at_least=FRAMES / 30)
    yield Figure("kinds of index", _kinds(seen, "index "), equals=len(INDEXES))
    yield Figure("dtypes of inputs", _kinds(seen, "dtype "), at_least=15)
    yield Figure("frames that Parquet keeps whole", seen["whole in Parquet"], at_least=FRAMES / 3)
    yield Figure("statuses", _kinds(seen, "status "), at_least=8)
    yield Figure("frames asked for on Dask, too", seen["on Dask"], at_least=FRAMES / 10)
    told = "; ".join(name for name in seen if name.startswith("raised "))
    yield Figure(f"frames that raised{told and f' ({told})'}", seen["raised"], equals=0)
    for wrong in ("other dtypes than promised", "inputs or index changed", "pandas and Dask differ", "lost in Parquet"):
        yield Figure(f"frames with {wrong}" if wrong[0] in "oi" else f"frames where {wrong}", seen[wrong], equals=0)


def _kinds(seen: Counter[str], start: str) -> int:
    return sum(name.startswith(start) for name in seen)


def _stage(endpoint: Endpoint, how: str, frame: pd.DataFrame, journal: str) -> Stage:
    named = " ".join(f"{{{name}}}" for name in frame.columns)
    shared: dict[str, Any] = {"journal": journal, "details": True}
    generation = {"temperature": 0, "max_tokens": 20}
    if how == "reward":
        return QueryRewardModel(
            endpoint, messages="chat", attributes=["helpfulness"], generation={"temperature": 0}, **shared
        )
    if how == "chat":
        return QueryModel(endpoint, messages="chat", system="Be brief.", generation=generation, **shared)
    choices = ["yes", "no"] if how == "choices" else None
    return QueryModel(endpoint, prompt=named, choices=choices, generation=generation, **shared)


def _look(stage: Stage, frame: pd.DataFrame, file: Path, seen: Counter[str]) -> None:
    before = copy.deepcopy(frame)
    meta = stage.meta(frame)
    out = stage(frame)
    added = [name for name in out.columns if name not in before.columns]
    status = next(name for name in added if name.endswith("__status"))
    seen.update({f"status {found}" for found in out[status]})
    seen["without an answer"] += bool(len(out)) and not (out[status] == "ok").any()
    promised = (
        out.dtypes.equals(meta.dtypes) and out.columns.equals(meta.columns) and out.index.dtype == meta.index.dtype
    )
    seen["other dtypes than promised"] += not promised or "object" in set(map(str, out[added].dtypes))
    seen["inputs or index changed"] += not (_same(out[list(before.columns)], before) and _same(frame, before))
    whole = _survives_parquet(before, file)
    seen["whole in Parquet"] += whole
    kept = out if whole else out[added].reset_index(drop=True)
    seen["lost in Parquet"] += not _survives_parquet(kept, file)
    # Dask turns objects into text before a stage sees them, and knows no index of several columns or with nulls.
    if frame.index.nlevels == 1 and not frame.index.hasnans and "object" not in set(map(str, frame.dtypes)):
        seen["on Dask"] += 1
        lazy = stage(dd.from_pandas(frame, npartitions=2, sort=False))
        computed = lazy.compute()
        seen["other dtypes than promised"] += not computed.dtypes.equals(lazy.dtypes)
        seen["pandas and Dask differ"] += "failed" not in set(out[status]) and not _same(
            computed[added].reset_index(drop=True), out[added].reset_index(drop=True)
        )


def _survives_parquet(frame: pd.DataFrame, file: Path) -> bool:
    try:
        frame.to_parquet(file)
        return _same(pd.read_parquet(file), frame)
    except (pa.ArrowException, TypeError):  # inputs without a form in Parquet, and those pandas cannot read back
        return False


def _same(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    try:
        pd.testing.assert_frame_equal(one, other)
    except AssertionError:
        return False
    return True
