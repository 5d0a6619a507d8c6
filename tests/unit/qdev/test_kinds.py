# SPDX-License-Identifier: Apache-2.0
"""Kinds of property values: QEMU's spellings in and out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdevpy.qdev import kinds
from qdevpy.qdev.kinds import Kind

UINT8 = kinds.Integer("uint8", 0, 255)
INT32 = kinds.Integer("int32", -(1 << 31), (1 << 31) - 1)
COLOUR = kinds.Enum("Colour", ("red", "blue"))

ACCEPTED = [
    (kinds.Bool(), "on", True, "on"),
    (kinds.Bool(), "YES", True, "on"),
    (kinds.Bool(), True, True, "on"),
    (kinds.Bool(), "false", False, "off"),
    (kinds.Bool(), "n", False, "off"),
    (UINT8, "255", 255, "255"),
    (UINT8, "0x10", 16, "16"),
    (UINT8, 0, 0, "0"),
    (INT32, "-1", -1, "-1"),
    (UINT8, "010", 8, "8"),
    (UINT8, "+7", 7, "7"),
    (kinds.Integer("uint8", 0, 9, unset=255), "255", 255, "255"),
    (kinds.BlockSize(), "4K", 4096, "4K"),
    (kinds.BlockSize(), "0", 0, "0"),
    (kinds.OnError(), "enospc", "enospc", "enospc"),
    (kinds.Only(kinds.Bit(), (False,), "no"), "off", False, "off"),
    (kinds.Only(kinds.Str(), (None, "bh"), "no"), "", None, "None"),
    (kinds.Hex32(), "16", 16, "0x10"),
    (kinds.Size(), "4K", 4096, "4K"),
    (kinds.Size(), "1.5M", 3 << 19, "1536K"),
    (kinds.Size(), "0x200", 512, "512"),
    (kinds.Size(), 1 << 40, 1 << 40, "1T"),
    (kinds.Size(), "0", 0, "0"),
    (kinds.Size(), "3b", 3, "3"),
    (kinds.Str(), "text", "text", "text"),
    (kinds.Str(), 7, "7", "7"),
    (kinds.Str(), True, "on", "on"),
    (kinds.Path(), "./x", "./x", "./x"),
    (COLOUR, "red", "red", "red"),
    (kinds.OnOffAuto(), "auto", "auto", "auto"),
    (kinds.OnOffAuto(), "true", "on", "on"),
    (kinds.OnOffAuto(), False, "off", "off"),
    (kinds.MacAddr(), "52:54:00:12:34:56", bytes.fromhex("525400123456"), "52:54:00:12:34:56"),
    (kinds.MacAddr(), "52-54-00-AB-34-56", bytes.fromhex("525400ab3456"), "52:54:00:ab:34:56"),
    (kinds.PciDevfn(), "4", 0x20, "04.0"),
    (kinds.PciDevfn(), "1f.7", 0xFF, "1f.7"),
    (kinds.PciDevfn(), "0x1e.1", 0xF1, "1e.1"),
    (kinds.PciDevfn(), 4.1, 0x21, "04.1"),
    (kinds.PciDevfn(), 10, 0x80, "10.0"),
    (kinds.BackendRef("drive"), "root", "root", "root"),
    (kinds.Link("iothread"), "io0", "io0", "io0"),
]


@pytest.mark.parametrize(("kind", "text", "value", "printed"), ACCEPTED)
def test_value_is_parsed_and_printed(kind: Kind, text: Any, value: Any, printed: str) -> None:
    assert kind.parse(text) == value
    assert kind.format(value) == printed


REFUSED = [
    (kinds.Bool(), "maybe", "on or off"),
    (kinds.Bool(), 1.5, "on or off"),
    (UINT8, "256", "out of range, expected a whole number from 0 to 255"),
    (UINT8, "-1", "out of range"),
    (UINT8, "ten", "expected a whole number"),
    (UINT8, True, "expected a whole number"),
    (UINT8, "09", "expected a whole number"),
    (UINT8, "1_0", "expected a whole number"),
    (kinds.Integer("uint8", 0, 9, unset=255), "10", "out of range"),
    (kinds.Size(), "1.5", "bytes, or a number with suffix"),
    (kinds.Size(), "0x10K", "bytes, or a number with suffix"),
    (kinds.BlockSize(), "1000", "a power of two from 512 to 2M"),
    (kinds.BlockSize(), "4M", "a power of two from 512 to 2M"),
    (kinds.OnError(), "retry", "report, ignore, enospc, stop, auto"),
    (kinds.Only(kinds.Bit(), (False,), "it is not there"), "on", "cannot be set: it is not there"),
    (kinds.Only(kinds.Bit(), (False,), "it is not there"), "x", "on or off"),
    (UINT8, 1.0, "expected a whole number"),
    (kinds.Hex32(), "0x100000000", "out of range"),
    (kinds.Size(), "lots", "bytes, or a number with suffix"),
    (kinds.Size(), "-1", "bytes, or a number with suffix"),
    (kinds.Size(), -1, "bytes, or a number with suffix"),
    (kinds.Size(), True, "bytes, or a number with suffix"),
    (kinds.Size(), "16E", "less than 16 EiB"),
    (kinds.Str(), ["x"], "expected text"),
    (COLOUR, "green", "one of red, blue"),
    (COLOUR, True, "one of red, blue"),
    (kinds.OnOffAuto(), "maybe", "one of on, off, auto"),
    (kinds.MacAddr(), "52:54:00:12:34", "six bytes as in 52:54:00:12:34:56"),
    (kinds.MacAddr(), "52:54:00:12:34:5g", "six bytes"),
    (kinds.PciDevfn(), "20", "a slot from 0 to 1f"),
    (kinds.PciDevfn(), "4.8", "a slot from 0 to 1f"),
    (kinds.PciDevfn(), True, "a slot from 0 to 1f"),
    (kinds.BackendRef("drive"), True, "the name of an entry of drives:"),
    (kinds.Link("iothread"), ["x"], "the id of an object of type iothread"),
]


@pytest.mark.parametrize(("kind", "given_value", "message"), REFUSED)
def test_value_that_does_not_fit_says_what_does(kind: Kind, given_value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind.parse(given_value)


@pytest.mark.parametrize("kind", [kinds.Bool(), UINT8, kinds.Size(), kinds.Str(), COLOUR, kinds.MacAddr(), kinds.PciDevfn()])
@given(text=st.text(max_size=12))
def test_any_text_is_a_value_or_a_value_error(kind: Kind, text: str) -> None:
    try:
        value = kind.parse(text)
    except ValueError:
        return
    assert kind.parse(kind.format(value)) == value


def test_type_names_are_those_of_qemu() -> None:
    names = [kind.type_name for kind in (kinds.Bool(), UINT8, kinds.Hex32(), kinds.PciDevfn(), kinds.Link("iothread"))]

    assert names == ["bool", "uint8", "uint32", "int32", "link<iothread>"]


def test_reference_of_a_back_end_object_prints_its_name() -> None:
    class Disk:
        name = "root"

    assert kinds.BackendRef("drive").format(Disk()) == "root"


SHOWN = [
    (kinds.Bool(), True, "true", True),
    (UINT8, 16, "16 (0x10)", 16),
    (INT32, -1, "-1 (0xffffffffffffffff)", -1),
    (kinds.Size(), 0, "0 (0 B)", 0),
    (kinds.Size(), 4294967295, "4294967295 (4 GiB)", 4294967295),
    (kinds.Size(), 262144, "262144 (256 KiB)", 262144),
    (kinds.Str(), None, '""', ""),
    (kinds.Str(), "x", '"x"', "x"),
    (kinds.OnOffAuto(), "auto", '"auto"', "auto"),
    (kinds.MacAddr(), bytes(6), '"00:00:00:00:00:00"', "00:00:00:00:00:00"),
    (kinds.PciDevfn(), -1, "<unset>", -1),
    (kinds.PciDevfn(), 0x21, "04.1", 0x21),
    (kinds.Only(kinds.Bit(), (False,), "no"), False, "false", False),
    (kinds.Only(kinds.Str(), (None,), "no"), None, '""', ""),
]


@pytest.mark.parametrize(("kind", "value", "shown", "json"), SHOWN)
def test_value_is_shown_in_the_tree_and_in_json_as_qemu_does(kind: Kind, value: Any, shown: str, json: Any) -> None:
    assert kind.show(value) == shown
    assert kind.to_json(value) == json


@pytest.mark.parametrize(
    ("kind", "given_value", "message"),
    [
        (kinds.Bool(), "on", "Invalid parameter type for 'x', expected: boolean"),
        (UINT8, True, "Invalid parameter type for 'x', expected: integer"),
        (UINT8, "1", "Invalid parameter type for 'x', expected: integer"),
        (kinds.Str(), 1, "Invalid parameter type for 'x', expected: string"),
        (kinds.PciDevfn(), 1.5, "Invalid parameter type for 'x', expected int or str"),
        (kinds.PciDevfn(), 256, "expects a value between -1 and 255"),
    ],
)
def test_json_of_another_type_is_refused_in_qemus_words(kind: Kind, given_value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind.from_json("x", given_value)


def test_place_in_json_is_text_or_a_number() -> None:
    kind = kinds.PciDevfn()
    assert kind.parse(kind.from_json("addr", "4.1")) == kind.parse(kind.from_json("addr", 0x21)) == 0x21
