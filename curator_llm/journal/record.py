"""A record as one line of JSON that carries its own checksum, and replies made fit to stand in such a line.

The line is ``{"crc":"<8 hex digits>",<rest>``: the CRC-32 is that of ``<rest>`` without the newline. It is plain JSON,
so DuckDB, pandas and jq read a segment as it lies there.
"""

from __future__ import annotations

import json
import math
import re
import zlib

import msgspec

from curator_llm.wire.exchange import Record

#: Records of a higher version are left to the package that wrote them.
VERSION = 1
#: So much is kept of what is not JSON.
TEXT_BYTES = 2048
#: A reply that nests deeper than the interpreter's recursion limit less this is kept as text, so that it can be read
#: again from deeper down the stack than where it was received.
_SPARE_DEPTH = 200
_CRC_END = 18
_SURROGATE = re.compile("[\ud800-\udfff]")

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)
_checker = msgspec.json.Decoder(msgspec.Raw)


def seal(value: msgspec.Struct) -> bytes:
    """Return a struct with at least one field as a line with its checksum, newline included."""
    rest = _encoder.encode(value)[1:]
    return b'{"crc":"%08x",%b\n' % (zlib.crc32(rest), rest)


def intact(line: bytes) -> bool:
    """Whether a line, with or without its newline, is what `seal` made."""
    rest = line[_CRC_END:-1] if line.endswith(b"\n") else line[_CRC_END:]
    return line.startswith(b'{"crc":"%08x",' % zlib.crc32(rest))


def encode(record: Record) -> bytes:
    """Return a record as a line of a segment.

    Parameters
    ----------
    record : Record
        Its reply must come from `embed` or `embed_text`.

    Returns
    -------
    bytes
        One line with its newline; about 3 us for a reply of 1 KB.

    Examples
    --------
    >>> record = Record(key="0" * 32, op="chat/1", status="ok", final=True, attempts=1, at=0.0, reply=embed(b"{}"))
    >>> encode(record)[:33]
    b'{"crc":"a35600d9","key":"00000000'
    """
    return seal(record)


def decode(line: bytes) -> Record | None:
    """Return the record of a line, or None when the line is damaged or of a later version.

    Parameters
    ----------
    line : bytes
        With or without its newline.

    Examples
    --------
    >>> record = Record(key="0" * 32, op="chat/1", status="ok", final=True, attempts=1, at=0.0, reply=embed(b"{}"))
    >>> line = encode(record)
    >>> decode(line) == record, decode(line.replace(b"ok", b"no"))
    (True, None)
    """
    if not intact(line):
        return None
    try:
        record = _decoder.decode(line)
        readable = record.v <= VERSION and len(bytes.fromhex(record.key)) == 16
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return record if readable else None


def embed(body: bytes) -> msgspec.Raw:
    r"""Return the body of a reply as JSON that fits on one line.

    Parameters
    ----------
    body : bytes
        Any bytes at all.

    Returns
    -------
    msgspec.Raw
        The body itself when it is JSON, its newlines made spaces. What Python reads and others do not is written anew,
        with U+FFFD for bytes that are not UTF-8 and for lone surrogates, and null for NaN and Infinity. All else is a
        JSON string with the first 2 KB. About 3 us for a good reply of 1 KB.

    Examples
    --------
    >>> bytes(embed(b'{"a":\n1}')), bytes(embed(b'{"a":NaN}')), bytes(embed(b"<html>"))
    (b'{"a": 1}', b'{"a":null}', b'"<html>"')
    """
    try:
        _check(body)
        line = body
    except (msgspec.MsgspecError, ValueError, RecursionError):
        try:
            line = _mend(body)
        except (ValueError, RecursionError, msgspec.MsgspecError):
            return embed_text(body[:TEXT_BYTES].decode("utf-8", "replace"))
    # JSON has raw newlines only between its tokens.
    return msgspec.Raw(line.replace(b"\n", b" ").replace(b"\r", b" "))


def embed_text(text: str) -> msgspec.Raw:
    r"""Return text that came instead of a reply, such as a fault's message, as a JSON string.

    Parameters
    ----------
    text : str
        Cut to 2 KB; lone surrogates become U+FFFD.

    Examples
    --------
    >>> bytes(embed_text('no "answer"'))
    b'"no \\"answer\\""'
    """
    clean = _SURROGATE.sub("\ufffd", text[:TEXT_BYTES]).encode()
    return msgspec.Raw(_encoder.encode(clean[:TEXT_BYTES].decode("utf-8", "ignore")))


def _check(body: bytes) -> None:
    """Raise unless the body is JSON in UTF-8 without lone surrogates, of a depth that every reader can take."""
    body.decode()  # msgspec does not look at the encoding of strings it skips
    _checker.decode(body)
    if body.count(b"[") + body.count(b"{") > _SPARE_DEPTH:
        _checker.decode(b"[" * _SPARE_DEPTH + body + b"]" * _SPARE_DEPTH)


def _mend(body: bytes) -> bytes:
    value = json.loads(body.decode("utf-8", "replace"), parse_constant=lambda _: None, parse_float=_finite)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    mended = _SURROGATE.sub("\ufffd", text).encode()
    _check(mended)
    return mended


def _finite(literal: str) -> float | None:
    number = float(literal)
    return number if math.isfinite(number) else None
