# SPDX-License-Identifier: Apache-2.0
"""Types, ids, properties and BARs of virtio-pci functions (virtio 1.2, 4.1.2, 4.1.4)."""

import pytest
from null_device import ModernOnlyDevice, NullDevice, SpinDevice
from virtio_pci_rig import plugged, types_of

from qdevpy.errors import PropertyError, RealizeError
from qdevpy.pci import config
from qdevpy.qdev.device import Notification
from qdevpy.testing.driver import LegacyDriver, ModernDriver, PCIDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.virtio import pci_modern

CAP_KINDS = [pci_modern.CAP_PCI, pci_modern.CAP_NOTIFY, pci_modern.CAP_DEVICE, pci_modern.CAP_ISR, pci_modern.CAP_COMMON]


def kinds(driver):
    return [driver.config_read(at + 3, 1) for at in driver.capabilities(9)]


def test_class_with_a_legacy_past_has_three_types():
    assert list(types_of(NullDevice)) == ["null-pci", "null-pci-transitional", "null-pci-non-transitional"]


def test_class_without_a_legacy_past_has_no_transitional_type():
    assert list(types_of(ModernOnlyDevice)) == ["young-pci", "young-pci-non-transitional"]


def test_only_the_plain_type_lets_the_user_choose_interfaces():
    types = types_of(NullDevice).values()
    assert [kind.create().disable_legacy for kind in types] == ["auto", "off", "on"]
    assert ["disable-legacy" in kind.properties for kind in types] == [True, False, False]
    assert ["disable-modern" in kind.properties for kind in types] == [True, False, False]


@pytest.mark.parametrize(
    ("variant", "properties", "device_id", "revision", "bars"),
    [
        ("pci", {}, 0x10FF, 0, [0, 1, 4]),
        ("pci-transitional", {}, 0x10FF, 0, [0, 1, 4]),
        ("pci-non-transitional", {}, 0x106A, 1, [1, 4]),
        ("pci", {"disable_legacy": "on"}, 0x106A, 1, [1, 4]),
        ("pci", {"disable_modern": "on"}, 0x10FF, 0, [0, 1]),
        ("pci", {"vectors": 0}, 0x10FF, 0, [0, 4]),
        ("pci", {"modern_pio_notify": "on"}, 0x10FF, 0, [0, 1, 2, 4]),
    ],
)
def test_ids_and_bars_follow_the_interfaces_offered(variant, properties, device_id, revision, bars):
    with plugged(PCIDriver, variant=variant, **properties) as driver:
        assert driver.config_read(config.VENDOR_ID, 2) == 0x1AF4
        assert driver.config_read(config.DEVICE_ID, 2) == device_id
        assert driver.config_read(config.REVISION, 1) == revision
        assert driver.config_read(config.SUBSYSTEM_ID, 2) == (42 if revision == 0 else 0x1100)
        assert sorted(driver.bars) == bars


def test_modern_only_device_has_no_legacy_registers_by_default():
    with plugged(PCIDriver, ModernOnlyDevice) as driver:
        assert (driver.config_read(config.DEVICE_ID, 2), sorted(driver.bars)) == (0x106A, [1, 4])


def test_modern_capabilities_are_there_once_each():
    with plugged(PCIDriver) as driver:
        assert kinds(driver) == CAP_KINDS


def test_legacy_only_device_has_no_vendor_capability():
    with plugged(PCIDriver, disable_modern="on") as driver:
        assert kinds(driver) == []


def test_pio_notify_is_the_notify_capability_that_drivers_find_first():
    with plugged(PCIDriver, modern_pio_notify="on") as driver:
        first, second = (at for at in driver.capabilities(9) if driver.config_read(at + 3, 1) == pci_modern.CAP_NOTIFY)
        assert (driver.config_read(first + 4, 1), driver.config_read(first + 16, 4)) == (2, 0)
        assert (driver.config_read(second + 4, 1), driver.config_read(second + 16, 4)) == (4, 4)


