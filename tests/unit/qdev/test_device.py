# SPDX-License-Identifier: Apache-2.0
"""Properties, the life of a device, and buses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import attrs
import pytest

from qdevpy.errors import PropertyError, RealizeError
from qdevpy.qdev import property as prop
from qdevpy.qdev.bus import Bus
from qdevpy.qdev.device import Device, DeviceState, Notification
from qdevpy.qdev.object import Object
from qdevpy.qdev.property import properties_of, word_of
from qdevpy.qdev.tree import format_device
from qdevpy.qdev.types import DeviceType


class ShelfBus(Bus):
    bus_type = "Shelf"


class Lamp(Device):
    type_name: ClassVar[str] = "lamp"
    description: ClassVar[str] = "gives light"
    bus_type = "Shelf"
    ioeventfd = Notification.ALLOWED

    watts: int = prop.uint8(40, minimum=1, maximum=100, help="power")
    is_bright: bool = prop.bit("flags", 0, True, help="bright")
    warm: bool = prop.bit("flags", 3, help="warm")
    label_text: str | None = prop.string(name="text", help="what is written on it")
    volume: int = prop.uint32(7, runtime=True, help="can be turned while it is on")
    mask: int = prop.hex32(16, help="a mask")
    memory: int = prop.size(1536 << 10, help="a size")
    offset: int = prop.int32(-1, help="a signed number")
    log: list[str] = attrs.field(factory=list, init=False)
    fails: bool = attrs.field(default=False, init=False)

    def do_realize(self) -> None:
        self.cleanup.callback(self.log.append, "cleaned")
        self.add_bus(ShelfBus(f"{self.id}.0", self))
        if self.fails:
            raise RealizeError("no current", device=self.label)
        self.log.append("realized")

    def do_unrealize(self) -> None:
        self.log.append("unrealized")

    def do_reset(self) -> None:
        self.log.append("reset")


class DeskLamp(Lamp):
    type_name: ClassVar[str] = "desk-lamp"
    arm: bool = prop.boolean(help="has an arm")


# -- properties


def test_names_have_dashes_for_underscores_unless_named() -> None:
    assert list(properties_of(Lamp)) == ["watts", "is-bright", "warm", "text", "volume", "mask", "memory", "offset"]


def test_subclass_inherits_properties() -> None:
    assert set(properties_of(DeskLamp)) == {*properties_of(Lamp), "arm"}


def test_default_text_is_what_a_user_would_write() -> None:
    declared = properties_of(Lamp)

    assert [declared[n].default_text() for n in ("watts", "is-bright", "text", "mask", "memory")] == [
        "40",
        "on",
        None,
        "0x10",
        "1536K",
    ]


def test_property_is_set_from_text() -> None:
    lamp = Lamp()

    lamp.set_property("watts", "0x20")
    lamp.set_property("is-bright", "off")

    assert (lamp.watts, lamp.is_bright, lamp.get_property("watts")) == (32, False, 32)


def test_bits_make_their_word() -> None:
    lamp = Lamp()

    lamp.set_property("warm", "on")

    assert word_of(lamp, "flags") == 0b1001


def test_unknown_property_has_the_nearest_name_and_the_device() -> None:
    with pytest.raises(PropertyError, match=r"^l0 \(lamp\): property 'wats' not found; did you mean 'watts'\?$") as error:
        Lamp(id="l0").set_property("wats", "1")
    assert (error.value.name, error.value.device) == ("wats", "l0 (lamp)")


def test_unknown_property_like_no_other_names_the_command() -> None:
    with pytest.raises(PropertyError, match="see 'qdevpy device lamp'"):
        Lamp().set_property("qqqqq", "1")


def test_bad_value_says_what_is_accepted() -> None:
    with pytest.raises(
        PropertyError, match=r"^lamp: property 'watts': '101': out of range, expected a whole number from 1 to 100$"
    ):
        Lamp().set_property("watts", "101")


def test_property_of_a_realized_device_cannot_be_set(shelf: Bus) -> None:
    lamp = Lamp()
    shelf.plug(lamp)

    with pytest.raises(PropertyError, match="after it was realized"):
        lamp.set_property("watts", "1")
    with pytest.raises(PropertyError, match="property 'text' on anonymous device"):
        lamp.label_text = "x"
    assert lamp.watts == 40


def test_runtime_property_of_a_realized_device_can_be_set(shelf: Bus) -> None:
    lamp = Lamp()
    shelf.plug(lamp)

    lamp.set_property("volume", "9")

    assert lamp.volume == 9


def test_property_of_an_object_behind_is_found() -> None:
    class Transport(Device):
        type_name: ClassVar[str] = "lamp-on-wheels"
        wheels: int = prop.uint8(4, help="wheels")
        lamp: Lamp = attrs.field(factory=Lamp, init=False)

        def property_owners(self) -> Iterator[Object]:
            yield self
            yield self.lamp

    device = Transport(id="t")
    device.set_property("watts", "9")

    assert device.lamp.watts == 9
    assert {"wheels", "watts"} <= set(device.all_properties())
    assert list(format_device(device))[:2] == ['dev: lamp-on-wheels, id "t"', "  wheels = 4 (0x4)"]


# -- life


@pytest.fixture
def shelf() -> Bus:
    return ShelfBus("shelf.0")


def test_life_from_creation_to_removal(shelf: Bus) -> None:
    lamp = Lamp(id="a")
    states = [lamp.state]

    shelf.plug(lamp)
    states.append(lamp.state)
    shelf.reset()
    shelf.unplug(lamp)
    states.append(lamp.state)

    assert states == [DeviceState.CREATED, DeviceState.REALIZED, DeviceState.UNREALIZED]
    assert lamp.log == ["realized", "reset", "unrealized", "cleaned"]
    assert (shelf.children, lamp.parent_bus) == ([], None)


def test_failed_realize_leaves_nothing_behind(shelf: Bus) -> None:
    lamp = Lamp(id="a")
    lamp.fails = True

    with pytest.raises(RealizeError, match=r"^a \(lamp\): no current$"):
        shelf.plug(lamp)

    assert (lamp.state, lamp.child_buses, lamp.log) == (DeviceState.CREATED, [], ["cleaned"])
    assert (shelf.children, lamp.parent_bus) == ([], None)


def test_device_that_failed_once_may_be_plugged_again(shelf: Bus) -> None:
    lamp = Lamp(id="a")
    lamp.fails = True
    with pytest.raises(RealizeError):
        shelf.plug(lamp)

    lamp.fails = False
    shelf.plug(lamp)

    assert lamp.is_realized


def test_reset_reaches_children_first(shelf: Bus) -> None:
    order: list[str] = []

    class Noted(Lamp):
        type_name: ClassVar[str] = "noted"

        def do_reset(self) -> None:
            order.append(str(self.id))

    outer, inner = Noted(id="outer"), Noted(id="inner")
    shelf.plug(outer)
    outer.child_buses[0].plug(inner)

    outer.reset()

    assert order == ["inner", "outer"]


def test_removal_takes_children_along(shelf: Bus) -> None:
    outer, inner = Lamp(id="outer"), Lamp(id="inner")
    shelf.plug(outer)
    outer.child_buses[0].plug(inner)

    shelf.unplug(outer)

    assert inner.state is DeviceState.UNREALIZED


def test_removal_that_fails_still_cleans_up(shelf: Bus) -> None:
    class Sticky(Lamp):
        type_name: ClassVar[str] = "sticky"

        def do_unrealize(self) -> None:
            raise OSError("sticks")

    lamp = Sticky(id="a")
    shelf.plug(lamp)

    with pytest.raises(OSError, match="sticks"):
        shelf.unplug(lamp)

    assert lamp.log == ["realized", "cleaned"]
    assert shelf.children == []


def test_walk_visits_parents_first(shelf: Bus) -> None:
    outer, inner = Lamp(id="outer"), Lamp(id="inner")
    shelf.plug(outer)
    outer.child_buses[0].plug(inner)

    assert list(outer.walk()) == [outer, inner]


# -- buses


def test_bus_of_another_sort_refuses() -> None:
    with pytest.raises(RealizeError, match="plugs into a bus of type Shelf, and 'main' is of type System"):
        Bus("main").plug(Lamp())


def test_bus_that_is_full_refuses_and_keeps_nothing() -> None:
    class Full(ShelfBus):
        def check(self, device: Device) -> None:
            raise RealizeError("full", device=device.label)

    bus = Full("f")
    with pytest.raises(RealizeError, match="full"):
        bus.plug(Lamp())
    assert bus.children == []


# -- types and tree


def test_device_type_of_a_class_has_all_that_listings_need() -> None:
    kind = DeviceType.of(Lamp, "lab-parts")

    assert (kind.name, kind.bus, kind.description, kind.ioeventfd, kind.provider) == (
        "lamp",
        "Shelf",
        "gives light",
        Notification.ALLOWED,
        "lab-parts",
    )
    assert isinstance(kind.create(), Lamp)
    assert kind.create() is not kind.create()


def test_device_in_the_tree_has_its_properties_as_qemu_prints_them(shelf: Bus) -> None:
    class Described(DeskLamp):
        type_name: ClassVar[str] = "described"

        def describe(self) -> list[str]:
            return ["class Light, addr 00:04.0"]

    device: Any = Described(id="d")
    device.label_text = "mine"
    shelf.plug(device)

    assert list(format_device(device, 1)) == [
        '  dev: described, id "d"',
        "    arm = false",
        "    watts = 40 (0x28)",
        "    is-bright = true",
        "    warm = false",
        '    text = "mine"',
        "    volume = 7 (0x7)",
        "    mask = 16 (0x10)",
        "    memory = 1572864 (1.5 MiB)",
        "    offset = -1 (0xffffffffffffffff)",
        "    class Light, addr 00:04.0",
        "    bus: d.0",
        "      type Shelf",
    ]


# -- creation


def test_object_takes_its_fields_by_name() -> None:
    assert Lamp(id="a", watts=7).watts == 7


def test_object_refuses_what_is_no_field() -> None:
    with pytest.raises(TypeError, match="Lamp has no wats to begin with"):
        Lamp(wats=7)
    with pytest.raises(TypeError, match="has no log"):
        Lamp(log=[])


def test_field_without_default_must_be_given() -> None:
    class Tagged(Lamp):
        type_name: ClassVar[str] = "tagged"
        tag: str = attrs.field()
        later: int = attrs.field(init=False)

    with pytest.raises(TypeError, match="Tagged needs tag"):
        Tagged()
    assert not hasattr(Tagged(tag="x"), "later")


def test_default_may_depend_on_the_object() -> None:
    class Named(Lamp):
        type_name: ClassVar[str] = "named"
        shout: str = attrs.field(default=attrs.Factory(lambda self: str(self.id).upper(), takes_self=True))

    assert Named(id="a").shout == "A"


def test_lists_of_two_objects_are_two() -> None:
    assert Lamp().log is not Lamp().log


def test_object_prints_as_its_label() -> None:
    assert repr(Lamp(id="a")) == "<a (lamp)>"


def test_class_without_fields_of_its_own_is_used_as_it_is() -> None:
    class Plain(Lamp):
        type_name: ClassVar[str] = "plain"

    assert Plain(watts=9).watts == 9
    assert properties_of(Plain) == properties_of(Lamp)


def test_device_that_a_transport_carries_has_no_id_of_its_own_in_the_tree() -> None:
    class Carrier(Device):
        type_name: ClassVar[str] = "carrier"

        def do_realize(self) -> None:
            self.add_bus(ShelfBus("carried", self)).plug(Lamp(id=self.id))

    carrier = Carrier(id="c")
    carrier.realize()

    lines = list(format_device(carrier))
    assert lines[:4] == ['dev: carrier, id "c"', "  bus: carried", "    type Shelf", '    dev: lamp, id ""']
