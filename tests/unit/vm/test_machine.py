# SPDX-License-Identifier: Apache-2.0
"""The machine's life with a board of one chip and no CPU."""

import os
import signal
import threading
from types import MappingProxyType, SimpleNamespace

import attrs
import pytest

from qdevpy.backend.base import Backend
from qdevpy.backend.iothread import IOThreadOptions
from qdevpy.definition.model import BackendDefinition, DeviceDefinition, GlobalDefinition, MachineDefinition, Position, Value
from qdevpy.errors import BackendError, DeviceError, LocatedError, PropertyError, QdevpyError, RealizeError
from qdevpy.qdev import property as prop
from qdevpy.qdev.bus import Bus
from qdevpy.qdev.device import Device
from qdevpy.qdev.types import DeviceType
from qdevpy.vm.board import Board
from qdevpy.vm.build import build_machine, make_accelerator
from qdevpy.vm.machine import RunState
from qdevpy.vm.run import boot, leave_at_once

HERE = Position("test.yaml", 3, 5)


class ToyBus(Bus):
    bus_type = "Toy"


class Toy(Device):
    type_name = "toy"
    bus_type = "Toy"
    size: int = prop.uint8(1, help="how large")
    colour: str | None = prop.string("red", help="of which colour")
    drive: object = prop.drive(help="a drive")
    iothread: object = prop.link("iothread", help="a thread")
    log: list = attrs.field(factory=list, init=False)

    def do_realize(self):
        if self.size == 13:
            raise RealizeError("does not like 13", device=self.label)
        if self.size == 200:
            raise ZeroDivisionError("oops")
        if self.size == 14:
            self.machine.loop.call_soon(lambda: self.machine.request_shutdown("toy is done", 7))

    def do_reset(self):
        self.log.append("reset")

    def vm_state_changed(self, running):
        self.log.append("start" if running else "stop")

    def do_unrealize(self):
        self.log.append("unrealize")
        if self.size == 15:
            raise ValueError("cannot let go")


class Slow(Toy):
    """Its storage takes its time."""

    type_name = "slow"
    pending: int = attrs.field(default=0, init=False)

    @property
    def requests_in_flight(self):
        return self.pending

    def vm_state_changed(self, running):
        super().vm_state_changed(running)
        assert running or not self.pending, "stopped while something was in flight: the main loop would have waited"

    def finish(self):
        self.pending = 0


class Fixed(Toy):
    type_name = "fixed"
    user_creatable = False


class Store(Backend):
    type_name = "drive"
    section = "drives"
    file: str | None = prop.string(help="what to open")
    closed: bool = attrs.field(default=False, init=False)

    def open(self):
        if self.file == "missing":
            raise BackendError(f"drive '{self.name}': cannot open 'missing'")

    def close(self):
        self.closed = True


class ToyBoard(Board):
    type_name = "toyboard"
    compat = (("toy", "colour", "blue"),)

    def add_memory(self, machine):
        machine.memory.add_ram(0, machine.memory_size)

    def build(self, machine):
        machine.add_root_bus(ToyBus("toy.0"))

    def prepare_boot(self, machine):
        return None


class ToyRegistry:
    types = MappingProxyType({"toy": DeviceType.of(Toy), "fixed": DeviceType.of(Fixed)})

    def board(self, name):
        return ToyBoard

    def device_type(self, name):
        return self.types[name]

    def backend_type(self, section, name):
        return Store if section == "drives" else IOThreadOptions


def value(text):
    return Value(text, HERE)


def device(kind="toy", **options):
    return DeviceDefinition(kind, {name: value(text) for name, text in options.items()}, HERE)


def drive(name, **options):
    return BackendDefinition(name, "drive", {key: value(text) for key, text in options.items()}, HERE)


def define(*devices, **fields):
    return MachineDefinition(machine="toyboard", accel="none", memory=1 << 20, devices=devices, **fields)


@pytest.fixture
def build():
    made = []

    def make(*devices, **fields):
        machine = build_machine(define(*devices, **fields), ToyRegistry())
        made.append(machine)
        return machine

    yield make
    for machine in made:
        machine.close()


def test_defaults_are_overridden_in_order_class_compat_global_entry(build):
    machine = build(device(id="a"), device(id="b", colour="green"))
    assert [machine.find_device(i).colour for i in "ab"] == ["blue", "green"]
    with_global = build(device(id="a"), globals=(GlobalDefinition("toy", "colour", value("white")),))
    assert with_global.find_device("a").colour == "white"


def test_reference_to_a_drive_is_replaced_by_the_drive(build):
    machine = build(device(id="a", drive="root"), drives={"root": drive("root", file="x")})
    assert machine.find_device("a").drive is machine.backend("drives", "root")


