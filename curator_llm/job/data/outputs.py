"""What a job writes: one file per piece, all of one schema, beside the output's path until everything is there."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from curator_llm.frame.columns import table_of
from curator_llm.job.data.input_output import Data
from curator_llm.job.data.inputs import Input
from curator_llm.job.data.json_lines import encode_lines
from curator_llm.job.data.parts import write_part
from curator_llm.job.data.storage import Location
from curator_llm.prompt.cells import canonical_json


class Output(Protocol):
    """Writes pieces; travels to the workers."""

    def write(self, frame: pd.DataFrame, number: int) -> None:
        """Write piece `number`; a second writing replaces the first."""


@dataclass(frozen=True)
class ParquetOutput:
    """One Parquet file per piece.

    Parameters
    ----------
    directory : Path or StorePath
        Exists.
    schema : pyarrow.Schema
        Of every file, whatever a piece holds.
    """

    directory: Location
    schema: Any

    def write(self, frame: pd.DataFrame, number: int) -> None:
        """Write piece `number`; a second writing replaces the first."""
        objects = [name for name in frame.columns if frame[name].dtype == object]
        for name, values in table_of(frame, [name for name in objects if _is_text(self.schema.field(name))]).items():
            texts = [None if value is None else canonical_json(value).decode() for value in values]
            frame = frame.assign(**{name: pd.array(texts, dtype="string[pyarrow]")})
        table = pa.Table.from_pandas(frame, schema=self.schema, preserve_index=False)
        table = table.replace_schema_metadata(self.schema.metadata)
        content = io.BytesIO()
        pq.write_table(table, content)
        write_part(self.directory, f"part-{number:05d}.parquet", content.getvalue())


@dataclass(frozen=True)
class JsonLinesOutput:
    """One JSONL file per piece."""

    directory: Location

    def write(self, frame: pd.DataFrame, number: int) -> None:
        """Write piece `number`; a second writing replaces the first."""
        write_part(self.directory, f"part-{number:05d}.jsonl", encode_lines(frame))


def make_output(data: Data, directory: Location, meta: pd.DataFrame, source: Input) -> Output:
    """Return what writes the pieces of a job into a directory.

    Parameters
    ----------
    data : Data
        The output, as the job file has it.
    directory : Path or StorePath
        Beside the output's path.
    meta : pandas.DataFrame
        Empty, with the columns and dtypes to write.
    source : Input
        Its columns keep the types they have on disk.
    """
    if data.format == "jsonl":
        return JsonLinesOutput(directory)
    return ParquetOutput(directory, output_schema(meta, source))


def output_schema(meta: pd.DataFrame, source: Input) -> Any:
    """Return the types on disk: those of the input for its columns, those of their dtypes for the added ones.

    The metadata that tells pandas which dtypes to read back is made the same way, from no rows at all, so it is equal
    in all files. Columns of Python objects without a type on disk become JSON text.
    """
    known = source.schema or pa.schema([])
    kept = [name for name in known.names if name in meta.columns and meta[name].dtype == source.meta[name].dtype]
    fields, read_back = [], {}
    usual = _named_as_on_disk(known).empty_table().to_pandas()
    for name in map(str, meta.columns):
        if name in kept:
            fields.append(known.field(name))
            read_back[name] = usual[name]
        else:
            column = meta[name].astype("string[pyarrow]") if meta[name].dtype == object else meta[name]
            fields.append(pa.field(name, pa.Array.from_pandas(column).type))
            read_back[name] = column
    metadata = pa.Schema.from_pandas(pd.DataFrame(read_back), preserve_index=False).metadata
    return pa.schema(fields, metadata=metadata)


def _named_as_on_disk(schema: Any) -> Any:
    """Return a schema that pandas reads without making an index, or labels that are no texts, of columns."""
    metadata = dict(schema.metadata or {})
    if b"pandas" in metadata:
        said = json.loads(metadata[b"pandas"])
        columns = [{**column, "name": column["field_name"]} for column in said["columns"] if column.get("field_name")]
        said |= {"index_columns": [], "column_indexes": [], "columns": columns}
        metadata[b"pandas"] = json.dumps(said).encode()
    return schema.with_metadata(metadata)


def _is_text(field: Any) -> bool:
    return bool(pa.types.is_string(field.type) or pa.types.is_large_string(field.type))
