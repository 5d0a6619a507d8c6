# SPDX-License-Identifier: Apache-2.0
"""QEMU's command line: ``qdevpy-system-x86_64``, ``qdevpy import`` and ``qdevpy export``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The program's entry point; ends the process.

    :param args: instead of the process's own
    """
    import gc

    gc.disable()  # see qdevpy.cli.main
    from qdevpy.cli.qemu.program import run

    sys.exit(run(sys.argv[1:], final=True) if args is None else run(args))
