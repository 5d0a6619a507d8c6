# SPDX-License-Identifier: Apache-2.0
"""Builds ``qdevpy.native._core``, the C core, with cffi; run from the project's root (setup.py does).

``QDEVPY_SANITIZE=1`` in the environment adds AddressSanitizer and UBSan; such a module needs
``LD_PRELOAD=$(gcc -print-file-name=libasan.so)`` and ``ASAN_OPTIONS=detect_leaks=0``.
"""

import os
from glob import glob
from pathlib import Path

from cffi import FFI

ROOT = "qdevpy/native"
SOURCES = ["fault", "intx", "loop", "meter", "poller", "pyqueue", "pywait", "queue", "relay", "space", "tap"]
SOURCES += ["trace", "trace_packets", "vcpu"]
HEADERS = ["<sys/uio.h>", *(f'"{name}.h"' for name in ("qd_kvm", "qd_intx", "qd_meter", "core", "relay", "trace"))]
FLAGS = ["-std=gnu11", "-O2", "-g1", "-Wall", "-Wextra", "-Werror", "-pthread"]
#: what cffi generates is not ours to keep warning-free
GENERATED = ["-Wno-unused-parameter", "-Wno-missing-field-initializers", "-Wno-cast-function-type"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]

sanitize = SANITIZE if os.environ.get("QDEVPY_SANITIZE") == "1" else []

ffibuilder = FFI()
ffibuilder.cdef((Path(__file__).parent / "csrc/core_cdef.h").read_text())
ffibuilder.set_source(
    "qdevpy.native._core",
    "".join(f"#include {name}\n" for name in HEADERS),
    sources=[f"{ROOT}/csrc/{name}.c" for name in SOURCES],
    include_dirs=[f"{ROOT}/include", f"{ROOT}/csrc"],
    extra_compile_args=[*FLAGS, *GENERATED, *sanitize],
    extra_link_args=["-pthread", *sanitize],
    depends=[
        f"{ROOT}/csrc/core.h",
        f"{ROOT}/csrc/fair_lock.h",
        f"{ROOT}/csrc/poller.h",
        f"{ROOT}/csrc/relay.h",
        f"{ROOT}/csrc/trace.h",
        f"{ROOT}/csrc/core_cdef.h",
        *sorted(glob(f"{ROOT}/include/qd_*.h")),
    ],
)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=".", verbose=True)
