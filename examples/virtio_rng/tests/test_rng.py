"""virtio-rng through its registers, as a driver uses them."""

import pytest
from qdevpy.errors import PropertyError
from qdevpy.plugin.manager import load_plugins
from qdevpy.testing.driver import LegacyDriver, ModernDriver


def plug(machine, name="virtio-rng-pci", driver=ModernDriver, **properties):
    started = driver(machine, machine.plug_type(load_plugins().device_type(name), **properties))
    started.start()
    return started


def test_plugin_is_found_by_name_with_its_properties():
    kind = load_plugins().device_type("virtio-rng-pci")
    assert kind.provider == "qdevpy-virtio-rng"
    assert {"max-bytes", "period"} <= set(kind.properties)


@pytest.mark.parametrize(
    ("name", "driver"), [("virtio-rng-pci", ModernDriver), ("virtio-rng-pci-transitional", LegacyDriver)]
)
def test_buffers_are_filled_and_no_two_alike(bare_machine, name, driver):
    queue = plug(bare_machine, name, driver).queues[0]
    first, second = queue.request([], [64]), queue.request([], [64])
    assert (first[0], second[0]) == (64, 64)
    assert len({first[1], second[1], bytes(64)}) == 3


def test_period_has_its_bytes_and_then_the_next_one_begins(bare_machine):
    queue = plug(bare_machine, max_bytes=48, period=50).queues[0]
    assert queue.request([], [32])[0] == 32
    assert queue.request([], [32])[0] == 16
    waiting = queue.add([], [32])
    queue.kick()
    queue.collect()
    assert waiting not in queue.done
    assert queue.wait(waiting) == 32


def test_period_of_nothing_is_refused(bare_machine):
    with pytest.raises(PropertyError, match="period"):
        plug(bare_machine, period=0)
