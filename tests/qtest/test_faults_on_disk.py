# SPDX-License-Identifier: Apache-2.0
"""Every fault on a disk, as its driver meets it: all forms of rings, kicks through ioeventfds and not."""

import json
import struct
from itertools import pairwise

import pytest
from blk_driver import FLUSH, IN, IOERR, OK, OUT, resources, wait_for_resources
from ring_forms import FORMS, OFFER, InOrderDriver, PackedInOrderDriver

from qdevpy.backend.drive import Drive
from qdevpy.errors import FaultError
from qdevpy.native.core import ffi
from qdevpy.testing.driver import LegacyDriver, ModernDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.virtio import defs
from qdevpy.virtio.pci_types import device_types_for
from qdevpy_virtio_blk.device import VirtIOBlock
from qdevpy_virtio_blk.vhost_user import VhostUserBlock

TYPES = {kind.name: kind for cls in (VirtIOBlock, VhostUserBlock) for kind in device_types_for(cls)}
SECTORS = 512
UNTOUCHED = 0xEE
IN_ORDER = (InOrderDriver, PackedInOrderDriver)


class Disk:
    """A machine with a disk whose sector N is full of N, and its driver."""

    def __init__(self, folder, driver=ModernDriver, ioeventfd=True, **properties):
        self.image = folder / "disk.img"
        self.image.write_bytes(b"".join(bytes([i % 251]) * 512 for i in range(SECTORS)))
        self.machine = FakeMachine(types=TYPES)
        drive = self.machine.open_backend(Drive(id="root"), file=str(self.image))
        given = {"num_queues": 2, "ioeventfd": ioeventfd} | OFFER | properties
        self.proxy = self.machine.plug_type("virtio-blk-pci", id="disk0", drive=drive, **given)
        self.driver = driver(self.machine, self.proxy)
        self.driver.start(msix=True, features=0)
        self.faults = self.machine.faults

    @property
    def queue(self):
        return self.driver.queues[0]

    def offer(self, kind, sector=0, *, count=1, queue=None):
        """A request without a kick; its head. The room for its answer is full of UNTOUCHED."""
        queue = queue or self.queue
        header = struct.pack("<IIQ", kind, 0, sector)
        data = [b"w" * 512 * count] if kind == OUT else []
        room = [512 * count, 1] if kind == IN else [1]
        head = queue.add([header, *data], room)
        for address, length in queue.chains[head].writable:
            self.machine.memory.write(address, bytes([UNTOUCHED]) * length)
        return head

    def answer(self, head, queue=None):
        """Status and data of a request that is done."""
        data = (queue or self.queue).read(head)
        return data[-1], data[:-1]

    def request(self, kind, sector=0, *, count=1, queue=None):
        queue = queue or self.queue
        head = self.offer(kind, sector, count=count, queue=queue)
        queue.kick()
        queue.wait(head)
        return self.answer(head, queue)

    def read(self, sector, **options):
        return self.request(IN, sector, **options)

    def is_served(self):
        """Whether reads work, on a queue that a fault may have left with requests in it."""
        status, data = self.read(7)
        return status == OK and data == bytes([7]) * 512

    def close(self):
        self.machine.close()


@pytest.fixture(params=[True, False], ids=["ioeventfd", "synchronous"])
def ioeventfd(request):
    return request.param


@pytest.fixture(params=[LegacyDriver, ModernDriver, *FORMS], ids=lambda each: each.__name__)
def make(request, ioeventfd, tmp_path):
    disks = []

    def make(**properties):
        disks.append(Disk(tmp_path, request.param, ioeventfd, **properties))
        return disks[-1]

    make.in_order = request.param in IN_ORDER
    yield make
    for disk in disks:
        disk.close()


@pytest.fixture
def disk(make):
    return make()


@pytest.fixture
def plain(tmp_path):
    """With a modern driver, for what does not depend on rings."""
    disk = Disk(tmp_path)
    yield disk
    disk.close()


def test_io_error_in_a_range_of_sectors_fails_those_reads_only(disk):
    disk.faults.add("disk0", "io-error", requests="read", sectors="100-103")

    assert [disk.read(sector)[0] for sector in (99, 100, 103, 104)] == [OK, IOERR, IOERR, OK]
    assert disk.read(96, count=4)[0] == OK
    assert disk.read(96, count=5)[0] == IOERR, "a request that only touches the range"
    assert disk.read(103)[1] == bytes([UNTOUCHED]) * 512, "nothing was read"
    assert disk.request(OUT, 100)[0] == OK, "a write"
    assert [entry.sector for entry in disk.faults.fired] == [100, 103, 96, 103]
    assert disk.is_served()


