# SPDX-License-Identifier: Apache-2.0
"""``qdevpy top`` at work: asks the machine again and again, and shows what happened meanwhile."""

from __future__ import annotations

import json
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from qdevpy.monitor.client import QmpClient
from qdevpy.top.rates import MachineRates, machine_rates
from qdevpy.top.table import ORDERS, text_lines

if TYPE_CHECKING:
    from rich.live import Live

COMMAND = "x-query-counters"


@attrs.define
class View:
    """How the user wants it.

    :ivar order: a key of :data:`qdevpy.top.table.ORDERS`
    :ivar queues: queues, too
    :ivar paused: the picture stands still
    :ivar ended: the user has had enough
    """

    order: str = "tree"
    queues: bool = False
    paused: bool = False
    ended: bool = False

    def press(self, key: str) -> None:
        """A key of the user's; those that mean nothing do nothing."""
        orders = list(ORDERS)
        if key in ("q", "Q", "\x04"):
            self.ended = True
        elif key in (" ", "p"):
            self.paused = not self.paused
        elif key == "s":
            self.order = orders[(orders.index(self.order) + 1) % len(orders)]
        elif key == "u":
            self.queues = not self.queues


class Source:
    """Rates of a machine since one asked last."""

    def __init__(self, client: QmpClient) -> None:
        self._client = client
        self._before: Any = client.execute(COMMAND, latencies=True)

    def read(self) -> MachineRates:
        """:raises MachineGoneError: it has ended."""
        now = self._client.execute(COMMAND, latencies=True)
        rates = machine_rates(self._before, now)
        self._before = now
        return rates


def print_views(source: Source, view: View, *, count: int | None, delay: float, as_json: bool) -> None:
    """Print COUNT views, each of the DELAY seconds before it; None: until the machine ends."""
    number = 0
    while count is None or number < count:
        time.sleep(delay)
        rates = source.read()
        if as_json:
            print(json.dumps(rates.as_json()), flush=True)
        else:
            if number:
                print()
            print("\n".join(text_lines(rates, view.order, queues=view.queues)), flush=True)
        number += 1


def save_picture(source: Source, view: View, file: str, *, count: int, delay: float, width: int) -> None:
    """Write view number COUNT to FILE as SVG."""
    from qdevpy.top.screen import svg

    for _ in range(count):
        time.sleep(delay)
        rates = source.read()
    Path(file).write_text(svg(rates, view.order, queues=view.queues, width=width))


def show_live(source: Source, view: View, *, count: int | None, delay: float) -> None:
    """Show it on the terminal until the user ends it, COUNT views were shown, or the machine ends."""
    from rich.console import Console
    from rich.live import Live

    with keyboard() as has_keys, Live(console=Console(), screen=True, auto_refresh=False) as live:
        show_one(live, None, view, delay, has_keys=has_keys)
        shown = 0
        while not view.ended and (count is None or shown < count):
            show_one(live, source.read(), view, delay, has_keys=has_keys)
            shown += 1


def show_one(live: Live, rates: MachineRates | None, view: View, delay: float, *, has_keys: bool) -> None:
    """Show RATES for DELAY seconds, or longer where the user stops the picture; None: there are none yet."""
    due = time.monotonic() + delay
    while not view.ended:
        redraw(live, rates, view)
        left = max(due - time.monotonic(), 0.0)
        if not left and not view.paused:
            return
        view.press(read_key(None if view.paused else left) if has_keys else wait(left))


def redraw(live: Live, rates: MachineRates | None, view: View) -> None:
    """Show RATES."""
    from qdevpy.top.screen import draw

    if rates is None:
        live.update("qdevpy top: looking...", refresh=True)
        return
    width = live.console.width
    live.update(draw(rates, view.order, width=width, queues=view.queues, paused=view.paused), refresh=True)


def wait(seconds: float) -> str:
    """As :func:`read_key` where there is no keyboard."""
    time.sleep(seconds)
    return ""


@contextmanager
def keyboard() -> Iterator[bool]:
    """Keys come one by one, not a line at a time; whether there is a keyboard."""
    if not sys.stdin.isatty():
        yield False
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def read_key(seconds: float | None) -> str:
    """The next key, or nothing within SECONDS; None: wait for one. A terminal that is gone is a wish to end."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    if not ready:
        return ""
    # not through the stream: select() does not see what is in its buffer
    return os.read(sys.stdin.fileno(), 1).decode(errors="replace") or "q"
