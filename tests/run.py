# SPDX-License-Identifier: Apache-2.0
"""Everything that ``make test`` runs, in stages, the fast ones first; exit status 1 where any stage failed.

    python tests/run.py [--only STAGE ...] [--list]

A stage that fails does not stop the ones after it. The table at the end has every stage with its time and
the summary line of its test runner.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = [sys.executable, "-m"]
COVERED = [*PYTHON, "coverage", "run", "-m", "pytest"]

#: stage: commands, run in order
STAGES: dict[str, list[list[str]]] = {
    "lint": [
        [*PYTHON, "ruff", "check"],
        [*PYTHON, "ruff", "format", "--check"],
        [*PYTHON, "mypy"],
    ],
    "docs": [[*PYTHON, "sphinx", "-c", "docs", "-E", "-n", "-W", "--keep-going", "-q", ".", "build/docs"]],
    "unit": [[*COVERED, "-q", "tests/unit", "tests/qtest"]],
    "stress": [[*COVERED, "-q", "tests/stress"]],
    "boot": [[*COVERED, "-q", "tests/boot"]],
    "coverage": [[*PYTHON, "coverage", "combine", "-q"], [*PYTHON, "coverage", "report", "--skip-covered", "--fail-under=90"]],
    "packaging": [[*PYTHON, "pytest", "-q", "tests/packaging"]],
    "bench": [[*PYTHON, "pytest", "-q", "tests/bench"]],
    "qemu": [[*PYTHON, "pytest", "-v", "tests/qemu"]],
    "lab": [[*PYTHON, "pytest", "-v", "tests/lab"]],
}


def run(stage: str, commands: list[list[str]]) -> tuple[bool, str]:
    """Run one stage, its output passed on; success and the last line that a test runner summed up with."""
    summaries, failures = [], []
    for command in commands:
        print(f"\n=== {stage}: {' '.join(command[2:])}", flush=True)
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        assert process.stdout is not None
        summary = ""
        for line in process.stdout:
            print(line, end="", flush=True)
            if re.search(r"\b\d+ (passed|failed|error|skipped)|Success:|All checks|TOTAL|Found \d+|reformatted", line):
                summary = line.strip().strip("= ")
        if process.wait() != 0:
            failures.append(f"{command[2]}: exit {process.returncode}")
        if summary:
            summaries.append(summary)
    return not failures, "; ".join(failures + summaries)


def main() -> int:
    """Run the stages and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=STAGES, metavar="STAGE", help=f"some of: {', '.join(STAGES)}")
    parser.add_argument("--list", action="store_true", help="print the stages and stop")
    arguments = parser.parse_args()
    if arguments.list:
        for stage, commands in STAGES.items():
            print(stage, *(" ".join(command[2:]) for command in commands), sep="\n    ")
        return 0
    for stale in ROOT.glob(".coverage*"):
        stale.unlink()
    results = []
    for stage in arguments.only or STAGES:
        start = time.monotonic()
        passed, summary = run(stage, STAGES[stage])
        results.append((stage, passed, time.monotonic() - start, summary))
    print("\n=== summary")
    for stage, passed, seconds, summary in results:
        print(f"{'ok    ' if passed else 'FAILED'} {stage:10} {seconds:7.1f} s  {summary}")
    failed = sum(not passed for _, passed, _, _ in results)
    print(f"\nstages: {len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
