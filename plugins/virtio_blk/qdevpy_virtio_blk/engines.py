# SPDX-License-Identifier: Apache-2.0
"""Engines: what runs a disk's requests on the host (QEMU: BlockdevAioOptions)."""

from __future__ import annotations

import errno
import os

#: in the order of csrc/blk.h's ``enum blk_aio``
ENGINES = ("threads", "io_uring", "native")
AIO_NULL = len(ENGINES)

#: what a drive that chooses it gets
PURPOSE = {
    "threads": "drives' I/O by threads; always there",
    "io_uring": "drives' I/O by io_uring",
    "native": "drives' I/O by Linux AIO, with cache.direct",
}

#: what to do about an errno of io_uring_setup(2) or io_setup(2), beyond what its own text says
_ADVICE = {
    ("io_uring", errno.EPERM): "sysctl kernel.io_uring_disabled=0",
    ("native", errno.EAGAIN): "all contexts are in use, raise sysctl fs.aio-max-nr",
}


def problem(engine: str, error: int) -> str | None:
    """Why there is no ENGINE here, or None: there is.

    :param error: errno of ``blk_probe()``; 0: it is there
    """
    if error == 0:
        return None
    if error == errno.ENOSYS and engine == "io_uring":
        return "neither this build of qdevpy (liburing-dev was missing) nor perhaps the kernel has io_uring"
    what = "io_uring" if engine == "io_uring" else "Linux AIO"
    advice = _ADVICE.get((engine, error))
    return f"the kernel refuses {what} ({os.strerror(error)}" + (f": {advice})" if advice else ")")
