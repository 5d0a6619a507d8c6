# SPDX-License-Identifier: Apache-2.0
"""SMBIOS: structures that a reader can walk, with what the user said in them."""

import struct

import pytest

from qdevpy.accel.none import NoneAccelerator
from qdevpy.definition.model import MachineDefinition, Position, Value
from qdevpy.errors import BootError
from qdevpy.vm.machine import Machine
from qdevpy_machine import layout, smbios
from qdevpy_machine.board import PC


def value(text):
    return Value(str(text), Position("test.yaml", 1, 1))


def fields(**options):
    return {name if name.endswith("_pfx") else name.replace("_", "-"): value(text) for name, text in options.items()}


def make(memory=64 << 20, cpus=1, **definition):
    return Machine(PC(), NoneAccelerator(), memory_size=memory, cpus=cpus, definition=MachineDefinition(**definition))


def walk(blob):
    """``(type, handle, formatted part, strings)`` of every structure."""
    at, found = 0, []
    while at < len(blob):
        kind, length, handle = struct.unpack_from("<BBH", blob, at)
        body = blob[at : at + length]
        end = blob.index(b"\0\0", at + length)
        strings = [text.decode() for text in blob[at + length : end].split(b"\0") if text]
        found.append((kind, handle, body, strings))
        at = end + 2
    return found


def tables(machine, *, with_bios=False):
    return walk(b"".join(smbios.structures(machine, with_bios=with_bios)))


def of_type(found, kind):
    return [entry for entry in found if entry[0] == kind]


def test_structures_are_those_of_a_pc():
    with make(cpus=2) as machine:
        assert [entry[0] for entry in tables(machine)] == [1, 3, 4, 4, 16, 17, 19, 32, 127]
        assert tables(machine, with_bios=True)[0][0] == 0


#: lengths of the formatted parts (DSP0134 2.8, chapter 7)
@pytest.mark.parametrize(
    ("kind", "length"), [(0, 24), (1, 27), (3, 22), (4, 42), (16, 23), (17, 40), (19, 31), (32, 11), (127, 4)]
)
def test_formatted_part_has_its_length(kind, length):
    with make() as machine:
        assert {len(entry[2]) for entry in of_type(tables(machine, with_bios=True), kind)} == {length}


def test_user_fields_take_the_place_of_defaults():
    given = (
        fields(type=0, vendor="me", release="4.2", uefi="on"),
        fields(type=1, serial="S1", product="P1", uuid="00112233-4455-6677-8899-aabbccddeeff"),
        fields(type=2, location="here"),
        fields(type=3, sku="K"),
        fields(type=4, sock_pfx="S", max_speed="3000"),
        fields(type=11, value="first"),
        fields(type=17, loc_pfx="L", speed="2666"),
    )
    with make(smbios=given) as machine:
        found = tables(machine)
    assert of_type(found, 0)[0][2][0x14:0x16] == b"\4\2"
    system = of_type(found, 1)[0]
    assert system[3] == ["QEMU", "P1", "pc-i440fx-7.2", "S1"]
    assert system[2][8:24] == bytes.fromhex("33221100 5544 7766 8899aabbccddeeff")
    assert "here" in of_type(found, 2)[0][3]
    assert struct.unpack_from("<H", of_type(found, 4)[0][2], 0x14) == (3000,)
    assert of_type(found, 4)[0][3][0] == "S 0"
    assert of_type(found, 11)[0][3] == ["first"]
    assert of_type(found, 17)[0][3][0] == "L 0"


def test_topology_makes_sockets_with_cores_and_threads():
    with make(cpus=8, topology={"sockets": 2, "dies": 1, "cores": 2, "threads": 2}) as machine:
        processors = of_type(tables(machine), 4)
    assert [entry[2][0x23:0x26] for entry in processors] == [b"\2\2\4"] * 2


def test_much_memory_is_in_dimms_of_16_gib_and_two_ranges():
    with make(memory=40 << 30) as machine:
        found = tables(machine)
    assert [struct.unpack_from("<H", entry[2], 0x0C)[0] for entry in of_type(found, 17)] == [16384, 16384, 8192]
    assert len(of_type(found, 19)) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (fields(type=99), "type '99': expected one of 0, 1, 2, 3, 4, 11, 17"),
        (fields(type=1, serail="x"), "type 1: 'serail' not found"),
        (fields(type=0, release="one.two"), "release: 'one.two': expected"),
        (fields(type=17, speed="fast"), "speed: 'fast': expected"),
        (fields(type=1, uuid="123"), "uuid: '123': expected"),
        (fields(file="/no/such/file"), "No such file"),
    ],
)
def test_mistake_says_what_is_accepted(given, message):
    with make(smbios=(given,)) as machine, pytest.raises(BootError, match=message):
        tables(machine)


def test_file_is_taken_as_it_is(tmp_path):
    blob = smbios.structure(200, 0x1234, b"abc")
    (tmp_path / "blob").write_bytes(blob)
    with make(smbios=(fields(file=tmp_path / "blob"),)) as machine:
        assert of_type(tables(machine), 200)[0][1] == 0x1234


def test_entry_point_is_where_a_kernel_looks_and_sums_up():
    with make() as machine:
        machine.memory.add_ram(0, 64 << 20)
        smbios.place(machine, layout.SMBIOS)
        area = machine.memory.read(layout.SMBIOS, 0x1_0000)
        assert area.startswith(b"_SM_")
        assert sum(area[:0x1F]) & 0xFF == sum(area[0x10:0x1F]) & 0xFF == 0
        length, address, count = struct.unpack_from("<HIH", area, 0x16)
        assert len(walk(machine.memory.read(address, length))) == count
