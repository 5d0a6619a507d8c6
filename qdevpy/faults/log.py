# SPDX-License-Identifier: Apache-2.0
"""The fault log: a JSON object a line, one for each fault that fired, and before them one that says what this is.

::

    {"qdevpy-faults": 1, "seed": 0}
    {"time": 2318401200, "device": "disk0", "what": "io-error", "rule": 1, "queue": 0, "request": 57, "total": 57,
     "kind": "read", "sector": 104, "sectors": 8, "occurrence": 1}

(each on one line). Times are the guest's, in nanoseconds.
"""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

import attrs

from qdevpy.errors import FaultError, did_you_mean
from qdevpy.faults.effects import EFFECTS

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

FORMAT = 1
MARK = "qdevpy-faults"
#: longest log that is read back, in bytes
MAX_LOG = 256 << 20


@attrs.frozen(kw_only=True)
class Entry:
    """A fault that fired.

    :ivar time: nanoseconds of virtual time
    :ivar rule: the number of its rule; 0: somebody asked for it by hand
    :ivar queue, request: the request that it hit: of its queue, from 1; None, 0: it came at a time
    :ivar total: requests of the device so far, all queues
    :ivar kind, sector, sectors, occurrence: what the request asks for, and how often that had been, where that is known
    :ivar duration: nanoseconds (``for`` in the file)
    :ivar length: bytes
    """

    time: int
    device: str
    what: str
    rule: int = 0
    queue: int | None = None
    request: int = 0
    total: int = 0
    kind: str = ""
    sector: int | None = None
    sectors: int = 0
    occurrence: int = 0
    duration: int | None = None
    length: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in the log; what has nothing to say is left out."""
        always = ("time", "device", "what", "rule")
        return {
            _IN_FILE.get(name, name): value
            for name, value in attrs.asdict(self).items()
            if name in always or value != _DEFAULTS[name]
        }

    def __str__(self) -> str:
        hit = f"queue {self.queue}, request {self.request}" if self.request else f"after {self.total} requests"
        place = "" if self.sector is None else f", sector {self.sector}, {self.sectors} sectors"
        return f"{self.what}: {hit}{f' ({self.kind}{place})' if self.kind else ''}"


_IN_FILE = {"duration": "for"}
_FIELDS = {_IN_FILE.get(field.name, field.name): field for field in attrs.fields(Entry)}
_DEFAULTS = {field.name: field.default for field in attrs.fields(Entry)}
_REQUIRED = [name for name, field in _FIELDS.items() if field.default is attrs.NOTHING]
_TEXT = ("device", "what", "kind")


class FaultLog:
    """Writes; each line is there at once, also for who comes after a crash.

    :raises FaultError: the file cannot be written
    """

    def __init__(self, path: str, seed: int) -> None:
        self.path = path
        try:
            self._file = open(path, "w", encoding="utf-8", buffering=1)  # noqa: SIM115  as long as the machine is there
        except OSError as error:
            raise FaultError(f"faults: log: '{path}': {error.strerror}") from error
        self._failed = False
        self._write({MARK: FORMAT, "seed": seed})

    def write(self, entry: Entry) -> None:
        """One more line."""
        self._write(entry.to_json())

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._failed:
            return
        try:
            self._file.write(json.dumps(line) + "\n")
        except OSError as error:  # the machine is worth more than its log
            self._failed = True
            log.error("faults: log '%s': %s; no more is written to it", self.path, error.strerror)

    def close(self) -> None:
        """The machine ends."""
        try:
            self._file.close()
        except OSError as error:
            log.error("faults: log '%s': %s", self.path, error.strerror)


def read_log(path: str) -> list[Entry]:
    """What a log says.

    :raises FaultError: it cannot be read, or is none; with the line
    """
    try:
        if os.path.getsize(path) > MAX_LOG:
            raise FaultError(f"'{path}': more than {MAX_LOG >> 20} MiB; this is no fault log")
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")
    except OSError as error:
        raise FaultError(f"'{path}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FaultError(f"'{path}': not UTF-8 text") from error
    head = _object(path, 1, lines[0])
    if head.get(MARK) != FORMAT:
        raise FaultError(f'{path}:1: not a fault log that this version reads; expected {{"{MARK}": {FORMAT}, ...}}')
    return [_entry(path, number, line) for number, line in enumerate(lines[1:], 2) if line.strip()]


def _object(path: str, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FaultError(f"{path}:{number}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise FaultError(f"{path}:{number}: expected a JSON object, found {line[:40]}")
    return found


def _entry(path: str, number: int, line: str) -> Entry:
    found = _object(path, number, line)
    for name in _REQUIRED:
        if name not in found:
            raise FaultError(f"{path}:{number}: '{name}' is missing")
    for name, value in found.items():
        if name not in _FIELDS:
            raise FaultError(f"{path}:{number}: '{name}' is not known{did_you_mean(name, _FIELDS)}")
        wanted = str if name in _TEXT else int
        if not isinstance(value, wanted) or isinstance(value, bool) or (isinstance(value, int) and value < 0):
            what = "a text" if wanted is str else "a whole number from 0 up"
            raise FaultError(f"{path}:{number}: {name}: {json.dumps(value)}: expected {what}")
    if found["what"] not in EFFECTS:
        raise FaultError(f"{path}:{number}: what: '{found['what']}': not known{did_you_mean(found['what'], EFFECTS)}")
    return Entry(**{_FIELDS[name].name: value for name, value in found.items()})
