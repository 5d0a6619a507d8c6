# SPDX-License-Identifier: Apache-2.0
"""A stock Linux guest whose disk, network card and serial port come and go, told over QMP; in even rounds behind a PCI bridge.

    python lab_hotplug.py FOLDER

reads ``FOLDER/hotplug.json`` and leaves ``result.json`` and ``console`` there; it runs next to the machine, in a network
namespace of its own, as :mod:`lab_scenario` does.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab_client import Console, converse
from lab_guest import BEGIN
from lab_scenario import TAP, make_network

from qdevpy.testing.qmp import QMPClient

#: of even and odd rounds
BUSES = ("br0", "pci.0")
#: what the guest prints, and when
INIT = (
    BEGIN
    + """\
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
    $b dd if=/dev/vda of=/back bs=4096 count=64 2>/dev/null && $b cmp /data /back &&
    echo "disk at $($b readlink -f /sys/block/vda)"
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
)


def rounds(client: QMPClient, console: Console, count: int, work: str) -> Iterator[str]:
    """Plug, wait for the guest to have used it, take away; what the port's other end heard, a line a round."""
    console.wait("ready")
    for number in range(1, count + 1):
        bus = BUSES[number % 2]
        client.execute(
            "blockdev-add", driver="raw", **{"node-name": "hot", "file": {"driver": "file", "filename": f"{work}/disk"}}
        )
        client.execute("device_add", driver="virtio-blk-pci", id="disk0", drive="hot", bus=bus)
        console.wait(f"disk {number}")
        client.execute("netdev_add", type="tap", id="lan", ifname=TAP, script="no", downscript="no")
        client.execute("device_add", driver="virtio-net-pci", id="nic0", netdev="lan", bus=bus)
        console.wait(f"net {number}")
        heard = {"type": "file", "data": {"out": f"{work}/heard"}}
        client.execute("chardev-add", id="port", backend=heard)
        client.execute("device_add", driver="virtserialport", id="port0", bus="vser0.0", chardev="port", name="org.qdevpy.hot")
        console.wait(f"port {number}")
        yield Path(f"{work}/heard").read_text()
        for device in ("disk0", "nic0", "port0"):
            client.execute("device_del", id=device)
        for device in ("disk0", "nic0", "port0"):
            client.wait_event("DEVICE_DELETED", device=device)
        console.wait(f"gone {number}")
        client.execute("blockdev-del", **{"node-name": "hot"})
        client.execute("netdev_del", id="lan")
        client.execute("chardev-remove", id="port")


def main() -> int:
    """Carry out ``hotplug.json``."""
    folder = Path(sys.argv[1])
    wanted = json.loads((folder / "hotplug.json").read_text())
    make_network(wanted["host_address"])

    def conversation(client: QMPClient, console: Console, work: str) -> dict[str, Any]:
        Path(work, "disk").write_bytes(bytes(4 << 20))
        heard = list(rounds(client, console, wanted["rounds"], work))
        console.wait("done")
        return {"heard": heard}

    converse(folder, wanted, conversation)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may still wait for somebody
