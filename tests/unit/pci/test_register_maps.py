# SPDX-License-Identifier: Apache-2.0
"""Registers that a class declares: what cannot be, and what accesses of any size and place do to them."""

import pytest

from qdevpy.errors import PluginError
from qdevpy.pci.endpoint import ONES, Access, IoBar, MemoryBar, MemoryBar64, Narrow, PCIEndpoint
from qdevpy.testing.driver import PCIDriver
from qdevpy.testing.machine import FakeMachine


class Panel(PCIEndpoint):
    """A register of each sort."""

    type_name = "panel"
    mmio = MemoryBar(0, 4096)
    plain = mmio.register(0x00, 4, reset=0x11223344)
    masked = mmio.register(0x04, 2, writable=0x0FF0)
    fixed = mmio.register(0x06, 2, Access.RO, reset=0xBEEF, help="never changes")
    events = mmio.register(0x08, 4, Access.W1C)
    switches = mmio.register(0x0C, 4, Access.W1S)
    counter = mmio.register(0x10, 8, Access.RC, reset=7)
    secret = mmio.register(0x18, 8, Access.WO)
    exact = mmio.register(0x20, 8, access_sizes=(4, 8), narrow=Narrow.CLEAR)

    strict = MemoryBar64(2, 4096, access_sizes=(4, 8), undeclared=ONES)
    word = strict.register(0x00, 4, reset=5)
    other = strict.register(0x08, 4, reset=6)
    pedantic = strict.register(0x10, 8, reset=9, access_sizes=(8,))

    ports = IoBar(1, 16)
    port = ports.register(3, 1, reset=0x5A)


@pytest.fixture
def panel():
    with FakeMachine() as machine:
        device = machine.plug_device(Panel())
        device.driver = PCIDriver(machine, device)
        yield device


@pytest.mark.parametrize(
    ("offset", "size", "value"),
    [
        (0x00, 4, 0x11223344),
        (0x00, 1, 0x44),
        (0x02, 2, 0x1122),
        (0x00, 8, 0xBEEF_0000_1122_3344),
        (0x05, 2, 0xEF00),
        (0x18, 8, 0),
        (0x800, 4, 0),
    ],
)
def test_read_of_any_size_gets_its_share_of_the_registers_it_touches(panel, offset, size, value):
    assert panel.driver.bar_read(0, offset, size) == value


def test_narrow_write_keeps_the_other_bytes(panel):
    panel.driver.bar_write(0, 1, 0xAA, 1)
    assert panel.plain == 0x1122AA44


def test_wide_write_reaches_every_register_it_touches(panel):
    panel.driver.bar_write(0, 0, 0xFFFF_FFFF_0000_0001, 8)
    assert (panel.plain, panel.masked, panel.fixed) == (1, 0x0FF0, 0xBEEF)


def test_narrow_write_that_clears_sets_the_other_bytes_to_zero(panel):
    panel.exact = 0x1111_1111_2222_2222
    panel.driver.bar_write(0, 0x20, 0x33, 4)
    assert panel.exact == 0x33


def test_register_with_sizes_of_its_own_takes_no_other(panel):
    panel.exact = 0x1111_1111_2222_2222
    panel.driver.bar_write(0, 0x20, 0, 1)
    panel.driver.bar_write(0, 0x24, 0, 4)
    assert panel.exact == 0x1111_1111_2222_2222
    assert panel.driver.bar_read(0, 0x24, 4) == 0
    assert panel.driver.bar_read(2, 0x10, 4) == 0xFFFFFFFF
    assert panel.driver.bar_read(2, 0x10, 8) == 9


def test_bits_written_as_one_clear_or_set(panel):
    panel.events = 0xFF
    panel.driver.bar_write(0, 0x08, 0x0F, 4)
    panel.driver.bar_write(0, 0x0C, 0x05, 4)
    panel.driver.bar_write(0, 0x0C, 0x10, 1)
    assert (panel.events, panel.switches) == (0xF0, 0x15)


def test_counter_that_is_read_is_zero_afterwards_and_write_only_reads_zero(panel):
    panel.driver.bar_write(0, 0x10, 99, 8)
    assert [panel.driver.bar_read(0, 0x10, 8) for _ in range(2)] == [7, 0]
    panel.driver.bar_write(0, 0x18, 99, 8)
    assert panel.secret == 99
    assert panel.driver.bar_read(0, 0x18, 8) == 0


def test_strict_bar_reads_zero_in_sizes_it_refuses_and_ones_where_nothing_is(panel):
    driver = panel.driver
    assert driver.bar_read(2, 0, 1) == 0
    driver.bar_write(2, 0, 1, 2)
    assert panel.word == 5
    assert driver.bar_read(2, 0, 8) == 0xFFFF_FFFF_0000_0005
    assert driver.bar_read(2, 0x04, 8) == 0x0000_0006_FFFF_FFFF, "misaligned: two aligned accesses"
    assert driver.bar_read(2, 0x800, 4) == 0xFFFFFFFF


