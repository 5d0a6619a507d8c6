# SPDX-License-Identifier: Apache-2.0
"""A stock Linux guest that says what its firmware tables name, and powers off when its power button is pressed over QMP.

    python lab_power.py FOLDER

reads ``FOLDER/power.json`` and leaves ``result.json`` and ``console`` there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from lab_hotplug import Client, Console

#: Linux counts the button's interrupts once a driver listens; no program of this guest's does more
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
for name in sys_vendor product_name product_uuid chassis_vendor bios_vendor; do
    echo "hot: $name $($b cat /sys/class/dmi/id/$name)"
done
pressed() { set -- $($b cat /sys/firmware/acpi/interrupts/ff_pwr_btn); [ "$1" -gt 0 ]; }
echo "hot: ready"
for try in $($b seq 600); do pressed && break; $b usleep 50000; done
pressed && echo "hot: pressed" || echo "hot: FAILED nobody pressed"
$b poweroff -f
"""


def main() -> int:
    """Carry out ``power.json``."""
    folder = Path(sys.argv[1])
    wanted = json.loads((folder / "power.json").read_text())
    failure, events = None, []
    with tempfile.TemporaryDirectory() as work:
        definition = Path(work) / "power.yaml"
        definition.write_text(
            f"machine: pc\nmemory: 256M\nuuid: {wanted['uuid']}\n"
            f"boot: {{kernel: {wanted['kernel']}, initrd: {wanted['initrd']}, cmdline: console=hvc0}}\n"
            "chardevs:\n  term: {type: stdio}\n"
            f"  qmp: {{type: socket, path: {work}/qmp, server: on, wait: off}}\n"
            "monitors: [{chardev: qmp}]\n"
            "devices:\n  - virtio-serial-pci: {id: vser0}\n  - virtconsole: {bus: vser0.0, chardev: term}\n"
        )
        words = [sys.executable, "-m", "qdevpy", "boot", str(definition)]
        machine = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            console = Console(machine, folder / "console", wanted["timeout"])
            client = Client(f"{work}/qmp")
            console.wait("ready")
            client.execute("system_powerdown")
            console.wait("pressed")
            status = machine.wait(60)
            events = [event["event"] for event in client.events]
        except Exception as error:  # told by the test, with the console
            failure, status = f"{type(error).__name__}: {error}", None
            machine.kill()
            machine.wait()
    (folder / "result.json").write_text(json.dumps({"status": status, "failure": failure, "events": events}))
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may still wait for somebody