def test_io_error_of_a_write_leaves_the_image_alone(disk):
    disk.faults.add("disk0", "io-error", requests="write")

    assert disk.request(OUT, 3)[0] == IOERR
    assert disk.image.read_bytes()[3 * 512 : 4 * 512] == bytes([3]) * 512
    assert disk.request(FLUSH)[0] == OK


def test_nth_request_is_the_one_that_is_hit(disk):
    disk.faults.add("disk0", "io-error", nth=3)

    assert [disk.read(n)[0] for n in range(5)] == [OK, OK, IOERR, OK, OK]


def test_queue_selects_that_queue(disk):
    if len(disk.driver.queues) < 2:
        pytest.skip("a legacy driver that has not negotiated MQ sets up both, and this one has one")
    disk.faults.add("disk0", "io-error", queue=1)

    assert disk.read(1)[0] == OK
    assert disk.read(1, queue=disk.driver.queues[1])[0] == IOERR


def test_delay_holds_a_request_and_lets_it_be_served_then(disk):
    disk.faults.add("disk0", "delay", nth=1, for_="30ms")
    first, second = disk.offer(IN, 1), disk.offer(IN, 2)
    begin = disk.machine.clock.now_ns()
    disk.queue.kick()

    disk.queue.wait(first)

    assert disk.machine.clock.now_ns() - begin >= 30_000_000
    disk.queue.wait(second)
    assert disk.answer(first) == (OK, bytes([1]) * 512)
    assert disk.answer(second) == (OK, bytes([2]) * 512)
    assert disk.is_served()


def test_never_completing_keeps_one_request_and_serves_the_rest(disk, make):
    disk.faults.add("disk0", "never-complete", nth=1)
    lost = disk.offer(IN, 1)
    disk.queue.kick()
    disk.machine.wait_for(lambda: disk.faults.fired)

    if make.in_order:  # 2.7.9: whatever comes after it waits for it
        disk.offer(IN, 2)
        disk.queue.kick()
        disk.queue.collect()
        assert disk.queue.done == {}
    else:
        assert disk.is_served()
        assert lost not in disk.queue.done
    assert disk.proxy.device.requests_in_flight == 0, "a stop does not wait for it"


def test_reset_forgets_what_never_completes(disk):
    disk.faults.add("disk0", "never-complete", nth=1)
    disk.offer(IN, 1)
    disk.queue.kick()
    disk.machine.wait_for(lambda: disk.faults.fired)

    disk.driver.start(msix=True)

    assert disk.is_served()


def test_reset_during_a_delay_drops_the_request(disk):
    disk.faults.add("disk0", "delay", nth=1, for_="20ms")
    disk.offer(IN, 1)
    disk.queue.kick()
    disk.machine.wait_for(lambda: disk.faults.fired)

    disk.driver.start(msix=True)
    due = disk.machine.clock.now_ns() + 40_000_000
    disk.machine.wait_for(lambda: disk.machine.clock.now_ns() > due)

    assert disk.queue.collect() == 0
    assert disk.is_served()


def test_complete_twice_gives_the_same_chain_back_again(disk):
    disk.faults.add("disk0", "complete-twice", nth=2)
    disk.faults.add("disk0", "never-complete", nth=3)  # the driver's packed ring looks on only while something is in flight
    assert disk.is_served()
    head = disk.offer(IN, 5)
    disk.offer(IN, 6)
    disk.queue.kick()

    disk.machine.wait_for(lambda: disk.queue.collect() >= 0 and disk.queue.order.count(head) >= 2)
    assert disk.queue.order[-2:] == [head, head]


def test_short_transfer_ends_early_and_says_so(disk):
    disk.faults.add("disk0", "short", nth=1, length=100)
    head = disk.offer(IN, 9)
    disk.queue.kick()

    assert disk.queue.wait(head) == 100
    assert disk.answer(head) == (OK, bytes([9]) * 100 + bytes([UNTOUCHED]) * 412)
    assert disk.is_served()


def test_short_transfer_without_a_length_is_half_of_the_sectors(disk):
    disk.faults.add("disk0", "short", nth=1)
    head = disk.offer(IN, 9, count=4)
    disk.queue.kick()

    assert disk.queue.wait(head) == 1024


def test_wrong_used_length_is_told_and_nothing_else_changes(disk):
    disk.faults.add("disk0", "used-length", nth=1, length=0xFFFF_FFFF)
    head = disk.offer(IN, 9)
    disk.queue.kick()

    assert disk.queue.wait(head) == 0xFFFF_FFFF
    assert disk.answer(head) == (OK, bytes([9]) * 512)


