# SPDX-License-Identifier: Apache-2.0
"""Print what ``qdevpy bench --json FILE`` wrote as the tables of README.md::

python tests/parts/bench_table.py FILE
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qdevpy.bench.report import show_spread
from qdevpy.bench.suite import PEER, QDEVPY

VERDICTS = {True: "met", False: "**not met**", None: "not measured"}


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def targets_of(results: dict[str, Any]) -> Iterator[str]:
    yield line("figure", "target", "measured: median (smallest..largest)", "")
    yield line("---", "---", "---", "---")
    for target in results["targets"]:
        yield line(target["text"], target["wanted"], show_spread(target["ratios"]), VERDICTS[target["met"]])


def rows_of(results: dict[str, Any]) -> Iterator[str]:
    yield line("row", "figure", "qdevpy", "QEMU", "ratio", "qdevpy with", "QEMU with")
    yield line(*["---"] * 7)
    for row in results["rows"]:
        measured = row["measured"]
        ours = next((measured[role] for role in (QDEVPY, "bare") if role in measured), None)
        theirs = measured.get(PEER)
        yield line(
            f"`{row['name']}`",
            f"{row['figure']}, {row['unit']}",
            show_spread(ours["numbers"]) if ours else "",
            show_spread(theirs["numbers"]) if theirs else "",
            show_spread(row["ratios"]),
            ours["setting"] if ours else "",
            theirs["setting"] if theirs else "",
        )


def main() -> None:
    results = json.loads(Path(sys.argv[1]).read_text())
    host = ", ".join(f"{name} {value}" for name, value in results["host"].items())
    print(f"{host}; {', '.join(p['name'] + ' ' + p['version'] for p in results['programs'].values())}")
    print("", *targets_of(results), "", *rows_of(results), sep="\n")


if __name__ == "__main__":
    main()
