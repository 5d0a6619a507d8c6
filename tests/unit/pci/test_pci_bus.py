# SPDX-License-Identifier: Apache-2.0
"""Slots and functions, and interrupt lines that functions share."""

import threading

import pytest
from widget import Widget

from qdevpy.errors import RealizeError
from qdevpy.pci import config


def test_devices_without_addr_get_free_slots_in_order(rig):
    rig.plug(addr="1")
    assert [rig.plug().devfn for _ in range(3)] == [0x00, 0x10, 0x18]


def test_two_devices_in_one_slot_are_refused_with_the_other_ones_name(rig):
    rig.plug(id="first", addr="5")
    with pytest.raises(RealizeError, match=r"second .*PCI: slot 5 function 0 .*widget,id=first; .*another slot"):
        rig.plug(id="second", addr="5")


def test_full_bus_is_refused(rig):
    for _ in range(32):
        rig.plug()
    with pytest.raises(RealizeError, match=r"no free slot on 'pci.0': all 32"):
        rig.plug()


def test_function_beside_one_that_is_not_multifunction_is_refused(rig):
    rig.plug(id="zero", addr="5")
    with pytest.raises(RealizeError, match=r"addr 05.1.*zero .*function 0 is not multifunction; set multifunction=on"):
        rig.plug(addr="5.1")


def test_function_0_that_is_not_multifunction_is_refused_beside_others(rig):
    rig.plug(addr="5.1")
    with pytest.raises(RealizeError, match="not multifunction"):
        rig.plug(id="zero", addr="5")


def test_functions_of_a_multifunction_device_have_spaces_of_their_own(rig):
    zero, one = rig.plug(addr="5", multifunction="on"), rig.plug(addr="5.1")
    assert rig.read(zero, config.HEADER_TYPE, 1) == 0x80
    rig.write(one, config.INTERRUPT_LINE, 9, 1)
    assert rig.read(zero, config.INTERRUPT_LINE, 1) == 0


def test_address_is_free_again_after_a_failed_realize(rig, monkeypatch):
    monkeypatch.setattr(Widget, "add_capability_for_test", lambda self: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        rig.plug(addr="5")
    monkeypatch.undo()
    assert rig.plug(addr="5").devfn == 0x28


def test_address_is_free_again_after_unplug(rig):
    rig.bus.unplug(rig.plug(addr="5"))
    assert rig.bus.device_at(0x28) is None
    assert rig.plug(addr="5").devfn == 0x28


# -- INTx


def test_line_is_high_while_any_of_its_functions_asserts(rig):
    first, second = rig.plug(addr="1"), rig.plug(addr="5")  # both on GSI 17
    first.set_intx(True)
    second.set_intx(True)
    first.set_intx(False)
    assert rig.level(17)
    second.set_intx(False)
    assert not rig.level(17)


def test_asserting_twice_counts_once(rig):
    device = rig.plug(addr="1")
    device.set_intx(True)
    device.set_intx(True)
    device.set_intx(False)
    assert not rig.level(17)


def test_interrupt_disable_bit_takes_the_line_back_and_status_keeps_it(rig):
    device = rig.plug(addr="1")
    device.set_intx(True)
    rig.command(device, config.COMMAND_INTX_DISABLE)
    assert not rig.level(17)
    assert rig.read(device, config.STATUS, 2) & config.STATUS_INTERRUPT
    rig.command(device, 0)
    assert rig.level(17)
    device.set_intx(False)
    assert not rig.read(device, config.STATUS, 2) & config.STATUS_INTERRUPT


def test_asserted_line_moves_with_the_boards_wiring(rig):
    device = rig.plug(addr="1")
    device.set_intx(True)
    rig.bus.intx_router = lambda slot, pin: 5
    rig.bus.routes_changed()
    assert (rig.level(17), rig.level(5)) == (False, True)


def test_pin_that_leads_nowhere_is_harmless(rig):
    rig.bus.intx_router = lambda slot, pin: -1
    device = rig.plug()
    device.set_intx(True)
    device.set_intx(False)
    assert not any(rig.machine.accelerator.gsi_levels.values())


@pytest.mark.parametrize("end", ["reset", "unplug"])
def test_reset_and_unplug_let_the_line_go(rig, end):
    device = rig.plug(addr="1")
    device.set_intx(True)
    rig.machine.reset() if end == "reset" else rig.bus.unplug(device)
    assert not rig.level(17)


def test_line_is_low_in_the_end_when_threads_share_it(rig):
    devices = [rig.plug(addr=addr) for addr in ("1", "5", "9")]

    def pulse(device):
        for _ in range(300):
            device.set_intx(True)
            device.set_intx(False)

    threads = [threading.Thread(target=pulse, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not rig.level(17)