def test_lost_interrupt_leaves_the_answer_in_the_ring(disk):
    disk.faults.add("disk0", "lost-interrupt", nth=2)
    disk.read(1)
    disk.driver.wait_interrupt(1)

    disk.read(2)
    assert disk.driver.interrupts(1) == 0

    disk.read(3)
    disk.driver.wait_interrupt(1)


def test_spurious_interrupt_comes_without_an_answer(disk):
    disk.driver.interrupts(1)
    disk.faults.happen("disk0", "spurious-interrupt")

    assert disk.driver.interrupts(1) == 1
    assert disk.queue.collect() == 0


def test_spurious_interrupt_at_a_request_comes_beside_its_own(disk):
    disk.faults.add("disk0", "never-complete", nth=1)
    disk.faults.add("disk0", "spurious-interrupt", nth=1)
    disk.offer(IN, 1)
    disk.queue.kick()

    disk.driver.wait_interrupt(1)

    assert disk.queue.collect() == 0


def test_config_change_interrupts_and_changes_nothing(disk):
    before = disk.driver.read_config(0, 4)
    disk.faults.happen("disk0", "config-change")

    assert disk.driver.interrupts(0) == 1
    assert disk.driver.read_config(0, 4) == before
    assert disk.is_served()


def test_needs_reset_at_a_request_stops_the_device_until_it_is_reset(disk):
    disk.faults.add("disk0", "needs-reset", nth=2)
    disk.read(1)
    disk.offer(IN, 2)
    disk.queue.kick()

    disk.machine.wait_for(lambda: disk.driver.status & defs.STATUS_NEEDS_RESET)

    assert disk.queue.collect() == 0
    disk.driver.start(msix=True)
    assert disk.is_served()


def test_backend_that_is_gone_fails_everything_until_it_is_back(disk):
    disk.faults.add("disk0", "backend-gone", nth=2, for_="20ms")

    assert disk.read(1)[0] == OK
    assert disk.read(2)[0] == IOERR
    assert disk.request(FLUSH)[0] == IOERR
    disk.machine.wait_for(lambda: disk.read(3)[0] == OK)


def test_effects_go_together_on_one_request(disk):
    disk.faults.add("disk0", "io-error", nth=1)
    disk.faults.add("disk0", "used-length", nth=1, length=3)
    disk.faults.add("disk0", "lost-interrupt", nth=1)
    disk.faults.add("disk0", "delay", nth=1, for_="1s")
    disk.driver.interrupts(1)
    head = disk.offer(IN, 1)
    disk.queue.kick()

    assert disk.queue.wait(head) == 3
    assert disk.answer(head)[0] == IOERR
    assert disk.driver.interrupts(1) == 0
    assert [entry.what for entry in disk.faults.fired] == ["io-error", "used-length", "lost-interrupt"]


def test_time_decides_where_a_rule_says_so(plain):
    plain.faults.add("disk0", "io-error", after="20ms")
    assert plain.read(1)[0] == OK

    plain.machine.wait_for(lambda: plain.read(1)[0] == IOERR)


def test_fault_at_a_time_needs_no_request(plain):
    plain.faults.add("disk0", "needs-reset", after="10ms")

    plain.machine.wait_for(lambda: plain.driver.status & defs.STATUS_NEEDS_RESET)

    assert [entry.request for entry in plain.faults.fired] == [0]


def test_removed_rule_fires_no_more(plain):
    rule = plain.faults.add("disk0", "io-error")
    timed = plain.faults.add("disk0", "needs-reset", after="10ms")
    assert plain.read(1)[0] == IOERR

    plain.faults.remove(rule)
    plain.faults.remove(timed)

    due = plain.machine.clock.now_ns() + 20_000_000
    plain.machine.wait_for(lambda: plain.machine.clock.now_ns() > due)
    assert plain.is_served()


def test_clear_hands_over_what_was_delayed_and_takes_the_taps_away(disk):
    disk.faults.add("disk0", "delay", for_="1m")
    head = disk.offer(IN, 4)
    disk.queue.kick()
    disk.machine.wait_for(lambda: disk.faults.fired)

    disk.faults.clear()

    disk.queue.wait(head)
    assert disk.answer(head) == (OK, bytes([4]) * 512)
    assert disk.is_served()
    assert len(disk.faults.fired) == 1


