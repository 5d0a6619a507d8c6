# SPDX-License-Identifier: Apache-2.0
"""virtio-blk-pci through its registers, as a guest's driver meets it: legacy and modern, ioeventfd on and off."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blk_driver import DISCARD, ENGINES, FLUSH, GET_ID, IN, IOERR, OK, OUT, UNSUPP, WRITE_ZEROES, options_of, resources
from ring_forms import FORMS, OFFER

from qdevpy.backend.drive import Drive
from qdevpy.pci import config as pci_config
from qdevpy.testing.driver import LegacyDriver, ModernDriver, PCIDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.testing.packed import EVENTS_AT, PackedQueue
from qdevpy.testing.rings import DriverQueue
from qdevpy.virtio import defs, pci_modern
from qdevpy.virtio.pci_types import device_types_for
from qdevpy_virtio_blk import config
from qdevpy_virtio_blk.device import VirtIOBlock

SIZE = 4 << 20
TYPES = {kind.name: kind for kind in device_types_for(VirtIOBlock)}
EVENT_IDX, INDIRECT = 1 << defs.F_RING_EVENT_IDX, 1 << defs.F_RING_INDIRECT_DESC
RANGES = 1 << config.F_DISCARD | 1 << config.F_WRITE_ZEROES
MQ = 1 << config.F_MQ

Plug = Callable[..., Any]


@pytest.fixture
def machine(caplog: pytest.LogCaptureFixture) -> Iterator[FakeMachine]:
    with FakeMachine(types=TYPES) as machine:
        yield machine
    assert "while taking it out" not in caplog.text


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"".join(bytes([i % 251]) * 512 for i in range(SIZE // 512)))
    return path


@pytest.fixture(params=ENGINES)
def aio(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["ioeventfd", "synchronous"])
def plug(request: pytest.FixtureRequest, machine: FakeMachine, image: Path, aio: str) -> Plug:
    """Plugs a virtio-blk-pci with the image; drive options as ``drive=``."""

    def plug(kind: str = "virtio-blk-pci", *, drive: dict[str, Any] | None = None, **properties: Any) -> Any:
        backend = machine.open_backend(Drive(id="root"), file=str(image), **options_of(aio), **(drive or {}))
        return machine.plug_type(kind, id="disk0", drive=backend, ioeventfd=request.param, **OFFER, **properties)

    return plug


@pytest.fixture(params=[LegacyDriver, ModernDriver, *FORMS])
def interface(request: pytest.FixtureRequest) -> type[PCIDriver]:
    return request.param  # type: ignore[no-any-return]


def header(kind: int, sector: int = 0) -> bytes:
    return struct.pack("<IIQ", kind, 0, sector)


def segment(sector: int, sectors: int, flags: int = 0) -> bytes:
    return struct.pack("<QII", sector, sectors, flags)


def read(queue: DriverQueue, sector: int, count: int = 1, *, indirect: bool = False) -> tuple[int, bytes]:
    """Status and data."""
    written, data = queue.request([header(IN, sector)], [512 * count, 1], indirect=indirect)
    assert written == 512 * count + 1
    return data[-1], data[:-1]


def command(queue: DriverQueue, kind: int, sector: int = 0, data: bytes = b"") -> int:
    """Status."""
    return queue.request([header(kind, sector), data] if data else [header(kind, sector)], [1])[1][0]


# -- requests


def test_every_request_type_works(machine: FakeMachine, plug: Plug, interface: type[PCIDriver], image: Path) -> None:
    driver = interface(machine, plug(serial="root0", drive={"discard": "unmap"}))
    driver.start(RANGES | 1 << config.F_FLUSH)
    queue = driver.queues[0]

    assert read(queue, 3, 2) == (OK, bytes([3]) * 512 + bytes([4]) * 512)
    assert command(queue, OUT, 3, b"\x99" * 512) == OK
    assert command(queue, FLUSH) == OK
    assert queue.request([header(GET_ID)], [20, 1])[1] == b"root0" + bytes(15) + bytes([OK])
    assert command(queue, DISCARD, 0, segment(16, 8)) == OK
    assert command(queue, WRITE_ZEROES, 0, segment(32, 8)) == OK
    assert command(queue, 77) == UNSUPP
    assert command(queue, OUT, SIZE // 512, bytes(512)) == IOERR
    data = image.read_bytes()
    assert data[3 * 512 : 4 * 512] == b"\x99" * 512
    assert data[16 * 512 : 24 * 512] == data[32 * 512 : 40 * 512] == bytes(4096)


def test_indirect_chain_is_read(machine: FakeMachine, plug: Plug, interface: type[PCIDriver]) -> None:
    driver = interface(machine, plug())
    driver.start(INDIRECT)
    assert read(driver.queues[0], 9, indirect=True) == (OK, bytes([9]) * 512)


@pytest.mark.parametrize("kind", ["virtio-blk-pci", "virtio-blk-pci-transitional", "virtio-blk-pci-non-transitional"])
def test_types_have_their_ids(machine: FakeMachine, plug: Plug, kind: str) -> None:
    driver = PCIDriver(machine, plug(kind))
    expected = 0x1042 if kind.endswith("non-transitional") else 0x1001
    assert driver.config_read(0, 4) == expected << 16 | defs.PCI_VENDOR
    assert driver.config_read(9, 2) == 0x0000
    assert driver.config_read(0x0B, 1) == 0x01  # mass storage


def test_config_space_and_features_are_seen(machine: FakeMachine, plug: Plug, interface: type[PCIDriver]) -> None:
    driver = interface(machine, plug(num_queues=2))
    driver.start()
    assert driver.read_config(0, 4) == SIZE // 512  # type: ignore[attr-defined]
    assert driver.read_config(34, 2) == 2  # type: ignore[attr-defined]
    assert driver.offered & MQ  # type: ignore[attr-defined]


def test_read_only_drive_is_a_read_only_disk(machine: FakeMachine, plug: Plug, interface: type[PCIDriver]) -> None:
    driver = interface(machine, plug(drive={"readonly": "on"}))
    driver.start()
    assert driver.offered & 1 << config.F_RO  # type: ignore[attr-defined]
    assert read(driver.queues[0], 5) == (OK, bytes([5]) * 512)
    assert command(driver.queues[0], OUT, 5, bytes(512)) == IOERR


def test_driver_writes_writeback(machine: FakeMachine, plug: Plug, interface: type[PCIDriver]) -> None:
    proxy = plug()
    driver = interface(machine, proxy)
    driver.start(1 << config.F_FLUSH | 1 << config.F_CONFIG_WCE)
    assert driver.read_config(32, 1) == 1  # type: ignore[attr-defined]
    driver.write_config(32, 0, 1)  # type: ignore[attr-defined]
    assert driver.read_config(32, 1) == 0  # type: ignore[attr-defined]
    assert command(driver.queues[0], OUT, 0, bytes(512)) == OK
    assert proxy.device._disk.write_through == 1


# -- kicks and interrupts


def test_kicks_travel_as_configured(machine: FakeMachine, plug: Plug, interface: type[PCIDriver]) -> None:
    proxy = plug()
    driver = interface(machine, proxy)
    driver.start()
    before = proxy.device.queues[0].counters()
    read(driver.queues[0], 0)
    after = proxy.device.queues[0].counters()
    way = "kicks_ioeventfd" if proxy.use_ioeventfd else "kicks_sync"
    assert {key: after[key] - before[key] for key in after} == {
        "kicks_ioeventfd": 0, "kicks_sync": 0, "kicks_polled": 0, "interrupts": 1, "requests": 1, way: 1,
    }  # fmt: skip


def test_completion_fires_the_queues_vector(machine: FakeMachine, plug: Plug, interface: type[PCIDriver]) -> None:
    driver = interface(machine, plug(num_queues=2))
    driver.start(MQ, msix=True)
    for number in (0, 1):
        read(driver.queues[number], 0)
        machine.wait_for(lambda vector=number + 1: driver.interrupts(vector), "interrupt")
        assert driver.interrupts(2 - number) == 0


def test_completion_raises_intx_until_isr_is_read(machine: FakeMachine, plug: Plug, interface: type[PCIDriver]) -> None:
    driver = interface(machine, plug())
    driver.start()
    read(driver.queues[0], 0)
    machine.wait_for(lambda: driver.intx_level, "INTx")
    assert driver.read_isr() == 1  # type: ignore[attr-defined]
    assert not driver.intx_level


def test_event_idx_holds_interrupts_back(machine: FakeMachine, plug: Plug, interface: type[PCIDriver]) -> None:
    proxy = plug()
    driver = interface(machine, proxy)
    driver.start(EVENT_IDX)
    queue = driver.queues[0]
    read(queue, 0)  # the first decision is always yes
    packed = isinstance(queue, PackedQueue)
    queue.set_used_event(queue.after(queue.next_used, 6) if packed else 3)  # the third request from here, of 3 descriptors
    base = proxy.device.queues[0].counters()["interrupts"]
    for done in range(1, 4):
        read(queue, done)
        if packed:
            machine.wait_for(lambda: queue.kick_event == (queue.next, EVENTS_AT), "kicks are asked for at the next chain")
        else:
            machine.wait_for(lambda used=done: queue.avail_event == used + 1, "avail_event")
    machine.wait_for(lambda: proxy.device.queues[0].counters()["interrupts"] == base + 1, "one interrupt")


def test_polling_driver_gets_no_interrupts(machine: FakeMachine, plug: Plug, interface: type[PCIDriver]) -> None:
    proxy = plug()
    driver = interface(machine, proxy)
    driver.start()
    driver.queues[0].set_no_interrupt(True)
    for sector in range(20):
        assert read(driver.queues[0], sector) == (OK, bytes([sector]) * 512)
    assert proxy.device.queues[0].counters()["interrupts"] == 0


def test_queues_are_served_at_the_same_time(machine: FakeMachine, plug: Plug, interface: type[PCIDriver]) -> None:
    driver = interface(machine, plug(num_queues=4))
    driver.start(MQ)
    heads = {}
    for queue in driver.queues:
        for i in range(16):
            heads[queue, queue.add([header(IN, 16 * queue.index + i)], [512, 1])] = 16 * queue.index + i
    for queue in driver.queues:
        queue.kick()
    for (queue, head), sector in heads.items():
        queue.wait(head)
        assert queue.read(head) == bytes([sector]) * 512 + bytes([OK])


# -- stopping and starting


def fill(driver: PCIDriver) -> list[tuple[DriverQueue, int]]:
    """Many requests on every queue, kicked."""
    heads = []
    for queue in driver.queues:
        for i in range(20):
            if i % 2:
                heads.append((queue, queue.add([header(OUT, 64 * i), bytes([i]) * 16384], [1])))
            else:
                heads.append((queue, queue.add([header(IN, 64 * i)], [16384, 1])))
        queue.kick()
    return heads


def test_reset_under_load_loses_no_descriptor_and_no_thread(machine: FakeMachine, plug: Plug, interface: type[PCIDriver]) -> None:
    driver = interface(machine, plug(num_queues=2))
    driver.start(MQ)
    driver.set_status(0)  # type: ignore[attr-defined]
    idle = resources()
    for _ in range(5):
        driver.allocator.next = 0x100000
        driver.start(MQ)
        fill(driver)
        driver.set_status(0)  # type: ignore[attr-defined]
        assert resources() == idle
    driver.start(MQ)
    assert read(driver.queues[1], 1)[0] == OK


@pytest.mark.parametrize("interface", [ModernDriver, *FORMS])
def test_queue_reset_under_load_loses_nothing_of_other_queues(
    machine: FakeMachine, plug: Plug, interface: type[ModernDriver]
) -> None:
    driver = interface(machine, plug(num_queues=2))
    driver.start(MQ)
    driver.set_status(0)
    idle = resources()
    driver.start(MQ | 1 << defs.F_RING_RESET)
    for round_ in range(15):
        heads = fill(driver)
        driver.write(pci_modern.QUEUE_SELECT, round_ % 2, 2)
        driver.write(pci_modern.QUEUE_RESET, 1, 2)
        lost = driver.queues[round_ % 2]
        lost.collect()
        for queue, head in heads:
            if queue is not lost:
                queue.wait(head)
        assert lost.collect() == 0, "used after the reset"
        driver.queues[round_ % 2] = driver.setup_queue(round_ % 2, (256, 64)[round_ // 2 % 2])
        assert read(driver.queues[round_ % 2], round_)[0] == OK
    driver.set_status(0)
    assert resources() == idle


def test_requests_come_back_in_order_where_the_driver_wants_that(
    machine: FakeMachine, plug: Plug, interface: type[PCIDriver]
) -> None:
    driver = interface(machine, plug())
    driver.start()
    queue = driver.queues[0]
    for _ in range(10):
        driver.allocator.next = 0x200000
        offered = [head for _, head in fill(driver)]
        queue.order.clear()
        for head in offered:
            queue.wait(head)
        if driver.has_feature(defs.F_IN_ORDER):
            assert queue.order == offered
        else:
            assert sorted(queue.order) == sorted(offered)


def test_held_request_is_tried_again_whatever_has_become_of_its_descriptors(
    machine: FakeMachine, plug: Plug, interface: type[PCIDriver], image: Path
) -> None:
    """A packed ring's used descriptors lie over those of the request that waits."""
    proxy = plug(werror="stop", vectors=0)
    driver = interface(machine, proxy)
    driver.start()
    queue, drive = driver.queues[0], proxy.device.drive
    saved = os.dup(drive.fd)
    proxy.device._disk.no_fixed_file = 1  # io_uring holds on to the file that it was given
    with open("/dev/full", "r+b") as full:
        os.dup2(full.fileno(), drive.fd, inheritable=False)
    held = queue.add([header(OUT, 8), b"\x77" * 512], [1])
    queue.kick()
    machine.wait_for(lambda: proxy.device.statistics()["write"]["errors"], "the write has failed")
    os.dup2(saved, drive.fd, inheritable=False)
    os.close(saved)
    others = [queue.add([header(IN, sector)], [512, 1]) for sector in range(40)]
    queue.kick()
    if not driver.has_feature(defs.F_IN_ORDER):
        for head in others:
            queue.wait(head)
    machine.pause()
    assert proxy.device.requests_in_flight == 0
    machine.start()
    assert queue.wait(held) == 1
    assert queue.read(held) == bytes([OK])
    assert image.read_bytes()[8 * 512 : 9 * 512] == b"\x77" * 512
    for sector, head in enumerate(others):
        assert head in queue.order or queue.wait(head)
        assert queue.read(head) == bytes([sector]) * 512 + bytes([OK])


