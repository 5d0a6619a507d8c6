# SPDX-License-Identifier: Apache-2.0
"""What a fault does. An effect is data; carried out it is by :mod:`.injector`, with what the device's target knows."""

from __future__ import annotations

import enum
from types import MappingProxyType

import attrs


class Stage(enum.Enum):
    """What an effect happens to."""

    KEEP = "keep"  # a request: it does not reach the device, or later; one of them a request
    RETURN = "return"  # a request on its way back to the driver
    QUEUE = "queue"  # a queue, at a request or at a time
    DEVICE = "device"  # the whole device, at a request or at a time


@attrs.frozen
class Effect:
    """One word that may stand behind ``what:``.

    :ivar generic: every device with virtqueues can have it; others a device offers where it knows how
    :ivar takes: options beside those that choose requests
    :ivar needs: of them, those that must be given
    """

    name: str
    stage: Stage
    help: str
    generic: bool = True
    takes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def wants_request(self) -> bool:
        """Whether it cannot be without a request that it happens to."""
        return self.stage in (Stage.KEEP, Stage.RETURN)


_ALL = (
    Effect("io-error", Stage.KEEP, "the device refuses the request with its error status", generic=False),
    Effect("delay", Stage.KEEP, "the device sees the request later", takes=("for",), needs=("for",)),
    Effect("never-complete", Stage.KEEP, "the request is not answered until the driver resets the queue"),
    Effect("short", Stage.RETURN, "only the first bytes of the answer are there; the used length says so", takes=("length",)),
    Effect("used-length", Stage.RETURN, "the used length is wrong", takes=("length",), needs=("length",)),
    Effect("complete-twice", Stage.RETURN, "the request is given back two times"),
    Effect("lost-interrupt", Stage.RETURN, "the driver is not interrupted for the request"),
    Effect("spurious-interrupt", Stage.QUEUE, "an interrupt without anything in the used ring"),
    Effect("config-change", Stage.DEVICE, "the driver is told that the configuration has changed"),
    Effect("needs-reset", Stage.DEVICE, "the device sets NEEDS_RESET and serves nothing until it is reset"),
    Effect("link-down", Stage.DEVICE, "the cable is out, for a while where 'for' is given", generic=False, takes=("for",)),
    Effect(
        "backend-gone",
        Stage.DEVICE,
        "what the device is plugged into on the host fails, for a while where 'for' is given",
        generic=False,
        takes=("for",),
    ),
)

#: by name
EFFECTS = MappingProxyType({effect.name: effect for effect in _ALL})
GENERIC = tuple(effect.name for effect in _ALL if effect.generic)
