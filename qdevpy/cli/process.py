# SPDX-License-Identifier: Apache-2.0
"""What a program of ours does around its work: streams, log, and what errors look like to the user."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from qdevpy.cli.log_limit import RateLimit
from qdevpy.errors import DefinitionError, LocatedError, QdevpyError


def set_log_level(verbose: bool, debug: bool) -> None:
    """Messages on stderr: warnings; with VERBOSE what happens; with DEBUG everything.

    One place in the program gets a limited number of lines, but for DEBUG.
    """
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    root = logging.getLogger()
    if not root.handlers:
        logging.basicConfig(format="qdevpy: %(name)s: %(message)s" if debug else "qdevpy: %(message)s")
        if not debug:
            root.handlers[0].addFilter(RateLimit())
    root.setLevel(min(root.level, level))  # the program's options and the command's add up


def open_missing_streams() -> None:
    """Have descriptors 0, 1 and 2 be something: whoever closed one would else find a device's file there."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def run_guarded(command: Callable[[], object]) -> int:
    """Run a command.

    :returns: the exit status: the command's where it is a number; 1 after an error, which is shown; 130 after Ctrl-C
    """
    open_missing_streams()
    try:
        status = command()
        sys.stdout.flush()
    except QdevpyError as error:
        # problems in a definition begin with their place, as a compiler's do
        placed = isinstance(error, DefinitionError | LocatedError)
        print(error if placed else f"qdevpy: error: {error}", file=sys.stderr)
        logging.getLogger(__name__).debug("where it was raised:", exc_info=True)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the reader has seen enough (``qdevpy devices | head``); keep the interpreter from flushing into the pipe again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status if isinstance(status, int) else 0
