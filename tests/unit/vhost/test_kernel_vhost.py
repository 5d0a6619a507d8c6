# SPDX-License-Identifier: Apache-2.0
"""Kernel vhost-net: its numbers against the kernel's header, its calls against a fake kernel, a tap that uses it."""

import errno
import os
import shutil
import struct
import subprocess

import pytest
from fake_kernel import FakeKernel

from qdevpy.backend import netdev_tap
from qdevpy.backend.netdev import NetDev, Offload
from qdevpy.backend.netdev_tap import TapNetDev
from qdevpy.errors import BackendError, VhostError
from qdevpy.testing.driver import ModernDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.vhost import kernel
from qdevpy.vhost.frontend import State
from qdevpy.virtio import defs
from qdevpy.virtio.pci_types import device_types_for
from qdevpy_virtio_net import numbers as n
from qdevpy_virtio_net.device import VirtIONet


@pytest.fixture
def fake(monkeypatch):
    made = FakeKernel()
    monkeypatch.setattr(kernel, "ioctl", made.ioctl)
    monkeypatch.setattr(kernel, "open_device", made.open_device)
    return made


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_numbers_are_those_of_the_kernels_header(tmp_path):
    names = sorted(kernel._NAMES.values())
    lines = "".join(f'printf("{name} %u\\n", (unsigned){name});' for name in names)
    source = f"#include <stdio.h>\n#include <sys/ioctl.h>\n#include <linux/vhost.h>\nint main(void){{{lines}}}\n"
    (tmp_path / "numbers.c").write_text(source)
    subprocess.run(["gcc", "-o", "numbers", "numbers.c"], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "numbers"], capture_output=True, text=True, check=True).stdout
    assert dict(line.split() for line in said.splitlines()) == {name: str(value) for value, name in kernel._NAMES.items()}


class VhostNetDev(NetDev):
    """A netdev that stands for a tap whose queues a kernel serves; its descriptors are no tap's."""

    type_name = "fake-tap"
    vnet_header = True
    offloads = Offload.CSUM | Offload.TSO4
    serves_queues = True
    failure = None

    def start(self, fake, pairs):
        self.pairs = pairs
        self.fds = [fake.open_device() for _ in range(pairs)]
        self.taps = [100 + pair for pair in range(pairs)]
        self.vhost = kernel.VhostKernelNet(self.fds, self.taps)
        self.vhost.negotiate()

    @property
    def ports(self):
        return self.pairs

    def vhost_failed(self, error):
        self.failure = error

    def close(self):
        self.vhost.close()


class Card:
    """A card on such a netdev."""

    def __init__(self, fake, pairs=1, **properties):
        self.machine = FakeMachine()
        self.netdev = self.machine.open_backend(VhostNetDev(id="lan"))
        self.netdev.start(fake, pairs)
        self.proxy = self.machine.plug_type(device_types_for(VirtIONet, "test")[0], netdev=self.netdev, **properties)
        self.device, self.driver = self.proxy.device, ModernDriver(self.machine, self.proxy)
        self.devices = [fake.devices[fd] for fd in self.netdev.fds]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.machine.close()


def test_card_hands_its_data_queues_to_the_kernel(fake):
    with Card(fake) as card:
        card.driver.start(1 << n.F_MRG_RXBUF | 1 << n.F_CSUM, msix=True)
        (device,) = card.devices
        assert device["features"] == 1 << n.F_MRG_RXBUF | 1 << defs.F_VERSION_1  # checksums are the tap's
        ram = card.machine.memory.regions[0]
        assert device["memory"] == [(ram.gpa, ram.size, ram.hva, 0)]
        for index, ring in device["rings"].items():
            queue = card.driver.queues[index]
            assert (ring["num"], ring["base"], ring["backend"]) == (queue.size, 0, 100)
            addresses = [0, *(ram.hva + part for part in (queue.desc, queue.used, queue.avail)), 0]
            assert ring["addresses"] == addresses
            assert ring["kick"] == card.proxy.notifiers.of(card.device.queues[index]).fd
            os.eventfd_write(ring["call"], 1)
            assert card.driver.interrupts(index + 1) == 1
        assert card.device.vhost.frontend.state is State.SERVING


def test_stop_takes_the_tap_away_before_it_asks_for_the_position(fake):
    with Card(fake) as card:
        card.driver.start(msix=True)
        fake.calls.clear()
        card.machine.pause()
        assert fake.calls == ["VHOST_NET_SET_BACKEND", "VHOST_GET_VRING_BASE"] * 2
        assert [ring["backend"] for ring in card.devices[0]["rings"].values()] == [-1, -1]
        card.machine.start()
        assert [ring["backend"] for ring in card.devices[0]["rings"].values()] == [100, 100]


