# SPDX-License-Identifier: Apache-2.0
"""A machine's faults: what tests and definitions ask for, which device it is for, and what came of it.

::

    faults = machine.faults
    faults.open_log("faults.jsonl")
    rule = faults.add("disk0", "io-error", requests="read", sectors="100-199")
    faults.happen("net0", "link-down", for_="2s")
    ...
    assert [entry.sector for entry in faults.fired] == [104, 152]
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from qdevpy.errors import FaultError, did_you_mean
from qdevpy.faults.device import DeviceFaults
from qdevpy.faults.log import Entry, FaultLog, read_log
from qdevpy.faults.rule import Rule, check_immediate, make_rule
from qdevpy.faults.schedule import Firing, ReplaySchedule, RuleSchedule
from qdevpy.virtio.device import VirtIODevice

if TYPE_CHECKING:
    from qdevpy.vm.machine import Machine

#: faults that are remembered for who asks; the log has all
MAX_FIRED = 100_000


class Faults:
    """Any thread but those that serve queues; without the VM lock, or with it.

    :ivar seed: of rules with a probability; for those devices that have had none yet
    :ivar fired: what has happened, in order
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.seed = 0
        self.fired: deque[Entry] = deque(maxlen=MAX_FIRED)
        self._devices: dict[str, DeviceFaults] = {}
        self._numbers = 0
        self._log: FaultLog | None = None
        machine.at_close(self.close)

    def open_log(self, path: str) -> None:
        """Write what happens from now on to a file, which is made anew.

        :raises FaultError: it cannot be written
        """
        if self._log is not None:
            self._log.close()
        self._log = FaultLog(path, self.seed)

    def add(self, device: str, what: str, **options: Any) -> Rule:
        """Let WHAT happen to requests of a device, or at a time, from now on.

        :param device: its id
        :param options: as in a definition, text or Python's own values; ``for_`` and ``from_`` for Python's words
        :raises FaultError: they do not fit, there is no such device, or it can have no faults
        """
        with self.machine.lock:
            place = self._device(device)
            self._numbers += 1
            rule = make_rule(self._numbers, device, what, place.target, _without_underscores(options))
            if not isinstance(place.schedule, RuleSchedule):
                raise FaultError("a log is replayed for it, which says all that happens", device=device)
            place.add(rule)
            return rule

    def happen(self, device: str, what: str, **options: Any) -> None:
        """Let WHAT happen to a device now; for what needs no request.

        :raises FaultError: as :meth:`add`
        """
        with self.machine.lock:
            place = self._device(device)
            rule = check_immediate(device, what, place.target, _without_underscores(options))
            place.happen_now(Firing(rule.effect, 0, rule.duration, rule.length))

    def remove(self, rule: Rule) -> None:
        """Forget a rule; what it has begun (a delay, a link that is down for a while) ends as it would have."""
        with self.machine.lock:
            place = self._devices.get(rule.device)
            if place is not None:
                place.remove(rule.number)

    def clear(self) -> None:
        """Forget all rules, and let go of all devices: what was kept for a while goes its way."""
        with self.machine.lock:
            for place in list(self._devices.values()):
                place.close()

    def replay(self, path: str) -> None:
        """Let happen what an earlier run's log says, to the same requests.

        :raises FaultError: it is no log, or of another machine
        """
        entries: dict[str, list[Entry]] = {}
        for entry in read_log(path):
            entries.setdefault(entry.device, []).append(entry)
        with self.machine.lock:
            for name, found in entries.items():
                place = self._device(name)
                for entry in found:
                    if entry.what not in place.target.effects:
                        raise FaultError(f"'{path}': '{entry.what}' is nothing that this device can do", device=name)
                place.replay(ReplaySchedule(found))

    def _device(self, name: str) -> DeviceFaults:
        """The faults of a device; its queues are tapped when it is first asked for."""
        if name in self._devices:
            return self._devices[name]
        found = self.machine.find_device(name)
        if found is None:
            ids = [device.id for device in self.machine.devices() if device.id]
            known = did_you_mean(name, ids) or f"; ids are: {', '.join(ids) or 'none'}"
            raise FaultError(f"faults: no device has the id '{name}'{known}")
        device = next((owner for owner in found.property_owners() if isinstance(owner, VirtIODevice)), None)
        if device is None:
            raise FaultError("has no virtqueues, and faults happen to those", device=found.label)
        target = device.fault_target()
        refusal = target.refusal()
        if refusal is not None:
            raise FaultError(refusal, device=found.label)
        place = self._devices[name] = DeviceFaults(self, name, device, target)
        return place

    # -- for devices

    def record(self, entry: Entry) -> None:
        """Something happened. Any thread."""
        self.fired.append(entry)
        if self._log is not None:
            self._log.write(entry)

    def forget(self, place: DeviceFaults) -> None:
        """A device has let go, or is gone."""
        self._devices.pop(place.name, None)

    def close(self) -> None:
        """The machine ends."""
        if self._log is not None:
            self._log.close()
            self._log = None


def _without_underscores(options: dict[str, Any]) -> dict[str, Any]:
    """``for_`` is ``for``."""
    return {name.rstrip("_"): value for name, value in options.items() if value is not None}
