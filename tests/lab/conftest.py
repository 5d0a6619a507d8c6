# SPDX-License-Identifier: Apache-2.0
"""Where a machine that needs a complete KVM runs: here, or in the lab."""

from __future__ import annotations

import compileall
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lab_linux
import pytest
from lab import missing_programs, run_in_lab

from qdevpy.testing.kernel import Kernel, debian_kernel

SCENARIO = Path(__file__).with_name("lab_scenario.py")
PAYLOAD = bytes((n * n >> 3) & 0xFF for n in range(1 << 20))
MESSAGE = "first line\n" + "".join(f"line {n:4} of what goes there and back again\n" for n in range(400))
SECONDS_HERE = 60
SECONDS_IN_LAB = 240


def kvm_is_complete() -> bool:
    """Whether /dev/kvm can be used and has the processor's virtualization behind it, as a stock kernel needs.

    ``QDEVPY_LAB=always`` or ``never`` says something else.
    """
    choice = os.environ.get("QDEVPY_LAB", "auto")
    if choice != "auto":
        return choice == "never"
    hardware = any(Path(f"/sys/module/{module}").exists() for module in ("kvm_intel", "kvm_amd"))
    return hardware and os.access("/dev/kvm", os.R_OK | os.W_OK)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here is a lab test; without the programs it needs it is skipped, and they are named."""
    needed = {"busybox-static": lab_linux.BUSYBOX.exists(), "e2fsprogs": shutil.which("mke2fs"), "iproute2": shutil.which("ip")}
    missing = [package for package, found in needed.items() if not found]
    if not kvm_is_complete():
        missing = sorted({*missing, *missing_programs()})
    here = Path(__file__).parent
    for item in items:
        if here not in item.path.parents:
            continue
        item.add_marker(pytest.mark.lab)
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)}"))


@pytest.fixture
def run_where_kvm_is_complete(
    tmp_path: Path, compiled: None, capsys: pytest.CaptureFixture[str]
) -> Callable[[list[str]], tuple[int, str]]:
    """Run a command that finds ``tmp_path`` in place of ``{out}``; its exit status and output."""

    def run(command: list[str]) -> tuple[int, str]:
        if kvm_is_complete():
            root = os.geteuid() == 0
            inside = ["unshare", "--net"] if root else ["unshare", "--net", "--user", "--map-root-user"]
            words = [word.format(out=tmp_path) for word in command]
            done = subprocess.run([*inside, *words], capture_output=True, text=True, timeout=2 * SECONDS_HERE)
            return done.returncode, done.stdout + done.stderr
        words = [word.format(out="/run/lab") for word in command]
        result = run_in_lab(words, timeout=SECONDS_IN_LAB + 60, out=tmp_path)
        if result.attempts > 1:
            with capsys.disabled():
                print(f"\nlab: stopped without a result and was started {result.attempts} times")
        return result.status, result.output

    return run


@pytest.fixture(scope="session")
def compiled() -> None:
    """Byte code of everything: Python in the lab is slow, and what it compiled there would be lost."""
    packages = ("qdevpy", "qdevpy_machine", "qdevpy_virtio_blk", "qdevpy_virtio_net", "qdevpy_virtio_console")
    for spec in map(importlib.util.find_spec, packages):
        assert spec is not None
        compileall.compile_dir(str(spec.submodule_search_locations[0]), quiet=2)


@pytest.fixture(scope="session")
def stock_kernel() -> Kernel:
    """Debian's kernel for clouds, as it is."""
    return debian_kernel("cloud-amd64")


@pytest.fixture(scope="session")
def stock_initramfs(stock_kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its initramfs."""
    path = tmp_path_factory.mktemp("linux") / "initrd.gz"
    path.write_bytes(lab_linux.make_initramfs(stock_kernel))
    return path


class Boot:
    """One boot of the stock kernel and what came of it.

    :ivar status: of the machine's process; None: it did not end in time
    :ivar console: everything it printed
    :ivar echoed: what came back from the serial port
    :ivar image: the disk afterwards
    :ivar seconds: it took
    """

    def __init__(self, folder: Path) -> None:
        result = json.loads((folder / "result.json").read_text())
        self.status: int | None = result["status"]
        self.echoed: str = result["echoed"]
        self.seconds: float = result["seconds"]
        self.console = (folder / "console").read_text(errors="replace").replace("\r\n", "\n")
        self.image = folder / "disk.img"


@pytest.fixture
def boot_linux(
    tmp_path: Path,
    stock_kernel: Kernel,
    stock_initramfs: Path,
    run_where_kvm_is_complete: Callable[[list[str]], tuple[int, str]],
) -> Callable[..., Boot]:
    """Boot the stock kernel with so many CPUs and these settings of the definition; with an init of the test's own, which
    may reboot, where it gives one."""

    def boot(cpus: int, init: str | None = None, **settings: str) -> Boot:
        lab_linux.make_root_image(tmp_path / "disk.img", PAYLOAD)
        (tmp_path / "payload").write_bytes(PAYLOAD)
        initramfs = tmp_path / "initrd.gz"
        if init is None:
            shutil.copyfile(stock_initramfs, initramfs)
        else:
            initramfs.write_bytes(lab_linux.make_initramfs(stock_kernel, init))
        scenario = {
            "vmm": os.environ.get("QDEVPY_LAB_VMM", "qdevpy"),
            "kernel": str(stock_kernel.image),
            "initrd": str(initramfs),
            "reboots": init is not None,
            "cpus": cpus,
            "settings": settings,
            "timeout": SECONDS_HERE if kvm_is_complete() else SECONDS_IN_LAB,
            "host_address": lab_linux.HOST_ADDRESS,
            "port": lab_linux.PORT,
            "serial_name": lab_linux.SERIAL_NAME,
            "message": MESSAGE,
        }
        (tmp_path / "scenario.json").write_text(json.dumps(scenario))
        status, output = run_where_kvm_is_complete([sys.executable, str(SCENARIO), "{out}"])
        assert status == 0, output
        return Boot(tmp_path)

    return boot
