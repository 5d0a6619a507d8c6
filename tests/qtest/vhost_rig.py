# SPDX-License-Identifier: Apache-2.0
"""A vhost-user disk on a machine without a CPU, its driver, and a back end in a thread."""

from __future__ import annotations

import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vhost_server import Chain, Server

from qdevpy.backend.chardev_socket import SocketChardev
from qdevpy.testing.driver import DriverQueue, ModernDriver, PCIDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.vhost.frontend import State
from qdevpy.virtio.pci_types import device_types_for
from qdevpy_virtio_blk.vhost_user import VhostUserBlock

IN, OUT, FLUSH = 0, 1, 4
SECTORS = 256
#: offsets of the config space (virtio 1.2, 5.2.4)
WRITEBACK, NUM_QUEUES = 32, 34


class Disk:
    """What the back end keeps; lives longer than any back end.

    :ivar writes: how often each sector was written
    """

    def __init__(self) -> None:
        self.data = bytearray(512 * SECTORS)
        self.writes: dict[int, int] = {}

    def serve(self, index: int, chain: Chain) -> bytes:
        """One request, as virtio-blk defines it."""
        kind, _, sector = struct.unpack_from("<IIQ", chain.readable)
        length = sum(map(len, chain.writable)) - 1
        if kind == IN:
            return bytes(self.data[512 * sector : 512 * sector + length]) + b"\0"
        if kind == OUT:
            self.data[512 * sector : 512 * sector + len(chain.readable) - 16] = chain.readable[16:]
            self.writes[sector] = self.writes.get(sector, 0) + 1
        return b"\0"


class Rig:
    """Machine, disk, driver; ``server`` is the back end that is there now.

    :param offers: what the back end offers
    :param chardev: options of the socket
    """

    def __init__(self, tmp_path: Path, *, offers: dict[str, Any] | None = None, reconnect: int = 1, **properties: Any) -> None:
        self.cleanup = ExitStack()
        self.disk = Disk()
        self.path = tmp_path / "vhost"
        self.offers = offers or {}
        self.server = self.start_server()
        self.machine = FakeMachine()
        self.cleanup.callback(self.machine.close)
        try:
            self._plug(reconnect, properties)
        except BaseException:
            self.cleanup.close()
            raise

    def _plug(self, reconnect: int, properties: dict[str, Any]) -> None:
        self.chardev = self.machine.open_backend(SocketChardev(id="c0"), path=str(self.path), reconnect=reconnect)
        kind = device_types_for(VhostUserBlock, "test")[0]
        self.proxy = self.machine.plug_type(kind, id="disk0", chardev=self.chardev, **properties)
        self.device: VhostUserBlock = self.proxy.device
        self.driver: PCIDriver = ModernDriver(self.machine, self.proxy)

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cleanup.close()

    def start_server(self, **offers: Any) -> Server:
        """A back end that listens; the one before must be closed."""
        server = Server(self.path, self.disk.serve, config=bytearray(config_space()), **self.offers | offers)
        server.start()
        self.cleanup.callback(server.close)
        self.server = server
        return server

    def restart_server(self, **offers: Any) -> Server:
        """Another program in its place: the one before is killed."""
        self.kill_server()
        return self.start_server(**offers)

    def kill_server(self) -> None:
        """Until the device has noticed."""
        self.server.close()
        self.wait(lambda: self.device.frontend.backend is None, "the device sees that the back end is gone")

    def start(self, features: int = 0, **options: Any) -> Rig:
        """All that a driver does up to DRIVER_OK."""
        self.driver.start(features, **options)
        return self

    @property
    def state(self) -> State:
        """The device's."""
        return self.device.frontend.state

    def wait(self, condition: Any, what: str) -> None:
        """With the main loop running."""
        self.machine.wait_for(condition, what)

    def wait_state(self, state: State) -> None:
        """With the main loop running."""
        self.wait(lambda: self.state is state, f"state {state.name}")

    def add_write(self, sector: int, fill: int, queue: int = 0) -> int:
        """Offer a write of one sector; its head."""
        return self.queue(queue).add([struct.pack("<IIQ", OUT, 0, sector), bytes([fill]) * 512], [1])

    def write(self, sector: int, fill: int, queue: int = 0) -> int:
        """Write one sector; the status."""
        head = self.add_write(sector, fill, queue)
        self.queue(queue).kick()
        return self.finish(head, queue)

    def read(self, sector: int, queue: int = 0) -> bytes:
        """Read one sector."""
        _, data = self.queue(queue).request([struct.pack("<IIQ", IN, 0, sector)], [512, 1])
        assert data[512] == 0
        return data[:512]

    def finish(self, head: int, queue: int = 0) -> int:
        """Wait for a write; the status."""
        self.queue(queue).wait(head)
        return self.queue(queue).read(head)[0]

    def queue(self, index: int) -> DriverQueue:
        """The driver's."""
        return self.driver.queues[index]


def config_space(sectors: int = SECTORS) -> bytes:
    """``struct virtio_blk_config``, 60 bytes."""
    config = bytearray(60)
    struct.pack_into("<QII", config, 0, sectors, 0, 126)
    struct.pack_into("<I", config, 20, 512)
    return bytes(config)
