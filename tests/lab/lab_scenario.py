# SPDX-License-Identifier: Apache-2.0
"""The host's side of a Linux boot: network, web server, the other end of the serial port, and the machine itself.

    python lab_scenario.py FOLDER

reads ``FOLDER/scenario.json`` and leaves ``result.json`` and ``disk.img`` there. It needs a network namespace of its own
with the right to make a tap, and a complete KVM: :mod:`test_linux` starts it in one, or in the lab. There Python is slow,
so only few modules are imported.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

TAP = "tap0"
CHUNK = 65536


def make_network(address: str) -> None:
    """A tap with the host's address."""
    for words in (
        f"tuntap add {TAP} mode tap",
        f"address add {address}/24 dev {TAP}",
        f"link set {TAP} up",
        "link set lo up",
    ):
        subprocess.run(["ip", *words.split()], check=True)


def serve(listener: socket.socket, payload: bytes) -> None:
    """Answer every request with the payload; the little of HTTP/1.0 that wget needs."""
    head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(CHUNK)
            connection.sendall(head.encode() + payload)
            connection.shutdown(socket.SHUT_WR)


class SerialPeer:
    """Whoever is at the other end of the serial port: sends a line, then more, and wants all of it back."""

    def __init__(self, path: str, message: bytes) -> None:
        self.path = path
        self.message = message
        self.echoed = b""

    def run(self) -> None:
        """Connect as soon as there is a socket; hang up when everything is back."""
        with socket.socket(socket.AF_UNIX) as peer:
            while True:
                try:
                    peer.connect(self.path)
                    break
                except OSError:
                    time.sleep(0.05)
            sender = threading.Thread(target=peer.sendall, args=(self.message,), daemon=True)
            sender.start()
            while len(self.echoed) < len(self.message):
                data = peer.recv(CHUNK)
                if not data:
                    return
                self.echoed += data
            sender.join()


def qdevpy_command(wanted: dict[str, object], image: Path, serial: str) -> list[str]:
    """Boot the packaged definition with the scenario's settings."""
    settings = {
        "cpus": wanted["cpus"],
        "drives.root.file": image,
        "netdevs.lan.type": "tap",
        "netdevs.lan.ifname": TAP,
        "chardevs.port.type": "socket",
        "chardevs.port.path": serial,
        "chardevs.port.server": "on",
        "chardevs.port.wait": "off",
        **wanted["settings"],  # type: ignore[dict-item]
    }
    command = [sys.executable, "-m", "qdevpy", "-v", "boot", "linux", *([] if wanted.get("reboots") else ["--no-reboot"])]
    command += ["--kernel", str(wanted["kernel"]), "--initrd", str(wanted["initrd"])]
    return command + [f"--set={path}={value}" for path, value in settings.items()]


def qemu_command(wanted: dict[str, object], image: Path, serial: str) -> list[str]:
    """The same machine in QEMU, to see whether the harness itself is right."""
    return [
        *("qemu-system-x86_64", "-M", "pc", "-accel", "kvm", "-cpu", "host", "-m", "256", "-smp", str(wanted["cpus"])),
        *("-nodefaults", "-display", "none", *([] if wanted.get("reboots") else ["-no-reboot"])),
        *("-kernel", str(wanted["kernel"]), "-initrd", str(wanted["initrd"]), "-append", "console=hvc0"),
        *("-chardev", "stdio,id=term", "-device", "virtio-serial-pci", "-device", "virtconsole,chardev=term"),
        *("-chardev", f"socket,id=port,path={serial},server=on,wait=off"),
        *("-device", f"virtserialport,chardev=port,name={wanted['serial_name']}"),
        *("-drive", f"file={image},format=raw,if=none,id=root", "-device", "virtio-blk-pci,drive=root"),
        *("-netdev", f"tap,id=lan,ifname={TAP},script=no,downscript=no", "-device", "virtio-net-pci,netdev=lan"),
        *wanted.get("options", ()),  # type: ignore[misc]
    ]


def run_machine(command: list[str], timeout: float, console: Path) -> int | None:
    """Run the machine with its output in a file; its status, None if it had to be killed."""
    with console.open("wb") as output:
        machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            return machine.wait(timeout)
        except subprocess.TimeoutExpired:
            machine.kill()
            machine.wait()
            return None


def main() -> int:
    """Carry out ``scenario.json``."""
    folder = Path(sys.argv[1])
    wanted = json.loads((folder / "scenario.json").read_text())
    make_network(wanted["host_address"])
    listener = socket.create_server((wanted["host_address"], wanted["port"]))
    payload = (folder / "payload").read_bytes()
    threading.Thread(target=serve, args=(listener, payload), daemon=True).start()
    with tempfile.TemporaryDirectory() as work:
        image, serial = Path(work) / "disk.img", f"{work}/serial"
        shutil.copyfile(folder / "disk.img", image)
        peer = SerialPeer(serial, wanted["message"].encode())
        threading.Thread(target=peer.run, daemon=True).start()
        command = {"qdevpy": qdevpy_command, "qemu": qemu_command}[wanted["vmm"]](wanted, image, serial)
        start = time.monotonic()
        status = run_machine(command, wanted["timeout"], folder / "console")
        result = {"status": status, "seconds": time.monotonic() - start, "echoed": peer.echoed.decode(errors="replace")}
        shutil.copyfile(image, folder / "disk.img")
    (folder / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may still wait for somebody
