# SPDX-License-Identifier: Apache-2.0
"""A machine with a complete /dev/kvm, in software: for computers whose own is not complete, or not there.

    python tests/lab/lab.py [--timeout SECONDS] [--out FOLDER] [--processors N] -- COMMAND...

runs COMMAND in a QEMU machine under software emulation, which can emulate a processor with AMD's virtualization.
Debian's kernel in it loads kvm-amd. It sees this computer's files at their usual paths; what it writes is lost, except
in $LAB_OUT. README.md tells how it works, and what it costs.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qdevpy.testing.initramfs import File, initramfs
from qdevpy.testing.kernel import KernelError, cache_folder, debian_kernel

QEMU = "qemu-system-x86_64"
LAB_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "tun", "kvm_amd")
BUSYBOX = Path("/bin/busybox")
MEMORY_MIB = 3072
START_SECONDS = 60  # on a loaded machine; 3 to 6 on an idle one

#: first process of the lab: mount this computer's files under a throw-away layer, and run the command there
INIT = """\
#!/bin/busybox sh
alias b=/bin/busybox
b mkdir -p /proc /sys /dev /below /layer /root /out
b mount -t proc proc /proc
b mount -t sysfs sys /sys
b mount -t devtmpfs dev /dev
for module in /modules/*; do b insmod $module; done
options=trans=virtio,version=9p2000.L,msize=512000
b mount -t 9p -o $options,ro,cache=loose files /below
b mount -t tmpfs layer /layer
b mkdir /layer/upper /layer/work
b mount -t overlay -o lowerdir=/below,upperdir=/layer/upper,workdir=/layer/work overlay /root
for folder in proc sys dev; do b mount --bind /$folder /root/$folder; done
b mkdir -p /root/dev/pts /root/dev/shm
b mount -t devpts pts /root/dev/pts
for folder in dev/shm run; do b mount -t tmpfs tmpfs /root/$folder; done
b mkdir /root/run/lab
b mount -t 9p -o $options out /root/run/lab
b ip link set lo up
b chroot /root /bin/sh /run/lab/command </dev/null
echo $? >/root/run/lab/status
b sync
b reboot -f
"""

KERNEL_WORDS = "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t mitigations=off watchdog_thresh=20 softlockup_panic=1"
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "PYTHONPATH", "VIRTUAL_ENV", "XDG_CACHE_HOME")


class LabError(Exception):
    """The lab itself does not work: programs are missing, or it stopped without a result."""


@dataclass(frozen=True)
class Result:
    """What a command in the lab did.

    :ivar status: its exit status
    :ivar output: what it printed
    :ivar attempts: how often the lab had to be started
    """

    status: int
    output: str
    attempts: int


def missing_programs() -> list[str]:
    """Debian packages that the lab needs and that are not there."""
    needed = {"qemu-system-x86": shutil.which(QEMU), "busybox-static": BUSYBOX.exists(), "dpkg": shutil.which("dpkg")}
    return [package for package, found in needed.items() if not found]


def _boot_files() -> tuple[Path, Path]:
    """Kernel and initramfs of the lab; the latter is made anew when this file has changed."""
    kernel = debian_kernel("amd64")
    archive = cache_folder() / "lab-initramfs.gz"
    if not archive.exists() or archive.stat().st_mtime < max(Path(__file__).stat().st_mtime, kernel.image.stat().st_mtime):
        files = {"init": File(INIT.encode(), 0o755), "bin/busybox": File(BUSYBOX.read_bytes(), 0o755)}
        made = archive.with_suffix(f".{os.getpid()}")
        made.write_bytes(initramfs(files | kernel.modules(LAB_MODULES)))
        made.replace(archive)
    return kernel.image, archive


def _qemu(out: Path, processors: int) -> list[str]:
    image, archive = _boot_files()
    folder = "local,security_model=none"
    threads = "single" if processors == 1 else "multi"
    return [
        *(QEMU, "-M", "q35", "-accel", f"tcg,thread={threads}", "-cpu", "max", "-smp", str(processors), "-m", str(MEMORY_MIB)),
        *("-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"),
        *("-kernel", str(image), "-initrd", str(archive), "-append", KERNEL_WORDS),
        *("-virtfs", f"{folder},path=/,mount_tag=files,readonly=on,multidevs=remap"),
        *("-virtfs", f"{folder},path={out},mount_tag=out"),
    ]


def _script(command: Sequence[str], variables: Mapping[str, str]) -> str:
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in {**kept, **variables, "LAB_OUT": "/run/lab"}.items()]
    return "\n".join([*lines, f"cd {shlex.quote(os.getcwd())} || exit 126", f"exec {shlex.join(command)} 2>&1", ""])


def run_in_lab(
    command: Sequence[str],
    *,
    timeout: float,
    out: Path,
    variables: Mapping[str, str] | None = None,
    attempts: int = 2,
    echo: bool = False,
    processors: int = 1,
) -> Result:
    """Run COMMAND in the lab, in the current directory.

    :param timeout: seconds that the command may take, once the lab is up
    :param out: folder that the command finds at ``$LAB_OUT``, for what is to be kept
    :param variables: environment of the command
    :param attempts: a lab that stops without a result, which emulation of this depth does now and then, is started anew
    :param echo: pass the output on while it comes
    :param processors: more than one are emulated on as many threads; README.md tells what came of that
    :raises LabError: missing programs; no attempt gave a result
    """
    if missing := missing_programs():
        raise LabError(f"the lab needs {', '.join(missing)} (apt-get install them)")
    status = out / "status"
    output = ""
    for attempt in range(1, attempts + 1):
        status.unlink(missing_ok=True)
        (out / "command").write_text(_script(command, variables or {}))
        output, reason = _run_once(_qemu(out, processors), timeout + START_SECONDS, echo)
        if status.exists() and (text := status.read_text().strip()):
            return Result(int(text), output, attempt)
        left = "; once more" if attempt < attempts else ""
        print(f"lab: {reason} before the command ended{left}; its last words:\n{output[-1000:]}", file=sys.stderr)
    raise LabError(f"the lab stopped {attempts} times before the command ended; the last output:\n{output[-4000:]}")


def _run_once(qemu: Sequence[str], timeout: float, echo: bool) -> tuple[str, str]:
    """The lab's output, and how it ended."""
    with tempfile.TemporaryFile() as kept:
        process = subprocess.Popen(qemu, stdin=subprocess.DEVNULL, stdout=None if echo else kept, stderr=subprocess.STDOUT)
        try:
            process.wait(timeout)
            reason = "the lab stopped"
        except subprocess.TimeoutExpired:
            reason = f"the lab was stopped after {timeout:g} s"
        finally:
            process.kill()
            process.wait()
        kept.seek(0)
        return kept.read().decode(errors="replace"), reason


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--processors", type=int, default=1)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        try:
            return run_in_lab(
                arguments.command, timeout=arguments.timeout, out=out.resolve(), echo=True, processors=arguments.processors
            ).status
        except (LabError, KernelError) as error:
            print(f"lab: {error}", file=sys.stderr)
            return 125


if __name__ == "__main__":
    sys.exit(main())
