# SPDX-License-Identifier: Apache-2.0
"""The human monitor: its lines, its arguments, and what it prints, word for word as QEMU where that is short."""

from __future__ import annotations

from pathlib import Path

import pytest
from monitor_rig import MakeQmp, Qmp

from qdevpy.monitor.hmp.command import HmpError
from qdevpy.monitor.hmp.expression import Expression
from qdevpy.monitor.hmp.table import HmpTable

MACHINE = """
cpus: 2
name: foo
objects: {io0: {type: iothread}}
drives: {d0: {driver: null-co, size: 1M}, d1: {driver: null-co}, empty: {driver: none}}
netdevs: {n0: {type: hubport, hubid: 1}, n1: {type: "null"}, n2: {type: "null"}}
chardevs: {rb: {type: ringbuf, size: 64}, nul: {type: "null"}}
devices:
  - virtio-blk-pci: {id: dev0, drive: d0, iothread: io0}
  - virtio-net-pci: {netdev: n0, id: nic0}
  - virtio-net-pci: {netdev: n1}
"""


@pytest.fixture(scope="module")
def unchanged(shared_qmp: MakeQmp) -> Qmp:
    return shared_qmp(MACHINE)


NO_REGISTERS = {"pc": 0xFFF0}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("0x10 | 1", 17),
        ("7 & 3 ^ 1", 2),
        ("-5 / 2", -2),
        ("-5 % 3", -2),
        ("~0", -1),
        ("'a'", 97),
        ("010", 8),
        ("$pc + 8", 0xFFF8),
        ("0xffffffffffffffff", -1),
        ("+ 4", 4),
    ],
)
def test_expression_has_its_value(text: str, value: int) -> None:
    assert Expression(text, 0, NO_REGISTERS.get).evaluate() == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1+", "unexpected end of expression"),
        ("(1", "')' expected"),
        ("1/0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("$nope", "unknown register"),
        ("'", "character constant expected"),
        ("'ab'", "missing terminating ' character"),
        ("x", "invalid char 'x' in expression"),
        ("0x10000000000000000", "number too large"),
        ("(" * 500, "expression nests too deep"),
    ],
)
def test_malformed_expression_is_an_error(text: str, message: str) -> None:
    with pytest.raises(HmpError) as caught:
        Expression(text, 0, NO_REGISTERS.get).evaluate()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("info status", "VM status: paused (prelaunch)\n"),
        ("info name", "foo\n"),
        ("info uuid", "00000000-0000-0000-0000-000000000000\n"),
        ("info kvm", "kvm support: disabled\n"),
        ("info memory_size_summary", "base memory: 134217728\nplugged memory: 0\n"),
        ("info block-jobs", "No active jobs\n"),
        ("info numa", "0 nodes\n"),
        ("info usb", "Error: USB support not enabled\n"),
        ("info cpus", "* CPU #0: thread_id=0\n  CPU #1: thread_id=0\n"),
        ("info registers", "No CPU available\n"),
        ("help quit", "quit|q  -- end the machine\n"),
        ("? q", "quit|q  -- end the machine\n"),
        ("help info status", "info status  -- show whether the machine runs\n"),
        ("help nope", "unknown command: 'nope'\n"),
        ("help info nope", "unknown command: 'info nope'\n"),
        ("nosuch", "unknown command: 'nosuch'\n"),
        ("info nosuch", "unknown command: 'info nosuch'\n"),
        ("", ""),
        ("cont x", 'cont|c: extraneous characters at the end of line\nTry "help cont" for more information\n'),
        ("p", 'unexpected end of expression\nTry "help p" for more information\n'),
        ("p 1+2*3", "0x7\n"),
        ("p /x 255", "0xff\n"),
        ("print /d -1", "-1\n"),
        ("p /u -1", "18446744073709551615\n"),
        ("p /o 8", "010\n"),
        ("p /c 65", "'A'\n"),
        ("p /c 10", "'\\n'\n"),
        ("p /c 200", "'\\xc8'\n"),
        ("cpu 1", ""),
        ("cpu 7", "invalid CPU index\n"),
        ("xp /q 0", "invalid char in format: 'q'\nTry \"help xp\" for more information\n"),
        ("sum 0x100000000000 1", "'sum' has failed: integer is for 32-bit values\nTry \"help sum\" for more information\n"),
        ("set_link nic0 maybe", "Expected 'on' or 'off'\nTry \"help set_link\" for more information\n"),
        ("block_resize d0", 'invalid size\nTry "help block_resize" for more information\n'),
        ("block_resize d9 1M", "Error: Cannot find device='d9' nor node-name=''\n"),
        ("block_resize d0 2", "Error: Image format driver does not support resize\n"),
        ("drive_add", 'drive_add: string expected\nTry "help drive_add" for more information\n'),
        ("drive_del", 'drive_del: block device name expected\nTry "help drive_del" for more information\n'),
        ("drive_del d9", "Device 'd9' not found\n"),
        ("drive_add 0 if=none,id=d0", "Duplicate ID 'd0' for drive\n"),
        ("drive_add 0 if=virtio", "Can't hot-add drive to type 7\n"),
        ("drive_add 0 id=x", "Can't hot-add drive to type 1\n"),
        ("drive_add ignored format=help", "Supported formats: raw\n"),
        ("eject d0", "Error: Device 'd0' is not removable\n"),
        ("commit all", ""),
        ("netdev_del zz", "Error: Device 'zz' not found\n"),
        ("netdev_add user", "Error: Parameter 'id' is missing\n"),
        ("netdev_add hubport,id=n0,hubid=1", "Error: Duplicate ID 'n0'\n"),
        ("chardev-remove zz", "Error: Chardev 'zz' not found\n"),
        ("chardev-add null", "Error: chardev: no id specified\n"),
        ("object_del zz", "Error: object 'zz' not found\n"),
        ("set_link zz on", "Error: Device 'zz' not found\n"),
        ("device_del zz", "Error: Device 'zz' not found\n"),
        ("device_add", "Error: Parameter 'driver' is missing\n"),
        ("qom-list", "/\n"),
        ("qom-list /nope", "Error: Device '/nope' not found\n"),
        ("qom-get /machine type", '"pc-i440fx-7.2-machine"\n'),
        ("qom-set -j /machine x {", "Error: JSON parse error"),
        ("info block -x", 'block: unsupported option -x\nTry "help info block" for more information\n'),
        ("info virtio-queue-status", 'virtio-queue-status: string expected\nTry "help info virtio-queue-status" for'),
        ("ringbuf_read nul 1", "Error: nul is not a ringbuf device\n"),
        ("x /4i 0", "there is no disassembler here"),
        ("i", 'unexpected end of expression\nTry "help i" for more information\n'),
        ("gva2gpa 16", "gpa: 0x10\n"),
    ],
)
def test_line_is_answered_as_qemu_answers(unchanged: Qmp, line: str, printed: str) -> None:
    found = unchanged.hmp(line)
    assert found == printed if printed.endswith("\n") or not printed else found.startswith(printed)


