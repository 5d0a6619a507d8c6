# SPDX-License-Identifier: Apache-2.0
"""``iothread-vq-mapping``: which I/O thread serves which queue. For every device with queues that C serves.

As QEMU 9.0's (``IOThreadVirtQueueMapping`` in qapi/virtio.json), with its words for what is wrong::

    iothread-vq-mapping: [{iothread: io0}, {iothread: io1}]                        # in turns
    iothread-vq-mapping: [{iothread: io0, vqs: [0, 2]}, {iothread: io1, vqs: [1]}] # each one's
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from qdevpy.errors import RealizeError
from qdevpy.qdev import kinds
from qdevpy.qdev.property import declare
from qdevpy.qdev.value_schema import Schema, any_of, matching

if TYPE_CHECKING:
    from qdevpy.native.iothread import IOThread
    from qdevpy.virtio.device import VirtIODevice

MAX_INDEX = 0xFFFF


class Assignment(NamedTuple):
    """Part of a mapping: the queues of one thread.

    :ivar iothread: id of an object of ``objects:``
    :ivar vqs: numbers of queues; None: every so many, in turns with the other threads
    """

    iothread: str
    vqs: tuple[int, ...] | None = None


class IOThreadVqMapping(kinds.Kind):
    """A list of :class:`Assignment`."""

    type_name = "IOThreadVirtQueueMappingList"
    accepts = "a list of {iothread: ID}, or of {iothread: ID, vqs: [NUMBER, ...]}"
    json_type = "array"
    is_list = True

    def parse(self, given: Any) -> tuple[Assignment, ...]:
        """For a list of maps, or its text in JSON."""
        if isinstance(given, str):
            import json

            try:
                given = json.loads(given)
            except ValueError:
                raise ValueError(f"expected {self.accepts}") from None
        if not isinstance(given, list) or not given:
            raise ValueError(f"expected {self.accepts}")
        return tuple(self._assignment(item) for item in given)

    def _assignment(self, item: Any) -> Assignment:
        if not isinstance(item, dict) or not isinstance(item.get("iothread"), str) or item.keys() - {"iothread", "vqs"}:
            raise ValueError(f"expected {self.accepts}")
        vqs = item.get("vqs")
        if vqs is None:
            return Assignment(item["iothread"])
        numbers = isinstance(vqs, list) and vqs and all(type(n) is int and 0 <= n <= MAX_INDEX for n in vqs)
        if not numbers:
            raise ValueError(f"vqs: expected a list of numbers from 0 to {MAX_INDEX}")
        return Assignment(item["iothread"], tuple(vqs))

    def objects_in(self, given: Any) -> Iterator[tuple[str, str]]:
        """The threads."""
        for assignment in self.parse(given):
            yield "iothread", assignment.iothread

    def to_json(self, value: Any) -> Any:
        """A list of objects."""
        return [{"iothread": a.iothread} | ({} if a.vqs is None else {"vqs": list(a.vqs)}) for a in value or ()]

    def format(self, value: Any) -> str:
        """JSON."""
        import json

        return json.dumps(self.to_json(value))

    def from_json(self, name: str, given: Any) -> Any:
        """The list itself."""
        if not isinstance(given, list):
            raise ValueError(f"Invalid parameter type for '{name}', expected: array")
        return given

    def schema(self) -> Schema:
        """A list of maps, or its text in JSON."""
        vqs = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0, "maximum": MAX_INDEX}}
        item = {
            "type": "object",
            "properties": {"iothread": matching("[A-Za-z][A-Za-z0-9._-]*"), "vqs": vqs},
            "required": ["iothread"],
            "additionalProperties": False,
        }
        return any_of({"type": "array", "minItems": 1, "items": item}, {"type": "string", "pattern": r"^\s*\["})


def iothread_vq_mapping(*, help: str) -> Any:  # noqa: A002
    """Declares the property; the attribute holds a tuple of :class:`Assignment`, or None."""
    return declare(IOThreadVqMapping(), None, name="iothread-vq-mapping", help=help, dynamic=True)


def threads_of_queues(device: VirtIODevice, count: int) -> list[IOThread | None]:
    """Who serves each of COUNT queues (or queue pairs) of a device with properties ``iothread`` and ``iothread-vq-mapping``.

    :returns: None in place of the machine's default thread
    :raises RealizeError: both are set, or the mapping does not fit
    """
    single: IOThread | None = getattr(device, "iothread")  # noqa: B009 - declared by whoever calls
    mapping: Sequence[Assignment] | None = getattr(device, "iothread_vq_mapping")  # noqa: B009
    if mapping is None:
        return [single] * count
    if single is not None:
        raise RealizeError("iothread and iothread-vq-mapping properties cannot be set at the same time", device=device.label)
    _check(device, mapping, count)
    threads = [device.machine.iothread(assignment.iothread) for assignment in mapping]
    if mapping[0].vqs is None:
        return [threads[number % len(threads)] for number in range(count)]
    owner = {number: thread for a, thread in zip(mapping, threads, strict=True) for number in a.vqs or ()}
    return [owner[number] for number in range(count)]


def _check(device: VirtIODevice, mapping: Sequence[Assignment], count: int) -> None:
    """QEMU: hw/block/virtio-blk.c, validate_iothread_vq_mapping_list."""
    names: set[str] = set()
    taken: set[int] = set()
    for name, vqs in mapping:
        found = device.machine.backends.get(("objects", name))
        if found is None or found.type_name != "iothread":
            raise RealizeError(f'IOThread "{name}" object does not exist', device=device.label)
        if name in names:
            raise RealizeError(f'duplicate IOThread name "{name}" in iothread-vq-mapping', device=device.label)
        names.add(name)
        if (vqs is None) != (mapping[0].vqs is None):
            raise RealizeError(
                "either all items in iothread-vq-mapping must have vqs or none of them must have it", device=device.label
            )
        for number in vqs or ():
            if number >= count:
                raise RealizeError(
                    f'vq index {number} for IOThread "{name}" must be less than num_queues {count} in iothread-vq-mapping',
                    device=device.label,
                )
            if number in taken:
                raise RealizeError(
                    f'cannot assign vq {number} to IOThread "{name}" because it is already assigned', device=device.label
                )
            taken.add(number)
    missing = set(range(count)) - taken
    if mapping[0].vqs is not None and missing:
        raise RealizeError(f"missing vq {min(missing)} IOThread assignment in iothread-vq-mapping", device=device.label)