def test_paused_machine_has_drained_and_goes_on(machine: FakeMachine, plug: Plug, interface: type[PCIDriver]) -> None:
    driver = interface(machine, plug())
    driver.start()
    heads = fill(driver)
    machine.pause()
    queue = driver.queues[0]
    queue.collect()
    assert {head for _, head in heads} == set(queue.done)

    machine.start()
    assert read(queue, 1)[0] == OK


def test_bus_master_off_and_on_again_serves_what_was_kicked_meanwhile(
    machine: FakeMachine, plug: Plug, interface: type[PCIDriver]
) -> None:
    driver = interface(machine, plug())
    driver.start()
    queue = driver.queues[0]
    assert read(queue, 1)[0] == OK
    driver.set_command(pci_config.COMMAND_IO | pci_config.COMMAND_MEMORY)
    driver.set_command(pci_config.COMMAND_IO | pci_config.COMMAND_MEMORY | pci_config.COMMAND_MASTER)
    assert read(queue, 2) == (OK, bytes([2]) * 512)


def test_malformed_request_needs_a_reset_and_the_machine_goes_on(
    machine: FakeMachine, plug: Plug, interface: type[PCIDriver]
) -> None:
    driver = interface(machine, plug())
    driver.start()
    driver.queues[0].add([b"short"], [1])
    driver.queues[0].kick()
    machine.wait_for(lambda: driver.status & defs.STATUS_NEEDS_RESET, "NEEDS_RESET")  # type: ignore[attr-defined]
    driver.start()
    assert read(driver.queues[0], 7) == (OK, bytes([7]) * 512)


