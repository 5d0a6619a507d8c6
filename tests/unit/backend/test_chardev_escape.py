# SPDX-License-Identifier: Apache-2.0
import pytest

from qdevpy.backend.chardev_escape import EscapeFilter


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        (b"plain", [b"plain"]),
        (b"\x01x", ["x"]),
        (b"ls\x01hpwd", [b"ls", "h", b"pwd"]),
        (b"a\x01\x01b", [b"a\x01b"]),
        (b"\x01\x01\x01x", [b"\x01", "x"]),
        (b"", []),
        (b"\x01\xff", ["ÿ"]),
    ],
)
def test_split_tells_commands_from_text(typed, parts):
    assert list(EscapeFilter().split(typed)) == parts


def test_split_remembers_the_escape_from_read_to_read():
    keys = EscapeFilter()
    assert list(keys.split(b"a\x01")) == [b"a"]
    assert list(keys.split(b"x")) == ["x"]
