# SPDX-License-Identifier: Apache-2.0
"""A vhost-user back end for tests, in a thread: it maps the memory it is sent, serves the rings, and can be told to misbehave.

Written from the specification and from nothing of ours, so that a mistake there is not repeated here.
"""

from __future__ import annotations

import array
import mmap
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HEADER = struct.Struct("=III")
(
    GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE, SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE,
    SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR, GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM,
    SET_VRING_ENABLE, SET_BACKEND_REQ_FD, GET_CONFIG, SET_CONFIG, GET_INFLIGHT_FD, SET_INFLIGHT_FD, RESET_DEVICE,
    SET_STATUS,
) = (1, 2, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 21, 24, 25, 31, 32, 34, 39)  # fmt: skip
P_MQ, P_REPLY_ACK, P_BACKEND_REQ, P_CONFIG, P_INFLIGHT, P_RESET_DEVICE, P_STATUS = (1 << n for n in (0, 3, 5, 9, 12, 13, 16))
EVERYTHING = P_MQ | P_REPLY_ACK | P_BACKEND_REQ | P_CONFIG | P_INFLIGHT | P_RESET_DEVICE | P_STATUS
F_INDIRECT, F_EVENT_IDX, F_PROTOCOL, F_VERSION_1 = 1 << 28, 1 << 29, 1 << 30, 1 << 32
REPLY, NEED_REPLY = 4, 8
#: what has an answer of its own
ANSWERED = {GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, GET_VRING_BASE, GET_CONFIG, GET_INFLIGHT_FD}
NO_FD = 0x100
#: a queue's part of the memory for requests in flight: header, then 16 bytes an entry
INFLIGHT_HEADER, INFLIGHT_ENTRY = struct.Struct("=QHHHH"), 16


class HangupError(Exception):
    """The server ends the connection."""


class Chain:
    """A request: what the driver wrote, and where the answer goes."""

    def __init__(self, head: int, readable: bytes, writable: list[memoryview]) -> None:
        self.head, self.readable, self.writable = head, readable, writable

    def write(self, data: bytes) -> int:
        """Fill the writable part from its start."""
        done = 0
        for part in self.writable:
            piece = data[done : done + len(part)]
            part[: len(piece)] = piece
            done += len(piece)
        return done