def test_io_bar_answers_at_ports(panel):
    assert panel.driver.bar_read(1, 0, 4) == 0x5A00_0000
    panel.driver.bar_write(1, 3, 0x77, 1)
    assert panel.port == 0x77


def test_access_without_a_register_is_logged_for_debugging(panel, caplog):
    caplog.set_level("DEBUG", "qdevpy.pci.declared_bar")
    panel.driver.bar_read(0, 0x7FC, 4)
    panel.driver.bar_write(0, 0x7F8, 0x12, 2)
    assert "panel: read of 4 bytes at mmio offset 0x7fc: nothing to read there" in caplog.text
    assert "panel: write of 0x12, 2 bytes, at mmio offset 0x7f8: no register" in caplog.text


def test_reset_brings_reset_values_back(panel):
    panel.driver.bar_write(0, 0, 1, 4)
    panel.events = 3
    panel.reset()
    assert (panel.plain, panel.events, panel.counter) == (0x11223344, 0, 7)


def test_value_too_big_for_a_register_is_the_authors_mistake(panel):
    with pytest.raises(ValueError, match="register fixed has 16 bits and cannot be 0x10000; mask the value first"):
        panel.fixed = 0x10000


def test_registers_can_be_listed():
    found = {each.name: each for each in Panel.describe_registers()}
    assert list(found)[:3] == ["plain", "masked", "fixed"]
    assert found["fixed"] == ("fixed", 0, 6, 2, "ro", 0xBEEF, 0, (), "never changes")
    assert found["masked"].writable == 0x0FF0
    assert found["exact"].access_sizes == (4, 8)


# -- declarations that cannot be


def declare(*registers, bar=None, **more):
    """A class with a BAR of 4 KiB and these registers, called a, b, and so on."""
    bar = bar or MemoryBar(0, 4096)
    body = {"mmio": bar, **more} | {name: bar.register(*each) for name, each in zip("abc", registers, strict=False)}
    return type("Wrong", (PCIEndpoint,), body)


@pytest.mark.parametrize(
    ("registers", "message"),
    [
        (
            [(0, 4), (2, 2)],
            r"a \(BAR 0, offset 0x0, 4 bytes\) and b \(BAR 0, offset 0x2, 2 bytes\) overlap; the next free offset is 0x4",
        ),
        ([(0x12, 4)], r"a \(BAR 0, offset 0x12, 4 bytes\) is misaligned: .* multiple of 4, such as 0x10 or 0x14"),
        ([(0x1000, 4)], r"a \(BAR 0, offset 0x1000, 4 bytes\) does not fit into mmio, which has 0x1000 bytes"),
        ([(0, 3)], "a register has 1, 2, 4 or 8 bytes"),
    ],
)
def test_registers_that_do_not_go_together_are_refused_when_the_class_is_made(registers, message):
    with pytest.raises(PluginError, match=message) as caught:
        declare(*registers)
    assert "Wrong" in str(caught.value)


def test_values_wider_than_the_register_are_refused():
    bar = MemoryBar(0, 4096)
    with pytest.raises(PluginError, match="reset=0x100 has more than 8 bits"):
        declare(bar=bar, a=bar.register(0, 1, reset=0x100))
    with pytest.raises(PluginError, match="writable=0x1ff has more than 8 bits"):
        declare(bar=bar, a=bar.register(0, 1, writable=0x1FF))


def test_bars_that_do_not_go_together_are_refused():
    with pytest.raises(PluginError, match="second and mmio both take BAR 1"):
        declare(bar=MemoryBar64(0, 4096), second=MemoryBar(1, 4096))
    with pytest.raises(PluginError, match="mmio: 100 bytes; a BAR's size is a power of two"):
        declare(bar=MemoryBar(0, 100))
    with pytest.raises(PluginError, match="mmio: index 5; a function has BARs 0 to 4 of this kind"):
        declare(bar=MemoryBar64(5, 4096))


def test_register_of_a_bar_that_is_not_the_class_own_is_refused():
    with pytest.raises(PluginError, match="the class has no BAR 3; assign it to a class attribute, too"):
        declare(stray=MemoryBar(3, 4096).register(0, 4))


def test_derived_class_replaces_a_register_and_keeps_the_others():
    class Newer(Panel):
        plain = Panel.mmio.register(0x28, 4, reset=1)

    assert {r.name: r.offset for r in Newer.declared.registers}["plain"] == 0x28
    assert len(Newer.declared.registers) == len(Panel.declared.registers)
    assert Panel.plain.offset == 0