def test_stop_and_continue_during_a_delay_lose_nothing(disk):
    disk.faults.add("disk0", "delay", nth=1, for_="10ms")
    head = disk.offer(IN, 4)
    disk.queue.kick()
    disk.machine.wait_for(lambda: disk.faults.fired)

    disk.machine.pause()
    disk.machine.cont()

    disk.queue.wait(head)
    assert disk.answer(head) == (OK, bytes([4]) * 512)


def test_rules_that_come_and_go_under_load_lose_no_request(disk):
    for turn in range(20):
        heads = [disk.offer(IN, sector) for sector in range(8)]
        disk.queue.kick()
        disk.faults.add("disk0", "delay", every=2, for_="1ms")
        disk.faults.add("disk0", "io-error", probability=0.5)
        heads += [disk.offer(IN, sector) for sector in range(8, 16)]
        disk.queue.kick()
        if turn % 3:
            disk.faults.clear()
        for head in heads:
            disk.queue.wait(head)
            assert disk.answer(head)[0] in (OK, IOERR)
    disk.faults.clear()
    assert disk.is_served()


def test_faults_go_along_with_a_queue_that_moves_to_another_thread(plain):
    from qdevpy.native.iothread import IOThread

    plain.faults.add("disk0", "delay", nth=1, for_="10ms")
    plain.faults.add("disk0", "io-error", nth=2)
    first = plain.offer(IN, 1)
    plain.queue.kick()
    plain.machine.wait_for(lambda: plain.faults.fired)
    other = IOThread("other")
    with plain.machine.lock:
        plain.proxy.device.move_queues(other)

    plain.queue.wait(first)

    assert plain.answer(first) == (OK, bytes([1]) * 512)
    assert [plain.read(2)[0], plain.read(3)[0]] == [IOERR, OK]
    plain.machine.at_close(other.close)


def test_unplug_with_kept_requests_leaves_nothing_behind(tmp_path):
    for _ in range(2):  # the second time, whatever stays for good is there
        before = resources()
        disk = Disk(tmp_path)
        disk.faults.open_log(str(tmp_path / "log"))
        disk.faults.add("disk0", "never-complete", every=2)
        disk.faults.add("disk0", "delay", for_="1m")
        for n in range(8):
            disk.offer(IN, n)
        disk.queue.kick()
        disk.machine.wait_for(lambda disk=disk: len(disk.faults.fired) == 8)
        with disk.machine.lock:
            disk.proxy.parent_bus.unplug(disk.proxy)
        disk.close()
    wait_for_resources(before)


def test_replugged_device_has_no_faults_of_the_old_one(plain):
    plain.faults.add("disk0", "io-error")
    assert plain.read(1)[0] == IOERR
    with plain.machine.lock:
        plain.proxy.parent_bus.unplug(plain.proxy)
    drive = plain.machine.open_backend(Drive(id="other"), file=str(plain.image))
    plain.proxy = plain.machine.plug_type("virtio-blk-pci", id="disk0", drive=drive)
    plain.driver = ModernDriver(plain.machine, plain.proxy)
    plain.driver.start(msix=True)

    assert plain.is_served()


# -- log and replay


def run_some(disk):
    """Which of some requests failed."""
    return [(kind, sector, disk.request(kind, sector)[0]) for kind in (IN, OUT) for sector in (5, 9, 5, 100, 9, 101, 7, 5)]


def test_log_has_what_fired_and_replays_whatever_the_seed(tmp_path, make):
    path = str(tmp_path / "faults.jsonl")
    first = make()
    first.faults.seed = 3
    first.faults.open_log(path)
    first.faults.add("disk0", "io-error", probability=0.4)
    outcome = run_some(first)
    first.close()

    second = make()
    second.faults.seed = 4
    second.faults.replay(path)

    assert {status for _, _, status in outcome} == {OK, IOERR}
    assert run_some(second) == outcome
    lines = [json.loads(line) for line in (tmp_path / "faults.jsonl").read_text().splitlines()]
    assert lines[0] == {"qdevpy-faults": 1, "seed": 3}
    assert len(lines) == 1 + sum(status == IOERR for _, _, status in outcome)
    assert {"device", "what", "queue", "request", "kind", "sector"} <= lines[1].keys()


def test_replay_hits_the_same_requests_in_another_order(tmp_path, make):
    path = str(tmp_path / "faults.jsonl")
    first = make()
    first.faults.open_log(path)
    first.faults.add("disk0", "io-error", sectors="9", nth=2)
    assert [first.read(sector)[0] for sector in (9, 1, 9, 9)] == [OK, OK, IOERR, OK]
    first.close()

    second = make()
    second.faults.replay(path)

    assert [second.read(sector)[0] for sector in (1, 2, 9, 3, 9, 9)] == [OK, OK, OK, OK, IOERR, OK]


