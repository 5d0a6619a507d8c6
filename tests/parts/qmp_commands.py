# SPDX-License-Identifier: Apache-2.0
"""A case for every QMP command and event: a command without one fails its test.

A case is given ``execute(command, **arguments)``, where ``_`` is ``-``, and the machine.
"""

import asyncio
import typing

import pytest
from qemu.qmp import ExecuteError
from qmp_device_commands import DEVICE_CASES
from qmp_parts import RunningMachine, backend, chardev, device

#: what there must be at least
LISTED = (
    "query-version",
    "query-commands",
    "query-qmp-schema",
    "query-status",
    "query-machines",
    "query-cpus-fast",
    "query-pci",
    "query-block",
    "query-named-block-nodes",
    "query-chardev",
    "query-rx-filter",
    "query-iothreads",
    "device_add",
    "device_del",
    "device-list-properties",
    "netdev_add",
    "netdev_del",
    "blockdev-add",
    "blockdev-del",
    "x-blockdev-set-iothread",
    "block_resize",
    "chardev-add",
    "chardev-remove",
    "object-add",
    "object-del",
    "qom-list",
    "qom-get",
    "qom-set",
    "qom-list-types",
    "qom-list-properties",
    "x-query-virtio",
    "x-query-virtio-status",
    "x-query-virtio-queue-status",
    "x-query-virtio-vhost-queue-status",
    "x-query-virtio-queue-element",
    "system_reset",
    "system_powerdown",
    "stop",
    "cont",
    "quit",
    "set_link",
    "announce-self",
    "human-monitor-command",
)


class Machine(RunningMachine):
    """A pc of accelerator ``none`` with a QMP server.

    :ivar address: what qemu.qmp connects to
    """

    def __init__(self, folder, how):
        where = {"path": folder / "qmp"} if how == "unix" else {"host": "127.0.0.1", "port": "0"}
        super().__init__(
            chardev("mon0", server="on", **where),
            machine="pc",
            memory=16 << 20,
            cpus=2,
            name="test",
            drives={"root": backend("root", "drive", driver="null-co", size="1M")},
            netdevs={"lan": backend("lan", "null")},
            objects={"io0": backend("io0", "iothread")},
            devices=(
                device("virtio-blk-pci", id="disk0", drive="root", serial="abc"),
                device("virtio-net-pci", id="nic0", netdev="lan"),
                device("virtio-serial-pci", id="vser0"),
                device("virtserialport", id="port0", name="org.test"),
            ),
        )
        socket = self.machine.backend("chardevs", "mon0")
        self.address = str(where["path"]) if how == "unix" else ("127.0.0.1", socket.bound_port)
        self.folder = folder

    def emit(self, event):
        self.machine.loop.call_soon(lambda: self.machine.events.emit(event))


def answers(**wanted):
    """A case: the command of that case's name answers with at least these members."""

    def case(name):
        async def check(execute, machine):
            answer = await execute(name)
            assert {key: answer[key.replace("_", "-")] for key in wanted} == wanted

        return check

    return case


async def query_version(execute, machine):
    answer = await execute("query-version")
    assert answer["qemu"] == {"major": 7, "minor": 2, "micro": 0}
    assert answer["package"].startswith("qdevpy ")


async def query_commands(execute, machine):
    assert {"query-version", "quit", "qmp_capabilities"} <= {entry["name"] for entry in await execute("query-commands")}


async def query_qmp_schema(execute, machine):
    entries = {entry["name"]: entry for entry in await execute("query-qmp-schema")}
    assert entries["quit"]["meta-type"] == "command"
    assert entries["SHUTDOWN"]["meta-type"] == "event"


async def query_machines(execute, machine):
    boards = {board["name"]: board for board in await execute("query-machines")}
    assert boards["pc-i440fx-7.2"]["alias"] == "pc"
    assert boards["pc-i440fx-7.2"]["is-default"] is True
    assert boards["none"]["cpu-max"] == 1


async def query_cpus_fast(execute, machine):
    cpus = await execute("query-cpus-fast")
    assert [cpu["cpu-index"] for cpu in cpus] == [0, 1]
    assert cpus[1]["qom-path"] == "/machine/unattached/device[1]"
    assert cpus[1]["target"] == "x86_64"


async def query_hotpluggable_cpus(execute, machine):
    assert [cpu["props"]["socket-id"] for cpu in await execute("query-hotpluggable-cpus")] == [1, 0]


async def query_cpu_definitions(execute, machine):
    assert [model["name"] for model in await execute("query-cpu-definitions")] == ["host"]


async def query_name(execute, machine):
    assert await execute("query-name") == {"name": "test"}


async def query_uuid(execute, machine):
    assert await execute("query-uuid") == {"UUID": "00000000-0000-0000-0000-000000000000"}


async def pmemsave(execute, machine):
    machine.call(lambda: machine.machine.memory.write(0x1000, b"hello"))
    assert await execute("pmemsave", val=0x1000, size=4096, filename=str(machine.folder / "dump")) == {}
    assert (machine.folder / "dump").read_bytes()[:6] == b"hello\0"


async def stop(execute, machine):
    assert await execute("stop") == {}
    assert await execute("query-status") == {"running": False, "singlestep": False, "status": "paused"}