def test_resize_raises_a_config_interrupt(machine: FakeMachine, plug: Plug, interface: type[PCIDriver], image: Path) -> None:
    proxy = plug()
    driver = interface(machine, proxy)
    driver.start(msix=True)
    with machine.lock:
        proxy.device.drive.resize(2 * SIZE)
    assert image.stat().st_size == 2 * SIZE
    assert driver.interrupts(0)
    assert driver.read_config(0, 4) == 2 * SIZE // 512  # type: ignore[attr-defined]


def test_unplug_gives_the_drive_back(machine: FakeMachine, plug: Plug) -> None:
    proxy = plug()
    driver = ModernDriver(machine, proxy)
    driver.start()
    fill(driver)
    backend = proxy.device.drive
    with machine.lock:
        machine.pci.unplug(proxy)
    assert backend.user is None
    assert machine.accelerator.ioevents == []


@pytest.mark.parametrize("aio", [engine for engine in ENGINES if engine.id != "native"])
def test_scratch_disk_is_a_disk(machine: FakeMachine, aio: str) -> None:
    backend = machine.open_backend(Drive(id="scratch"), scratch="1M", aio=aio)
    driver = ModernDriver(machine, machine.plug_type("virtio-blk-pci", drive=backend))
    driver.start()
    assert command(driver.queues[0], OUT, 2047, b"\x07" * 512) == OK
    assert read(driver.queues[0], 2047) == (OK, b"\x07" * 512)
