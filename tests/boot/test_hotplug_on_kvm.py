# SPDX-License-Identifier: Apache-2.0
"""Devices that go while their driver uses them leave nothing behind: no eventfd in KVM, no descriptor, no thread."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from qdevpy.definition.load import load_definition
from qdevpy.plugin.manager import load_plugins
from qdevpy.testing.driver import ModernDriver
from qdevpy.testing.machine import Allocator
from qdevpy.vm.build import build_machine
from qdevpy.vm.hotplug import device_add, device_del

pytestmark = [
    pytest.mark.kvm,
    pytest.mark.needs_host("kvm"),
]

DEFINITION = """
machine: pc
accel: kvm
memory: 64M
drives: {disk: {file: DISK, format: raw, aio: threads, node-name: disk}}
netdevs: {lan: {type: "null"}}
objects: {io0: {type: iothread}}
devices: [virtio-serial-pci: {id: vser0}]
"""
SECTORS = 64
SLOT = 9
DEVICES = {
    "disk0": {"driver": "virtio-blk-pci", "drive": "disk", "iothread": "io0", "addr": SLOT},
    "nic0": {"driver": "virtio-net-pci", "netdev": "lan", "addr": SLOT},
    "vser1": {"driver": "virtio-serial-pci", "addr": SLOT},
}


@pytest.fixture
def machine(tmp_path):
    """Its vCPU has run, as far as hotplug is concerned, and stands still."""
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(SECTORS * 512))
    registry = load_plugins()
    definition = load_definition("hot.yaml", registry, text=DEFINITION.replace("DISK", str(disk)))
    with build_machine(definition, registry) as machine:
        machine.has_guest = True
        machine.state = type(machine.state).RUNNING
        yield machine


def drive(machine, name):
    """A driver of the device in SLOT, at work."""

    def wait_for(condition, what, timeout=10):
        raise AssertionError("nobody waits here")

    places = {
        "ram": Allocator(0x10_0000, 64 << 20),
        "ports": Allocator(0xC000, 0x1_0000),
        "mmio": Allocator(0xE000_0000, 1 << 32),
    }
    near = SimpleNamespace(
        pci=machine.find_bus("pci.0"), lock=machine.lock, space=machine.space, memory=machine.memory, wait_for=wait_for
    )
    vars(near).update(places)
    driver = ModernDriver(near, machine.find_device(name))
    driver.start()
    return driver


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def wait_for_threads(count):
    """A thread that was joined is there for a moment more."""
    deadline = time.monotonic() + 30
    while len(list(Path("/proc/self/task").iterdir())) > count:
        assert time.monotonic() < deadline, "threads are left"
        os.sched_yield()


def eject(machine):
    """As a vCPU does it: on a thread that is not the main loop's."""
    vcpu = threading.Thread(target=machine.space.write, args=("pio", 0xAE08, 1 << SLOT, 4))
    vcpu.start()
    vcpu.join(30)
    assert not vcpu.is_alive()


@pytest.mark.parametrize("name", DEVICES)
def test_device_in_use_goes_a_hundred_times_without_a_trace(machine, name):
    with machine.lock:
        machine.iothread()  # the one for devices that name none starts with the first that asks
    assert machine.watchdog  # so does this one
    threads, used = len(list(Path("/proc/self/task").iterdir())), []
    for _ in range(100):
        with machine.lock:
            proxy = device_add(machine, {**DEVICES[name], "id": name})
        driver = drive(machine, name)
        assert bool(proxy.notifiers.notifiers) == (name != "vser1")
        for queue in driver.queues[:3]:
            queue.add([bytes(16)], [512, 1])
            queue.kick()
        with machine.lock:
            device_del(machine, name)
        eject(machine)
        assert machine.find_device(name) is None
        machine.loop.run_once(0)
        used.append(descriptors())
    assert used[-1] == used[10]
    wait_for_threads(threads)


def test_port_goes_a_hundred_times_without_a_trace(machine):
    used = []
    for _ in range(100):
        with machine.lock:
            device_add(machine, {"driver": "virtserialport", "bus": "vser0.0", "id": "port0"})
            device_del(machine, "port0")
        used.append(descriptors())
    assert used[-1] == used[10]
