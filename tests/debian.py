# SPDX-License-Identifier: Apache-2.0
"""Install the Debian packages that the tests use, where that is allowed; say what is missing where it is not.

    python3 tests/debian.py [--outdates STAMP]

Runs before the build and with nothing but Python. STAMP is removed where a package was installed, so that what was built
without it is built again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

#: package: what for
PACKAGES = {
    "gcc": "the C core",
    "qemu-system-x86": "the lab, and the demo guest under QEMU",
    "qemu-system-common": "the lab's firmware, and qemu-storage-daemon as a vhost-user back end",
    "qemu-utils": "that QEMU respects our locks on images",
    "seabios": "the lab's firmware, and machines without a kernel",
    "ipxe-qemu": "booting from virtio-net",
    "busybox-static": "the lab's and the Linux guest's user space",
    "e2fsprogs": "the Linux guest's root file system",
    "passt": "netdev type user",
    "iproute2": "taps and network namespaces",
    "liburing-dev": "aio=io_uring",
    "valgrind": "instruction counts of the ring code",
    "acpica-tools": "reading our ACPI tables back",
    "dpkg-dev": "QEMU's own tests",
    "pkg-config": "QEMU's own tests",
    "meson": "QEMU's own tests",
    "ninja-build": "QEMU's own tests",
    "libglib2.0-dev": "QEMU's own tests",
    "libpixman-1-dev": "QEMU's own tests",
    "libfdt-dev": "QEMU's own tests",
}
#: where Python is Debian's own
PYTHON_PACKAGES = {"python3-dev": "the C core", "python3-venv": "the environment of the tests"}


def installed(package: str) -> bool:
    """Whether dpkg knows the package as installed."""
    result = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package], capture_output=True, text=True)
    return result.returncode == 0 and result.stdout == "installed"


def main() -> int:
    """Install what is missing; 0 also where it cannot be installed, since the tests that need it say so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outdates", type=Path, metavar="STAMP", help="file to remove where something was installed")
    arguments = parser.parse_args()
    if shutil.which("dpkg-query") is None:
        print("tests: not a Debian system; tests that need one of these programs are skipped:", ", ".join(PACKAGES))
        return 0
    wanted = PACKAGES | (PYTHON_PACKAGES if sys.base_prefix == "/usr" else {})
    missing = [package for package in wanted if not installed(package)]
    if not missing:
        return 0
    apt = ["apt-get"] if os.geteuid() == 0 else ["sudo", "-n", "apt-get"]
    print("tests: installing from Debian:", *missing, flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "env": environment}
    done = all(
        subprocess.run([*apt, *words], check=False, **quiet).returncode == 0  # type: ignore[call-overload]
        for words in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *missing])
    )
    if not done:
        print("tests: could not install them; tests that need one are skipped:")
        for package in missing:
            print(f"  {package}: {wanted[package]}")
    elif arguments.outdates:
        arguments.outdates.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
