# SPDX-License-Identifier: Apache-2.0
"""``python -m qdevpy.testing.attended PARENT WORD...``: ``qdevpy WORD...`` that does not outlive whoever started it.

A test run that is killed, or leaves through ``os._exit`` as pytest-timeout's thread method does, closes nothing; then the
kernel ends the machine (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import NoReturn

PR_SET_PDEATHSIG = 1


def main() -> NoReturn:
    """The command line; PARENT is the process id of whoever started us."""
    parent = int(sys.argv[1])
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was gone before we asked
        sys.exit(1)
    sys.argv = ["qdevpy", *sys.argv[2:]]
    from qdevpy.cli import main as qdevpy

    qdevpy()


if __name__ == "__main__":
    main()
