# SPDX-License-Identifier: Apache-2.0
"""What export prints is taken by the real QEMU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import vhost_server
from qemu_parts import BEFORE, PREAMBLE
from vhost_server import Server

from qdevpy.backend import BUILT_IN
from qdevpy.definition.model import MachineDefinition
from qdevpy.plugin.manager import load_plugins
from qdevpy.plugin.registry import Registry
from qdevpy.qdev import kinds

QEMU = shutil.which("qemu-system-x86_64")
pytestmark = pytest.mark.skipif(QEMU is None, reason="qemu-system-x86_64 is not installed")

QUIT = '{"execute": "qmp_capabilities"}{"execute": "quit"}'
#: values that QEMU asks for although they have defaults
NEEDED = {"pci-bridge": {"chassis_nr": "1"}}
DEVICES = sorted(name for name, kind in load_plugins().device_types.items() if kind.user_creatable)

Load = Callable[[str], MachineDefinition]
Export = Callable[[MachineDefinition], list[str]]
Accept = Callable[[str], None]


@pytest.fixture
def accept(load: Load, export_words: Export, tmp_path: Path) -> Accept:
    """Have QEMU build the machine of a definition, paused, and end."""

    def run(text: str) -> None:
        words = [word if word != "kvm" else "tcg" for word in export_words(load(text))]
        (tmp_path / "disk.img").write_bytes(bytes(4096))
        with ExitStack() as stack:
            if "path: vhost}" in text:
                # of a card QEMU wants no config space, and says so
                protocol = vhost_server.EVERYTHING & ~(vhost_server.P_CONFIG if "type: vhost-user" in text else 0)
                stack.enter_context(Server(tmp_path / "vhost", lambda index, chain: b"", protocol=protocol))
            try_it(words)

    def try_it(words: list[str]) -> None:
        monitor = [] if any(word.startswith("stdio,") for word in words) else ["-qmp", "stdio"]
        command = [str(QEMU), *words, *([] if "-S" in words else ["-S"]), *monitor]
        done = subprocess.run(command, input=QUIT, capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
        expected = ("is not connected to", "no peer", "Unable to connect character device")
        complaints = [line for line in done.stderr.splitlines() if not any(text in line for text in expected)]
        assert complaints == []

    return run


@pytest.fixture(scope="session")
def qemu_devices() -> set[str]:
    """The device types that QEMU has."""
    listing = subprocess.run([str(QEMU), "-device", "help"], capture_output=True, text=True, timeout=60, check=True)
    return set(re.findall(r'name "([^"]+)"', listing.stdout)) | set(re.findall(r'alias "([^"]+)"', listing.stdout))


def qemu_properties(name: str) -> set[str]:
    """The properties that QEMU lists for a device type."""
    listing = subprocess.run([str(QEMU), "-device", f"{name},help"], capture_output=True, text=True, timeout=60, check=True)
    return set(re.findall(r"^  ([^=]+)=", listing.stdout, flags=re.MULTILINE))


@pytest.mark.parametrize("name", DEVICES)
def test_device_with_its_defaults_written_out_is_accepted(
    name: str, registry: Registry, accept: Accept, qemu_devices: set[str]
) -> None:
    if name not in qemu_devices:
        pytest.skip(f"QEMU has no {name}")
    kind = registry.device_type(name)
    theirs = qemu_properties(name)
    options = {"id": "dev0"}
    for prop in kind.properties.values():
        match prop.kind:
            case kinds.BackendRef(reference="drive"):
                options[prop.name] = "d"
            case kinds.BackendRef(reference="netdev"):
                options[prop.name] = "n"
            case kinds.BackendRef(reference="chardev"):
                options[prop.name] = "c"
            case _ if (default := prop.default_text()) and prop.name in theirs:
                options[prop.name] = default
    options.update(NEEDED.get(name, {}))
    written = ", ".join(f'{key}: "{value}"' for key, value in options.items())

    preamble = PREAMBLE
    if name.startswith("vhost-user-"):
        preamble = preamble.replace('c: {type: "null"}', "c: {type: socket, path: vhost}")
    accept(f"{preamble}devices:\n{BEFORE.get(kind.bus or '', '')}  - {name}: {{{written}}}\n")


MACHINES = {
    "empty": "",
    "everything of the machine": """
name: a,b
uuid: 01234567-89ab-cdef-0123-456789abcdef
memory: 96M
cpus: 4
topology: {sockets: 2, cores: 2}
cpu: qemu64,-sse3
rtc: {base: 2006-06-17T16:01:21, clock: vm, driftfix: slew}
run: {paused: on, reboot: off, shutdown: off, panic: pause}
boot: {order: cn, once: d, menu: on, strict: off, reboot-timeout: 5, splash-time: 100}
fw_cfg: {opt/x: {string: "a,b"}}
smbios: [{type: 1, serial: "7,8"}]
data-dirs: [/usr/share/seabios]
global: {virtio-blk-pci.serial: "a,b"}
""",
    "monitors": """
