# SPDX-License-Identifier: Apache-2.0
"""A guest that says ``hot: ...`` on its console, in a machine that is told over QMP what to do; runs next to the machine."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qdevpy.testing.qmp import QMPClient

PATIENCE = 240.0  #: seconds for an answer; a machine in the lab is slow


def connect(path: str) -> QMPClient:
    """A monitor, as soon as the machine has made its socket."""
    peer = socket.socket(socket.AF_UNIX)
    while True:
        try:
            peer.connect(path)
            return QMPClient(peer, PATIENCE)
        except OSError:
            time.sleep(0.05)


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


def definition(wanted: dict[str, Any], work: str, more: str = "", chardev: str = "", device: str = "") -> str:
    """A machine with QMP and a console, which is behind a PCI bridge, so that the guest has to find that at boot.

    :param more: of the definition; ``chardev`` and ``device``: an entry of those sections
    """
    return (
        f"machine: pc\nmemory: 256M\n{more}"
        f"boot: {{kernel: {wanted['kernel']}, initrd: {wanted['initrd']}, cmdline: console=hvc0}}\n"
        "chardevs:\n  term: {type: stdio}\n"
        f"  qmp: {{type: socket, path: {work}/qmp, server: on, wait: off}}\n"
        f"{f'  {chardev}' if chardev else ''}\n"
        "monitors: [{chardev: qmp}]\n"
        "devices:\n  - pci-bridge: {id: br0, chassis_nr: 1, addr: 5}\n  - virtio-serial-pci: {id: vser0, bus: br0}\n"
        "  - virtconsole: {bus: vser0.0, chardev: term}\n"
        f"{f'  - {device}' if device else ''}\n"
    )


def converse(
    folder: Path,
    wanted: dict[str, Any],
    conversation: Callable[[QMPClient, Console, str], dict[str, Any]],
    more: str = "",
    **entries: str,
) -> None:
    """Run the machine and the conversation with it; ``result.json`` says how both ended, ``console`` what was printed.

    :param entries: as of :func:`definition`
    :param conversation: given a client, the console and a folder; returns what goes into the result
    """
    result: dict[str, Any] = {"failure": None, "status": None}
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "machine.yaml"
        file.write_text(definition(wanted, work, more, **entries))
        words = [sys.executable, "-m", "qdevpy", "boot", str(file), "--no-reboot"]
        machine = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            console = Console(machine, folder / "console", wanted["timeout"])
            result |= conversation(connect(f"{work}/qmp"), console, work)
            result["status"] = machine.wait(60)
        except Exception as error:  # told by the test, with the console
            result["failure"] = f"{type(error).__name__}: {error}"
            machine.kill()
            machine.wait()
    (folder / "result.json").write_text(json.dumps(result))
