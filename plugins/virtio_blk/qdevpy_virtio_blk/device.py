# SPDX-License-Identifier: Apache-2.0
"""The virtio-blk device: properties, features and config space. Requests never come here: csrc/ serves them."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from qdevpy.errors import RealizeError
from qdevpy.qdev import kinds
from qdevpy.qdev import property as prop
from qdevpy.qdev.device import Notification
from qdevpy.virtio import defs
from qdevpy.virtio.device import VirtIODevice
from qdevpy.virtio.vq_mapping import Assignment, iothread_vq_mapping, threads_of_queues
from qdevpy_virtio_blk import config, engines
from qdevpy_virtio_blk.config import SECTOR, BlockConfig, Geometry
from qdevpy_virtio_blk.engines import AIO_NULL, ENGINES

if TYPE_CHECKING:
    from qdevpy.backend.drive import Drive
    from qdevpy.faults.target import FaultTarget
    from qdevpy.native.iothread import IOThread

log = logging.getLogger(__name__)

AUTO_QUEUES = 0xFFFF
#: what csrc/blk.h calls the error policies
POLICIES = ("report", "ignore", "stop", "enospc")
OUTCOMES = {
    "report": "the guest got an I/O error",
    "ignore": "the guest was told that it succeeded",
    "stop": "the machine stops; once it goes on, the request is tried again",
}
AUTO_GRANULARITY = 0xFFFFFFFF
MAX_SECTORS = 0x7FFFFFFF // SECTOR  #: of one discard or write-zeroes, as QEMU's

#: what csrc/blk.h counts, in the order of ``enum blk_op``
OPERATIONS = ("read", "write", "flush", "discard", "write-zeroes")
COUNTERS = ("requests", "bytes", "errors", "last_errno", "merged")


class VirtIOBlock(VirtIODevice):
    """A disk."""

    type_name: ClassVar[str] = "virtio-blk-device"
    base_name: ClassVar[str] = "virtio-blk"
    description: ClassVar[str] = "disk"
    category: ClassVar[str] = "Storage"
    qemu_description: ClassVar[str | None] = ""
    device_id: ClassVar[int] = 2
    transitional_id: ClassVar[int | None] = 0x1001
    pci_class: ClassVar[int] = 0x010000
    ioeventfd: ClassVar[Notification | None] = Notification.ALLOWED
    pci_properties: ClassVar[Sequence[str]] = ("class", "ioeventfd", "vectors")

    drive: Drive | None = prop.drive(help="the drive that holds the disk's contents")
    backend_defaults: str = prop.only(
        kinds.OnOffAuto(),
        "auto",
        "off",
        name="backend_defaults",
        why="drives have no sizes of their own that could be taken over",
        help="take sizes that are not given from the drive",
    )
    logical_block_size: int = prop.blocksize(name="logical_block_size", help="bytes; 0: 512")
    physical_block_size: int = prop.blocksize(name="physical_block_size", help="bytes; 0: the logical block size")
    min_io_size: int = prop.size(0, name="min_io_size", help="bytes of the smallest request without penalty; 0: none")
    opt_io_size: int = prop.size(0, name="opt_io_size", help="bytes of the best request; 0: none")
    discard_granularity: int = prop.size(
        AUTO_GRANULARITY, name="discard_granularity", help="bytes; 4294967295: the logical block size"
    )
    write_cache: str = prop.on_off_auto(help="volatile write cache: writes may complete before they are on stable storage")
    share_rw: bool = prop.boolean(name="share-rw", help="others may write to the image meanwhile")
    account_invalid: str = prop.only(
        kinds.OnOffAuto(), "auto", "on", why="they are always counted", help="count requests that make no sense in statistics"
    )
    account_failed: str = prop.only(
        kinds.OnOffAuto(), "auto", "on", why="they are always counted", help="count requests that the host fails in statistics"
    )
    rerror: str = prop.on_error(help="what to do when the host fails a read; auto: report")
    werror: str = prop.on_error(help="what to do when the host fails anything else; auto: enospc, stop where it is full")
    cyls: int = prop.uint32(0, maximum=65535, help="cylinders to report; 0: guess all three")
    heads: int = prop.uint32(0, maximum=255, help="heads to report")
    secs: int = prop.uint32(0, maximum=255, help="sectors a track to report")
    lcyls: int = prop.uint32(0, help="cylinders that firmware uses for the disk; 0 in all three: it decides")
    lheads: int = prop.uint32(0, help="heads that firmware uses for the disk; 0 in all three: it decides")
    lsecs: int = prop.uint32(0, help="sectors a track that firmware uses for the disk; 0 in all three: it decides")
    serial: str | None = prop.string(help="serial number, at most 20 bytes")
    config_wce: bool = prop.bit("features", config.F_CONFIG_WCE, True, help="the driver may switch the write cache")
    scsi: bool = prop.only(
        kinds.Bit(), False, why="SCSI commands are no longer part of virtio-blk", help="pass SCSI commands to the host"
    )
    request_merging: bool = prop.bit(
        "merging",
        0,
        True,
        help="adjacent requests that come together go to the host as one",
    )
    num_queues: int = prop.uint16(AUTO_QUEUES, minimum=1, help="request queues; 65535: one a vCPU")
    queue_size: int = prop.uint16(256, minimum=4, maximum=1024, help="entries of each queue, a power of two")
    seg_max_adjust: bool = prop.boolean(True, help="seg_max is queue-size less 2; off: 126")
    discard: bool = prop.bit("features", config.F_DISCARD, True, help="offer VIRTIO_BLK_F_DISCARD")
    report_discard_granularity: bool = prop.boolean(True, help="tell the driver; off: it is told the logical block size")
    write_zeroes: bool = prop.bit("features", config.F_WRITE_ZEROES, True, help="offer VIRTIO_BLK_F_WRITE_ZEROES")
    max_discard_sectors: int = prop.uint32(MAX_SECTORS, minimum=1, maximum=MAX_SECTORS, help="sectors of one discard")
    max_write_zeroes_sectors: int = prop.uint32(MAX_SECTORS, minimum=1, maximum=MAX_SECTORS, help="sectors of one write-zeroes")
    flush_with_config_wce: bool = prop.boolean(
        True, name="x-enable-wce-if-config-wce", help="offer FLUSH where the driver may switch the write cache, though it is off"
    )
    iothread: IOThread | None = prop.link("iothread", help="the thread that serves the queues")
    iothread_vq_mapping: tuple[Assignment, ...] | None = iothread_vq_mapping(
        help="the threads that serve the queues, in turns or by number; not together with iothread"
    )
    bootindex: int = prop.int32(-1, minimum=-1, dynamic=True, runtime=True, help="place in the firmware's boot order; -1: none")

    _native: Any = attrs.field(default=None, init=False)
    _disk: Any = attrs.field(default=None, init=False)
    _native_queues: list[Any] = attrs.field(factory=list, init=False)
    _logged: dict[str, int] = attrs.field(factory=dict, init=False)

    # -- life cycle

    def do_realize(self) -> None:
        """Check the properties, take the drive, and give every queue to the C handler.

        :raises RealizeError: a property, or the host does not have the drive's engine
        :raises BackendError: the drive is in use
        """
        import qdevpy_virtio_blk._native as native

        drive = self._checked_drive()
        self._check_sizes(drive)
        self._native = native
        if not drive.is_null:
            self._check_engine(drive)
        drive.take(self.label, share_rw=self.share_rw)
        self.cleanup.callback(drive.release)
        drive.resized = self.resize
        self._disk = self._make_disk(drive)
        if not self.cyls:
            self.cyls, self.heads, self.secs = Geometry.guess(self._disk.sectors)
        if self.num_queues == AUTO_QUEUES:
            self.num_queues = getattr(self.machine, "cpus", 1) or 1
        for thread in threads_of_queues(self, self.num_queues):
            self._add_request_queue(thread)

    def do_unrealize(self) -> None:
        """Stop the queues before what they use goes, and say once more what failed in all."""
        for queue in self.queues:
            queue.stop()
        if self.drive is not None:
            self.drive.leave_with_device()
        failed = {name: counter["errors"] for name, counter in self.statistics().items() if counter["errors"]}
        if failed:
            log.warning("%s: I/O errors in all: %s", self.label, ", ".join(f"{n} {name}" for name, n in failed.items()))

    def do_reset(self) -> None:
        """The write cache is as the user set it."""
        if self._disk is not None:
            self._set_writeback(self.write_cache != "off")

    def _add_request_queue(self, thread: IOThread | None) -> None:
        from qdevpy.virtio.queue import NativeHandler

        ffi, lib = self._native.ffi, self._native.lib
        queue = lib.blk_queue_new(self._disk)
        if queue == ffi.NULL:
            raise RealizeError("out of memory", device=self.label)
        self.cleanup.callback(lib.blk_queue_free, queue)
        self._native_queues.append(queue)
        self.cleanup.callback(self._native_queues.remove, queue)
        handler = NativeHandler(ops=self._address(lib.blk_queue_ops()), opaque=self._address(queue), iothread=thread)
        self.add_queue(self.queue_size, native=handler, name=f"request.{len(self.queues)}")

    def _address(self, pointer: Any) -> int:
        return int(self._native.ffi.cast("uintptr_t", pointer))

    def _make_disk(self, drive: Drive) -> Any:
        serial = (self.serial or "").encode()
        return self._native.ffi.new(
            "struct blk_disk *",
            {
                "fd": drive.fd,
                "aio": AIO_NULL if drive.is_null else ENGINES.index(drive.aio),
                "readonly": drive.readonly,
                "unmap": drive.discard == "unmap",
                "on_read_error": POLICIES.index(self._policy(reads=True)),
                "on_write_error": POLICIES.index(self._policy(reads=False)),
                "read_zeroes": drive.read_zeroes,
                "merging": self.request_merging,
                "in_memory": not drive.is_null and self._native.lib.blk_in_memory(drive.fd),
                "offset": drive.offset,
                "block_size": self.logical_block_size,
                "mem_align": drive.request_alignment,
                "max_discard": self.max_discard_sectors,
                "max_zeroes": self.max_write_zeroes_sectors,
                "serial": serial,
                "sectors": self._capacity(drive),
                "write_through": self.write_cache == "off",
                # with O_DIRECT there is no page cache that could have the data at hand
                "no_nowait": drive.cache_direct or drive.is_null,
            },
        )

    # -- checking properties

    def _checked_drive(self) -> Drive:
        if self.drive is None or isinstance(self.drive, str):
            raise RealizeError("drive is not set; write drive: and the name of an entry of drives:", device=self.label)
        if len((self.serial or "").encode()) > 20:
            raise RealizeError(f"serial '{self.serial}' is longer than 20 bytes", device=self.label)
        if self.queue_size & (self.queue_size - 1):
            raise RealizeError(f"queue-size {self.queue_size} is not a power of two", device=self.label)
        return self.drive

    def _check_sizes(self, drive: Drive) -> None:
        """Sizes that were not given get their values; those that do not go together are refused."""
        if not self.logical_block_size:
            self.logical_block_size = SECTOR
        if not self.physical_block_size:
            self.physical_block_size = self.logical_block_size
        logical, physical = self.logical_block_size, self.physical_block_size
        if physical < logical:
            raise RealizeError(f"physical_block_size {physical} is less than logical_block_size {logical}", device=self.label)
        if any((self.cyls, self.heads, self.secs)) and not all((self.cyls, self.heads, self.secs)):
            raise RealizeError(
                f"cyls {self.cyls}, heads {self.heads}, secs {self.secs}: give all three, from 1 up, or none", device=self.label
            )
        for name, value in (
            ("min_io_size", self.min_io_size),
            ("opt_io_size", self.opt_io_size),
            ("discard_granularity", self._granularity),
        ):
            limit = (0xFFFF if name == "min_io_size" else 0xFFFFFFFF) * logical
            if value % logical or value > limit:
                raise RealizeError(
                    f"{name} {value}: expected a multiple of logical_block_size {logical}, at most {limit}", device=self.label
                )
        if drive.request_alignment > logical:
            raise RealizeError(
                f"logical_block_size {logical} is less than the {drive.request_alignment} bytes that O_DIRECT on drive "
                f"'{drive.name}' needs; set logical_block_size={drive.request_alignment}, or cache: {{direct: off}} on the drive",
                device=self.label,
            )

    def _check_engine(self, drive: Drive) -> None:
        problem = engines.problem(drive.aio, -self._native.lib.blk_probe(ENGINES.index(drive.aio)))
        if problem is not None:
            raise RealizeError(f"drive '{drive.name}': aio: {drive.aio}: {problem}; use aio: threads", device=self.label)

    # -- what the driver sees

    @property
    def _granularity(self) -> int:
        return self.logical_block_size if self.discard_granularity == AUTO_GRANULARITY else self.discard_granularity

    @property
    def _reported_granularity(self) -> int:
        return self._granularity if self.report_discard_granularity else self.logical_block_size

    def _capacity(self, drive: Drive) -> int:
        """Sectors, in whole logical blocks; a last incomplete sector counts, its rest reads as zeros."""
        sectors = (drive.size + SECTOR - 1) // SECTOR
        return sectors - sectors % (self.logical_block_size // SECTOR)

    @property
    def _geometry(self) -> Geometry:
        """As the driver is told; a track has whole blocks, where the disk does not have the geometry's size."""
        odd = self._disk.sectors * SECTOR // self.heads // self.secs % self.logical_block_size
        return Geometry(self.cyls, self.heads, self.secs & ~(self.logical_block_size // SECTOR - 1) if odd else self.secs)

    @classmethod
    def feature_names(cls) -> Mapping[int, str]:
        """Names of ``config.F_*``."""
        return defs.feature_names("VIRTIO_BLK_", vars(config))

    def host_features(self) -> int:
        """Those of the properties, and what follows from the drive."""
        features = super().host_features()
        on = [config.F_SEG_MAX, config.F_GEOMETRY, config.F_BLK_SIZE, config.F_TOPOLOGY]
        if self.write_cache != "off" or (self.config_wce and self.flush_with_config_wce):
            on.append(config.F_FLUSH)
        if len(self.queues) > 1:
            on.append(config.F_MQ)
        if self._disk.readonly:
            on.append(config.F_RO)
            features &= ~(1 << config.F_DISCARD | 1 << config.F_WRITE_ZEROES)
        return features | sum(1 << number for number in on)

    def status_set(self, old: int, new: int) -> None:
        """Without CONFIG_WCE a driver that can flush gets a write cache, and one that cannot does not (5.2.5)."""
        if new & ~old & defs.STATUS_DRIVER_OK and not self.has_feature(config.F_CONFIG_WCE):
            self._set_writeback(self.has_feature(config.F_FLUSH))

    def get_config(self) -> bytes:
        """``struct virtio_blk_config``."""
        return BlockConfig(
            capacity=self._disk.sectors,
            seg_max=self.queue_size - 2 if self.seg_max_adjust else 126,
            geometry=self._geometry,
            block_size=self.logical_block_size,
            physical_block_size=self.physical_block_size,
            min_io_size=self.min_io_size,
            opt_io_size=self.opt_io_size,
            writeback=not self._disk.write_through,
            num_queues=len(self.queues),
            max_discard_sectors=self.max_discard_sectors,
            discard_sector_alignment=(self._granularity if self.report_discard_granularity else self.logical_block_size)
            // SECTOR,
            max_write_zeroes_sectors=self.max_write_zeroes_sectors,
            write_zeroes_may_unmap=bool(self._disk.unmap),
        ).pack()

    def set_config(self, offset: int, data: bytes) -> None:
        """The driver may write ``writeback``, where that was negotiated (5.2.4); nothing else."""
        place = config.WRITEBACK_OFFSET - offset
        if 0 <= place < len(data) and self.has_feature(config.F_CONFIG_WCE):
            self._set_writeback(data[place] != 0)

    def _set_writeback(self, on: bool) -> None:
        self._disk.write_through = not on

    # -- while it runs

    def fault_target(self) -> FaultTarget:
        """Requests with kinds and sectors, which can fail."""
        from qdevpy_virtio_blk.faults import BlockTarget

        return BlockTarget(self)

    @property
    def requests_in_flight(self) -> int:
        """Of all queues; not those that wait for the machine to go on after an error."""
        found = sum(queue.inflight for queue in self.queues)
        return max(0, found - sum(self._native.lib.blk_queue_held(queue) for queue in self._native_queues)) if found else 0

    def resize(self) -> None:
        """The drive has a new size: tell the driver the new capacity (5.2.6.2). With the VM lock held."""
        assert self.drive is not None
        self._disk.sectors = self._capacity(self.drive)
        self.bindings.notify_config()

    def statistics(self) -> dict[str, dict[str, int]]:
        """Per operation: finished requests, bytes, errors of the host, the last error's number, and merged requests."""
        if self._disk is None:
            return {}
        return {
            name: {counted: getattr(c, counted) for counted in COUNTERS}
            for name, c in zip(OPERATIONS, self._disk.counters, strict=True)
        }

    def bytes_moved(self) -> tuple[int, int] | None:
        """What was read, and written."""
        counted = self.statistics()
        return (counted["read"]["bytes"], counted["write"]["bytes"]) if counted else None

    def _policy(self, *, reads: bool) -> str:
        """What to do with a request that the host fails; as QEMU's drives by default."""
        chosen = self.rerror if reads else self.werror
        return ("report" if reads else "enospc") if chosen == "auto" else chosen

    def action(self, operation: str, number: int) -> str:
        """``report``, ``ignore`` or ``stop``: what becomes of an OPERATION that failed with errno NUMBER."""
        policy = self._policy(reads=operation == "read")
        return ("stop" if number == errno.ENOSPC else "report") if policy == "enospc" else policy

    def native_event(self, bits: int) -> None:
        """The host failed requests: tell who listens; a reason that is new is logged, the same again is counted."""
        stop = False
        for number, (name, counter) in enumerate(self.statistics().items()):
            if bits >> number & 1:
                action = self.action(name, counter["last_errno"])
                stop = stop or action == "stop"
                self._tell_error(name, action, counter["last_errno"])
                if self._logged.get(name) != counter["last_errno"]:
                    self._logged[name] = counter["last_errno"]
                    log.warning(
                        "%s: %s failed: %s; %s (%d errors so far). The same again is counted, not logged",
                        self.label,
                        name,
                        os.strerror(counter["last_errno"]),
                        OUTCOMES[action],
                        counter["errors"],
                    )
        if stop:
            from qdevpy.vm.run_control import RunState

            self.machine.request_stop(RunState.IO_ERROR)

    def _tell_error(self, operation: str, action: str, reason: int) -> None:
        assert self.drive is not None
        name = "" if self.drive.is_node_only else self.drive.name
        node = self.drive.nodes[0][0]
        kind = "read" if operation == "read" else "write"
        self.machine.emit("BlockIoError", name, node, kind, action, reason == errno.ENOSPC, os.strerror(reason))
