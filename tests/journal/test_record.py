"""Records as lines of JSON, and replies made fit for them."""

from __future__ import annotations

import json
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator_llm.journal.record import decode, embed, embed_text, encode
from curator_llm.wire.exchange import Record


def make(reply=b"{}", **fields) -> Record:
    given = {"key": "ab" * 16, "op": "chat/1", "status": "ok", "final": True, "attempts": 1, "at": 1.5, **fields}
    return Record(reply=embed(reply), **given)


def loads(raw: msgspec.Raw):
    return json.loads(bytes(raw))


def test_a_record_comes_back_as_it_went():
    record = make(
        b'{"choices":[]}',
        code="length",
        http=200,
        origin="https://api.test:443",
        model="m",
        request_id="r",
        input_tokens=5,
        output_tokens=7,
        billed=True,
        latency_s=1.25,
        run="run-1",
    )
    assert decode(encode(record)) == record


def test_a_line_can_be_read_without_its_newline():
    assert decode(encode(make())[:-1]) == make()


def test_a_line_is_one_line_of_json_that_begins_with_the_checksum_of_its_rest():
    line = encode(make(b'{\n "a": 1\r\n}'))
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line)["crc"] == f"{zlib.crc32(line[18:-1]):08x}"
    assert json.loads(line)["reply"] == {"a": 1}


@pytest.mark.parametrize("place", [0, 8, 17, 18, 40, -2])
def test_a_line_with_one_wrong_byte_is_no_record(place):
    line = bytearray(encode(make()))
    line[place] ^= 1
    assert decode(bytes(line)) is None


@pytest.mark.parametrize("line", [b"", b"\n", b"{}", b"null\n", b'{"crc":"00000000",', b"\xff" * 40])
def test_a_line_that_is_no_record_is_none(line):
    assert decode(line) is None


def test_a_record_of_a_later_version_is_left_alone():
    assert decode(encode(make(v=2))) is None


@pytest.mark.parametrize("key", ["", "ab", "zz" * 16, "ab" * 17])
def test_a_record_whose_key_is_none_is_left_alone(key):
    assert decode(encode(make(key=key))) is None


def test_fields_of_a_later_minor_version_are_passed_over():
    rest = encode(make())[18:-1].replace(b'"op":', b'"colour":"red","op":')
    assert decode(b'{"crc":"%08x",%b\n' % (zlib.crc32(rest), rest)) == make()


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":"x"}',
        b'[1,2.50,1E3,true,null,""]',
        b'"text"',
        '{"a":"é😀"}'.encode(),
        b'{"a":"\\ud83d\\ude00"}',
        b'{"a":1e999,"a":123456789012345678901234567890}',
    ],
)
def test_good_json_is_kept_byte_for_byte(body):
    assert bytes(embed(body)) == body


def test_newlines_between_tokens_become_spaces_and_those_in_strings_stay():
    assert bytes(embed(b'{\r\n"a":\n"x\\ny"}')) == b'{  "a": "x\\ny"}'


def test_nan_and_infinity_become_null():
    assert loads(embed(b'{"a":[NaN,Infinity,-Infinity,1.5,1e999]}')) == {"a": [None, None, None, 1.5, None]}


def test_bytes_that_are_not_utf8_become_replacement_characters():
    assert loads(embed(b'{"a":"x\xff\xfey","b":1}')) == {"a": "x��y", "b": 1}


@pytest.mark.parametrize("escape", [b"\\ud83d", b"\\uD83D", b"\\ude00", b"\\ud83dx", b"\\ud83d\\ud83d"])
def test_lone_surrogates_become_replacement_characters_and_pairs_stay(escape):
    text = loads(embed(b'{"a":"' + escape + b'","b":"\\ud83d\\ude00"}'))
    assert text["b"] == "😀"
    assert set(text["a"]) <= set("�x")


@pytest.mark.parametrize("body", [b"", b"<html>\n</html>", b'{"a":1', b'{"a":1} x', b'{"a":"x\ny"}', b"\xff\xfe\x00"])
def test_what_is_not_json_is_kept_as_text(body):
    assert loads(embed(body)) == body.decode("utf-8", "replace")


def test_at_most_two_kilobytes_of_text_are_kept():
    assert len(loads(embed(b"<" * 10_000))) == 2048
    assert len(loads(embed_text("é" * 10_000)).encode()) == 2048


def test_integers_python_refuses_are_kept_as_they_are():
    body = b'{"a":' + b"9" * 5000 + b"}"
    assert bytes(embed(body)) == body


def test_json_too_deep_for_readers_is_kept_as_text():
    body = b"[" * 200_000 + b"]" * 200_000
    assert loads(embed(body)) == body[:2048].decode()


def test_brackets_that_do_not_nest_are_no_matter():
    body = b"[" + b"[]," * 10_000 + b"[]]"
    assert bytes(embed(body)) == body


@pytest.mark.parametrize("depth", [500, 700, 850, 950])
def test_a_deep_reply_can_be_read_from_deeper_down_the_stack(depth):
    line = encode(make(b"[" * depth + b"]" * depth))

    def deeper(levels):
        return decode(line) if not levels else deeper(levels - 1)

    assert deeper(150) is not None


def test_text_becomes_a_json_string_without_surrogates():
    assert loads(embed_text('say "no"\n\ud83d')) == 'say "no"\n�'


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: json.dumps(text).encode()))
def test_any_body_makes_a_line_that_reads_back(body):
    record = make(body)
    line = encode(record)
    assert line.count(b"\n") == 1
    assert decode(line) == record
    json.loads(line.decode("utf-8"))["reply"].__repr__().encode("utf-8")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_any_json_value_keeps_its_meaning(value):
    body = json.dumps(value, allow_nan=True).encode()
    assert loads(embed(body)) == json.loads(body, parse_constant=lambda _: None)