def test_every_pair_has_a_device_of_its_own(fake):
    with Card(fake, pairs=2, mq=True) as card:
        card.driver.start(1 << n.F_MQ | 1 << n.F_CTRL_VQ, msix=True)
        assert [[ring["backend"] for ring in device["rings"].values()] for device in card.devices] == [[100, 100], [-1, -1]]
        assert card.device.set_queue_pairs(2)
        assert [ring["backend"] for ring in card.devices[1]["rings"].values()] == [101, 101]


def test_vector_that_changes_is_told_to_the_kernel(fake):
    with Card(fake) as card:
        card.driver.start(msix=True)
        card.driver.write(0x16, 1, 2)
        card.driver.write(0x1A, 0, 2)
        os.eventfd_write(card.devices[0]["rings"][1]["call"], 1)
        assert card.driver.interrupts(0) >= 1


@pytest.mark.parametrize("name", ["VHOST_SET_FEATURES", "VHOST_SET_MEM_TABLE", "VHOST_SET_VRING_ADDR", "VHOST_NET_SET_BACKEND"])
def test_kernel_that_refuses_leaves_a_machine_that_runs(fake, name):
    with Card(fake) as card:
        fake.fails = name
        card.driver.start(msix=True)
        assert str(card.netdev.failure) == f"refuses {name}: Bad address"
        assert card.device.vhost.frontend.state is State.ORPHANED
        card.driver.set_status(0)


def test_device_with_another_owner_is_refused(fake):
    fd = fake.open_device()
    kernel.VhostKernelNet([fd], [1]).negotiate()
    with pytest.raises(VhostError, match="refuses VHOST_SET_OWNER: Device or resource busy"):
        kernel.VhostKernelNet([fd], [1]).negotiate()
    os.close(fd)


# -- tap


@pytest.fixture
def tap(monkeypatch):
    """Makes taps whose ioctls go nowhere."""
    made = []

    def ioctl(fd, what, argument):
        if what == netdev_tap.TUNGETFEATURES:
            return struct.pack("I", netdev_tap.IFF_VNET_HDR)
        return b"tap9".ljust(16, b"\0") + b"\x02\x40" + bytes(22) if isinstance(argument, bytes) else 0

    monkeypatch.setattr(netdev_tap, "TUN", "/dev/null")
    monkeypatch.setattr(netdev_tap.fcntl, "ioctl", ioctl)

    def make(**options):
        netdev = TapNetDev(id="lan")
        for name, value in options.items():
            netdev.set_property(name, value)
        made.append(netdev)
        netdev.open()
        return netdev

    yield make
    for netdev in made:
        netdev.close()


def test_tap_with_vhost_has_the_kernel_serve_its_queues(tap, fake):
    netdev = tap(vhost="on")
    assert netdev.serves_queues
    assert fake.calls == ["VHOST_SET_OWNER", "VHOST_GET_FEATURES"]


def test_tap_takes_a_vhost_device_that_we_inherited(tap, fake):
    fd = os.eventfd(0)
    netdev = tap(vhostfd=str(fd))
    os.close(fd)
    assert netdev.serves_queues


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EACCES])
def test_tap_whose_host_has_no_vhost_warns_once_and_works(tap, monkeypatch, caplog, code):
    def refuse(inherited=None):
        raise OSError(code, os.strerror(code), kernel.DEVICE)

    monkeypatch.setattr(kernel, "open_device", refuse)
    netdev = tap(vhost="on")
    assert not netdev.serves_queues
    assert netdev.port(0) is not None
    assert len(caplog.records) == 1
    assert "no vhost: /dev/vhost-net" in caplog.text
    assert "served by an I/O thread" in caplog.text


def test_tap_with_vhostforce_fails_where_the_host_has_none(tap, monkeypatch):
    monkeypatch.setattr(kernel, "DEVICE", "/dev/no-such-vhost")
    with pytest.raises(BackendError, match=r"/dev/no-such-vhost: .*modprobe vhost_net\), or leave vhostforce away"):
        tap(vhost="on", vhostforce="on")


def test_tap_with_descriptors_that_are_no_vhost_says_so(tap, caplog):
    assert not tap(vhost="on", vhostfd="x").serves_queues
    assert "invalid literal" not in caplog.text
    with pytest.raises(BackendError, match="2 descriptors for 1 queue pairs"):
        tap(vhostfds="3:4", vhostforce="on")
