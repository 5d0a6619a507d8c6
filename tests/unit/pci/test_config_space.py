# SPDX-License-Identifier: Apache-2.0
"""Configuration space: identity, masks, capabilities, BAR sizing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from widget import BusRig

from qdevpy.pci import config
from qdevpy.pci.config import ConfigSpace


def test_identity_is_in_the_header(rig):
    device = rig.plug()
    assert rig.read(device, 0) == 0x5678_1234
    assert rig.read(device, 8) == 0x0200_0003
    assert rig.read(device, 0x2C) == 0xBBBB_AAAA
    assert rig.read(device, config.INTERRUPT_PIN, 1) == 1
    assert rig.read(device, config.HEADER_TYPE, 1) == 0


def test_read_only_bytes_keep_their_values(rig):
    device = rig.plug()
    before = [rig.read(device, offset) for offset in (0, 8, 0x2C, 0x34)]
    for offset in (0, 8, 0x2C, 0x34):
        rig.write(device, offset, 0xFFFF_FFFF)
    assert [rig.read(device, offset) for offset in (0, 8, 0x2C, 0x34)] == before


def test_interrupt_line_is_the_guests_to_write(rig):
    device = rig.plug()
    rig.write(device, config.INTERRUPT_LINE, 11, 1)
    assert rig.read(device, config.INTERRUPT_LINE, 1) == 11


def test_command_takes_only_bits_that_exist(rig):
    device = rig.plug()
    rig.command(device, 0xFFFF)
    assert rig.read(device, config.COMMAND, 2) == config.COMMAND_WRITABLE


def test_capabilities_are_a_list_with_the_newest_first(rig):
    device = rig.plug()
    assert rig.read(device, config.STATUS, 2) & config.STATUS_CAPABILITIES
    assert [identifier for identifier, _ in device.config.capabilities()] == [0x09, 0x11]
    offset = rig.read(device, config.CAPABILITIES, 1)
    assert offset % 4 == 0
    assert rig.read(device, offset + 2, 2) == 0x0BAD


@pytest.mark.parametrize(("index", "ones"), [(0, 0xFFFF_FFE1), (1, 0xFFFF_F000), (2, 0xFFFF_000C), (3, 0xFFFF_FFFF), (4, 0)])
def test_bar_written_with_ones_tells_size_and_sort(rig, index, ones):
    device = rig.plug()
    rig.write(device, config.BAR0 + 4 * index, 0xFFFF_FFFF)
    assert rig.read(device, config.BAR0 + 4 * index) == ones


def test_read_beyond_the_space_gives_ones():
    space = ConfigSpace()
    assert space.get(254, 4) == 0xFFFF_0000
    assert space.get(300, 2) == 0xFFFF


def test_capabilities_that_do_not_fit_are_an_error_of_the_device():
    space = ConfigSpace()
    for _ in range(9):
        space.add_capability(9, 20)
    with pytest.raises(AssertionError, match="do not fit"):
        space.add_capability(9, 20)


def test_no_function_reads_as_ones_and_swallows_writes(rig):
    assert rig.bus.config_read(0x38, 0, 4) == 0xFFFF_FFFF
    assert rig.bus.config_read(0x38, 0, 1) == 0xFF
    rig.bus.config_write(0x38, 0, 0, 4)


def test_reset_brings_back_what_was_there_after_realize(rig):
    device = rig.plug()
    before = bytes(device.config.data)
    for offset in range(0, 256, 4):
        rig.write(device, offset, 0xFFFF_FFFF)
    rig.machine.reset()
    ignored = {config.CACHE_LINE_SIZE}
    after = bytes(device.config.data)
    assert [i for i in range(256) if before[i] != after[i] and i not in ignored] == []


ACCESS = st.tuples(st.integers(0, 300), st.integers(0, 0xFFFF_FFFF), st.sampled_from([1, 2, 4]))


@settings(max_examples=60, deadline=None)
@given(st.lists(ACCESS, max_size=60))
def test_any_sequence_of_accesses_is_harmless(accesses):
    rig = BusRig()
    try:
        device, other = rig.plug(), rig.plug()
        for offset, value, size in accesses:
            rig.write(device, offset, value, size)
            assert 0 <= rig.read(device, offset, size) < 1 << 8 * size
        assert rig.read(other, 0) == 0x5678_1234
        assert rig.read(device, 0) == 0x5678_1234
    finally:
        rig.machine.close()
