# SPDX-License-Identifier: Apache-2.0
"""A stock Linux guest with the devices of ``examples/``: it drives edu from user space and reads ``/dev/hwrng``.

    python lab_examples.py FOLDER

reads ``FOLDER/examples.json`` and leaves ``result.json`` and ``console`` there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from lab_client import Client, Console, converse
from lab_guest import BEGIN

DEVICES = "edu: {id: edu0, addr: 6}\n  - virtio-rng-pci: {id: rng0, addr: 7}"

#: the kernel's own complaint shows that the message came to a processor: no driver of a stock kernel takes edu's MSI
INIT = (
    BEGIN
    + """\
edu=/sys/bus/pci/devices/0000:00:06.0
echo 1234 11e8 >/sys/bus/pci/drivers/uio_pci_generic/new_id
for try in $($b seq 100); do [ -c /dev/uio0 ] && break; $b usleep 100000; done
/bin/edu_guest $edu /dev/uio0
if $b dmesg | $b grep -q 'No irq handler for vector'; then echo "hot: ok delivered"; else echo "hot: FAILED delivered"; fi
echo "hot: rng $($b cat /sys/class/misc/hw_random/rng_current)"
first=$($b dd if=/dev/hwrng bs=64 count=16 2>/dev/null | $b tee /first | $b sha256sum)
second=$($b dd if=/dev/hwrng bs=64 count=16 2>/dev/null | $b sha256sum)
[ $($b wc -c </first) -ge 64 ] && [ "$first" != "$second" ] && echo "hot: ok hwrng" || echo "hot: FAILED hwrng $first"
echo "hot: done"
$b poweroff -f
"""
)


def main() -> int:
    """Carry out ``examples.json``."""
    folder = Path(sys.argv[1])
    wanted = json.loads((folder / "examples.json").read_text())

    def conversation(client: Client, console: Console, work: str) -> dict[str, Any]:
        console.wait("done")
        return {}

    converse(folder, wanted, conversation, device=DEVICES)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may still wait for somebody
