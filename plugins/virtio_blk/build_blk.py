# SPDX-License-Identifier: Apache-2.0
"""Builds ``qdevpy_virtio_blk._native`` with cffi; run from the project's root (setup.py does).

Where liburing's header and library are there, the io_uring engine is built in, statically linked if possible.
``QDEVPY_SANITIZE=1`` adds AddressSanitizer and UBSan, as for the core.
"""

import os
import shlex
import subprocess
import sysconfig
from glob import glob
from pathlib import Path

from cffi import FFI

ROOT = "plugins/virtio_blk"
INCLUDE = "qdevpy/native/include"
SOURCES = [
    "request",
    "merge",
    "at_once",
    "queue",
    "pool",
    "engine_threads",
    "engine_uring",
    "engine_native",
    "engine_null",
]
FLAGS = ["-std=gnu11", "-O2", "-g1", "-Wall", "-Wextra", "-Werror", "-pthread"]
#: what cffi generates is not ours to keep warning-free
GENERATED = ["-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-cast-function-type"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
URING_PROBE = "#include <liburing.h>\nint main(void) { struct io_uring r; return io_uring_queue_init(1, &r, 0); }\n"


def find_uring() -> list[str] | None:
    """The linker's arguments for liburing, or None where it cannot be built against."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    for library in ("-l:liburing.a", "-luring"):
        command = [*compiler, "-x", "c", "-", "-o", os.devnull, library]
        try:
            if subprocess.run(command, input=URING_PROBE.encode(), capture_output=True).returncode == 0:
                return [library]
        except OSError:
            return None
    return None


sanitize = SANITIZE if os.environ.get("QDEVPY_SANITIZE") == "1" else []
uring = find_uring()

ffibuilder = FFI()
ffibuilder.cdef((Path(__file__).parent / "csrc/blk_cdef.h").read_text())
ffibuilder.set_source(
    "qdevpy_virtio_blk._native",
    '#include "blk.h"\n',
    sources=[f"{ROOT}/csrc/{name}.c" for name in SOURCES],
    include_dirs=[INCLUDE, f"{ROOT}/csrc"],
    define_macros=[] if uring is None else [("BLK_HAVE_URING", "1")],
    extra_compile_args=[*FLAGS, *GENERATED, *sanitize],
    extra_link_args=["-pthread", *(uring or []), *sanitize],
    depends=[
        f"{ROOT}/csrc/blk.h",
        f"{ROOT}/csrc/blk_cdef.h",
        f"{ROOT}/csrc/pool.h",
        *sorted(glob(f"{INCLUDE}/qd_*.h")),
    ],
)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=".", verbose=True)
