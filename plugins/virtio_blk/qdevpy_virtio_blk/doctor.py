# SPDX-License-Identifier: Apache-2.0
"""What ``qdevpy doctor`` says of disks: the engines that this build and this kernel have."""

from __future__ import annotations

from collections.abc import Iterator

from qdevpy.plugin.finding import Finding
from qdevpy_virtio_blk import engines


def findings() -> Iterator[Finding]:
    """One a choice of a drive's ``aio``, each tried for real: a ring is set up, a context is made, and given back."""
    try:
        from qdevpy_virtio_blk._native import lib
    except ImportError as error:
        yield Finding("virtio-blk", False, str(error), "build it: pip install . (needs a C compiler and cffi)")
        return
    for number, engine in enumerate(engines.ENGINES):
        problem = engines.problem(engine, -lib.blk_probe(number))
        purpose = engines.PURPOSE[engine]
        yield Finding(f"aio: {engine}", problem is None, problem or purpose, "drives use aio: threads without it")
