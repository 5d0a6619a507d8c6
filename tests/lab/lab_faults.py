# SPDX-License-Identifier: Apache-2.0
"""A stock Linux guest whose disk fails where it is told to: once by rules, and once more by the log of the first boot.

    python lab_faults.py FOLDER

reads ``FOLDER/faults.json`` and leaves ``first`` and ``second`` there, each with ``result.json``, ``console`` and
``faults.jsonl``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from lab_client import Console, converse
from lab_guest import BEGIN

from qdevpy.testing.qmp import QMPClient

PAGE = 4096
PAGES = 64
DEVICE = "virtio-blk-pci: {id: disk0, drive: root, addr: 6}"

#: of pages of 8 sectors: 10 and 11 cannot be read, nor those of 32 to 63 where the kernel's second try fails, too;
#: 20 cannot be written
RULES = """\
    - disk0: {what: io-error, requests: read, sectors: 80-95}
    - disk0: {what: io-error, requests: read, sectors: 256-511, probability: 40%}
    - disk0: {what: io-error, requests: write, sectors: 160-167}
    - disk0: {what: delay, requests: read, every: 16, for: 20ms}
"""

INIT = (
    BEGIN
    + f"""\
for try in $($b seq 100); do [ -b /dev/vda ] && break; $b usleep 100000; done
echo 0 >/sys/block/vda/queue/read_ahead_kb
echo 3 >/proc/sys/vm/drop_caches
outcome() {{
    case "$2" in
        *'Input/output error'*) echo "hot: $1 EIO" ;;
        *'1+0 records out'*) echo "hot: $1 ok" ;;
        *) echo "hot: FAILED $1: $2" ;;
    esac
}}
for page in $($b seq 0 {PAGES - 1}); do
    outcome "read $page" "$($b dd if=/dev/vda of=/dev/null bs={PAGE} skip=$page count=1 2>&1)"
done
for page in 20 21; do
    outcome "write $page" "$($b dd if=/dev/zero of=/dev/vda bs={PAGE} seek=$page count=1 conv=notrunc,fsync 2>&1)"
done
echo "hot: done"
$b poweroff -f
"""
)


def boot(folder: Path, wanted: dict[str, Any], work: str, faults: str) -> None:
    """One boot, with a fresh disk."""
    folder.mkdir()
    image = Path(work) / f"{folder.name}.img"
    image.write_bytes(b"".join(bytes([n]) * PAGE for n in range(PAGES)))

    def conversation(client: QMPClient, console: Console, work: str) -> dict[str, Any]:
        console.wait("done")
        return {}

    more = f"drives: {{root: {{file: {image}, format: raw}}}}\nfaults:\n  log: {folder}/faults.jsonl\n{faults}"
    converse(folder, wanted, conversation, more=more, device=DEVICE)


def main() -> int:
    """Carry out ``faults.json``."""
    folder = Path(sys.argv[1])
    wanted = json.loads((folder / "faults.json").read_text())
    with tempfile.TemporaryDirectory() as work:
        boot(folder / "first", wanted, work, f"  seed: 1\n  inject:\n{RULES}")
        boot(folder / "second", wanted, work, f"  seed: 2\n  replay: {folder}/first/faults.jsonl\n")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may still wait for somebody