async def cont(execute, machine):
    await execute("stop")
    assert await execute("cont") == {}
    assert (await execute("query-status"))["running"] is True


async def system_reset(execute, machine):
    assert await execute("system_reset") == {}


async def system_powerdown(execute, machine):
    assert await execute("system_powerdown") == {}


async def quit_(execute, machine):
    assert await execute("quit") == {}
    machine.join()


async def set_action(execute, machine):
    assert await execute("set-action", panic="none", reboot="shutdown", shutdown="pause") == {}
    assert (machine.machine.panic_action, machine.machine.no_reboot, machine.machine.shutdown_ends) == ("none", True, False)


async def x_exit_preconfig(execute, machine):
    machine.machine.preconfig = True
    assert await execute("x-exit-preconfig") == {}
    assert machine.machine.preconfig is False


async def qom_list(execute, machine):
    entries = {entry["name"]: entry["type"] for entry in await execute("qom-list", path="/machine")}
    assert entries["peripheral"] == "child<container>"


async def qom_get(execute, machine):
    assert await execute("qom-get", path="/machine/peripheral/disk0", property="serial") == "abc"


async def qom_set(execute, machine):
    with pytest.raises(Exception, match="serial"):  # it is realized
        await execute("qom-set", path="/machine/peripheral/disk0", property="serial", value="x")


async def qom_list_types(execute, machine):
    entries = {entry["name"]: entry for entry in await execute("qom-list-types", implements="virtio-device", abstract=True)}
    assert entries["virtio-blk-device"]["parent"] == "virtio-device"
    assert entries["virtio-device"]["abstract"] is True


async def qom_list_properties(execute, machine):
    entries = {entry["name"]: entry["type"] for entry in await execute("qom-list-properties", typename="virtio-pci")}
    assert entries["parent_bus"] == "link<bus>"
    assert entries["addr"] == "int32"


async def device_list_properties(execute, machine):
    entries = {entry["name"]: entry for entry in await execute("device-list-properties", typename="virtio-net-pci")}
    assert entries["mac"] == {
        "name": "mac",
        "type": "str",
        "description": "Ethernet 6-byte MAC Address, example: 52:54:00:12:34:56",
    }
    assert "realized" not in entries


async def device_add(execute, machine):
    assert await execute("device_add", driver="virtio-serial-pci", id="vser1") == {}
    assert machine.call(lambda: machine.machine.find_device("vser1")) is not None
    with pytest.raises(ExecuteError, match="Duplicate device ID"):
        await execute("device_add", driver="virtio-serial-pci", id="vser1")


async def device_del(execute, machine):
    with pytest.raises(ExecuteError) as caught:
        await execute("device_del", id="nobody")
    assert caught.value.error_class == "DeviceNotFound"
    assert await execute("device_del", id="port0") == {}
    assert machine.call(lambda: machine.machine.find_device("port0")) is None


CASES = {
    "device_add": device_add,
    "device_del": device_del,
    "qom-list": qom_list,
    "qom-list-types": qom_list_types,
    "qom-list-properties": qom_list_properties,
    "device-list-properties": device_list_properties,
    "qom-get": qom_get,
    "qom-set": qom_set,
    "query-version": query_version,
    "query-commands": query_commands,
    "query-qmp-schema": query_qmp_schema,
    "query-status": answers(running=True, status="running")("query-status"),
    "query-machines": query_machines,
    "query-cpus-fast": query_cpus_fast,
    "query-hotpluggable-cpus": query_hotpluggable_cpus,
    "query-cpu-definitions": query_cpu_definitions,
    "query-current-machine": answers(wakeup_suspend_support=False)("query-current-machine"),
    "query-memory-size-summary": answers(base_memory=16 << 20, plugged_memory=0)("query-memory-size-summary"),
    "query-kvm": answers(enabled=False, present=True)("query-kvm"),
    "query-target": answers(arch="x86_64")("query-target"),
    "query-name": query_name,
    "query-uuid": query_uuid,
    "pmemsave": pmemsave,
    "stop": stop,
    "cont": cont,
    "system_reset": system_reset,
    "system_powerdown": system_powerdown,
    "quit": quit_,
    "set-action": set_action,
    "x-exit-preconfig": x_exit_preconfig,
    **DEVICE_CASES,
}


def executed(*commands):
    """An event's case: execute these."""

    async def cause(client, machine):
        for command in commands:
            await client.execute(command)

    return cause


def emitted(event):
    """An event's case that has no command: the machine emits it."""

    async def cause(client, machine):
        machine.emit(event)
        await asyncio.sleep(0)

    return cause


def sample(event):
    """An event of that type, with values of the right types."""
    values = []
    for annotation in typing.get_type_hints(event).values():
        if typing.get_origin(annotation) is typing.Literal:
            values.append(typing.get_args(annotation)[0])
        elif type(None) in typing.get_args(annotation):
            values.append(None)
        else:
            values.append(annotation(1))
    return event(*values)


async def panic(client, machine):
    machine.machine.panic_action = "none"
    machine.machine.request_panic()


EVENTS = {
    "SHUTDOWN": executed("quit"),
    "RESET": executed("system_reset"),
    "POWERDOWN": executed("system_powerdown"),
    "STOP": executed("stop"),
    "RESUME": executed("stop", "cont"),
    "GUEST_PANICKED": panic,
}
