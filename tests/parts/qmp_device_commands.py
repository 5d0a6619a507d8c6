# SPDX-License-Identifier: Apache-2.0
"""Cases, as in ``qmp_commands.py``, for commands on back ends and devices."""

import pytest

BLK = "/machine/peripheral/disk0/virtio-backend"


def names(entries, key):
    """One member of each."""
    return [entry[key] for entry in entries]


async def query_block(execute, machine):
    (disk,) = await execute("query-block")
    assert (disk["device"], disk["qdev"], disk["inserted"]["drv"]) == ("root", BLK, "null-co")


async def query_named_block_nodes(execute, machine):
    assert names(await execute("query-named-block-nodes"), "drv") == ["null-co"]


async def query_blockstats(execute, machine):
    assert (await execute("query-blockstats"))[0]["stats"]["rd_operations"] == 0


async def blockdev(execute, machine):
    assert await execute("blockdev-add", driver="raw", node_name="n0", file={"driver": "null-co", "size": 4096}) == {}
    assert "n0" in names(await execute("query-named-block-nodes"), "node-name")
    assert await execute("blockdev-del", node_name="n0") == {}


async def blockdev_set_iothread(execute, machine):
    (node,) = names(await execute("query-named-block-nodes"), "node-name")
    queues = machine.machine.find_device("disk0").device.queues
    for name in ("io0", None):
        assert await execute("x-blockdev-set-iothread", node_name=node, iothread=name, force=True) == {}
        assert {queue.iothread for queue in queues} == {machine.machine.iothread(name)}


async def block_resize(execute, machine):
    image = machine.folder / "disk.img"
    image.touch()
    await execute("blockdev-add", driver="file", node_name="f0", filename=str(image))
    assert await execute("block_resize", node_name="f0", size=4096) == {}
    assert image.stat().st_size == 4096


async def memory_pieces(execute, machine):
    assert [(piece["id"], piece["host-nodes"]) for piece in await execute("query-memdev")] == [("pc.ram", [])]


async def iothreads(execute, machine):
    assert await execute("object-add", qom_type="iothread", id="io1") == {}
    assert names(await execute("query-iothreads"), "id") == ["io0", "io1"]
    assert await execute("object-del", id="io1") == {}


async def netdevs(execute, machine):
    assert await execute("netdev_add", type="null", id="n1") == {}
    assert await execute("netdev_del", id="n1") == {}


async def set_link(execute, machine):
    assert await execute("set_link", name="nic0", up=False) == {}
    assert not machine.machine.find_device("nic0").device.link_up


async def announce_self(execute, machine):
    assert await execute("announce-self", initial=1, max=2, rounds=2, step=1) == {}


async def query_rx_filter(execute, machine):
    assert names(await execute("query-rx-filter", name="nic0"), "promiscuous") == [True]


async def query_chardev(execute, machine):
    assert "mon0" in names(await execute("query-chardev"), "label")


async def query_chardev_backends(execute, machine):
    assert "pty" in names(await execute("query-chardev-backends"), "name")


async def chardevs(execute, machine):
    assert await execute("chardev-add", id="c0", backend={"type": "null", "data": {}}) == {}
    assert await execute("chardev-change", id="c0", backend={"type": "ringbuf", "data": {"size": 64}}) == {}
    assert await execute("ringbuf-write", device="c0", data="abc") == {}
    assert await execute("ringbuf-read", device="c0", size=2) == "ab"
    assert await execute("chardev-send-break", id="c0") == {}
    assert await execute("chardev-remove", id="c0") == {}


async def query_pci(execute, machine):
    assert "disk0" in names((await execute("query-pci"))[0]["devices"], "qdev_id")


async def query_virtio(execute, machine):
    assert BLK in names(await execute("x-query-virtio"), "path")


async def query_virtio_status(execute, machine):
    assert (await execute("x-query-virtio-status", path=BLK))["device-id"] == 2


async def query_virtio_queue_status(execute, machine):
    assert (await execute("x-query-virtio-queue-status", path=BLK, queue=0))["vring-num"] == 256


async def query_virtio_queue_element(execute, machine):
    with pytest.raises(Exception, match="not initialized"):
        await execute("x-query-virtio-queue-element", path=BLK, queue=0)


async def query_virtio_vhost_queue_status(execute, machine):
    with pytest.raises(Exception, match="vhost device has not started yet"):
        await execute("x-query-virtio-vhost-queue-status", path=BLK, queue=0)


async def query_counters(execute, machine):
    disk = next(each for each in (await execute("x-query-counters"))["devices"] if each["name"] == "disk0")
    assert disk["type"] == "virtio-blk-pci"
    assert (disk["bytes-to-guest"], disk["bytes-from-guest"]) == (0, 0)


async def query_virtio_rings(execute, machine):
    assert await execute("x-query-virtio-rings", path=BLK) == {"name": "virtio-blk", "num-vqs": 2, "queues": []}


async def human_monitor_command(execute, machine):
    assert (await execute("human-monitor-command", command_line="info status")).startswith("VM status: running")
    assert "unknown command" in await execute("human-monitor-command", command_line="nope")


DEVICE_CASES = {
    "query-block": query_block,
    "query-named-block-nodes": query_named_block_nodes,
    "query-blockstats": query_blockstats,
    "blockdev-add": blockdev,
    "blockdev-del": blockdev,
    "x-blockdev-set-iothread": blockdev_set_iothread,
    "block_resize": block_resize,
    "query-iothreads": iothreads,
    "query-memdev": memory_pieces,
    "object-add": iothreads,
    "object-del": iothreads,
    "netdev_add": netdevs,
    "netdev_del": netdevs,
    "set_link": set_link,
    "announce-self": announce_self,
    "query-rx-filter": query_rx_filter,
    "query-chardev": query_chardev,
    "query-chardev-backends": query_chardev_backends,
    "chardev-add": chardevs,
    "chardev-change": chardevs,
    "chardev-remove": chardevs,
    "chardev-send-break": chardevs,
    "ringbuf-write": chardevs,
    "ringbuf-read": chardevs,
    "query-pci": query_pci,
    "x-query-virtio": query_virtio,
    "x-query-virtio-status": query_virtio_status,
    "x-query-virtio-queue-status": query_virtio_queue_status,
    "x-query-virtio-queue-element": query_virtio_queue_element,
    "x-query-virtio-vhost-queue-status": query_virtio_vhost_queue_status,
    "x-query-virtio-rings": query_virtio_rings,
    "x-query-counters": query_counters,
    "human-monitor-command": human_monitor_command,
}
