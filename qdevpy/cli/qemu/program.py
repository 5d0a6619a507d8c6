# SPDX-License-Identifier: Apache-2.0
"""``qdevpy-system-x86_64``: a machine from QEMU's options, run to its end; errors look like QEMU's."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qdevpy.cli.process import open_missing_streams
from qdevpy.cli.qemu.parser import HelpWantedError, parse_command_line
from qdevpy.errors import DefinitionError, LocatedError, QdevpyError
from qdevpy.plugin.manager import load_plugins

if TYPE_CHECKING:
    from qdevpy.definition.model import BootDefinition

PROGRAM = "qdevpy-system-x86_64"


def run(words: Sequence[str], *, final: bool = False) -> int:
    """Run one command line.

    :param final: the process ends with it; see :func:`qdevpy.vm.run.ending_signals`
    :returns: the exit status
    """
    open_missing_streams()
    try:
        return _run(words, final)
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


def print_text(text: str) -> None:
    """A listing; whoever has seen enough of it (``| head``) may go."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_boot(boot: BootDefinition) -> None:
    """:raises LocatedError: an initial RAM disk or a command line for no kernel, of which nothing would come."""
    for option, value in (("-initrd", boot.initrd), ("-append", boot.cmdline)):
        if value is not None and boot.kernel is None:
            raise LocatedError(QdevpyError(f"{option} only allowed with -kernel option"), value.position)


def _complain(message: str) -> None:
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    logging.getLogger(__name__).debug("where it was raised:", exc_info=True)


def _run(words: Sequence[str], final: bool) -> int:
    registry = load_plugins()
    try:
        parsed = parse_command_line(words, registry)
    except HelpWantedError as text:
        print_text(str(text))
        return 0
    parsed.problems.check()
    check_boot(parsed.definition.boot)
    for note in parsed.notes:
        _complain(f"warning: {note}")
    from qdevpy.cli.qemu.host import Background, set_process_name, set_up_messages
    from qdevpy.vm.run import boot

    host = parsed.host
    set_up_messages(host, PROGRAM)
    if host.process:
        set_process_name(host.process)
    with Background(host) as background:
        if background.is_parent:
            return background.status
        return boot(parsed.definition, registry, ready=background.ready, final=final, trace=host.trace)
