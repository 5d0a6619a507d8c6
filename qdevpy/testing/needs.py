# SPDX-License-Identifier: Apache-2.0
"""What a test needs of the host: looked for when a test asks, once a process, with one line that says what is missing.

====================  ==============================================================
``kvm``               ``/dev/kvm``, for this user
``complete-kvm``      the same with the processor's virtualization behind it, as a stock kernel needs
``vhost-net``         ``/dev/vhost-net``, for this user
``tap``               ``/dev/net/tun``, and the right to make an interface with it
``root``              user id 0
``program:NAME``      a program on PATH
``file:PATH``         a file
``busybox``           ``/bin/busybox``, linked statically, of which an initrd is made
====================  ==============================================================
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

from qdevpy.errors import did_you_mean

BUSYBOX = Path("/bin/busybox")
TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
ELF_INTERPRETER = 3  # PT_INTERP: what is linked dynamically has one
#: modules that drive a processor's virtualization; with any other KVM a stock kernel does not run, or not in useful time
COMPLETE = ("kvm_intel", "kvm_amd")


def _device(path: str, advice: str) -> str | None:
    if not os.path.exists(path):
        return f"{path} is not there; {advice}"
    if not os.access(path, os.R_OK | os.W_OK):
        return f"{path} may not be used by this user; sudo chmod 666 {path}, or join its group"
    return None


def _kvm() -> str | None:
    return _device("/dev/kvm", "switch virtualization on in the firmware, or in the hypervisor that this machine runs on")


def _complete_kvm() -> str | None:
    if any(Path(f"/sys/module/{module}").exists() for module in COMPLETE):
        return _kvm()
    return _kvm() or f"/dev/kvm does not have the processor's virtualization behind it (none of {', '.join(COMPLETE)} is loaded)"


def _vhost_net() -> str | None:
    return _device("/dev/vhost-net", "sudo modprobe vhost_net")


def _tap() -> str | None:
    missing = _device("/dev/net/tun", "sudo modprobe tun")
    if missing is not None:
        return missing
    try:
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        try:  # an interface that goes with its descriptor, under a name that the kernel makes up
            fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"qdevpy%d", IFF_TAP | IFF_NO_PI))
        finally:
            os.close(tun)
    except OSError as error:
        return f"cannot make a tap interface: {error.strerror}; run as root, or under unshare --net --map-root-user"
    return None


def _root() -> str | None:
    return None if os.geteuid() == 0 else "this is not root; run the tests with sudo, or under unshare --map-root-user"


def _busybox() -> str | None:
    if not BUSYBOX.exists():
        return f"{BUSYBOX} is not there; install busybox-static"
    data = BUSYBOX.read_bytes()
    table, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    kinds = {struct.unpack_from("<I", data, table + size * number)[0] for number in range(count)}
    return f"{BUSYBOX} is linked dynamically; install busybox-static" if ELF_INTERPRETER in kinds else None


def _program(name: str) -> str | None:
    return None if shutil.which(name) else f"{name} is not on PATH; install it"


def _file(path: str) -> str | None:
    return None if os.path.exists(path) else f"{path} is not there"


NEEDS: dict[str, Callable[[], str | None]] = {
    "kvm": _kvm,
    "complete-kvm": _complete_kvm,
    "vhost-net": _vhost_net,
    "tap": _tap,
    "root": _root,
    "busybox": _busybox,
}
#: these are written with a colon and what is looked for
NEEDS_OF: dict[str, Callable[[str], str | None]] = {"program": _program, "file": _file}


@cache
def find_missing(need: str) -> str | None:
    """What is missing for NEED and what to do about it; None: it is there.

    :raises ValueError: there is no such need; names those that there are
    """
    kind, colon, argument = need.partition(":")
    if colon and argument and kind in NEEDS_OF:
        return NEEDS_OF[kind](argument)
    if need in NEEDS:
        return NEEDS[need]()
    known = [*NEEDS, *(f"{name}:..." for name in NEEDS_OF)]
    raise ValueError(f"'{need}' is nothing that a test can need{did_you_mean(need, known) or '; there are: ' + ', '.join(known)}")