def test_reference_to_an_iothread_is_replaced_by_the_thread(build):
    objects = {"io0": BackendDefinition("io0", "iothread", {}, HERE)}
    machine = build(device(id="a", iothread="io0"), objects=objects)
    assert machine.find_device("a").iothread is machine.iothread("io0")


@pytest.mark.parametrize(
    ("options", "fields", "text"),
    [
        ({"size": "300"}, {}, "out of range"),
        ({"colour": "red", "sise": "1"}, {}, "did you mean 'size'"),
        ({"drive": "nope"}, {}, "drive 'nope' not found"),
        ({"iothread": "nope"}, {}, "iothread 'nope' not found"),
        ({"size": "13"}, {}, "does not like 13"),
        ({"size": "200"}, {}, "cannot be realized: ZeroDivisionError: oops ("),
        ({"bus": "toy.9"}, {}, "buses of type Toy: toy.0"),
        ({}, {"drives": {"d": drive("d", file="missing")}}, "cannot open 'missing'"),
        ({}, {"globals": (GlobalDefinition("toy", "size", value("big")),)}, "expected a whole number"),
    ],
)
def test_mistake_is_reported_with_its_place(build, options, fields, text):
    with pytest.raises(LocatedError) as caught:
        build(device(**options), **fields)
    assert str(caught.value).startswith("test.yaml:3:5: error: ")
    assert text in str(caught.value)
    assert isinstance(caught.value.error, DeviceError | BackendError | PropertyError)


def test_part_of_the_board_as_a_device_entry_is_refused(build):
    with pytest.raises(LocatedError, match="part of the board"):
        build(device("fixed"))


def test_unknown_accelerator_names_the_known_ones():
    with pytest.raises(QdevpyError, match="expected one of kvm, qtest, none"):
        make_accelerator("xen")


def test_device_without_its_bus_is_refused(build):
    class Lost(Toy):
        type_name = "lost"
        bus_type = "Nowhere"

    machine = build()
    with pytest.raises(RealizeError, match="needs a bus of type Nowhere"):
        machine.plug(Lost())


def test_start_and_pause_reach_every_device_once(build):
    machine = build(device(id="a"))
    machine.reset()
    machine.start()
    machine.start()
    assert machine.running
    machine.pause()
    assert machine.state is RunState.PAUSED
    assert machine.find_device("a").log == ["reset", "start", "stop"]


def test_shutdown_request_from_another_thread_ends_the_run(build):
    machine = build(device(id="a"))
    machine.reset()
    machine.start()
    other = threading.Thread(target=machine.request_shutdown, args=("enough", 3))
    other.start()
    ending = machine.run()
    other.join()
    machine.request_shutdown("too late", 9)
    assert (ending.reason, ending.status) == ("enough", 3)
    assert machine.state is RunState.SHUTDOWN
    assert machine.find_device("a").log == ["reset", "start", "stop"]


def test_reset_request_resets_and_goes_on(build):
    machine = build(device(id="a"))
    machine.reset()
    machine.start()
    machine.request_reset("asked for")
    machine.loop.call_later(0.01, lambda: machine.request_shutdown("done"))
    machine.run()
    assert machine.find_device("a").log == ["reset", "start", "stop", "reset", "start", "stop"]


@pytest.fixture
def slow(build):
    machine = build()
    device = Slow()
    machine.plug(device, machine.find_bus("Toy"))
    machine.reset()
    machine.start()
    device.pending = 1
    return device


def test_reset_waits_for_requests_in_flight_while_the_main_loop_goes_on(slow):
    machine = slow.machine
    seen = []
    machine.request_reset("asked for")
    machine.loop.call_later(0.01, lambda: (seen.append(list(slow.log)), slow.finish()))

    def end_once_it_is_reset():
        if slow.log.count("reset") == 2:
            machine.request_shutdown("done")
        else:
            machine.loop.call_later(0.001, end_once_it_is_reset)

    end_once_it_is_reset()
    machine.run()
    assert seen == [["reset", "start"]]
    assert slow.log[:4] == ["reset", "start", "stop", "reset"]


def test_end_is_heard_while_a_reset_waits(slow):
    machine = slow.machine
    machine.request_reset("asked for")
    machine.loop.call_later(0.01, lambda: machine.request_shutdown("enough", 3, cause="host-ui"))

    def finish_once_it_ends():
        if machine.ending is not None:
            slow.finish()
        else:
            machine.loop.call_later(0.001, finish_once_it_ends)

    finish_once_it_ends()
    assert machine.run().status == 3
    assert slow.log.count("reset") == 1
    assert not machine.hurried


