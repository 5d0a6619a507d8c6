# SPDX-License-Identifier: Apache-2.0
"""QEMU's own qtest programs, built from Debian's source package; once, then from the cache.

Nothing of the system's apt configuration is changed: the package lists for sources are kept in a folder of their own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

#: release of Debian, and QEMU's version in it: what the tests expect
RELEASE, VERSION = "bookworm", "7.2"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

CONFIGURE = (
    "--target-list=x86_64-softmmu",
    "--without-default-features",
    "--enable-kvm",
    "--enable-tcg",
    "--enable-fdt=system",
    "--disable-install-blobs",
    "--meson=/usr/bin/meson",
)
#: what the programs are built with, by Debian package
NEEDED = {
    "dpkg-source": "dpkg-dev",
    "meson": "meson",
    "ninja": "ninja-build",
    "cc": "gcc",
    "pkg-config": "pkg-config",
}


class SourceError(Exception):
    """The programs cannot be had here; the text says why."""


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/qdevpy-tests``, made if need be."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qdevpy-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def built_programs(names: Sequence[str]) -> Path:
    """The folder with the test programs NAMES.

    ``QDEVPY_QEMU_TESTS`` names a folder with programs that were built before.

    :raises SourceError: no Debian, its archive cannot be reached, or the build fails
    """
    given = os.environ.get("QDEVPY_QEMU_TESTS")
    if given:
        return Path(given)
    cache = cache_folder()
    folder = cache / f"qemu-tests-{VERSION}"
    with (cache / "qemu-tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((folder / name).exists() for name in names):
            missing = [package for program, package in NEEDED.items() if shutil.which(program) is None]
            if missing:
                raise SourceError(f"QEMU's tests need the Debian packages {', '.join(missing)}")
            with tempfile.TemporaryDirectory(dir=cache, prefix="qemu-source-") as work:
                _build(Path(work), folder, names)
    return folder


def _build(work: Path, folder: Path, names: Sequence[str]) -> None:
    source = _source(work)
    for blob in ("aarch64-code", "arm-code", "arm-vars", "i386-code", "i386-secure-code", "i386-vars", "x86_64-code"):
        _touch(source / "pc-bios" / f"edk2-{blob}.fd.bz2")
    _touch(source / "pc-bios" / "edk2-x86_64-secure-code.fd.bz2")
    build = source / "b"
    build.mkdir()
    _run("../configure", *CONFIGURE, cwd=build)
    targets = [f"tests/qtest/{name}" for name in names]
    _run("ninja", *targets, cwd=build)
    ready = work / "ready"
    ready.mkdir()
    for target in targets:
        shutil.copy(build / target, ready)
    shutil.rmtree(folder, ignore_errors=True)
    ready.rename(folder)


def _touch(path: Path) -> None:
    """Debian took QEMU's copies of other people's firmware out; the build only wants to see files."""
    if not path.exists():
        path.touch()


def _source(work: Path) -> Path:
    """Download and unpack the source package; its folder."""
    lists = work / "lists"
    (lists / "partial").mkdir(parents=True)
    sources = work / "sources.list"
    trust = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    sources.write_text(f"deb-src {trust}{_mirror()} {RELEASE} main\n")
    options = (
        *("-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=/dev/null"),
        *("-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={work}/cache", "-o", "APT::Sandbox::User=root"),
    )
    (work / "cache/archives/partial").mkdir(parents=True)
    _run("apt-get", "-q", *options, "update", cwd=work)
    _run("apt-get", "-q", *options, "source", "qemu", cwd=work)
    found = [path for path in work.glob(f"qemu-{VERSION}*") if path.is_dir()]
    if not found:
        raise SourceError(f"Debian's source package of QEMU in {RELEASE} is not version {VERSION}")
    return found[0]


def _mirror() -> str:
    """Where this machine gets the release from.

    :raises SourceError: it is of another release
    """
    targets = _run("apt-get", "indextargets", "--format", "$(RELEASE) $(SITE)", "Created-By: Packages")
    sites = [line.split()[1] for line in targets.splitlines() if line.split()[:1] == [RELEASE] and len(line.split()) == 2]
    found = sorted(sites, key=lambda site: not site.rstrip("/").endswith("/debian"))  # others may have packages for it, too
    if not found:
        raise SourceError(
            f"QEMU's tests are built from the source package of Debian {RELEASE}, and apt gets no packages of it here"
        )
    return found[0]


def _run(*command: str, cwd: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("CFLAGS", "LDFLAGS", "PYTHONPATH")}
    # Debian's meson is a module of Debian's Python, which must come before the tests' own
    environment["PATH"] = f"/usr/sbin:/usr/bin:/sbin:/bin:{environment.get('PATH', '')}"
    try:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=1800)
    except FileNotFoundError:
        raise SourceError(f"{command[0]} is not installed; QEMU's tests come from Debian's package archive") from None
    except subprocess.TimeoutExpired:
        raise SourceError(f"{' '.join(command[:3])}...: not done within half an hour") from None
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise SourceError(f"{' '.join(command[:3])}...: exit status {done.returncode}:\n{last}")
    return done.stdout