def test_human_monitor_command_ends_lines_with_carriage_returns(qmp: MakeQmp) -> None:
    assert qmp(MACHINE)("human-monitor-command", command_line="info name") == "foo\r\n"


def test_cpu_index_chooses_a_cpu(qmp: MakeQmp) -> None:
    call = qmp(MACHINE)
    assert call("human-monitor-command", command_line="info cpus", cpu_index=1).splitlines()[1].startswith("* CPU #1")
    assert call.error("human-monitor-command", command_line="x", cpu_index=9) == "Parameter 'cpu-index' expects a CPU number"


def test_info_block_shows_drives_as_qemu(qmp: MakeQmp) -> None:
    call = qmp(MACHINE)
    assert call.hmp("info block") == (
        "d0 (#block.d0): null-co:// (null-co)\n"
        "    Attached to:      /machine/peripheral/dev0/virtio-backend\n"
        "    Cache mode:       writeback\n"
        "\n"
        "d1 (#block.d1): null-co:// (null-co)\n"
        "    Removable device: not locked, tray closed\n"
        "    Cache mode:       writeback\n"
        "\n"
        "empty: [not inserted]\n"
        "    Removable device: not locked, tray closed\n"
    )
    assert "virtual size: 1 MiB (1048576 bytes)\n" in call.hmp("info block -v d0")
    assert call.hmp("info block -n #block.d0") == "#block.d0: null-co:// (null-co)\n    Cache mode:       writeback\n"


