# SPDX-License-Identifier: Apache-2.0
"""Kernels that guests boot, with their modules: installed ones, or Debian's, downloaded and unpacked without installing."""

from __future__ import annotations

import fcntl
import gzip
import lzma
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from qdevpy.errors import QdevpyError
from qdevpy.testing.initramfs import File

#: modules that are wanted; what they depend on comes along
GUEST_MODULES = ("virtio_pci", "virtio_console", "virtio_blk", "virtio_net")
DEBIAN = "debian:"  #: in front of a flavour where a kernel's path may stand


class KernelError(QdevpyError):
    """A kernel or a module cannot be had here; the text says why."""


@dataclass(frozen=True)
class Kernel:
    """A kernel's files.

    :ivar folder: below which its modules are; None: nobody knows
    :ivar image: its bzImage
    :ivar version: as ``uname -r`` says, where the image's name tells
    """

    folder: Path | None
    image: Path
    version: str

    @classmethod
    def of(cls, place: str | os.PathLike[str]) -> Kernel:
        """``debian:FLAVOUR`` as of :func:`debian_kernel`, or an image.

        The modules of ``ROOT/boot/vmlinuz-VERSION`` are in ``ROOT/lib/modules/VERSION``, as distributions install them.

        :raises KernelError: it is not there
        """
        text = os.fspath(place)
        if text.startswith(DEBIAN):
            return debian_kernel(text.removeprefix(DEBIAN))
        image = Path(text).resolve()
        if not os.access(image, os.R_OK):
            why = "may not be read by this user" if image.exists() else "is not there"
            raise KernelError(f"kernel {text}: {image} {why}; give a bzImage, or {DEBIAN}cloud-amd64")
        version = image.name.partition("-")[2]
        folder = image.parents[1] / "lib/modules" / version if len(image.parents) > 1 else None
        return cls(folder if folder is not None and version and folder.is_dir() else None, image, version)

    def modules(self, names: Sequence[str]) -> dict[str, File]:
        """NAMES and what they depend on, as ``modules/NN-NAME.ko``, numbered in the order to load them.

        One that is not there is built in, or this version has no such thing: then what needs it says so.
        """
        files = self.folder.rglob("*.ko*") if self.folder is not None else ()
        paths = {path.name.partition(".")[0].replace("-", "_"): path for path in files}
        ordered: dict[str, bytes] = {}

        def add(name: str) -> None:
            if name in ordered or name not in paths:
                return
            data = _read_module(paths[name])
            found = re.search(rb"\0depends=([^\0]*)\0", data)
            for needed in found[1].decode().split(",") if found else ():
                add(needed)
            ordered[name] = data

        for name in names:
            add(name)
        return {f"modules/{number:02}-{name}.ko": File(data) for number, (name, data) in enumerate(ordered.items())}


def _read_module(path: Path) -> bytes:
    """A module as the kernel takes it."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        try:
            return subprocess.run(["zstd", "-dcq"], input=data, stdout=subprocess.PIPE, check=True).stdout
        except FileNotFoundError:
            raise KernelError(f"{path.name} is compressed, and zstd is not installed") from None
    return data


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/qdevpy-tests``, made if need be."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qdevpy-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time; tests may run in parallel."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def debian_kernel(flavour: str) -> Kernel:
    """The kernel that ``linux-image-FLAVOUR`` (``cloud-amd64``, ``amd64``) stands for; downloaded once, then from the cache.

    :raises KernelError: no Debian, or its archive cannot be reached
    """
    cache = cache_folder()
    with _locked(cache):
        folder = cache / f"linux-{flavour}"
        if not folder.is_dir():
            _unpack(flavour, folder)
    image = next((folder / "boot").glob("vmlinuz-*"))
    return Kernel(folder, image, image.name.removeprefix("vmlinuz-"))


def _run(*command: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)
    except FileNotFoundError:
        raise KernelError(f"{command[0]} is not installed; stock kernels come from Debian's package archive") from None
    if done.returncode != 0:
        raise KernelError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _package(flavour: str) -> str | None:
    """What the meta package depends on at present; None where apt's lists do not have it."""
    meta = f"linux-image-{flavour}"
    try:
        words = _run("apt-cache", "depends", "--important", meta).split()
    except KernelError:
        return None
    return next(
        (word for word in words if word.startswith("linux-image-") and word.endswith(f"-{flavour}") and word != meta), None
    )


def _unpack(flavour: str, folder: Path) -> None:
    package = _package(flavour)
    if package is None:
        _run("apt-get", "update", "-q")
        package = _package(flavour)
    if package is None:
        raise KernelError(f"apt knows no linux-image-{flavour}; stock kernels come from Debian's package archive")
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        _run("apt-get", "download", "-q", package, cwd=Path(work))
        _run("dpkg", "-x", *map(str, Path(work).glob("*.deb")), f"{work}/tree")
        (Path(work) / "tree").rename(folder)