class ServedRing:
    """One vring, back end's side."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.num = self.last_avail = self.used_idx = 0
        self.desc = self.avail = self.used = 0
        self.fds: dict[str, int] = {}
        self.started = self.enabled = False
        self.counter = 0
        self.held: list[Chain] = []

    def set_fd(self, name: str, fd: int) -> None:
        """Replace a descriptor."""
        old = self.fds.pop(name, None)
        if old is not None:
            os.close(old)
        if fd >= 0:
            self.fds[name] = fd


class Server(threading.Thread):
    """Listens at PATH, one connection after the other, until :meth:`close`.

    :param serve: what a chain is answered with: the bytes of its writable part
    :ivar features, protocol, queues, config: what it offers
    :ivar log: every request with its payload, connections apart
    :ivar replies: request -> function of the right answer's bytes (header too) and descriptors, that says what is sent instead
    :ivar dies_at: the request at which it hangs up, without an answer
    :ivar hold: keep chains that are taken, unanswered, until :meth:`release`
    """

    def __init__(self, path: Path, serve: Callable[[int, Chain], bytes], **offers: object) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.serve = serve
        self.features = F_VERSION_1 | F_INDIRECT | F_PROTOCOL
        self.protocol = EVERYTHING
        self.queues = 4
        self.config = bytearray(60)
        self.log: list[list[tuple[int, bytes, int]]] = []
        self.replies: dict[int, Callable[[bytes, list[int]], tuple[bytes, list[int]] | None]] = {}
        self.dies_at: int | None = None
        self.hold = False
        self.rings: dict[int, ServedRing] = {}
        self.served = 0
        self.lock = threading.RLock()
        self._command_read, self._command_write = socket.socketpair()
        self._commands: list[Callable[[], None]] = []
        self._connection: socket.socket | None = None
        self._requests: socket.socket | None = None
        self._regions: list[tuple[int, int, int, mmap.mmap]] = []
        self._inflight: mmap.mmap | None = None
        self._negotiated = 0
        self._closing = False
        for name, value in offers.items():
            assert hasattr(self, name), name
            setattr(self, name, value)
        self._listener = socket.socket(socket.AF_UNIX)
        with suppress(FileNotFoundError):
            os.unlink(path)
        self._listener.bind(str(path))
        self._listener.listen(4)

    # -- for tests, any thread

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up and stop listening."""
        if self._closing:
            return
        self._closing = True
        self._command_write.send(b"x")
        self.join(10)
        assert not self.is_alive()
        for each in (self._listener, self._command_read, self._command_write):
            each.close()

    def do(self, what: Callable[[], None]) -> None:
        """Run on the server's thread, and wait for it."""
        done = threading.Event()
        self._commands.append(lambda: (what(), done.set()))  # type: ignore[func-returns-value]
        self._command_write.send(b"c")
        assert done.wait(10)

    def hang_up(self) -> None:
        """As if the program had been killed: nothing is finished."""
        self.do(self._disconnect)

    def release(self, order: Callable[[list[Chain]], list[Chain]] = list) -> None:
        """Answer what is held, in the order that ORDER makes of it; hold no more."""

        def answer() -> None:
            self.hold = False
            for ring in self.rings.values():
                chains, ring.held = order(ring.held), []
                for chain in chains:
                    self._finish(ring, chain)

        self.do(answer)

    def answer_one(self, index: int, position: int) -> None:
        """Answer a held chain of ring INDEX, out of order; keep holding the others."""
        self.do(lambda: self._finish(self.rings[index], self.rings[index].held.pop(position)))

    def say(self, message: bytes) -> None:
        """Send bytes that nobody asked for."""
        self.do(lambda: self._connection.sendall(message))  # type: ignore[union-attr]

    def ask(self, message: bytes, *, answer: bool = False) -> bytes:
        """Send bytes on the back end's own channel."""
        found: list[bytes] = []

        def send() -> None:
            assert self._requests is not None
            self._requests.sendall(message)

        self.do(send)
        if answer:
            assert self._requests is not None
            self._requests.settimeout(10)
            found.append(self._requests.recv(100))
        return b"".join(found)

    def requests(self, connection: int = -1) -> list[int]:
        """Request numbers of a connection, in order."""
        return [number for number, _, _ in self.log[connection]] if self.log else []

    # -- the thread

    def run(self) -> None:
        """Wait for something, do it."""
        while not self._closing:
            poll = select.poll()
            poll.register(self._command_read, select.POLLIN)
            poll.register(self._connection or self._listener, select.POLLIN)
            kicks = {ring.fds["kick"]: ring for ring in self.rings.values() if ring.started and "kick" in ring.fds}
            for fd in kicks:
                poll.register(fd, select.POLLIN)
            ready = [fd for fd, _ in poll.poll()]
            if self._command_read.fileno() in ready:
                self._command_read.recv(1)
                while self._commands:
                    self._commands.pop(0)()
                continue
            try:
                for fd in ready:
                    if fd in kicks:
                        with suppress(BlockingIOError):
                            os.eventfd_read(fd)
                        self._serve_ring(kicks[fd])
                if self._connection is None and self._listener.fileno() in ready:
                    self._connect(self._listener.accept()[0])
                elif self._connection is not None and self._connection.fileno() in ready:
                    self._handle_message()
            except (HangupError, ConnectionError, BrokenPipeError):
                self._disconnect()
        self._disconnect()

    def _connect(self, connection: socket.socket) -> None:
        self._connection = connection
        self.log.append([])

    def _disconnect(self) -> None:
        """All of the connection is gone, as when a process dies."""
        for ring in self.rings.values():
            for name in list(ring.fds):
                ring.set_fd(name, -1)
        self.rings = {}
        self._unmap()
        if self._inflight is not None:
            self._inflight.close()
            self._inflight = None
        for name in ("_connection", "_requests"):
            each = getattr(self, name)
            if each is not None:
                each.close()
            setattr(self, name, None)
        self._negotiated = 0

    def _unmap(self) -> None:
        for _, _, _, mapped in self._regions:
            with suppress(BufferError):
                mapped.close()
        self._regions = []

    # -- messages

    def _read(self, size: int, fds: list[int]) -> bytes:
        assert self._connection is not None
        data = b""
        while len(data) < size:
            part, ancillary, _, _ = self._connection.recvmsg(size - len(data), socket.CMSG_SPACE(32), socket.MSG_CMSG_CLOEXEC)
            for _, _, content in ancillary:
                found = array.array("i")
                found.frombytes(content)
                fds += found
            if not part:
                raise HangupError
            data += part
        return data

    def _handle_message(self) -> None:
        fds: list[int] = []
        number, flags, size = HEADER.unpack(self._read(HEADER.size, fds))
        payload = self._read(size, fds) if size else b""
        self.log[-1].append((number, payload, len(fds)))
        if number == self.dies_at:
            for fd in fds:
                os.close(fd)
            raise HangupError
        answer, answer_fds = self._handle(number, payload, fds)
        if answer is None and flags & NEED_REPLY:
            answer = struct.pack("=Q", 0)
        if answer is not None:
            self._reply(number, answer, answer_fds)

    def _reply(self, number: int, answer: bytes, fds: list[int]) -> None:
        assert self._connection is not None
        message: bytes | None = HEADER.pack(number, 1 | REPLY, len(answer)) + answer
        if number in self.replies:
            assert message is not None
            changed = self.replies[number](message, fds)
            if changed is None:
                raise HangupError
            message, fds = changed
        socket.send_fds(self._connection, [message], fds) if fds else self._connection.sendall(message)
        for fd in fds:
            os.close(fd)

    def _handle(self, number: int, payload: bytes, fds: list[int]) -> tuple[bytes | None, list[int]]:
        u64 = struct.unpack("=Q", payload)[0] if len(payload) == 8 else 0
        index, value = struct.unpack("=II", payload) if len(payload) == 8 else (0, 0)
        match number:
            case 1:  # GET_FEATURES
                return struct.pack("=Q", self.features), []
            case 2:  # SET_FEATURES
                assert u64 & ~self.features == 0, "features that were not offered"
                self._negotiated = u64
            case 5:  # SET_MEM_TABLE
                self._map(payload, fds)
            case 8:  # SET_VRING_NUM
                self._ring(index).num = value
            case 9:  # SET_VRING_ADDR
                self._set_addresses(payload)
            case 10:  # SET_VRING_BASE
                self._ring(index).last_avail = value
            case 11:  # GET_VRING_BASE
                ring = self._ring(index)
                ring.started = False
                ring.set_fd("kick", -1)
                for chain in ring.held:  # drained, as the specification wants it
                    self._finish(ring, chain)
                ring.held = []
                return struct.pack("=II", index, ring.last_avail), []
            case 12 | 13 | 14:  # SET_VRING_KICK, CALL, ERR
                ring = self._ring(u64 & 0xFF)
                assert len(fds) == (0 if u64 & NO_FD else 1)
                ring.set_fd({12: "kick", 13: "call", 14: "err"}[number], fds.pop() if fds else -1)
                if number == SET_VRING_KICK:
                    self._start_ring(ring)
            case 15:  # GET_PROTOCOL_FEATURES
                return struct.pack("=Q", self.protocol), []
            case 17:  # GET_QUEUE_NUM
                return struct.pack("=Q", self.queues), []
            case 18:  # SET_VRING_ENABLE
                self._ring(index).enabled = bool(value)
                self._serve_ring(self._ring(index))
            case 21:  # SET_BACKEND_REQ_FD
                self._requests = socket.socket(fileno=fds.pop())
            case 24:  # GET_CONFIG
                offset, size, flags = struct.unpack_from("=III", payload)
                return struct.pack("=III", offset, size, flags) + bytes(self.config[offset : offset + size]), []
            case 25:  # SET_CONFIG
                offset, size, flags = struct.unpack_from("=III", payload)
                self.config[offset : offset + size] = payload[12:]
            case 31:  # GET_INFLIGHT_FD
                _, _, queues, queue_size = struct.unpack_from("=QQHH", payload)
                size = queues * (INFLIGHT_HEADER.size + INFLIGHT_ENTRY * queue_size)
                fd = os.memfd_create("inflight")
                os.ftruncate(fd, size)
                return struct.pack("=QQHH4x", size, 0, queues, queue_size), [fd]
            case 32:  # SET_INFLIGHT_FD
                size, offset, *_ = struct.unpack_from("=QQHH", payload)
                self._inflight = mmap.mmap(fds[0], size, offset=offset)
        for fd in fds:
            os.close(fd)
        return None, []

    def _ring(self, index: int) -> ServedRing:
        return self.rings.setdefault(index, ServedRing(index))

    def _map(self, payload: bytes, fds: list[int]) -> None:
        self._unmap()
        count, _ = struct.unpack_from("=II", payload)
        assert count == len(fds)
        for n in range(count):
            gpa, size, user, offset = struct.unpack_from("=QQQQ", payload, 8 + 32 * n)
            self._regions.append((gpa, size, user, mmap.mmap(fds[n], size, offset=offset)))

    def _set_addresses(self, payload: bytes) -> None:
        index, _, desc, used, avail, _ = struct.unpack("=IIQQQQ", payload)
        ring = self._ring(index)
        ring.desc, ring.used, ring.avail = desc, used, avail
        ring.used_idx = self._load16(used + 2)

    # -- memory

    def _user(self, address: int, n: int) -> memoryview:
        for _, size, user, mapped in self._regions:
            if user <= address and address + n <= user + size:
                return memoryview(mapped)[address - user : address - user + n]
        raise AssertionError(f"user address {address:#x} is in no region")

    def _guest(self, address: int, n: int) -> memoryview:
        for gpa, size, _, mapped in self._regions:
            if gpa <= address and address + n <= gpa + size:
                return memoryview(mapped)[address - gpa : address - gpa + n]
        raise AssertionError(f"guest address {address:#x} is in no region")

    def _load16(self, address: int) -> int:
        return int.from_bytes(self._user(address, 2), "little")

    def _store(self, address: int, data: bytes) -> None:
        self._user(address, len(data))[:] = data

    # -- rings

    def _start_ring(self, ring: ServedRing) -> None:
        ring.started = True
        ring.used_idx = self._load16(ring.used + 2)
        if not self._negotiated & F_PROTOCOL:
            ring.enabled = True
        if self._inflight is not None:
            self._resume(ring)

    def _serve_ring(self, ring: ServedRing) -> None:
        if not ring.started or not ring.enabled:
            return
        while ring.last_avail != self._load16(ring.avail + 2):
            head = self._load16(ring.avail + 4 + 2 * (ring.last_avail % ring.num))
            ring.last_avail = (ring.last_avail + 1) & 0xFFFF
            self._note(ring, head, 1)
            self._begin(ring, head)

    def _begin(self, ring: ServedRing, head: int) -> None:
        chain = self._chain(ring, head)
        if self.hold:
            ring.held.append(chain)
        else:
            self._finish(ring, chain)

    def _chain(self, ring: ServedRing, head: int) -> Chain:
        readable, writable, index = b"", [], head
        while True:
            address, length, flags, following = struct.unpack("<QIHH", self._user(ring.desc + 16 * index, 16))
            if flags & 2:
                writable.append(self._guest(address, length))
            else:
                readable += bytes(self._guest(address, length))
            if not flags & 1:
                return Chain(head, readable, writable)
            index = following

    def _finish(self, ring: ServedRing, chain: Chain) -> None:
        written = chain.write(self.serve(ring.index, chain))
        self._note_batch(ring, chain.head)
        self._store(ring.used + 4 + 8 * (ring.used_idx % ring.num), struct.pack("<II", chain.head, written))
        ring.used_idx = (ring.used_idx + 1) & 0xFFFF
        self._store(ring.used + 2, ring.used_idx.to_bytes(2, "little"))
        self._note(ring, chain.head, 0)
        self.served += 1
        if not self._load16(ring.avail) & 1 and "call" in ring.fds:
            os.eventfd_write(ring.fds["call"], 1)

    # -- requests in flight (the specification's Inflight I/O tracking, split rings, batches of one)

    def _inflight_at(self, ring: ServedRing) -> int:
        return ring.index * (INFLIGHT_HEADER.size + INFLIGHT_ENTRY * self._inflight_entries(ring))

    def _inflight_entries(self, ring: ServedRing) -> int:
        _, payload, _ = next(entry for entry in reversed(self.log[-1]) if entry[0] == SET_INFLIGHT_FD)
        return int(struct.unpack_from("=QQHH", payload)[3])

    def _note(self, ring: ServedRing, head: int, inflight: int) -> None:
        if self._inflight is None:
            return
        at = self._inflight_at(ring) + INFLIGHT_HEADER.size + INFLIGHT_ENTRY * head
        if inflight:
            struct.pack_into("=Q", self._inflight, at + 8, ring.counter)
            ring.counter += 1
        self._inflight[at] = inflight
        if not inflight:
            struct.pack_into("=H", self._inflight, self._inflight_at(ring) + 14, ring.used_idx)

    def _note_batch(self, ring: ServedRing, head: int) -> None:
        if self._inflight is not None:
            base = self._inflight_at(ring)
            last = struct.unpack_from("=H", self._inflight, base + 12)[0]
            struct.pack_into("=H", self._inflight, base + INFLIGHT_HEADER.size + INFLIGHT_ENTRY * head + 6, last)
            struct.pack_into("=H", self._inflight, base + 12, head)

    def _resume(self, ring: ServedRing) -> None:
        """Serve what a predecessor had begun, in the order in which it began it."""
        assert self._inflight is not None
        base, entries = self._inflight_at(ring), self._inflight_entries(ring)
        _, version, _, last, used = INFLIGHT_HEADER.unpack_from(self._inflight, base)
        if not version:
            INFLIGHT_HEADER.pack_into(self._inflight, base, 0, 1, entries, 0, ring.used_idx)
            return
        if used != ring.used_idx:  # it died between the used ring and the note
            self._inflight[base + INFLIGHT_HEADER.size + INFLIGHT_ENTRY * last] = 0
            struct.pack_into("=H", self._inflight, base + 14, ring.used_idx)
        begun = []
        for head in range(entries):
            at = base + INFLIGHT_HEADER.size + INFLIGHT_ENTRY * head
            if self._inflight[at]:
                begun.append((struct.unpack_from("=Q", self._inflight, at + 8)[0], head))
        ring.counter = max((count for count, _ in begun), default=0) + 1
        ring.last_avail = (ring.used_idx + len(begun)) & 0xFFFF
        for _, head in sorted(begun):
            self._begin(ring, head)