def test_info_network_shows_hubs_cards_and_what_is_left(qmp: MakeQmp) -> None:
    assert qmp(MACHINE).hmp("info network") == (
        "hub 1\n"
        " \\ n0: nic0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56\n"
        "virtio-net-pci.1: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:57\n"
        " \\ n1: index=0,type=null,\n"
        "n2: index=0,type=null,\n"
    )


def test_info_pci_shows_a_function_as_qemu(qmp: MakeQmp) -> None:
    assert (
        "  Bus  0, device   2, function 0:\n"
        "    SCSI controller: PCI device 1af4:1001\n"
        "      PCI subsystem 1af4:0002\n"
        "      IRQ 0, pin A\n"
        "      BAR0: I/O at 0xffffffffffffffff [0x007e].\n"
        "      BAR1: 32 bit memory at 0xffffffffffffffff [0x00000ffe].\n"
        "      BAR4: 64 bit prefetchable memory at 0xffffffffffffffff [0x00003ffe].\n"
        '      id "dev0"\n'
    ) in qmp(MACHINE).hmp("info pci")


def test_info_iothreads_chardev_and_virtio(qmp: MakeQmp) -> None:
    call = qmp(MACHINE)
    assert "  poll-max-ns=32768\n  poll-grow=0\n  poll-shrink=0\n  aio-max-batch=0\n" in call.hmp("info iothreads")
    assert call.hmp("info chardev") == "rb: filename=ringbuf\nnul: filename=null\n"
    path = "/machine/peripheral/dev0/virtio-backend"
    assert f"{path} [virtio-blk]\n" in call.hmp("info virtio")
    assert f"{path}:\n  device_name:             virtio-blk \n" in call.hmp(f"info virtio-status {path}")
    assert "    num:          256\n" in call.hmp(f"info virtio-queue-status {path} 0")
    assert call.hmp(f"info virtio-queue-element {path} 0") == "Error: Region caches not initialized\n"
    assert call.hmp(f"info virtio-vhost-queue-status {path} 0") == "Error: Error: vhost device has not started yet\n"
    assert qmp().hmp("info virtio") == "No VirtIO devices\n"


def test_trees_are_shown(qmp: MakeQmp) -> None:
    call = qmp(MACHINE)
    assert call.hmp("info qtree").startswith("bus: main-system-bus\n  type System\n")
    assert call.hmp("info qom-tree /objects") == "/objects (container)\n  /io0 (iothread)\n  /pc.ram (memory-backend-ram)\n"
    assert "    0000000000000000-0000000007ffffff (prio 0, ram): pc.ram\n" in call.hmp("info mtree")
    assert call.hmp("info mtree -f").startswith('FlatView #0\n AS "memory", root: system\n')
    assert 'name "virtio-blk-pci", bus PCI' in call.hmp("info qdm")
    assert "info pci  -- show PCI devices\n" in call.hmp("help info")
    assert call.hmp("info") == call.hmp("help info")


