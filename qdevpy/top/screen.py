# SPDX-License-Identifier: Apache-2.0
"""What ``qdevpy top`` shows on a terminal, drawn with rich; imported only there."""

from __future__ import annotations

import io
import re

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from qdevpy.top.rates import MachineRates
from qdevpy.top.table import COLUMNS, device_rows, percent, thread_lines, title

KEYS = "q quit   space pause   s sort: {order}   u queues"
#: groups of columns in turns, so that the eye finds them
STYLES = {"exits/s": "yellow", "kicks/s": "cyan", "queues": "green", "latency": "blue", "bytes/s": "magenta"}
#: characters from which on there is room for every column
WIDE = 95
BAR_WIDTH = 20


def draw(rates: MachineRates, order: str, *, width: int, queues: bool, paused: bool = False) -> RenderableType:
    """The whole screen, WIDTH characters wide.

    :param order: of the devices, a key of :data:`qdevpy.top.table.ORDERS`
    :param paused: the user has stopped the picture
    """
    head = Text("qdevpy top: ", style="bold").append(
        title(rates), style="bold green" if rates.status == "running" else "bold red"
    )
    if paused:
        head.append("  PAUSED", style="bold reverse")
    parts: list[RenderableType] = [head, Text(), draw_threads(rates), Text(), draw_devices(rates, order, width, queues=queues)]
    return Group(*parts, Text(), Text(KEYS.format(order=order), style="dim"))


def draw_threads(rates: MachineRates) -> Table:
    """A bar for each thread."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(width=BAR_WIDTH)
    table.add_column(justify="right", width=5)
    table.add_column(no_wrap=True, style="dim")
    for name, share, more in thread_lines(rates):
        table.add_row(name, ProgressBar(total=1.0, completed=min(share, 1.0), width=BAR_WIDTH), percent(share), more)
    return table


def draw_devices(rates: MachineRates, order: str, width: int, *, queues: bool) -> Table:
    """The table of devices."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("\ndevice", overflow="ellipsis", min_width=8)  # the one that gives way: names, not columns, are no_wrap
    before = ""
    shown = [at for at, column in enumerate(COLUMNS) if width >= WIDE or not column.extra]
    for column in (COLUMNS[at] for at in shown):
        head = Text(f"{column.group if column.group != before else ''}\n{column.title}", style=STYLES[column.group])
        table.add_column(head, justify="right", no_wrap=True, min_width=4, style=STYLES[column.group])
        before = column.group
    for row in device_rows(rates, order, queues=queues):
        is_device = row.kind == "device"
        name = Text(row.name if is_device else f"  {row.name}", "bold" if is_device else "dim", no_wrap=True, overflow="ellipsis")
        table.add_row(name, *(row.cells[at] for at in shown), style="" if is_device else "dim")
    return table


def svg(rates: MachineRates, order: str, *, queues: bool, width: int) -> str:
    """The screen as a picture, WIDTH characters wide."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(draw(rates, order, width=width, queues=queues))
    picture = console.export_svg(title=f"qdevpy top {rates.name}")
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)  # whoever looks at it has a font, and may be offline
