# SPDX-License-Identifier: Apache-2.0
"""Compile the demo guest: ``python machine/build_guest.py`` makes guest/demo.elf where it has to be made anew.

``setup.py`` calls :func:`build` so that every installation has it. ``CC`` names another compiler.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

GUEST = Path(__file__).resolve().parent / "qdevpy_machine" / "guest"

FLAGS = shlex.split("""
    -std=gnu11 -O2 -Wall -Wextra -Werror -m64 -march=x86-64 -mgeneral-regs-only -mno-red-zone -mcmodel=small
    -ffreestanding -fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables -fno-strict-aliasing -fcf-protection=none
    -static -nostdlib -no-pie -Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,max-page-size=4096
""")


def build(target: Path = GUEST / "demo.elf") -> Path:
    """Compile the guest's sources to TARGET, unless that is newer than all of them.

    :raises subprocess.CalledProcessError: the compiler has said why
    """
    script = GUEST / "demo.ld"
    inputs = [*sorted(GUEST.glob("*.S")), *sorted(GUEST.glob("*.c"))]
    newest = max(path.stat().st_mtime for path in [*inputs, script, *GUEST.glob("*.h"), Path(__file__)])
    if target.exists() and target.stat().st_mtime >= newest:
        return target
    compiler = shlex.split(os.environ.get("CC", "gcc"))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        # made aside and moved: somebody may be booting the old one
        made = Path(work) / target.name
        subprocess.run([*compiler, *FLAGS, f"-Wl,-T,{script}", "-o", str(made), *map(str, inputs)], check=True)
        made.replace(target)
    return target


if __name__ == "__main__":
    print(build())
