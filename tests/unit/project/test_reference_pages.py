# SPDX-License-Identifier: Apache-2.0
"""What the site's reference is made of is all there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from qdevpy_reference import MAKERS, fill, join_names
from qdevpy_reference.definitions import MAPS
from qdevpy_reference.markdown import summary, table, text
from qdevpy_reference.references import exists

from qdevpy.cli.app import COMMANDS
from qdevpy.definition import keys
from qdevpy.definition.keys import Key
from qdevpy.monitor.hmp.table import HmpTable
from qdevpy.monitor.table import CommandTable
from qdevpy.plugin.manager import load_plugins
from qdevpy.vm.event_types import EVENTS
from qdevpy.vm.events import event_name

PAGES = {page.stem: page.read_text() for page in (Path(__file__).parents[3] / "docs" / "reference").glob("*.md")}


def made(name: str) -> str:
    return "\n".join(MAKERS[name]())


def test_every_maker_has_a_place_in_a_page_and_every_place_a_maker() -> None:
    places = [name for page in PAGES.values() for name in re.findall(r"^% made of: (.*)$", page, re.MULTILINE)]

    assert sorted(places) == sorted(MAKERS)


def test_place_is_filled_and_nothing_else_is_touched() -> None:
    source = ["# Title\n\n% made of: events\n\nThe end.\n"]

    fill(None, "page", source)  # type: ignore[arg-type]

    assert source[0].startswith("# Title\n\n")
    assert source[0].endswith("\n\nThe end.\n")
    assert "`RESUME`" in source[0]


def test_every_command_has_a_section_with_its_options() -> None:
    page = made("commands")

    assert re.findall(r"^## qdevpy (.*)$", page, re.MULTILINE) == list(COMMANDS)
    assert "`--set PATH=VALUE`" in page
    assert "`-o, --output FILE`" in page


def test_every_declared_key_is_described() -> None:
    page = made("keys")
    maps = [found for found in vars(keys).values() if isinstance(found, dict) and all(isinstance(k, Key) for k in found.values())]

    assert {"boot", "monitors", "fw_cfg"} <= MAPS.keys()
    assert [name for found in maps for name in found if f"| `{name}` |" not in page] == []


def test_every_device_and_back_end_is_described() -> None:
    registry = load_plugins()
    devices = [name for name, kind in registry.device_types.items() if kind.user_creatable and kind.provider == "qdevpy"]

    assert re.findall(r"^## (.*)$", made("devices"), re.MULTILINE) == sorted(devices)
    assert [name for name in registry.backend_names("netdevs") if f"### netdevs: {name}\n" not in made("backends")] == []


def test_every_command_and_event_of_the_monitors_is_described() -> None:
    hmp = HmpTable()

    assert [name for name in CommandTable().names if f"| `{name}` |" not in made("qmp")] == []
    assert [event for event in EVENTS if f"| `{event_name(event)}` |" not in made("events")] == []
    assert made("hmp").count("\n| `") == len(hmp.commands) + len(hmp.info)


# -- text


@pytest.mark.parametrize(
    ("plain", "written"),
    [
        ("a_b <c> [d] 2*3", r"a\_b \<c\> \[d\] 2\*3"),
        ("``a_b`` and `c*d`", "``a_b`` and `c*d`"),
        ("see :class:`.Device`", "see ``Device``"),
        ("a | b", r"a \| b"),
    ],
)
def test_text_means_itself_in_markdown(plain: str, written: str) -> None:
    assert text(plain) == written


def test_row_with_a_line_break_stays_a_row() -> None:
    assert list(table(("a",), [("one\ntwo",)]))[3] == "| one two |"


def test_summary_is_the_first_paragraph_on_a_line() -> None:
    def documented() -> None:
        """First,
        and second.

        More.
        """

    assert summary(documented) == "First, and second."


def test_names_of_one_field_are_joined_for_sphinx() -> None:
    lines = [":ivar a, b: two", ":param c: one, or two: x"]

    join_names(None, "class", "x", None, None, lines)  # type: ignore[arg-type]

    assert lines == [":ivar a,b: two", ":param c: one, or two: x"]


# -- references


@pytest.mark.parametrize(
    "name", ["qdevpy.qdev.device.Device", "Device.realize", "hookimpl", "collections.abc.Iterable", "Machine"]
)
def test_name_that_is_there_needs_no_entry(name: str) -> None:
    assert exists(name, "qdevpy.qdev.device", None)


@pytest.mark.parametrize("name", ["qdevpy.qdev.device.Devise", "Device.realise_it", "hookimple", "collections.abc.Iterabel"])
def test_misspelled_name_is_not_there(name: str) -> None:
    assert not exists(name, "qdevpy.qdev.device", None)
