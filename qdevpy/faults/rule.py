# SPDX-License-Identifier: Apache-2.0
"""A rule: which requests, or when, and what then. Values are checked here, wherever they come from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs

from qdevpy.errors import FaultError, did_you_mean
from qdevpy.faults.effects import EFFECTS, Effect
from qdevpy.faults.kinds import Duration, Period, Probability, Span, Words
from qdevpy.qdev.kinds import Integer, Kind

if TYPE_CHECKING:
    from qdevpy.faults.target import FaultTarget

_COUNT = Integer("uint64", 1, (1 << 63) - 1)

#: by option; ``requests`` is for the device to know better
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "requests": Words(),
        "sectors": Span(),
        "queue": Integer("uint16", 0, 1023),
        "nth": _COUNT,
        "every": _COUNT,
        "from": _COUNT,
        "to": _COUNT,
        "times": _COUNT,
        "probability": Probability(),
        "seed": Integer("uint64", 0, (1 << 64) - 1),
        "after": Duration(),
        "between": Period(),
        "for": Duration(),
        "length": Integer("uint32", 0, 0xFFFF_FFFF),
    }
)
#: options that choose requests; the others say when, how often, or belong to an effect
CHOOSING = ("requests", "sectors", "queue", "nth", "every", "from", "to", "probability")
WHEN = (*CHOOSING, "times", "seed", "after", "between")


@attrs.frozen(kw_only=True)
class Rule:
    """Which requests of a device, or when, and what then. Counted are requests that fit REQUESTS, SECTORS and QUEUE.

    :ivar number: from 1, in the order in which rules were given; with the seed it decides what PROBABILITY comes to
    :ivar requests: kinds of request; empty: any
    :ivar sectors: requests that touch one of these
    :ivar nth: the n-th request, from 1; ``every``: each n-th one; ``start``, ``stop``: from the one to the other, both in it
    :ivar times: fires no more often
    :ivar seed: instead of that of all rules
    :ivar after, until: only from, and only before, this virtual time; nanoseconds
    :ivar duration: nanoseconds: of a delay, of a link that is down
    :ivar length: bytes
    """

    number: int
    device: str
    effect: Effect
    requests: tuple[str, ...] = ()
    sectors: range | None = None
    queue: int | None = None
    nth: int | None = None
    every: int | None = None
    start: int | None = None
    stop: int | None = None
    times: int | None = None
    probability: float | None = None
    seed: int | None = None
    after: int = 0
    until: int | None = None
    duration: int | None = None
    length: int | None = None

    @property
    def is_timed(self) -> bool:
        """Whether it fires at a time, and not at a request."""
        chosen = (self.requests, self.sectors, self.queue, self.nth, self.every, self.start, self.stop, self.probability)
        return not self.effect.wants_request and all(each is None or each == () for each in chosen)

    @classmethod
    def make(cls, number: int, device: str, effect: Effect, options: Mapping[str, Any]) -> Rule:
        """Of parsed OPTIONS."""
        names = {"from": "start", "to": "stop", "for": "duration"}
        fields = {names.get(name, name): value for name, value in options.items() if name != "between"}
        if "between" in options:
            fields["after"], fields["until"] = options["between"]
        return cls(number=number, device=device, effect=effect, **fields)


def find_effect(what: str, target: FaultTarget) -> Effect:
    """The effect called WHAT.

    :raises FaultError: there is none, or the device cannot have it
    """
    offered = target.effects
    if what in offered:
        return EFFECTS[what]
    if what in EFFECTS:
        raise FaultError(f"what: '{what}' is nothing that this device can do; it can: {', '.join(offered)}")
    raise FaultError(f"what: '{what}': expected one of {', '.join(offered)}{did_you_mean(what, offered)}")


def option_problem(name: str, effect: Effect, target: FaultTarget) -> str | None:
    """Why option NAME may not stand in a rule with EFFECT; None: it may."""
    if name in effect.takes:
        return None
    if name == "sectors" and not target.has_sectors:
        return "option 'sectors': requests of this device have no sectors"
    if name == "requests" and not target.kinds:
        return "option 'requests': requests of this device are all of one kind; remove it"
    if name in WHEN:
        return None
    known = [*WHEN, *effect.takes]
    if name in KINDS:
        return f"option '{name}' is not for '{effect.name}'; it takes {', '.join(known)}"
    hint = did_you_mean(name, known) or f"; expected one of {', '.join(known)}"
    return f"option '{name}' not found{hint}"


def parse_option(name: str, given: Any, target: FaultTarget) -> Any:
    """The value of an option that :func:`option_problem` finds nothing wrong with.

    :raises ValueError: says what is accepted
    """
    return (Words(target.kinds) if name == "requests" else KINDS[name]).parse(given)


def combination_problem(effect: Effect, options: Mapping[str, Any]) -> str | None:
    """Why these OPTIONS, each right by itself, do not go together; None: they do."""
    for needed in effect.needs:
        if needed not in options:
            return f"'{effect.name}' needs option '{needed}'"
    if "after" in options and "between" in options:
        return "'after' and 'between' do not go together; 'between' has a begin of its own"
    if "nth" in options and {"every", "from", "to"}.intersection(options):
        return "'nth' is one request; remove 'every', 'from' and 'to', or 'nth'"
    if "from" in options and "to" in options and options["to"] < options["from"]:
        return f"'to' ({options['to']}) is before 'from' ({options['from']})"
    if "seed" in options and "probability" not in options:
        return "'seed' is for 'probability'; add it, or remove 'seed'"
    if not effect.wants_request and not {*CHOOSING, "after", "between"}.intersection(options):
        return f"'{effect.name}': when? Give a time ('after', 'between') or a request ('nth', 'every', 'requests', ...)"
    return None


def make_rule(number: int, device: str, what: str, target: FaultTarget, given: Mapping[str, Any]) -> Rule:
    """A rule of options as a user gives them: text, or Python values.

    :raises FaultError: what does not fit
    """
    effect = find_effect(what, target)
    parsed = {}
    for name, value in given.items():
        problem = option_problem(name, effect, target)
        if problem is not None:
            raise FaultError(problem, device=device)
        try:
            parsed[name] = parse_option(name, value, target)
        except ValueError as error:
            raise FaultError(f"option '{name}': '{value}': {error}", device=device) from error
    problem = combination_problem(effect, parsed)
    if problem is not None:
        raise FaultError(problem, device=device)
    return Rule.make(number, device, effect, parsed)


def check_immediate(device: str, what: str, target: FaultTarget, given: Mapping[str, Any]) -> Rule:
    """A rule for something that happens now: it may say nothing of requests or times.

    :raises FaultError: what does not fit
    """
    effect = find_effect(what, target)
    if effect.wants_request:
        raise FaultError(f"'{what}' happens to a request; add a rule that says to which", device=device)
    for name in given:
        if name not in effect.takes:
            raise FaultError(
                f"option '{name}' is not for '{what}' now; it takes {', '.join(effect.takes) or 'none'}", device=device
            )
    return make_rule(0, device, what, target, {**given, "after": 0})