def test_replay_of_what_came_at_a_time_comes_after_as_many_requests(tmp_path, plain):
    path = str(tmp_path / "faults.jsonl")
    plain.faults.open_log(path)
    for sector in range(3):
        plain.read(sector)
    plain.faults.add("disk0", "io-error", nth=99)  # requests are counted from the first rule on
    for sector in range(3):
        plain.read(sector)
    plain.faults.happen("disk0", "needs-reset")
    plain.close()

    again = Disk(tmp_path)
    again.faults.replay(path)
    assert [again.read(sector)[0] for sector in range(2)] == [OK, OK]
    again.offer(IN, 2)
    again.queue.kick()
    again.machine.wait_for(lambda: again.driver.status & defs.STATUS_NEEDS_RESET)
    again.close()


def test_same_seed_hits_the_same_requests_and_another_one_others(make):
    def outcome(seed):
        disk = make()
        disk.faults.seed = seed
        disk.faults.add("disk0", "io-error", probability=0.5)
        found = run_some(disk)
        disk.close()
        return found

    assert outcome(1) == outcome(1)
    assert outcome(1) != outcome(2)


# -- hostile drivers


def test_broken_headers_are_no_request_of_any_kind(disk):
    disk.faults.add("disk0", "io-error", requests="read", sectors="0-100")
    disk.faults.add("disk0", "short")
    disk.faults.add("disk0", "complete-twice", every=3)
    for readable, writable in (([b""], []), ([b"x"], [1]), ([], [1]), ([b"\xff" * 16], [1]), ([b"\xff" * 15], [600])):
        buffers = [data for data in readable if data]
        if not buffers and not writable:
            continue
        disk.queue.add(buffers, writable)
        disk.queue.kick()
    disk.machine.run_loop_once()

    disk.driver.start(msix=True)
    disk.faults.clear()
    assert disk.is_served()


def test_io_error_of_a_request_without_room_for_a_status_writes_nothing(disk):
    disk.faults.add("disk0", "io-error")
    head = disk.queue.add([struct.pack("<IIQ", OUT, 0, 1), bytes(512)], [])
    disk.queue.kick()

    assert disk.queue.wait(head) == 0


# -- what is asked for


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.add("disk1", "io-error"), "no device has the id 'disk1'; did you mean 'disk0'?"),
        (lambda f: f.add("disk0", "io-eror"), "did you mean 'io-error'?"),
        (lambda f: f.add("disk0", "link-down", after=1), "'link-down' is nothing that this device can do"),
        (lambda f: f.add("disk0", "io-error", nht=1), "option 'nht' not found; did you mean 'nth'?"),
        (lambda f: f.add("disk0", "io-error", requests="reed"), "did you mean 'read'?"),
        (lambda f: f.add("disk0", "io-error", sectors="9-3"), "the range ends before it begins"),
        (lambda f: f.add("disk0", "delay"), "'delay' needs option 'for'"),
        (lambda f: f.add("disk0", "needs-reset"), "when?"),
        (lambda f: f.happen("disk0", "io-error"), "happens to a request"),
        (lambda f: f.happen("disk0", "needs-reset", nth=1), "option 'nth' is not for 'needs-reset' now"),
        (lambda f: f.replay("/nonexistent"), "No such file"),
        (lambda f: f.open_log("/nonexistent/log"), "No such file"),
    ],
)
def test_what_cannot_be_is_refused_and_says_why(plain, call, message):
    with pytest.raises(FaultError) as refused:
        call(plain.faults)

    assert message in str(refused.value)
    assert plain.is_served()


def test_machine_that_never_asked_for_faults_has_no_tapped_ring(plain):
    def tapped():
        return [queue.pointer.ring.tapped != ffi.NULL for queue in plain.proxy.device.queues]

    assert tapped() == [False, False]
    plain.faults.add("disk0", "io-error")
    assert tapped() == [True, True]
    plain.faults.clear()
    assert tapped() == [False, False]


def test_normal_log_shows_the_first_ones_and_says_so(plain, caplog):
    plain.faults.add("disk0", "io-error")
    for _ in range(25):
        plain.read(1)

    shown = [
        record.getMessage() for record in caplog.records if "fault:" in record.getMessage() and record.levelname == "WARNING"
    ]
    assert len(shown) == 20
    assert "io-error: queue 0, request 1 (read, sector 1, 1 sectors)" in shown[0]
    assert shown[-1].endswith("for debugging only")
    times = [entry.time for entry in plain.faults.fired]
    assert all(a <= b for a, b in pairwise(times))
