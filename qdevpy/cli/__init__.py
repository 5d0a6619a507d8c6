# SPDX-License-Identifier: Apache-2.0
"""The command line: ``qdevpy boot``, ``check``, ``tree``, ``devices`` and their like."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The program's entry point; ends the process.

    :param args: instead of the process's own
    """
    import gc

    # Start-up makes objects that stay, and no garbage: looking for some takes a tenth of its time.
    # A machine that runs has it back (qdevpy.vm.run); the other commands are over soon.
    gc.disable()
    from qdevpy.cli.plain import run_plain

    status = run_plain(sys.argv[1:] if args is None else args)
    if status is None:
        from qdevpy.cli.app import run

        status = run(args)
    sys.exit(status)
