"""CSV after RFC 4180, UTF-8: quoted fields may hold delimiters, line ends and doubled quotes. Read, never written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from curator_llm.errors import ConfigurationError
from curator_llm.job.data.csv_values import READ, TEXT, as_number, dtype_of
from curator_llm.job.data.input_output import Data
from curator_llm.job.data.pieces import check_read, selected
from curator_llm.job.data.records import (
    SAMPLE_RECORDS,
    BrokenRecordError,
    RecordInput,
    Span,
    line_ends,
    read_header,
    scan,
)
from curator_llm.job.data.storage import StoredFile

_QUOTE, _LINE_FEED, _CARRIAGE_RETURN = b'"\n\r'


@dataclass(frozen=True)
class CsvLines:
    """CSV files with the same columns.

    Parameters
    ----------
    delimiter : str
        One ASCII character.
    dtypes : dict
        Of the columns that are read.
    as_number : tuple of str
        Those that are numbers however they are written.
    header : tuple of str
        Of one file.
    """

    delimiter: str
    dtypes: dict[str, str] = field(default_factory=dict)
    as_number: tuple[str, ...] = ()
    header: tuple[str, ...] = ()

    @classmethod
    def open(cls, files: tuple[StoredFile, ...], data: Data) -> RecordInput:
        """Learn columns from the header, and dtypes from the first records.

        Raises
        ------
        JobFileError
            When a column is not there.
        ConfigurationError
            When a file is no CSV.
        """
        layout, _ = cls(data.delimiter, as_number=data.as_number).begin(files[0])
        names = selected(list(layout.header), data.columns, data.place)
        for name in names:
            if not name or names.count(name) > 1 or layout.header.count(name) > 1:
                what = f"{layout.header.count(name)} columns {name!r}" if name else "a column without a name"
                msg = f"{files[0]} has {what}: list the others in `columns`, or mend the header line."
                raise data.place.error(msg)
        check_read("as_text", data.as_text, names, data.place)
        check_read("as_number", data.as_number, names, data.place)
        layout = replace(layout, dtypes=dict.fromkeys(names, TEXT))
        sample = layout.sample(files)
        dtypes = {name: dtype_of(sample.column(name).to_pylist()) for name in names}
        dtypes |= dict.fromkeys(data.as_text, TEXT) | dict.fromkeys(data.as_number, "Float64")
        return RecordInput(files, replace(layout, dtypes=dtypes))

    def begin(self, file: StoredFile) -> tuple[CsvLines, int]:
        """Return the layout of one file, and the byte behind its header line.

        Raises
        ------
        ConfigurationError
            When it has no header line, or other columns than the first file.
        """
        record, stop = read_header(file, self)
        if not record:
            msg = f"{file} is empty: the first line of a CSV file names its columns."
            raise ConfigurationError(msg)
        _check_utf8(record, lambda _: f"{file}, the header line")
        if not record.endswith(b"\n"):
            record += b"\n"  # a file that ends here; Arrow takes no line without an end for a header
        options = {"read_options": _all_of(record), "parse_options": self._parse_options(None)}
        header = tuple(csv.read_csv(pa.BufferReader(record), **options).column_names)
        missing, more = sorted(set(self.header) - set(header)), sorted(set(header) - set(self.header))
        if self.header and (missing or more):
            lacks = f" lacks {', '.join(map(repr, missing))}" if missing else ""
            has = f" has {', '.join(map(repr, more))}" if more else ""
            both = " and" if lacks and has else ""
            msg = f"{file}{lacks}{both}{has}, unlike the first file: all must have the same columns."
            raise ConfigurationError(msg)
        return replace(self, header=header), stop

    def records(self, block: bytes, *, last: bool) -> tuple[Any, Any]:
        """Return where records end, and which are not blank.

        Raises
        ------
        BrokenRecordError
            For a quote where none may stand, and for a carriage return without a line feed outside of quotes.
        """
        broken = min(self._broken(block, last=last), default=None)
        if broken is not None:
            raise BrokenRecordError(*broken)
        return self._split(block, last=last)

    def _split(self, block: bytes, *, last: bool) -> tuple[Any, Any]:
        """Find records: they end at line feeds behind an even number of quotes."""
        codes = np.frombuffer(block, dtype=np.uint8)
        ends = line_ends(block, last=last)
        ends = ends[np.searchsorted(np.flatnonzero(codes == _QUOTE), ends) % 2 == 0]
        if not len(ends):
            return ends, np.zeros(0, dtype=bool)
        starts = np.concatenate(([0], ends[:-1]))
        firsts = codes[starts]
        blank = (firsts == _LINE_FEED) | ((firsts == _CARRIAGE_RETURN) & (ends - starts <= len("\r\n")))
        return ends, ~blank

    def _broken(self, block: bytes, *, last: bool) -> Iterator[tuple[int, str]]:
        """Yield the first of each kind of what would hide the ends of records, as they are counted here."""
        codes = np.frombuffer(block, dtype=np.uint8)
        delimiter = ord(self.delimiter)
        quotes = np.flatnonzero(codes == _QUOTE)
        opening, closing = quotes[::2], quotes[1::2]
        opening, closing = opening[opening > 0], closing[closing + 1 < len(codes)]
        before = opening[~np.isin(codes[opening - 1], [delimiter, _LINE_FEED, _QUOTE])]
        behind = closing[~np.isin(codes[closing + 1], [delimiter, _LINE_FEED, _CARRIAGE_RETURN, _QUOTE])]
        for astray in (before, behind):
            if len(astray):
                yield int(astray[0]), 'a quote inside of a field: put quotes around the field, and write "" for it.'
        if last and len(quotes) % 2:
            yield int(quotes[-1]), "a quote is opened and not closed."
        returns = np.flatnonzero(codes[:-1] == _CARRIAGE_RETURN)
        alone = returns[(codes[returns + 1] != _LINE_FEED) & (np.searchsorted(quotes, returns) % 2 == 0)]
        if len(alone):
            yield int(alone[0]), "a carriage return without a line feed: end lines with LF or CRLF, or quote the field."

    def frame(self, span: Span, block: bytes) -> pd.DataFrame:
        """Return the rows of some records.

        Raises
        ------
        ConfigurationError
            For a record that does not have the columns and types of the first ones.
        """
        table = self.texts(span, block)
        columns = {name: self._column(name, table.column(name), span) for name in self.dtypes}
        return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows))

    def sample(self, files: tuple[StoredFile, ...]) -> pa.Table:
        """Return the first records, all as text."""
        tables = [self._schema.empty_table()]
        for file in files:
            layout, start = self.begin(file)
            for span, block in scan(file, layout, start):
                tables.append(layout.texts(span, block))
                if sum(table.num_rows for table in tables) >= SAMPLE_RECORDS:
                    return pa.concat_tables(tables).slice(0, SAMPLE_RECORDS)
        return pa.concat_tables(tables)

    @property
    def _schema(self) -> pa.Schema:
        return pa.schema([(name, pa.string()) for name in self.dtypes])

    def texts(self, span: Span, block: bytes) -> pa.Table:
        """Return the fields as text, empty ones as null."""

        def record_at(byte: int) -> str:
            return f"{span.file}, record {span.first + self._split(block[:byte], last=False)[1].sum():,}"

        _check_utf8(block, record_at)
        torn: list[Any] = []

        def tear(row: Any) -> str:
            torn.append(row)
            return "skip"

        # by position: names of columns that are not read may be there twice
        positions = [str(self.header.index(name)) for name in self.dtypes]
        table = csv.read_csv(
            pa.BufferReader(block),
            read_options=_all_of(block, [str(position) for position in range(len(self.header))]),
            parse_options=self._parse_options(tear),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(positions, pa.string()),
                include_columns=positions,
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
        if torn:
            msg = (
                f"{span.file}, record {span.first + torn[0].number - 1:,}: it has {torn[0].actual_columns} fields, the "
                f"header line {torn[0].expected_columns}: check `delimiter` ({self.delimiter!r}), and put quotes around"
                " fields that hold it."
            )
            raise ConfigurationError(msg)
        return pa.table(table.columns, schema=self._schema)

    def _column(self, name: str, texts: Any, span: Span) -> Any:
        dtype = self.dtypes[name]
        if dtype == TEXT:
            return pd.array(texts, dtype=cast("Any", dtype))
        read = as_number if name in self.as_number else READ[dtype]
        given = texts.to_pylist()
        values = [None if text is None else read(text) for text in given]
        for row, (text, value) in enumerate(zip(given, values, strict=True)):
            if text is not None and value is None:
                known, others = f"the first {SAMPLE_RECORDS:,} records hold {dtype}", "`as_text` or `as_number`"
                if name in self.as_number:
                    known, others = "`as_number` names it", "`as_text` instead"
                msg = (
                    f"{span.file}, record {span.first + row:,}: column {name!r} holds {text[:60]!r}, and {known}: name "
                    f"the column in {others} of the input, or mend it."
                )
                raise ConfigurationError(msg)
        return pd.array(cast("Any", values), dtype=cast("Any", dtype))

    def _parse_options(self, torn: Any) -> Any:
        return csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=torn)


def _all_of(block: bytes, names: list[str] | None = None) -> Any:
    """Read all at once: records that Arrow would look for itself may hold line ends."""
    return csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names)


def _check_utf8(block: bytes, where: Callable[[int], str]) -> None:
    try:
        block.decode()
    except UnicodeDecodeError as error:
        msg = f"{where(error.start)}: this is no UTF-8 text: convert the file, for example with `iconv -t utf-8`."
        raise ConfigurationError(msg) from None
