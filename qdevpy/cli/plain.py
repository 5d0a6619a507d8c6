# SPDX-License-Identifier: Apache-2.0
"""``qdevpy boot`` without click, which takes 12 ms to import and to run: a twelfth of what a boot may take in all.

Only what is plain is understood here: the command first, options by their full names, nothing wrong. Anything else, help
and mistakes included, is click's (:mod:`qdevpy.cli.app`), which also is where options are documented. A test runs the
same command lines through both.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

COMMAND = "boot"
FLAGS = {"--no-reboot": "no_reboot", "-v": "verbose", "--verbose": "verbose", "--debug": "debug"}
VALUES = {
    "--set": "settings",
    "--kernel": "kernel",
    "--initrd": "initrd",
    "--append": "append",
    "--accel": "accel",
    "--trace": "trace",
}


def parse_boot(words: Sequence[str]) -> dict[str, Any] | None:
    """The arguments of :func:`qdevpy.cli.machines.boot_machine`; None: not plain."""
    if not words or words[0] != COMMAND or "_QDEVPY_COMPLETE" in os.environ:
        return None
    from qdevpy.cli.machines import DEFAULT_MACHINE

    found: dict[str, Any] = {**dict.fromkeys(FLAGS.values(), False), **dict.fromkeys(VALUES.values()), "settings": ()}
    machine = None
    left = iter(words[1:])
    for word in left:
        name, given, value = word.partition("=")
        if word in FLAGS:
            found[FLAGS[word]] = True
        elif name in VALUES:
            text = value if given else next(left, None)
            if text is None or (not given and text.startswith("-")):
                return None
            found[VALUES[name]] = (*found["settings"], text) if name == "--set" else text
        elif word.startswith("-") or machine is not None:
            return None
        else:
            machine = word
    return {"machine": DEFAULT_MACHINE if machine is None else machine, "stats": False, **found}


def run_plain(words: Sequence[str]) -> int | None:
    """Run a plain ``boot``; its exit status, or None where click must have a look."""
    arguments = parse_boot(words)
    if arguments is None:
        return None
    from qdevpy.cli.machines import boot_machine
    from qdevpy.cli.process import run_guarded

    return run_guarded(lambda: boot_machine(**arguments))