def test_page_per_vq_spreads_the_notify_registers():
    with plugged(ModernDriver, page_per_vq="on") as driver:
        assert driver.multiplier == 4096
        driver.start()
        assert driver.queues[1].request([b"ping"], [4])[1] == b"gnip"
        assert driver.device.queues[1].counters()["kicks_ioeventfd"] == 1


def test_pio_notify_carries_kicks():
    with plugged(ModernDriver, modern_pio_notify="on") as driver:
        driver.start()
        for index in range(3):
            head = driver.queues[index].add([b"ping"], [4])
            driver.bar_write(2, 0, index, 2)
            driver.queues[index].wait(head)
            assert driver.device.queues[index].counters()["kicks_ioeventfd"] == 1


def test_both_interfaces_off_is_refused():
    with FakeMachine(types=types_of(NullDevice)) as machine:
        with pytest.raises(RealizeError, match="leave one interface"):
            machine.plug_type("null-pci", disable_legacy="on", disable_modern="on")
        assert machine.pci.children == []


def test_legacy_interface_of_a_device_that_never_had_one_is_refused():
    with FakeMachine(types=types_of(ModernOnlyDevice)) as machine, pytest.raises(RealizeError, match="never had legacy"):
        machine.plug_type("young-pci", disable_legacy="off")


@pytest.mark.parametrize(("given", "wanted"), [(None, 4), (2, 2), (7, 7)])
def test_vectors_default_to_one_a_queue_and_one(given, wanted):
    with plugged(PCIDriver, **({} if given is None else {"vectors": given})) as driver:
        (at,) = driver.capabilities(0x11)
        assert driver.config_read(at + 2, 2) == wanted - 1
        assert driver.proxy.vectors == wanted


def test_ioeventfd_is_a_property_where_the_class_allows_it():
    kind = types_of(NullDevice)["null-pci"]
    assert kind.ioeventfd is Notification.ALLOWED
    assert kind.properties["ioeventfd"].default is True


def test_ioeventfd_is_no_property_where_the_class_forbids_it():
    kind = types_of(SpinDevice)["spin-pci"]
    assert kind.ioeventfd is Notification.FORBIDDEN
    assert "ioeventfd" not in kind.properties
    with pytest.raises(PropertyError, match=r"'ioeventfd' is not available: .*synchronous by design"):
        kind.create().set_property("ioeventfd", "on")


def test_forbidden_ioeventfd_serves_kicks_before_the_register_write_returns():
    with plugged(ModernDriver, SpinDevice) as driver:
        driver.start()
        for index in range(3):
            driver.queues[index].add([b"ping"], [4])
            driver.queues[index].kick()
            assert driver.queues[index].used_index == 1
        assert driver.machine.accelerator.ioevents == []


def test_properties_of_device_and_transport_are_set_alike():
    with plugged(PCIDriver, num_queues=5, vectors=3) as driver:
        assert len(driver.device.queues) == 5
        assert driver.proxy.get_property("num-queues") == 5


def test_property_is_fixed_after_realize():
    with plugged(PCIDriver) as driver, pytest.raises(PropertyError, match="after it was realized"):
        driver.proxy.set_property("ioeventfd", "off")


def test_unplug_leaves_nothing_behind():
    with plugged(ModernDriver) as driver:
        driver.start(msix=True)
        machine = driver.machine
        mappings = len(machine.space.mappings)
        machine.pci.unplug(driver.proxy)
        assert machine.accelerator.ioevents == []
        assert machine.accelerator.irqfds == {}
        assert len(machine.space.mappings) < mappings
        assert not machine.space.mappings
        assert driver.bar_read(4, 0x14, 1) == 0xFF


def test_unplug_and_plug_of_two_devices_that_share_a_line_keeps_the_other():
    with FakeMachine(types=types_of(NullDevice)) as machine:
        first = machine.plug_type("null-pci", addr="1")
        second = machine.plug_type("null-pci", addr="5")
        drivers = [LegacyDriver(machine, first), LegacyDriver(machine, second)]
        for driver in drivers:
            driver.start()
            driver.queues[1].request([b"a"], [1])
        machine.pci.unplug(first)
        assert drivers[1].intx_level
        assert drivers[1].read_isr() == 1
        assert not drivers[1].intx_level
