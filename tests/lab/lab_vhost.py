# SPDX-License-Identifier: Apache-2.0
"""A stock Linux guest that reads and writes a disk of qemu-storage-daemon, which is killed and started again meanwhile.

    python lab_vhost.py FOLDER

reads ``FOLDER/vhost.json`` and leaves ``result.json`` and ``console`` there.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lab_client import Console, converse
from lab_guest import BEGIN

from qdevpy.testing.qmp import QMPClient

SIZE = 32 << 20
#: bytes that a daemon moves before it is killed
BEFORE_DEATH = 6 << 20
INIT = (
    BEGIN
    + """\
forget() { $b sync; echo 3 >/proc/sys/vm/drop_caches; }
for try in 1 2 3 4 5 6 7 8 9; do [ -b /dev/vda ] && break; $b sleep 1; done
for round in $($b seq ROUNDS); do
    forget
    echo "hot: reading $round"
    echo "hot: sum $round $($b sha256sum /dev/vda | $b cut -c 1-64)"
done
$b dd if=/dev/urandom of=/data bs=65536 count=256 2>/dev/null
for round in $($b seq ROUNDS); do
    echo "hot: writing $round"
    $b dd if=/data of=/dev/vda bs=65536 2>/dev/null
    forget
    $b dd if=/dev/vda bs=65536 count=256 2>/dev/null | $b cmp - /data && echo "hot: wrote $round" || echo "hot: FAILED $round"
done
echo "hot: done"
$b poweroff -f
"""
)


class Daemon:
    """The storage daemon, one after the other; all serve the same image at the same socket."""

    def __init__(self, work: str) -> None:
        self.image, self.socket = f"{work}/image", f"{work}/store"
        self.deaths = 0
        self.start()

    def start(self) -> None:
        """Until it listens."""
        Path(self.socket).unlink(missing_ok=True)
        blockdev = ["--blockdev", f"file,node-name=f,filename={self.image}", "--blockdev", "raw,node-name=r,file=f"]
        export = f"vhost-user-blk,id=e,node-name=r,addr.type=unix,addr.path={self.socket},writable=on,num-queues=2"
        self.process = subprocess.Popen(["qemu-storage-daemon", *blockdev, "--export", export])
        while not os.path.exists(self.socket):
            assert self.process.poll() is None
            time.sleep(0.01)

    def moved(self) -> int:
        """Bytes that it has read and written, as the kernel counts them."""
        fields = dict(line.split(": ") for line in Path(f"/proc/{self.process.pid}/io").read_text().splitlines())
        return int(fields["rchar"]) + int(fields["wchar"])

    def die_in_the_middle(self) -> None:
        """SIGKILL once it has moved some more, and another in its place."""
        until = self.moved() + BEFORE_DEATH
        deadline = time.monotonic() + 120
        while self.moved() < until and time.monotonic() < deadline:
            time.sleep(0.002)
        self.close()
        self.deaths += 1
        self.start()

    def close(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


def main() -> int:
    """Carry out ``vhost.json``."""
    folder = Path(sys.argv[1])
    wanted = json.loads((folder / "vhost.json").read_text())
    with tempfile.TemporaryDirectory() as place:
        content = os.urandom(SIZE)
        Path(place, "image").write_bytes(content)
        expected = hashlib.sha256(content).hexdigest()
        daemon = Daemon(place)

        def conversation(client: QMPClient, console: Console, work: str) -> dict[str, Any]:
            for number in range(1, wanted["rounds"] + 1):
                console.wait(f"reading {number}")
                daemon.die_in_the_middle()
                console.wait(f"sum {number} {expected}")
            for number in range(1, wanted["rounds"] + 1):
                console.wait(f"writing {number}")
                daemon.die_in_the_middle()
                console.wait(f"wrote {number}")
            console.wait("done")
            return {"deaths": daemon.deaths}

        chardev = f"store: {{type: socket, path: {daemon.socket}, reconnect: 1}}"
        device = f"vhost-user-blk-pci: {{id: disk0, chardev: store, num-queues: {wanted['queues']}}}"
        try:
            converse(folder, wanted, conversation, chardev=chardev, device=device)
        finally:
            daemon.close()
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads may still wait for somebody
