# SPDX-License-Identifier: Apache-2.0
"""Two-CPU guests in labs with two processors, qdevpy and QEMU in turn: whose fault is it when a boot goes wrong?

    python tests/lab/two_processors.py ROUNDS [WAY...]

No test: it takes minutes, and what it finds is a rate. One line is printed for each boot, and what went wrong is kept in
the folder that the last line names.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import lab_linux
from conftest import MESSAGE, PAYLOAD, SCENARIO
from lab import LabError, run_in_lab

from qdevpy.testing.kernel import debian_kernel

#: what runs the guest, and what the lab's host kernel sees of its memory
WAYS: dict[str, tuple[str, list[str]]] = {
    "qdevpy": ("qdevpy", []),
    "qemu": ("qemu", []),
    # as qdevpy's: a file in memory, which the host maps in pages of 4 KiB
    "qemu-memfd": ("qemu", ["-object", "memory-backend-memfd,id=ram,size=256M,share=on", "-machine", "memory-backend=ram"]),
}
SECONDS = 180


def prepare(folder: Path, way: str) -> None:
    """The scenario of one boot."""
    vmm, options = WAYS[way]
    kernel = debian_kernel("cloud-amd64")
    (folder / "initrd.gz").write_bytes(lab_linux.make_initramfs(kernel))
    lab_linux.make_root_image(folder / "disk.img", PAYLOAD)
    (folder / "payload").write_bytes(PAYLOAD)
    scenario = {
        "vmm": vmm,
        "options": options,
        "kernel": str(kernel.image),
        "initrd": str(folder / "initrd.gz"),
        "cpus": 2,
        "settings": {},
        "timeout": SECONDS,
        "host_address": lab_linux.HOST_ADDRESS,
        "port": lab_linux.PORT,
        "serial_name": lab_linux.SERIAL_NAME,
        "message": MESSAGE,
    }
    (folder / "scenario.json").write_text(json.dumps(scenario))


def boot(folder: Path) -> str:
    """Boot once; "right", or what was wrong."""
    command = [sys.executable, str(SCENARIO), "/run/lab"]
    try:
        result = run_in_lab(command, timeout=SECONDS + 30, out=folder, attempts=1, processors=2)
    except LabError as error:
        (folder / "lab").write_text(str(error))
        return "the lab stopped"
    if result.status:
        (folder / "lab").write_text(result.output)
        return "the scenario failed"
    console = (folder / "console").read_text(errors="replace")
    done = all(f"lab: ok {step}" in console for step in ("root", "files", "network", "serial"))
    status = json.loads((folder / "result.json").read_text())["status"]
    if done and status == 0:
        return "right"
    return "the guest hung" if status is None else f"the guest went wrong, status {status}"


def main() -> None:
    """The command line."""
    rounds, ways = int(sys.argv[1]), sys.argv[2:] or ["qdevpy", "qemu"]
    kept = Path(tempfile.mkdtemp(prefix="two-processors-"))
    found: Counter[tuple[str, str]] = Counter()
    for number in range(rounds):
        for way in ways:
            folder = kept / f"{number}-{way}"
            folder.mkdir()
            start = time.monotonic()
            prepare(folder, way)
            outcome = boot(folder)
            found[way, outcome] += 1
            print(f"{number} {way}: {outcome} after {time.monotonic() - start:.0f} s", flush=True)
            if outcome == "right":
                shutil.rmtree(folder)
    for (way, outcome), count in sorted(found.items()):
        print(f"{way}: {outcome}: {count}")
    print(kept)


if __name__ == "__main__":
    main()
