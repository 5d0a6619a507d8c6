# SPDX-License-Identifier: Apache-2.0
"""What the human monitor shows of vCPUs, here made up ones; and what is behind a PCI bridge."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import MagicMock

import pytest
from monitor_rig import MakeQmp, Qmp

from qdevpy.accel.base import CpuAccelerator
from qdevpy.vm.machine import RunState

NAMES = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "rip", "rflags", "cr0", "cr2", "cr3", "cr4", "efer"),
    *(f"r{number}" for number in range(8, 16)),
    *(
        f"{segment}_{part}"
        for segment in ("es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr")
        for part in ("selector", "base", "limit")
    ),
    *("gdt_base", "gdt_limit", "idt_base", "idt_limit"),
)


@pytest.fixture
def call(qmp: MakeQmp, monkeypatch: pytest.MonkeyPatch) -> Qmp:
    """A paused machine of two vCPUs: 2 MiB at 1000000h are mapped to 0, nothing else is."""
    made = qmp("cpus: 2")
    accel = MagicMock(spec=CpuAccelerator)
    accel.thread_ids = [11, 12]
    accel.registers.side_effect = lambda index: {name: number + 0x1_0000_0000 * index for number, name in enumerate(NAMES, 1)}
    accel.translate.side_effect = lambda index, at: at - 0x1000000 if 0x1000000 <= at < 0x1200000 else None
    monkeypatch.setattr(made.machine, "accel", accel)
    return made


def test_registers_are_printed_in_qemus_form(call: Qmp) -> None:
    lines = call.hmp("info registers").splitlines()
    assert lines[:3] == [
        "",
        "CPU#0",
        "RAX=0000000000000001 RBX=0000000000000002 RCX=0000000000000003 RDX=0000000000000004",
    ]
    assert "RIP=0000000000000009 RFL=0000000a" in lines
    assert any(line.startswith("CS =") for line in lines)
    assert call.hmp("info registers -a").count("CPU#") == 2
    assert "RAX=0000000100000001" in call.hmp("info registers 1")
    assert call.hmp("info registers 2") == "CPU#2 not available\n"


def test_registers_are_values_in_expressions(call: Qmp) -> None:
    assert call.hmp("p $rip + 1") == "0xa\n"
    assert call.hmp("p $pc") == call.hmp("p $eip") == "0x9\n"
    assert call.hmp("p $eax") == "0x1\n"
    assert call.hmp("p $nope").startswith("unknown register\n")


def test_memory_is_read_through_the_page_tables(call: Qmp, tmp_path: Path) -> None:
    call.machine.memory.write(0xFFE, b"abcd")
    assert call.hmp("x /4bc 0x1000ffe") == "0000000001000ffe: 'a' 'b' 'c' 'd'\n"
    assert call.hmp("x /4xb 0") == "0000000000000000: Cannot access memory\n"
    assert call.hmp("gva2gpa 0x1000010") == "gpa: 0x10\n"
    assert call.hmp("gva2gpa 0") == "Unmapped\n"
    assert call.hmp(f'memsave 0x1000ffe 4 "{tmp_path / "dump"}"') == ""
    assert (tmp_path / "dump").read_bytes() == b"abcd"
    assert call.hmp(f'memsave 0 4 "{tmp_path / "none"}"').startswith("Error: Invalid addr 0x0000000000000000/size 4")


@pytest.mark.parametrize("line", ["info registers", "x /4xb 0x1000000", "gva2gpa 0", 'memsave 0 1 "x"', "p $pc"])
def test_running_cpus_are_not_looked_at(call: Qmp, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call.machine, "state", RunState.RUNNING)
    assert call.hmp(line).startswith("vCPUs are running; stop them first")


def test_what_is_not_ram_is_read_from_who_answers(call: Qmp) -> None:
    with call.machine.lock:
        mapping = call.machine.space.map(
            "mmio", 0xE0000000, 4096, lambda offset, size: offset + 1, lambda offset, value, size: None
        )
    assert call.hmp("xp /4xb 0xe0000000") == "00000000e0000000: 0x01 0x02 0x03 0x04\n"
    mapping.unmap()


def test_sums_and_dumps_are_bounded(call: Qmp) -> None:
    assert "integer is for 32-bit values" in call.hmp("sum 0 -1")
    assert call.hmp("sum 0 0x7fffffff") == "at most 4194304 bytes at a time\n"


def test_bridge_is_shown_with_its_windows_and_what_is_behind_it(qmp: MakeQmp) -> None:
    call = qmp("devices: [pci-bridge: {id: br, chassis_nr: 1}, virtio-net-pci: {id: nic0, bus: br}]")
    bridge = call.machine.find_device("br")
    assert bridge is not None
    with call.machine.lock:
        for offset, value in ((0x19, 1), (0x1A, 1)):
            bridge.config_write(offset, value, 1)  # type: ignore[attr-defined]

    (found,) = [entry for entry in call("query-pci")[0]["devices"] if entry["qdev_id"] == "br"]

    assert found["class_info"] == {"class": 0x604, "desc": "PCI bridge"}
    assert "subsystem" not in found["id"]
    assert (found["pci_bridge"]["bus"]["secondary"], found["pci_bridge"]["bus"]["number"]) == (1, 0)
    (behind,) = found["pci_bridge"]["devices"]
    assert (behind["qdev_id"], behind["bus"]) == ("nic0", 1)
    text = call.hmp("info pci")
    assert "    PCI bridge: PCI device 1b36:0001\n      IRQ 0, pin A\n      BUS 0.\n      secondary bus 1.\n" in text
    assert "      prefetchable memory range [0x00000000, 0x000fffff]\n" in text
    assert "  Bus  1, device   0, function 0:\n    Ethernet controller: PCI device 1af4:1000\n" in text
