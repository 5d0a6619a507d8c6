# SPDX-License-Identifier: Apache-2.0
"""A stock Linux guest whose disk, network card and serial port come and go, told over QMP.

    python lab_hotplug.py FOLDER

reads ``FOLDER/hotplug.json`` and leaves ``result.json`` and ``console`` there; it runs next to the machine, in a network
namespace of its own, as :mod:`lab_scenario` does.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab_scenario import TAP, make_network

#: what the guest prints, and when
INIT = """\
#!/bin/busybox sh
b=/bin/busybox
$b mkdir /proc /sys /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in /modules/*; do $b insmod $module; done
for try in 1 2 3 4 5 6 7 8 9; do [ -c /dev/hvc0 ] && break; $b sleep 1; done
exec </dev/hvc0 >/dev/hvc0 2>&1
wait_for() { for try in $($b seq 300); do "$@" && return 0; $b usleep 50000; done; echo "hot: FAILED $*"; return 1; }
gone() { ! [ -e "$1" ]; }
port() {
    for each in /sys/class/virtio-ports/*; do
        [ "$($b cat $each/name 2>/dev/null)" = "$1" ] && [ -c "/dev/${each##*/}" ] && port="/dev/${each##*/}" && return 0
    done
    return 1
}
no_port() { ! port "$1"; }
use_disk() {
    $b dd if=/dev/urandom of=/data bs=4096 count=64 2>/dev/null &&
    $b dd if=/data of=/dev/vda bs=4096 2>/dev/null && $b sync && echo 3 >/proc/sys/vm/drop_caches &&
    $b dd if=/dev/vda of=/back bs=4096 count=64 2>/dev/null && $b cmp /data /back && echo "sum $($b md5sum </back)"
}
use_net() { $b ifconfig eth0 GUEST netmask 255.255.255.0 up && $b ping -c 3 -W 5 HOST; }
use_port() { echo "hello from round $round" >$port; }
echo "hot: ready"
for round in $($b seq ROUNDS); do
    wait_for [ -b /dev/vda ] && use_disk && echo "hot: disk $round"
    wait_for [ -e /sys/class/net/eth0 ] && use_net && echo "hot: net $round"
    wait_for port org.qdevpy.hot && use_port && echo "hot: port $round"
    wait_for gone /dev/vda && wait_for gone /sys/class/net/eth0 && wait_for no_port org.qdevpy.hot && echo "hot: gone $round"