chardevs: {a: {type: socket, path: /tmp/none-such, server: on}, b: {type: "null"}}
monitors: [{chardev: b, mode: readline}]
""",
    "chardevs": """
chardevs:
  f: {type: file, path: "out,put", append: on}
  p: {type: pty}
  r: {type: ringbuf, size: 4K}
  n: {type: "null"}
  u: {type: socket, path: u.sock, server: on}
  t: {type: socket, host: localhost, port: 0, server: on, nodelay: on}
""",
    "netdevs": """
netdevs:
  u: {type: user, hostfwd: "tcp:127.0.0.1:0-:22 udp:127.0.0.1:0-:53", ipv6: off}
  h: {type: hubport, hubid: 3}
  s: {type: stream, server: on, addr.path: s.sock}
  d: {type: dgram, local.path: l.sock, remote.path: r.sock}
devices:
  - virtio-net-pci: {netdev: u}
  - virtio-net-pci: {netdev: s}
  - virtio-net-pci: {netdev: d}
""",
    "drives": """
drives:
  f: {file: disk.img, readonly: on}
  o: {file: disk.img, readonly: on, offset: 512, size: 1K, aio: threads, discard: unmap}
  s: {scratch: 1M}
  c: {driver: null-co, size: 3M, read-zeroes: on}
  a: {file: "null-aio://"}
  e: {driver: none}
  i: {file: disk.img, readonly: on, node-name: i0, file-node-name: i1}
  n: {file: disk.img, readonly: on, node-name: n, file-node-name: n1, aio: threads, discard: unmap, offset: 512, size: 1K}
  p: {driver: file, file: disk.img, readonly: on, node-name: p}
  z: {driver: null-co, node-name: z, size: 1M}
  l: {driver: raw, below: z, node-name: l}
devices:
  - virtio-blk-pci: {drive: f, vectors: 2}
  - virtio-blk-pci: {drive: o}
  - virtio-blk-pci: {drive: s}
  - virtio-blk-pci: {drive: c}
  - virtio-blk-pci: {drive: a}
  - virtio-blk-pci: {drive: n}
  - virtio-blk-pci: {drive: p}
  - virtio-blk-pci: {drive: l}
""",
    "flash": "drives: {f: {file: flash.img}}\nmachine-options: {pflash0: f, acpi: auto, graphics: off, hpet: off}\n",
    "floppy": "machine-options: {fd-bootchk: off}\nboot: {order: cn}\n",
    "objects": "objects: {io: {type: iothread, poll-max-ns: 100}}\n",
}


#: a definition with each type of back end, where those above have none
BACK_ENDS = {
    ("chardevs", "stdio"): "chardevs: {b: {type: stdio, signal: on}}\nmonitors: [{chardev: b, mode: control}]\n",
    ("chardevs", "pipe"): "chardevs: {b: {type: pipe, path: fifo}}\n",
    ("chardevs", "udp"): "chardevs: {b: {type: udp, host: localhost, port: 9, localaddr: localhost, localport: 0}}\n",
    ("chardevs", "socket"): (
        "chardevs:\n"
        "  t: {type: socket, host: localhost, port: 0, server: on, telnet: on, logfile: log, logappend: on}\n"
        "  r: {type: socket, path: none, reconnect: 5, mux: on}\n"
    ),
    ("netdevs", "tap"): "netdevs: {b: {type: tap, ifname: qdtap, vnet_hdr: on}}\n",
    ("netdevs", "vhost-user"): "chardevs: {c: {type: socket, path: vhost}}\nnetdevs: {b: {type: vhost-user, chardev: c}}\n",
    ("objects", "memory-backend-ram"): "objects: {b: {type: memory-backend-ram, size: 1M}}\n",
    ("objects", "rng-builtin"): "objects: {b: {type: rng-builtin}}\n",
}
#: what QEMU does not have, or only later; see test_qemu_export.py
NOT_QEMU = {("netdevs", "null")}


def test_every_type_of_back_end_is_shown_to_qemu(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("disk.img", "flash.img"):
        Path(name).touch()
    shown = {*BACK_ENDS}
    for text in MACHINES.values():
        loaded = load(text)
        shown |= {(section, entry.type) for section in BUILT_IN for entry in getattr(loaded, section).values()}

    assert {(section, name) for section, types in BUILT_IN.items() for name in types} - shown == NOT_QEMU


@pytest.mark.parametrize(("section", "name"), BACK_ENDS)
def test_back_end_is_accepted(section: str, name: str, accept: Accept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    if name == "tap" and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("no /dev/net/tun that may be used")

    accept(BACK_ENDS[section, name])


@pytest.mark.parametrize("name", MACHINES)
def test_machine_is_accepted(name: str, accept: Accept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk.img").write_bytes(bytes(4096))
    (tmp_path / "flash.img").write_bytes(bytes(256 << 10))

    accept(MACHINES[name].replace("/tmp/none-such", "m.sock"))
