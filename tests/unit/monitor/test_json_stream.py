# SPDX-License-Identifier: Apache-2.0
"""QMP's input: what is accepted, where messages end, and how errors read."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdevpy.monitor import json_stream
from qdevpy.monitor.json_stream import JsonStream, Message


def parse(data, size=None):
    """Messages of DATA, fed in pieces of SIZE bytes."""
    stream = JsonStream()
    data = data if isinstance(data, bytes) else data.encode()
    size = size or max(1, len(data))
    return [message for at in range(0, len(data), size) for message in stream.feed(data[at : at + size])]


@pytest.mark.parametrize("size", [None, 1, 2, 3])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        ("[]", []),
        ("{'execute': 'stop'}", {"execute": "stop"}),
        ('"a\'b"', "a'b"),
        ("'a\"\\'b'", "a\"'b"),
        (r'"\"\\\/\b\f\n\r\tA\'"', "\"\\/\b\f\n\r\tA'"),
        ('"\\uD834\\uDD1E \u00e4 \\u0000"', "\U0001d11e \u00e4 \0"),
        ("[true, false, null]", [True, False, None]),
        ("[0, -1, 1.5, 1e3, -2.5E-1]", [0, -1, 1.5, 1000.0, -0.25]),
        ("[9223372036854775807, 18446744073709551615]", [2**63 - 1, 2**64 - 1]),
        ("[18446744073709551616, -9223372036854775809]", [float(2**64), -float(2**63)]),
        ('{"a": {"b": [1, {"c": []}]}, "d": ""}', {"a": {"b": [1, {"c": []}]}, "d": ""}),
        ("\t[ 1 ,\n2\r]", [1, 2]),
    ],
)
def test_value_is_built_however_its_bytes_arrive(text, value, size):
    assert parse(text, size) == [Message(value)]


def test_scalar_at_the_top_needs_something_behind_it():
    assert parse("12") == []
    assert parse("12 null\n") == [Message(12), Message(None)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"""'\\'""", "\\"),
        (r"""'\\\''""", "\\'"),
        (r"""'\\\\'""", "\\\\"),
        (r"""'\"'""", '"'),
        (r"""'"\\"'""", '"\\"'),
        (r"""'\\\"\\'""", '\\"\\'),
        (r'''"\'\\'\u0027"''', "'\\''"),
        (r"""'\\u0041'""", "\\u0041"),
    ],
)
def test_quotes_and_backslashes_are_told_apart(text, value):
    assert parse(text) == [Message(value)]


def test_long_string_of_escapes_is_read_fast():
    begin = time.process_time()
    (message,) = parse(b'"' + b"\\n" * (8 << 20) + b'"', 4096)
    assert message.value == "\n" * (8 << 20)
    assert time.process_time() - begin < 5


def test_modified_utf8_has_a_nul():
    assert parse(b'"\xc0\x80"') == [Message("\0")]


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"{]", "expecting value"),
        (b"]", "expecting value"),
        (b",", "expecting value"),
        (b"{1: 2}", "key is not a string in object"),
        (b"{{}: 2}", "key is not a string in object"),
        (b"{'a' 2}", "missing : in object pair"),
        (b"{'a': 1 'b': 2}", "expected separator in dict"),
        (b"{'a': 1, 'a': 2}", "duplicate key"),
        (b"{'a': 1,}", "expecting value"),
        (b"{'a': }", "expecting value"),
        (b"[1 2]", "expected separator in list"),
        (b"[1,]", "expecting value"),
        (b"[nil]", "invalid keyword 'nil'"),
        (b"[1e999]", "number out of range '1e999'"),
        (b'["\\x"]', "invalid escape sequence in string"),
        (b'["\\u12"]', "is not a valid Unicode character"),
        (b'["\\ud834"]', "half a surrogate pair is not a valid Unicode character"),
        (b'["\xe4"]', "invalid UTF-8 sequence in string"),
    ],
)
def test_syntax_error_is_told_where_the_message_ends_and_the_next_is_read(text, error, size):
    first, second = parse(text + b"{'next': 1}", size)
    assert first.error is not None
    assert first.error.startswith("JSON parse error, ")
    assert error in first.error
    assert second == Message({"next": 1})


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize(
    ("text", "stray"),
    [
        (b"{\xff", "\ufffd"),
        (b"{\x01", "\x01"),
        (b"{'bad \xff", "'bad \ufffd"),
        (b"{'a': 'b\n", "'b\n"),
        (b"'\\\n", "'\\\n"),
        (b"%p\n", "%"),
        (b"[01]\n", "01"),
        (b"[1.]\n", "1."),
        (b"TRUE\n", "T"),
        (b"9" * 2000 + b"\n", "99999999999999999999..."),
    ],
)
def test_byte_that_begins_nothing_is_told_at_once_and_the_next_message_is_read(text, stray, size):
    if size == 1 and len(text) > 1000:
        pytest.skip("one byte at a time, the beginning is another")
    messages = parse(text + b"\n{'next': 1}", size)
    assert messages[0] == Message(None, f"JSON parse error, stray '{stray}'")
    assert messages[-1] == Message({"next": 1})


def test_flood_of_stray_bytes_is_told_once():
    assert len(parse(b"\x01" * 5000)) == 1


def test_brackets_too_deep_are_an_error():
    assert parse("[" * 1024 + "]" * 1024)[0].error is None
    assert parse("[" * 1025)[0].error == "JSON nesting depth limit exceeded"


def test_message_beyond_a_limit_is_one_error_and_the_rest_of_its_line_is_skipped(monkeypatch):
    monkeypatch.setattr(json_stream, "MAX_SIZE", 10000)
    for line in (b'{"a": "' + b"x" * 30000 + b'"}', b"[" + b"'abcdefg'," * 2000 + b"1]"):
        assert parse(line + b"\n{}", 4096) == [Message(None, "JSON token size limit exceeded", True), Message({})]
    assert parse(b"[" * 9000 + b"\n{}", 100) == [Message(None, "JSON nesting depth limit exceeded", True), Message({})]


def test_message_of_too_many_tokens_is_an_error(monkeypatch):
    monkeypatch.setattr(json_stream, "MAX_TOKENS", 100)
    assert parse("[" + "1," * 60 + "1]")[0].error == "JSON token count limit exceeded"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.integers(1, 20))
def test_what_python_writes_is_read(value, size):
    assert parse(json.dumps(value) + "\n", size) == [Message(value)]


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_give_messages_and_the_stream_recovers(data, size):
    stream = JsonStream()
    for at in range(0, len(data), size):
        list(stream.feed(data[at : at + size]))
    list(stream.feed(b"\xff\n"))
    assert list(stream.feed(b"{'execute': 'x'}")) == [Message({"execute": "x"})]