done
echo "hot: done"
$b poweroff -f
"""


class Client:
    """Just enough of QMP: one command at a time, events kept."""

    def __init__(self, path: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                time.sleep(0.05)
        self.stream = self.socket.makefile("rw")
        self._read()  # the greeting
        self.execute("qmp_capabilities")

    def _read(self) -> dict[str, Any]:
        line = self.stream.readline()
        if not line:
            raise EOFError("the machine hung up")
        message: dict[str, Any] = json.loads(line)
        return message

    def execute(self, command: str, **arguments: Any) -> Any:
        """The answer."""
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.stream.flush()
        while "event" in (message := self._read()):
            self.events.append(message)
        if "error" in message:
            raise RuntimeError(f"{command} {arguments}: {message['error']}")
        return message["return"]

    def wait_deleted(self, device: str) -> None:
        """Until DEVICE_DELETED of DEVICE."""
        while True:
            for event in self.events:
                if event["event"] == "DEVICE_DELETED" and event["data"].get("device") == device:
                    self.events.remove(event)
                    return
            self.events.append(self._read())


class Console:
    """What the machine prints, a line at a time, kept in a file."""

    def __init__(self, machine: subprocess.Popen[bytes], path: Path, timeout: float) -> None:
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.deadline = time.monotonic() + timeout
        threading.Thread(target=self._copy, args=(machine, path), daemon=True).start()

    def _copy(self, machine: subprocess.Popen[bytes], path: Path) -> None:
        assert machine.stdout is not None
        with path.open("wb") as kept:
            for line in machine.stdout:
                kept.write(line)
                kept.flush()
                self.lines.put(line.decode(errors="replace").strip())
        self.lines.put(None)

    def wait(self, wanted: str) -> None:
        """Until the guest says ``hot: WANTED``."""
        while True:
            line = self.lines.get(timeout=max(0.1, self.deadline - time.monotonic()))
            if line is None or "hot: FAILED" in line:
                raise RuntimeError(f"waiting for 'hot: {wanted}': {line or 'the machine ended'}")
            if line.endswith(f"hot: {wanted}"):
                return


def command(wanted: dict[str, Any], work: str) -> list[str]:
    """The packaged definition, less disk and network, with QMP."""
    definition = Path(work) / "hot.yaml"
    definition.write_text(
        "machine: pc\nmemory: 256M\n"
        f"boot: {{kernel: {wanted['kernel']}, initrd: {wanted['initrd']}, cmdline: console=hvc0}}\n"
        "chardevs:\n  term: {type: stdio}\n"
        f"  qmp: {{type: socket, path: {work}/qmp, server: on, wait: off}}\n"
        "monitors: [{chardev: qmp}]\n"
        "devices:\n  - virtio-serial-pci: {id: vser0}\n  - virtconsole: {bus: vser0.0, chardev: term}\n"
    )
    return [sys.executable, "-m", "qdevpy", "boot", str(definition), "--no-reboot"]


def rounds(client: Client, console: Console, wanted: dict[str, Any], work: str) -> Iterator[str]:
    """Plug, wait for the guest to have used it, take away; what the port's other end heard, a line a round."""
    console.wait("ready")
    for number in range(1, wanted["rounds"] + 1):
        client.execute(
            "blockdev-add", driver="raw", **{"node-name": "hot", "file": {"driver": "file", "filename": f"{work}/disk"}}
        )
        client.execute("device_add", driver="virtio-blk-pci", id="disk0", drive="hot")
        console.wait(f"disk {number}")
        client.execute("netdev_add", type="tap", id="lan", ifname=TAP, script="no", downscript="no")
        client.execute("device_add", driver="virtio-net-pci", id="nic0", netdev="lan")
        console.wait(f"net {number}")
        heard = {"type": "file", "data": {"out": f"{work}/heard"}}
        client.execute("chardev-add", id="port", backend=heard)
        client.execute("device_add", driver="virtserialport", id="port0", bus="vser0.0", chardev="port", name="org.qdevpy.hot")
        console.wait(f"port {number}")
        yield Path(f"{work}/heard").read_text()
        for device in ("disk0", "nic0", "port0"):
            client.execute("device_del", id=device)
        for device in ("disk0", "nic0", "port0"):
            client.wait_deleted(device)
        console.wait(f"gone {number}")
        client.execute("blockdev-del", **{"node-name": "hot"})
        client.execute("netdev_del", id="lan")
        client.execute("chardev-remove", id="port")


def main() -> int:
    """Carry out ``hotplug.json``."""
    folder = Path(sys.argv[1])
    wanted = json.loads((folder / "hotplug.json").read_text())
    make_network(wanted["host_address"])
    heard: list[str] = []
    failure = None
    with tempfile.TemporaryDirectory() as work:
        Path(work, "disk").write_bytes(bytes(4 << 20))
        words = command(wanted, work)
        machine = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            console = Console(machine, folder / "console", wanted["timeout"])
            heard.extend(rounds(Client(f"{work}/qmp"), console, wanted, work))
            console.wait("done")
            status = machine.wait(30)
        except Exception as error:  # told by the test, with the console
            failure, status = f"{type(error).__name__}: {error}", None
            machine.kill()
            machine.wait()
    (folder / "result.json").write_text(json.dumps({"status": status, "failure": failure, "heard": heard}))
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may still wait for somebody
