# SPDX-License-Identifier: Apache-2.0
"""``top``: what a running machine does."""

from __future__ import annotations

import sys

import click

from qdevpy.errors import MachineGoneError
from qdevpy.monitor.client import QmpClient
from qdevpy.monitor.running import find_running
from qdevpy.top.session import Source, View, print_views, save_picture, show_live
from qdevpy.top.table import ORDERS


@click.command()
@click.argument("machine", required=False)
@click.option("--once", is_flag=True, help="Print one view as text, and end; the same as -n 1 to a pipe.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each view.")
@click.option("-n", "--count", type=click.IntRange(min=1), metavar="COUNT", help="End after COUNT views.")
@click.option(
    "-d",
    "--delay",
    type=click.FloatRange(min=0.1, max=3600),
    default=1.0,
    show_default=True,
    help="Seconds from one view to the next.",
)
@click.option(
    "-s", "--sort", "order", type=click.Choice(list(ORDERS)), default="tree", show_default=True, help="Order of the devices."
)
@click.option("--queues", is_flag=True, help="Show each queue, too.")
@click.option("--svg", metavar="FILE", help="Write the last of COUNT views to FILE as a picture.")
@click.option(
    "--width", type=click.IntRange(min=40, max=400), default=110, show_default=True, help="Of the picture, in characters."
)
def top(
    machine: str | None,
    once: bool,
    as_json: bool,
    count: int | None,
    delay: float,
    order: str,
    queues: bool,
    svg: str | None,
    width: int,
) -> None:
    """Show what MACHINE does while it runs: exits, kicks by path, requests, interrupts, bytes, processor time.

    MACHINE is its name, its process's number, or the path of its QMP socket; without it the one that runs. On a terminal
    the screen is live: q ends it, space stops the picture, s sorts by something else, u shows queues. Otherwise, and with
    --once or --json, it is text. A machine that ends meanwhile ends it, too.
    """
    view = View(order=order, queues=queues)
    try:
        with QmpClient(find_running(machine)) as client:
            source = Source(client)
            if svg is not None:
                save_picture(source, view, svg, count=count or 1, delay=delay, width=width)
            elif once or as_json or not sys.stdout.isatty():
                print_views(source, view, count=1 if once else count, delay=delay, as_json=as_json)
            else:
                show_live(source, view, count=count, delay=delay)
    except MachineGoneError as gone:
        why = f" ({gone.reason})" if gone.reason else ""
        print(f"the machine has ended{why}", file=sys.stderr if as_json else sys.stdout)
