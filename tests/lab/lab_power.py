# SPDX-License-Identifier: Apache-2.0
"""A stock Linux guest that says what its firmware tables name, and powers off when its power button is pressed over QMP.

    python lab_power.py FOLDER

reads ``FOLDER/power.json`` and leaves ``result.json`` and ``console`` there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from lab_client import Client, Console, converse
from lab_guest import BEGIN

#: Linux counts the button's interrupts once a driver listens; no program of this guest's does more
INIT = (
    BEGIN
    + """\
for name in sys_vendor product_name product_uuid chassis_vendor bios_vendor; do
    echo "hot: $name $($b cat /sys/class/dmi/id/$name)"
done
pressed() { set -- $($b cat /sys/firmware/acpi/interrupts/ff_pwr_btn); [ "$1" -gt 0 ]; }
echo "hot: ready"
for try in $($b seq 600); do pressed && break; $b usleep 50000; done
pressed && echo "hot: pressed" || echo "hot: FAILED nobody pressed"
$b poweroff -f
"""
)


def main() -> int:
    """Carry out ``power.json``."""
    folder = Path(sys.argv[1])
    wanted = json.loads((folder / "power.json").read_text())

    def conversation(client: Client, console: Console, work: str) -> dict[str, Any]:
        console.wait("ready")
        client.execute("system_powerdown")
        console.wait("pressed")
        return {"events": [event["event"] for event in client.events]}

    converse(folder, wanted, conversation, more=f"uuid: {wanted['uuid']}\n")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may still wait for somebody