def test_memory_is_dumped_in_all_formats(qmp: MakeQmp) -> None:
    call = qmp(MACHINE)
    call.machine.memory.write(0x1000, bytes(range(0x41, 0x51)) + b"\xff" * 16)
    assert call.hmp("xp /2wx 0x1000") == "0000000000001000: 0x44434241 0x48474645\n"
    assert call.hmp("x /2hd 0x1000") == "0000000000001000: 16961 17475\n"
    assert call.hmp("xp /9bx 0x1000").splitlines()[1] == "0000000000001008: 0x49"
    assert call.hmp("xp /1gd 0x1010") == "0000000000001010:                   -1\n"
    assert call.hmp("xp /2bc 0x1000") == "0000000000001000: 'A' 'B'\n"
    assert call.hmp("xp /1bo 0x1000") == "0000000000001000: 0101\n"
    assert call.hmp("xp /9999999gx 0") == "at most 1048576 bytes at a time\n"
    assert call.hmp("sum 0x1000 2") == "32866\n"


def test_memory_is_saved(qmp: MakeQmp, tmp_path: Path) -> None:
    call = qmp(MACHINE)
    call.machine.memory.write(0x1000, b"hello")
    call.hmp(f'memsave 0x1000 5 "{tmp_path / "a"}"')
    assert call.hmp(f'pmemsave 0x1000 5 "{tmp_path / "b"}"') == ""
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b"hello"
    assert call.hmp('memsave 0 1 "/nonexistent/x"').startswith("Error: Could not open '/nonexistent/x'")


def test_ports_are_read_and_written(qmp: MakeQmp) -> None:
    call = qmp(MACHINE)
    assert call.hmp("o /b 0x70 0x0f") == ""
    assert call.hmp("i /b 0x71") == "portb[0x0071] = 0x00\n"
    assert call.hmp("i /b 0x70 0x0f") == "portb[0x0071] = 0x00\n"


def test_things_come_and_go_by_lines_as_on_the_command_line(qmp: MakeQmp) -> None:
    call = qmp(MACHINE)
    assert call.hmp("drive_add 0 if=none,id=d9,file=null-co://,file.read-zeroes=on,format=raw") == "OK\n"
    assert call.hmp("device_add virtio-blk-pci,drive=d9,id=dev9") == ""
    assert call.hmp("drive_del d9") == ""
    assert "d9" not in call.hmp("info block")
    device = call.machine.find_device("dev9")
    assert device is not None
    assert device.device.get_config()[:8] == bytes(8)  # type: ignore[attr-defined]
    for line in (
        "drive_add 0 if=none,id=d8",
        "drive_del d8",
        "drive_add -n 0 driver=null-co,node-name=nn",
        "drive_del nn",
        "netdev_add hubport,id=h9,hubid=9",
        "netdev_del h9",
        "set_link nic0 off",
        "announce_self",
        "announce_self nic0 someid",
        "chardev-add null,id=c9",
        "chardev-change c9 ringbuf,size=16",
        "ringbuf_write c9 hello",
        "chardev-send-break c9",
        "chardev-remove c9",
        "object_add iothread,id=io9",
        "object_del io9",
        "device_del dev9",
        "system_reset",
        "system_powerdown",
        "stop",
    ):
        assert call.hmp(line) in ("", "OK\n"), line
    assert call.hmp("drive_del n0") == "Device 'n0' not found\n"
    assert 'name "virtio-blk-pci", bus PCI' in call.hmp("device_add ?")
    assert call.hmp("ringbuf_write rb a") == ""
    assert call.hmp("ringbuf_read rb 10") == "a\n"


def test_every_info_command_answers(qmp: MakeQmp) -> None:
    call = qmp(MACHINE)
    for command in HmpTable().info:
        assert "internal error" not in call.hmp(f"info {command.names}")


def test_commands_have_help_and_names_of_their_own() -> None:
    table = HmpTable()
    for commands in (table.commands, table.info):
        names = [name for command in commands for name in command.names.split("|")]
        assert len(names) == len(set(names))
        assert all(command.help for command in commands)