def test_second_wish_to_end_does_not_wait_for_requests_in_flight(slow):
    machine = slow.machine
    machine.request_shutdown("terminated", cause="host-signal")
    machine.loop.call_later(0.01, lambda: machine.request_shutdown("guest", cause="guest-shutdown"))
    machine.loop.call_later(0.02, lambda: machine.request_shutdown("terminated", cause="host-signal"))
    assert machine.run().reason == "terminated"
    assert machine.hurried
    assert slow.log == ["reset", "start"]
    slow.finish()


def test_leaving_at_once_closes_chardevs_and_says_what_is_lost(slow, monkeypatch, capsys):
    terminal = SimpleNamespace(closed=False, after_close=lambda: None)
    terminal.close = lambda: setattr(terminal, "closed", True)
    slow.machine.backends["chardevs", "term"] = terminal
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    leave_at_once(slow.machine)
    assert left == [1]
    assert terminal.closed
    assert "slow: 1" in capsys.readouterr().err
    slow.finish()


def test_reset_request_with_no_reboot_ends_with_status_0(build):
    machine = build()
    machine.no_reboot = True
    machine.request_reset("asked for")
    assert machine.run().status == 0


def test_crash_ends_with_status_1(build):
    machine = build()
    machine.request_crash("emulation failed")
    assert machine.run().status == 1
    assert machine.state is RunState.CRASHED


def test_close_takes_out_devices_and_backends_even_if_a_device_fails(build, caplog):
    machine = build(device(id="a", size="15"), device(id="b"), drives={"d": drive("d")})
    toys = [machine.find_device(i) for i in "ab"]
    store = machine.backend("drives", "d")
    machine.close()
    assert [toy.log for toy in toys] == [["unrealize"], ["unrealize"]]
    assert store.closed
    assert "cannot let go" in caplog.text
    machine.close()


def test_backend_of_an_unknown_name_lists_the_known_ones(build):
    machine = build(drives={"d": drive("d")})
    with pytest.raises(BackendError, match="there are: d"):
        machine.backend("drives", "e")


def test_mac_addresses_count_up_from_qemus_first(build):
    machine = build()
    assert [machine.next_mac().hex() for _ in range(2)] == ["525400123456", "525400123457"]


def test_boot_returns_the_guests_status_and_restores_signal_handlers(caplog):
    before = signal.getsignal(signal.SIGTERM)
    threads = threading.active_count()
    assert boot(define(device(size="14")), ToyRegistry(), stats=True) == 7
    assert "accel none has no CPUs" in caplog.text
    assert signal.getsignal(signal.SIGTERM) is before
    assert threading.active_count() == threads


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_boot_ends_cleanly_on_a_signal(number):
    before = signal.getsignal(number)
    over = threading.Event()

    def send_once_it_is_handled():
        while signal.getsignal(number) is before:
            if over.wait(0.001):
                return
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send_once_it_is_handled)
    sender.start()
    try:
        assert boot(define(), ToyRegistry()) == 0
    finally:
        over.set()
        sender.join()


# -- back ends that go


def test_backend_that_is_removed_is_closed_and_its_name_is_free(build):
    machine = build(drives={"root": drive("root", file="x")})
    first = machine.backend("drives", "root")
    machine.remove_backend("drives", "root")
    with pytest.raises(BackendError, match="drive 'root' not found"):
        machine.remove_backend("drives", "root")
    machine.add_backend(Store(id="root"))
    assert machine.backend("drives", "root") is not first


def test_backend_in_use_is_not_removed(build):
    machine = build(drives={"root": drive("root", file="x")})
    machine.backend("drives", "root").take("a")
    with pytest.raises(BackendError, match="drive 'root' is in use by a"):
        machine.remove_backend("drives", "root")


def test_second_backend_of_a_name_is_refused(build):
    machine = build(drives={"root": drive("root", file="x")})
    with pytest.raises(BackendError, match="drive 'root' exists already"):
        machine.add_backend(Store(id="root"))


def test_iothread_that_is_removed_ends_where_nobody_uses_it(build):
    objects = {name: BackendDefinition(name, "iothread", {}, HERE) for name in ("io0", "io1")}
    machine = build(device(id="a", iothread="io0"), objects=objects)
    used, idle = machine.iothread("io0"), machine.iothread("io1")
    assert os.path.exists(f"/proc/self/task/{machine.backend('objects', 'io1').thread_id}")

    machine.remove_backend("objects", "io0")
    machine.remove_backend("objects", "io1")

    assert used.thread_id > 0
    assert not idle.pointer
    assert machine.find_device("a").iothread is used
