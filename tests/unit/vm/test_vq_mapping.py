# SPDX-License-Identifier: Apache-2.0
"""Queues of one device on several I/O threads: ``iothread-vq-mapping``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from qdevpy.backend.drive import Drive
from qdevpy.backend.iothread import IOThreadOptions
from qdevpy.backend.netdev_null import NullNetDev
from qdevpy.definition.load import load_definition
from qdevpy.errors import DefinitionError, PropertyError, RealizeError
from qdevpy.plugin.manager import load_plugins
from qdevpy.testing.machine import FakeMachine
from qdevpy.virtio.pci_types import device_types_for
from qdevpy.virtio.vq_mapping import IOThreadVqMapping
from qdevpy_virtio_blk.device import VirtIOBlock
from qdevpy_virtio_net.device import VirtIONet

FIRST, SECOND = {"iothread": "io0"}, {"iothread": "io1"}


@pytest.fixture
def machine() -> Iterator[FakeMachine]:
    types = {kind.name: kind for cls in (VirtIOBlock, VirtIONet) for kind in device_types_for(cls, "test")}
    with FakeMachine(types=types) as machine:
        for name in ("io0", "io1"):
            machine.open_backend(IOThreadOptions(id=name))
        machine.open_backend(Drive(id="root"), driver="null-co", size=4096)
        yield machine


def plug(machine: FakeMachine, mapping: Any, **properties: Any) -> Any:
    proxy = machine.types["virtio-blk-pci"].create()
    proxy.set_property("iothread-vq-mapping", mapping)
    return machine.plug_device(proxy, drive=machine.backend("drives", "root"), **properties)


def names(proxy: Any) -> list[str | None]:
    return [queue.iothread.name if queue.iothread is not None else None for queue in proxy.device.queues]


def test_threads_without_vqs_take_turns(machine: FakeMachine) -> None:
    assert names(plug(machine, [FIRST, SECOND], num_queues=5)) == ["io0", "io1", "io0", "io1", "io0"]


def test_queues_go_to_the_thread_that_names_them(machine: FakeMachine) -> None:
    proxy = plug(machine, '[{"iothread": "io0", "vqs": [2]}, {"iothread": "io1", "vqs": [0, 1]}]', num_queues=3)
    assert names(proxy) == ["io1", "io1", "io0"]
    assert proxy.get_property("iothread-vq-mapping") == (("io0", (2,)), ("io1", (0, 1)))


def test_thread_that_serves_a_queue_only_lives_as_long_as_the_queue(machine: FakeMachine) -> None:
    proxy = plug(machine, [FIRST, SECOND], num_queues=2)
    thread = proxy.device.queues[1].iothread
    machine.remove_backend("objects", "io1")
    assert thread.thread_id > 0


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ([{"iothread": "io9"}], 'IOThread "io9" object does not exist'),
        ([FIRST, FIRST], 'duplicate IOThread name "io0" in iothread-vq-mapping'),
        ([FIRST, SECOND | {"vqs": [0]}], "either all items in iothread-vq-mapping must have vqs or none of them must have it"),
        (
            [FIRST | {"vqs": [0, 1, 2]}],
            'vq index 2 for IOThread "io0" must be less than num_queues 2 in iothread-vq-mapping',
        ),
        (
            [FIRST | {"vqs": [0, 1]}, SECOND | {"vqs": [1]}],
            'cannot assign vq 1 to IOThread "io1" because it is already assigned',
        ),
        ([FIRST | {"vqs": [1]}], "missing vq 0 IOThread assignment in iothread-vq-mapping"),
    ],
)
def test_mapping_that_does_not_fit_is_refused_in_qemus_words(machine: FakeMachine, mapping: Any, message: str) -> None:
    with pytest.raises(RealizeError) as caught:
        plug(machine, mapping, num_queues=2)
    assert message in str(caught.value)
    assert machine.backend("drives", "root").user is None


def test_mapping_beside_iothread_is_refused(machine: FakeMachine) -> None:
    with pytest.raises(RealizeError, match="iothread and iothread-vq-mapping properties cannot be set at the same time"):
        plug(machine, [FIRST], iothread=machine.iothread("io1"))


WRONG_VQS: list[Any] = [[], [-1], [1 << 16], [True], 0, "0"]


@pytest.mark.parametrize(
    "mapping",
    ["", "{}", [], "io0", [{}], [{"iothread": 1}], [FIRST | {"vq": [0]}], *([FIRST | {"vqs": vqs}] for vqs in WRONG_VQS)],
)
def test_text_that_is_no_mapping_is_refused_with_what_is_accepted(machine: FakeMachine, mapping: Any) -> None:
    with pytest.raises(PropertyError, match=r"property 'iothread-vq-mapping': .*expected a list of"):
        plug(machine, mapping)


def test_mapping_is_written_as_it_is_read() -> None:
    kind = IOThreadVqMapping()
    given = [FIRST | {"vqs": [0, 2]}, SECOND | {"vqs": [1]}]
    assert kind.to_json(kind.parse(given)) == given
    assert kind.parse(kind.format(kind.parse(given))) == kind.parse(given)
    assert kind.to_json(None) == []
    with pytest.raises(ValueError, match="Invalid parameter type for 'x', expected: array"):
        kind.from_json("x", "[]")


class TwoPorts(NullNetDev):
    """As a tap with two queues."""

    ports = 2


def test_both_queues_of_a_cards_pair_go_to_the_same_thread(machine: FakeMachine) -> None:
    proxy = machine.types["virtio-net-pci"].create()
    proxy.set_property("iothread-vq-mapping", [FIRST, SECOND])
    netdev = machine.open_backend(TwoPorts(id="n0"))
    machine.plug_device(proxy, netdev=netdev, mq="on")
    assert names(proxy) == ["io0", "io0", "io1", "io1", None]


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        (
            "[{iothread: io0}, {iothread: io2}]",
            "m.yaml:2:49: error[Q401]: virtio-blk-pci: iothread-vq-mapping: no iothread has the id 'io2'; did you mean 'io0'?",
        ),
        (
            "[{iothred: io0}]",
            "expected a list of {iothread: ID}, or of {iothread: ID, vqs: [NUMBER, ...]}",
        ),
        ("[[io0]]", "expected a list of"),
    ],
)
def test_mapping_of_a_definition_is_checked_where_it_stands(mapping: str, problem: str) -> None:
    text = f"objects: {{io0: {{type: iothread}}}}\ndevices: [virtio-blk-pci: {{iothread-vq-mapping: {mapping}}}]\n"
    with pytest.raises(DefinitionError) as caught:
        load_definition("m.yaml", load_plugins(), text=text)
    assert problem in str(caught.value)
