# SPDX-License-Identifier: Apache-2.0
"""QEMU's way to write several values in one word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdevpy.cli.qemu.opts import CommandLineError, join, parse_options


@pytest.mark.parametrize(
    ("text", "implied", "expected"),
    [
        ("", None, []),
        ("a=1", None, [("a", "1")]),
        ("a=1,b=2", None, [("a", "1"), ("b", "2")]),
        ("a=1,,2,b=", None, [("a", "1,2"), ("b", "")]),
        ("a=x=y", None, [("a", "x=y")]),
        ("socket,id=c", "backend", [("backend", "socket"), ("id", "c")]),
        ("id=c", "backend", [("id", "c")]),
        ("a,,b,c=1", "path", [("path", "a,b"), ("c", "1")]),
        ("server,nowait", None, [("server", "on"), ("wait", "off")]),
        ("x,server,nowait", "path", [("path", "x"), ("server", "on"), ("wait", "off")]),
        ("a=1,", None, [("a", "1")]),
        ('{"a": 1, "b": true, "c": {"d": "x", "e": [false, "y"]}, "f": null}', None, None),
    ],
)
def test_text_is_split_into_names_and_values(text: str, implied: str | None, expected: list[tuple[str, str]] | None) -> None:
    if expected is None:
        expected = [("a", "1"), ("b", "on"), ("c.d", "x"), ("c.e.0", "off"), ("c.e.1", "y")]

    assert parse_options(text, implied).items == expected


@given(st.lists(st.tuples(st.from_regex(r"[a-z][a-z.-]{0,5}", fullmatch=True), st.text(max_size=6)), max_size=4))
def test_joined_values_are_split_into_the_same(items: list[tuple[str, str]]) -> None:
    assert parse_options(join(items)).items == items


@pytest.mark.parametrize("text", ["{", '{"a": }', "{" * 100_000, '{"a":' * 100_000])
def test_malformed_json_is_refused(text: str) -> None:
    with pytest.raises(CommandLineError, match="JSON parse error"):
        parse_options(text)


def test_options_that_nobody_took_are_refused_with_the_nearest_name() -> None:
    options = parse_options("order=c,onze=d", "order")
    options.pop("order")
    options.pop("once")

    with pytest.raises(CommandLineError, match=r"Invalid parameter 'onze'; did you mean 'once'\?"):
        options.end()


def test_last_of_several_values_wins() -> None:
    assert parse_options("a=1,a=2").pop("a") == "2"


def test_word_that_is_no_boolean_is_refused() -> None:
    with pytest.raises(CommandLineError, match="Parameter 'a' expects 'on' or 'off', not 'maybe'"):
        parse_options("a=maybe").pop_bool("a")
