# SPDX-License-Identifier: Apache-2.0
"""A Linux guest under test: a stock kernel, an initrd with a shell, and the devices that the test is about.

The kernel's console is the first serial port. Commands go to a shell behind a virtio serial port of their own, so that what
the kernel says never gets into their output. A guest with an initrd of the user's has no such port unless that initrd serves
it; commands go to whatever shell is on its console then, once the test has logged in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdevpy.testing.booted import OURS, PATIENCE, BootedMachine
from qdevpy.testing.initramfs import File, initramfs
from qdevpy.testing.kernel import GUEST_MODULES, Kernel
from qdevpy.testing.needs import BUSYBOX
from qdevpy.testing.shell import Finished, GuestShell

if TYPE_CHECKING:
    from qdevpy.testing.transcript import Console

SHELL_PORT = "org.qdevpy.shell"  #: name of the virtio serial port
READY = "qdevpy: shell"  #: what the initrd says there once somebody reads it
CONSOLE, SHELL, SERIAL_BUS = f"{OURS}console", f"{OURS}shell", f"{OURS}vser"
CMDLINE = "console=ttyS0 quiet panic=-1"  #: a guest that panics resets, which ends the machine

INIT = f"""\
#!/bin/busybox sh
# The first program: everything of busybox, the modules that the test asked for, and a shell for the host.
b=/bin/busybox
$b mkdir -p /proc /sys /dev /tmp /sbin /usr/bin /usr/sbin /root
$b mount -t proc proc /proc
$b --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=dumb
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
for module in /modules/*; do [ -e "$module" ] && insmod "$module"; done
find_shell() {{
    for port in /sys/class/virtio-ports/*; do
        [ "$(cat "$port/name" 2>/dev/null)" = {SHELL_PORT} ] && echo "/dev/${{port##*/}}" && return
    done
    return 1
}}
for try in $(seq 200); do shell=$(find_shell) && [ -c "$shell" ] && break; usleep 50000; done
if [ ! -c "$shell" ]; then
    echo 'qdevpy: no serial port for the shell: the kernel needs virtio_pci and virtio_console, built in or as modules'
    poweroff -f
