# SPDX-License-Identifier: Apache-2.0
"""``qdevpy-system-x86_64``: a machine from QEMU's options, run to its end; errors look like QEMU's."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from qdevpy.cli.process import open_missing_streams, set_log_level
from qdevpy.cli.qemu.parser import parse_command_line
from qdevpy.errors import DefinitionError, LocatedError, QdevpyError
from qdevpy.plugin.manager import load_plugins

PROGRAM = "qdevpy-system-x86_64"


def run(words: Sequence[str]) -> int:
    """Run one command line.

    :returns: the exit status
    """
    open_missing_streams()
    try:
        return _run(words)
    except DefinitionError as error:
        for problem in error.problems:
            _complain(f"{problem.position}: {problem.message}")
    except LocatedError as error:
        _complain(f"{error.position}: {error.error}")
    except QdevpyError as error:
        _complain(str(error))
    except KeyboardInterrupt:
        return 130
    return 1


def _complain(message: str) -> None:
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    logging.getLogger(__name__).debug("where it was raised:", exc_info=True)


def _run(words: Sequence[str]) -> int:
    registry = load_plugins()
    set_log_level(False, False)
    parsed = parse_command_line(words, registry)
    parsed.problems.check()
    from qdevpy.vm.run import boot

    return boot(parsed.definition, registry)
