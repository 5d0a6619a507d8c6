# SPDX-License-Identifier: Apache-2.0
"""-readconfig: options from an ini file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qdevpy.errors import LocatedError

CONFIG = """
# a machine
[machine]
  type = "pc"
[memory]
  size = "200"
[object]
  qom-type = "rng-builtin"
  id = "rng0"
[chardev "c"]
  backend = "null"

[device "disk,0"]
  driver = "isa-serial"
  chardev = "c"
"""


def test_groups_of_a_file_are_options(import_words: Callable[..., str]) -> None:
    Path("m.cfg").write_text(CONFIG.replace("disk,0", "port0"))

    assert import_words("-nodefaults", "-readconfig", "m.cfg") == (
        'machine: pc\naccel: kvm\nmemory: 200M\nchardevs:\n  c: {type: "null"}\nobjects:\n  rng0: {type: rng-builtin}\n'
        "devices:\n  - isa-serial: {id: port0, chardev: c}\n"
    )


def test_comma_in_a_value_is_a_comma(parse: Callable[..., object]) -> None:
    Path("m.cfg").write_text(CONFIG)

    problems = parse("-nodefaults", "-readconfig", "m.cfg").problems.in_order()  # type: ignore[attr-defined]

    assert [str(p) for p in problems] == [
        "m.cfg:13: error[Q302]: isa-serial: id: 'disk,0': expected a letter, then letters, digits, '-', '.' and '_'"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('size = "1"', "m.cfg:1: error: parse error: no group defined"),
        ("[memory]\nsize = 1", "m.cfg:2: error: parse error: expected [GROUP"),
        ("[memry]", "m.cfg:1: error: There is no option group 'memry'; did you mean 'memory'?"),
        ('\n[memory]\nfoo = "1"', "m.cfg:2: error: Invalid parameter 'foo'"),
        ('[device]\ndriver = "foo"', "m.cfg:1: error: 'foo' is not a valid device model name"),
        ("\udcff", "Cannot read config file m.cfg"),
    ],
)
def test_mistake_in_a_file_is_placed_at_its_line(text: str, expected: str, parse: Callable[..., object]) -> None:
    Path("m.cfg").write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(LocatedError) as error:
        parse("-readconfig", "m.cfg")

    assert expected in str(error.value)
