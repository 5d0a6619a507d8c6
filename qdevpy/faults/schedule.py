# SPDX-License-Identifier: Apache-2.0
"""Which faults hit a request: decided by rules, or read from the log of an earlier run.

What is decided depends on the requests of the device and on the seed, and on the time only where a rule says so. With
a probability each request has a number of its own, made of seed, rule, queue and the request's place in its queue; so queues that
run side by side do not disturb each other's.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import attrs

from qdevpy.faults.effects import EFFECTS, Effect, Stage

if TYPE_CHECKING:
    from qdevpy.faults.log import Entry
    from qdevpy.faults.rule import Rule

#: different requests of a device that are counted, for the log to name them by what they ask for
MAX_IDENTITIES = 1 << 18


@attrs.frozen
class Request:
    """A request, as selectors see it.

    :ivar number: of its queue, from 1
    :ivar total: of all queues of the device, from 1
    :ivar occurrence: how often the like has been asked for, from 1; 0: not counted
    """

    queue: int
    number: int
    total: int
    kind: str = ""
    sector: int | None = None
    sectors: int = 0
    occurrence: int = 0


@attrs.frozen
class Firing:
    """A fault that is to happen.

    :ivar rule: the rule's number
    :ivar duration: nanoseconds
    :ivar length: bytes
    """

    effect: Effect
    rule: int
    duration: int | None = None
    length: int | None = None

    @classmethod
    def of(cls, rule: Rule) -> Firing:
        """What a rule does when it fires."""
        return cls(rule.effect, rule.number, rule.duration, rule.length)


class Identities:
    """Counts requests by what they ask for: in another run the n-th read of a sector is the same one, whatever came between."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, int | None, int]] = Counter()

    def count(self, kind: str, sector: int | None, sectors: int) -> int:
        """How often, this time included; 0 where it has nothing to be known by, or where there are too many."""
        if not kind:
            return 0
        key = kind, sector, sectors
        if key not in self._seen and len(self._seen) >= MAX_IDENTITIES:
            return 0
        self._seen[key] += 1
        return self._seen[key]


def compatible(firings: Iterable[tuple[Firing, RuleState | None]]) -> list[Firing]:
    """Those that can happen to one request together: each effect once, one that keeps it, nothing after one for ever."""
    found: dict[str, tuple[Firing, RuleState | None]] = {}
    kept: str | None = None
    for firing, state in firings:
        effect = firing.effect
        if effect.name in found or (effect.stage is Stage.KEEP and kept is not None):
            continue
        if effect.stage is Stage.KEEP:
            kept = effect.name
        found[effect.name] = firing, state
    if kept == "never-complete":
        found = {name: pair for name, pair in found.items() if pair[0].effect.stage is not Stage.RETURN}
    for _, state in found.values():
        if state is not None:
            state.fired += 1
    return [firing for firing, _ in found.values()]


class RuleState:
    """A rule, and how far it is.

    :ivar seen: requests that fit
    :ivar fired: how often it did
    """

    def __init__(self, rule: Rule, seed: int) -> None:
        self.rule = rule
        self.seed = seed if rule.seed is None else rule.seed
        self.seen = 0
        self.fired = 0

    @property
    def is_spent(self) -> bool:
        """Whether it cannot fire any more."""
        return self.rule.times is not None and self.fired >= self.rule.times

    def fires(self, request: Request, now: int) -> bool:
        """Whether it does for REQUEST, at NOW nanoseconds."""
        rule = self.rule
        if rule.is_timed or not self._fits(request):
            return False
        self.seen += 1
        if self.is_spent or now < rule.after or (rule.until is not None and now >= rule.until):
            return False
        return self._is_counted(self.seen) and (rule.probability is None or self._draw(request) < rule.probability)

    def _fits(self, request: Request) -> bool:
        rule = self.rule
        if rule.queue is not None and request.queue != rule.queue:
            return False
        if rule.requests and request.kind not in rule.requests:
            return False
        if rule.sectors is None:
            return True
        if request.sector is None:
            return False
        return request.sector < rule.sectors.stop and request.sector + max(request.sectors, 1) > rule.sectors.start

    def _is_counted(self, n: int) -> bool:
        rule = self.rule
        if rule.nth is not None:
            return n == rule.nth
        first = rule.start or 1
        if n < first or (rule.stop is not None and n > rule.stop):
            return False
        # from 5 on every third: 5, 8, ...; without a beginning: 3, 6, ...
        return rule.every is None or (n - first if rule.start else n) % rule.every == 0

    def _draw(self, request: Request) -> float:
        """A number from 0 to 1 that is the request's own."""
        text = f"{self.seed}/{self.rule.number}/{request.queue}/{request.number}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest()) / (1 << 56)


class RuleSchedule:
    """Decides by rules; one device's."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.states: list[RuleState] = []

    def add(self, rule: Rule) -> None:
        """One more; it counts from now on."""
        self.states.append(RuleState(rule, self.seed))

    def remove(self, number: int) -> None:
        """Forget a rule; harmless where it is not there."""
        self.states = [state for state in self.states if state.rule.number != number]

    def at_request(self, request: Request, now: int) -> list[Firing]:
        """What happens to a request, or because of it. All rules see it, so that they count."""
        return compatible([(Firing.of(state.rule), state) for state in self.states if state.fires(request, now)])

    def has(self, number: int) -> bool:
        """Whether the rule of that number is there."""
        return any(state.rule.number == number for state in self.states)


class ReplaySchedule:
    """Decides as a log says; one device's."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._known: dict[tuple[str, int | None, int, int], list[Firing]] = {}
        self._numbered: dict[tuple[int, int], list[Firing]] = {}
        self._after: dict[int, list[Firing]] = {}
        self._timed: list[tuple[int, Firing]] = []
        for entry in entries:
            firing = Firing(EFFECTS[entry.what], entry.rule, entry.duration, entry.length)
            if entry.occurrence:
                self._known.setdefault((entry.kind, entry.sector, entry.sectors, entry.occurrence), []).append(firing)
            elif entry.queue is not None and entry.request:
                self._numbered.setdefault((entry.queue, entry.request), []).append(firing)
            elif entry.total:
                self._after.setdefault(entry.total, []).append(firing)
            else:
                self._timed.append((entry.time, firing))

    def at_request(self, request: Request, now: int) -> list[Firing]:
        """What happened to the same request; and what happened at a time, when as many requests had been there."""
        found = list(self._numbered.get((request.queue, request.number), ()))
        if request.occurrence:
            found += self._known.get((request.kind, request.sector, request.sectors, request.occurrence), ())
        found += self._after.get(request.total, ())
        return compatible((firing, None) for firing in found)

    def at_times(self) -> Iterator[tuple[int, Firing]]:
        """What happened before the first request."""
        yield from self._timed