fi
exec 3<>"$shell"
echo '{READY}' >&3
while :; do sh <&3 >&3 2>&3; done
"""


def make_initrd(kernel: Kernel, *, modules: Sequence[str] = (), files: Mapping[str, bytes | File] | None = None) -> bytes:
    """An initramfs of the host's busybox with a shell on the virtio serial port.

    :param modules: loaded at the start, with what they depend on and after virtio's; what is built in need not be named
    :param files: more of it, by path without a leading ``/``; plain bytes are programs
    :raises OSError: there is no busybox
    :raises KernelError: a module cannot be unpacked
    """
    own = {"init": File(INIT.encode(), 0o755), "bin/busybox": File(BUSYBOX.read_bytes(), 0o755)}
    given = {path.lstrip("/"): file if isinstance(file, File) else File(file, 0o755) for path, file in (files or {}).items()}
    return initramfs(own | kernel.modules((*GUEST_MODULES, *modules)) | given)


class LinuxGuest:
    """A booted Linux. Use as a context manager; it is ready when there is one.

    :param kernel: the image
    :param initrd: made by :func:`make_initrd`, or one that serves ``org.qdevpy.shell``, or (``shell=False``) any other
    :param base: definitions that it is laid over, such as the device's own ``machine.yaml``; their kernel is not used
    :param keys: more of the definition: ``memory``, ``cpus``, ``drives``, ``devices``...
    :param append: more of the kernel's command line
    :raises AssertionError: the machine or the guest does not start; says what they said
    :ivar machine: with its log and its monitor
    :ivar console: what the kernel says, and for an initrd of the user's its terminal
    """

    def __init__(
        self,
        kernel: str | os.PathLike[str],
        initrd: str | os.PathLike[str] | None,
        *,
        base: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        keys: Mapping[str, Any] | None = None,
        append: str = "",
        shell: bool = True,
        name: str = "guest",
        patience: float = PATIENCE,
    ) -> None:
        self._serves_shell = shell
        laid = self._definition(dict(keys or {}), kernel, initrd, append)
        channels = [CONSOLE, *([SHELL] if shell else [])]
        self.machine = BootedMachine(base, laid, name=name, qmp=True, channels=channels, patience=patience)
        try:
            self.machine.qmp.execute("set-action", reboot="shutdown")
            self.console = self.machine.channels[CONSOLE]
            self._shell = GuestShell(self._channel)
            self.wait_ready()
        except BaseException:
            self.machine.close()
            raise

    def _definition(self, keys: dict[str, Any], kernel: Any, initrd: Any, append: str) -> dict[str, Any]:
        """What every such machine has is put behind what the test wants, and takes the PCI slots that it leaves."""
        boot = {"kernel": str(Path(kernel).resolve()), "cmdline": f"{CMDLINE} {append}".strip(), **keys.get("boot", {})}
        if initrd is not None:
            boot["initrd"] = str(Path(initrd).resolve())
        port = [
            {"virtio-serial-pci": {"id": SERIAL_BUS}},
            {"virtserialport": {"bus": f"{SERIAL_BUS}.0", "chardev": SHELL, "name": SHELL_PORT}},
        ]
        serial: list[Any] = [{"isa-serial": {"chardev": CONSOLE}}]
        devices = [*keys.get("devices", []), *serial, *(port if self._serves_shell else [])]
        return {"memory": "256M", **keys, "boot": boot, "devices": devices}

    @property
    def _channel(self) -> Console:
        return self.machine.channels[SHELL] if self._serves_shell else self.console

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait for the shell of our initrd after a start.

        :raises AssertionError: the guest does not get there; shows its console
        """
        if not self._serves_shell:
            return
        try:
            self._channel.expect(READY + "\n", timeout)
        except AssertionError as error:
            self.machine.log.join(0)
            said = f"console:\n{self.console.text}\nlog:\n{self.machine.log.text}"
            raise AssertionError(f"the guest did not come as far as its shell: {error}\n{said}") from None

    # -- the guest

    def expect(self, pattern: str, timeout: float | None = None) -> Any:
        """As :meth:`Transcript.expect` of the console."""
        return self.console.expect(pattern, timeout)

    def send(self, text: str) -> None:
        """As :meth:`Console.send` of the console."""
        self.console.send(text)

    def run(self, command: str, timeout: float | None = None) -> Finished:
        """As :meth:`GuestShell.run`."""
        return self._shell.run(command, timeout)

    def check(self, command: str, timeout: float | None = None) -> str:
        """As :meth:`GuestShell.check`."""
        return self._shell.check(command, timeout)

    def write_file(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """As :meth:`GuestShell.write_file`."""
        self._shell.write_file(path, content, mode)

    def read_file(self, path: str) -> bytes:
        """As :meth:`GuestShell.read_file`."""
        return self._shell.read_file(path)

    # -- the end

    def reboot(self, timeout: float | None = None) -> None:
        """Have the guest reset the machine, and wait until it is there again; what it had in memory is lost.

        :raises AssertionError: it does not come back
        """
        qmp = self.machine.qmp
        qmp.execute("set-action", reboot="reset")
        self._channel.send("reboot -f\n")
        self.wait_ready(timeout)
        qmp.execute("set-action", reboot="shutdown")

    def poweroff(self, timeout: float | None = None) -> int:
        """Have the guest power the machine off; the machine's exit status.

        :raises AssertionError: it does not end
        """
        self._channel.send("poweroff -f\n")
        return self.machine.wait(timeout)

    def close(self) -> None:
        """As :meth:`BootedMachine.close`."""
        self.machine.close()

    def __enter__(self) -> LinuxGuest:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
