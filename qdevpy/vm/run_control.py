# SPDX-License-Identifier: Apache-2.0
"""The states of a machine between power-on and the end, and who moves it from one to the next.

::

    PRELAUNCH --start()/cont()--> RUNNING <--request_stop() / cont()--> PAUSED (or IO_ERROR, GUEST_PANICKED)
        any      --request_reset()-----> reset; RUNNING if it ran, else PRELAUNCH
        any      --request_shutdown()--> the end; by the guest with ``shutdown_ends`` off: SHUTDOWN, and it stays
        RUNNING  --request_crash()-----> the end with status 1; with ``shutdown_ends`` off: INTERNAL_ERROR, and it stays

Requests may come from any thread (a vCPU's exit, a signal handler, a monitor's command); the main loop's thread
carries them out, between two rounds of the loop and without the VM lock: vCPUs that are to stand still may want it.
"""

from __future__ import annotations

import enum
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from qdevpy.accel.base import CpuAccelerator, StopReason
from qdevpy.errors import QdevpyError

if TYPE_CHECKING:
    from qdevpy.accel.base import Accelerator
    from qdevpy.qdev.bus import Bus
    from qdevpy.qdev.device import Device
    from qdevpy.vm.board import Board
    from qdevpy.vm.clock import Clock
    from qdevpy.vm.event_types import Cause
    from qdevpy.vm.events import Events
    from qdevpy.vm.loop import MainLoop
    from qdevpy.vm.machine import Machine

log = logging.getLogger(__name__)


class RunState(enum.Enum):
    """QEMU's run states, as far as we have them (qapi/run-state.json)."""

    PRELAUNCH = "prelaunch"
    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    CRASHED = "internal-error"
    IO_ERROR = "io-error"
    GUEST_PANICKED = "guest-panicked"


#: from these only a reset leads on
NEEDS_RESET = (RunState.SHUTDOWN, RunState.CRASHED)

#: seconds between looks at what is in flight; a drain takes less than this, or the storage is slow
DRAIN_POLL = 0.001

#: causes that end the process, whatever ``shutdown_ends`` says: somebody outside wants it
FINAL = ("host-qmp-quit", "host-signal", "host-ui")


class Ending(NamedTuple):
    """How the machine ended.

    :ivar reason: for the user
    :ivar status: exit status of the process
    """

    reason: str
    status: int


class Request(NamedTuple):
    """A reset or a power-off that is to be carried out."""

    reason: str
    cause: Cause


def by_guest(cause: str) -> bool:
    """Whether events say ``"guest": true`` (softmmu/runstate.c, shutdown_caused_by_guest)."""
    return cause.startswith("guest-") or cause == "subsystem-reset"


class RunControl:
    """The part of a machine that runs, stops and ends it.

    :ivar state: where it is
    :ivar ending: how it ended, once that is certain
    :ivar no_reboot: a reset is a power-off
    :ivar shutdown_ends: the guest's power-off ends the process; else it leaves the machine standing
    :ivar hurried: asked to end once more while it waited for requests in flight; they are given up
    :ivar panic_action: ``shutdown``, ``pause``, ``exit-failure`` or ``none``
    :ivar has_guest: something has run, and may have to be asked before devices go
    :ivar preconfig: waits for ``x-exit-preconfig``
    """

    accel: Accelerator
    board: Board
    clock: Clock
    events: Events
    loop: MainLoop
    root_buses: list[Bus]

    def __init__(self, *, no_reboot: bool) -> None:
        self.state = RunState.PRELAUNCH
        self.ending: Ending | None = None
        self.no_reboot = no_reboot
        self.shutdown_ends = True
        self.hurried = False
        self.panic_action = "shutdown"
        self.preconfig = False
        self.has_guest = False
        self._cause: Cause = "none"  # the ending's
        self._shutdown: Request | None = None
        self._reset: Request | None = None
        self._stop: RunState | None = None
        self._stopped: list[Callable[[], None]] = []
        self._powerdown = False
        self._panic = False
        self._finishing = False

    @property
    @abstractmethod
    def lock(self) -> AbstractContextManager[object]:
        """The VM lock."""

    @abstractmethod
    def devices(self) -> Iterator[Device]:
        """Every device, parents before children."""

    @property
    def machine(self) -> Machine:
        """The machine that it is."""
        return self  # type: ignore[return-value]

    @property
    def running(self) -> bool:
        """Whether vCPUs run (or would, where there are none)."""
        return self.state is RunState.RUNNING

    # -- requests, from any thread

    def request_shutdown(self, reason: str, status: int = 0, *, cause: Cause = "guest-shutdown") -> None:
        """End the machine; the first request wins. A power-off by the guest may leave it standing instead.

        :param status: exit status of the process; other than 0 it ends in any case: somebody waits for it
        """
        if not self.shutdown_ends and cause not in FINAL and not status:
            self._shutdown = Request(reason, cause)
        elif self.ending is None:
            self._cause = cause
            self.ending = Ending(reason, status)
            self.state = RunState.SHUTDOWN
        elif self._finishing and cause in FINAL:
            self.hurried = True
        self._hold_vcpu()
        self.loop.wake()

    def request_crash(self, message: str) -> None:
        """A vCPU cannot go on."""
        if not self.shutdown_ends:
            log.error("%s", message)
            self.request_stop(RunState.CRASHED)
        elif self.ending is None:
            self._cause = "host-error"
            self.ending = Ending(message, 1)
            self.state = RunState.CRASHED
        self.loop.wake()

    def request_reset(self, reason: str, *, cause: Cause = "guest-reset") -> None:
        """Reset and go on; with ``no_reboot``, a power-off."""
        if self.no_reboot:
            self.request_shutdown(f"{reason} (no reboot wanted)", cause=cause)
            return
        self._reset = Request(reason, cause)
        self._hold_vcpu()
        self.loop.wake()

    def _hold_vcpu(self) -> None:
        """A vCPU that asked for a reset or an end by writing a register goes no further."""
        if isinstance(self.accel, CpuAccelerator):
            self.accel.hold_current()

    def request_stop(self, state: RunState = RunState.PAUSED, done: Callable[[], None] | None = None) -> None:
        """Have vCPUs and devices stand still, if they run.

        :param state: which state that is
        :param done: called with the VM lock held once they do
        """
        self._stop = state
        if done is not None:
            self._stopped.append(done)
        self.loop.wake()

    def request_powerdown(self) -> None:
        """Press the power button: the guest is asked to power off."""
        self._powerdown = True
        self.loop.wake()

    def request_panic(self) -> None:
        """The guest says that it panicked."""
        self._panic = True
        self.loop.wake()

    def _vcpu_stopped(self, stop: StopReason) -> None:
        if stop.kind == "shutdown":
            log.warning("vCPU %d: triple fault", stop.vcpu)
            self.request_reset("triple fault")
        else:
            self.request_crash(stop.message)

    # -- moving; on the main loop's thread

    def reset(self) -> None:
        """Devices, interrupt controllers and vCPUs to power-on, then what firmware would do. vCPUs are paused.

        :raises BootError: the kernel or initrd cannot be loaded
        """
        with self.lock:
            for device in list(self.devices()):
                for bus in device.child_buses:
                    if bus.hotplug is not None:
                        bus.hotplug.reset()
            for root in self.root_buses:
                root.reset()
            self.board.reset(self.machine)
            if isinstance(self.accel, CpuAccelerator):
                self.accel.reset_vcpus()
                state = self.board.prepare_boot(self.machine)
                if state is not None:
                    self.accel.set_boot_state(state)

    def start(self) -> None:
        """To RUNNING, where it does not run yet: devices first, so that no kick of a running vCPU meets a stopped one."""
        with self.lock:
            if self.running or self.ending is not None:
                return
            self.emit("Resume")
            self.state = RunState.RUNNING
            self._go()

    def cont(self) -> None:
        """Go on, as a user's command.

        :raises QdevpyError: only a reset leads on
        """
        if self.state in NEEDS_RESET:
            raise QdevpyError("Resetting the Virtual Machine is required")
        self.start()

    def pause(self, state: RunState = RunState.PAUSED) -> None:
        """To STATE, if it runs: vCPUs first, then devices drain (rule 7). Called WITHOUT the VM lock."""
        if self._halt(state):
            self.emit("Stop")

    def _go(self) -> None:
        self.has_guest = self.accel.name != "none"
        self.clock.start()
        for device in reversed(list(self.devices())):  # children first: a transport after what it carries (rule 7)
            device.vm_state_changed(True)
        if isinstance(self.accel, CpuAccelerator):
            self.accel.resume()

    def _halt(self, state: RunState) -> bool:
        """Make vCPUs and devices stand still; whether the machine ran."""
        if isinstance(self.accel, CpuAccelerator):
            self.accel.pause()
        if not self._wait_for_requests():
            return self.running
        with self.lock:
            ran = self.running
            if ran:
                self.state = state
            self.clock.stop()
            for device in reversed(list(self.devices())):
                device.vm_state_changed(False)
        return ran

    def _wait_for_requests(self) -> bool:
        """Let the main loop go on while devices finish what is in flight, so that stopping them, with the VM lock held,
        waits for nothing: slow storage keeps nobody from the monitor or from ending the machine.

        :returns: False: somebody wants the machine to end now, and does not wait for the rest
        """
        ending = self.ending
        while any(device.requests_in_flight for device in self.devices()):
            if self.hurried or self.ending is not ending:
                return False
            self.loop.run_once(DRAIN_POLL)
        return True

    def emit(self, name: str, *data: Any) -> None:
        """Emit the event of that class of :mod:`qdevpy.vm.event_types`, which is imported only where somebody listens."""
        if self.events.listened:
            from qdevpy.vm import event_types

            with self.lock:
                self.events.emit(getattr(event_types, name)(*data))

    # -- the main loop

    def run(self) -> Ending:
        """Run the main loop until the machine ends; vCPUs are paused and devices drained (but see ``hurried``) on return."""
        self.carry_out()
        while self.ending is None:
            self.loop.run_once()
            self.carry_out()
        self.emit("Shutdown", by_guest(self._cause), self._cause)
        self._finishing = True
        self._halt(RunState.PAUSED)
        return self.ending

    def carry_out(self) -> None:
        """Do what was requested. Called WITHOUT the VM lock."""
        if self._panic:
            self._panic = False
            self._carry_out_panic()
        if self._shutdown is not None:
            request, self._shutdown = self._shutdown, None
            self.emit("Shutdown", by_guest(request.cause), request.cause)
            log.info("%s; the machine is left standing", request.reason)
            self.pause(RunState.SHUTDOWN)
        if self._reset is not None and self.ending is None:
            request, self._reset = self._reset, None
            self._carry_out_reset(request)
        if self._powerdown:
            self._powerdown = False
            self.emit("Powerdown")
            with self.lock:
                self.board.press_power_button(self.machine)
        if self._stop is not None:
            state, self._stop = self._stop, None
            if self.ending is None:
                self.pause(state)
        if self._stopped:
            done, self._stopped = self._stopped, []
            with self.lock:
                for callback in done:
                    callback()

    def _carry_out_reset(self, request: Request) -> None:
        log.info("reset: %s", request.reason)
        ran = self._halt(RunState.PAUSED)
        if self.ending is not None:
            return
        self.reset()
        self.emit("Reset", by_guest(request.cause), request.cause)
        with self.lock:
            if self.ending is not None:
                return
            self.state = RunState.RUNNING if ran else RunState.PRELAUNCH
            if ran:
                self._go()

    def _carry_out_panic(self) -> None:
        """As softmmu/runstate.c, qemu_system_guest_panicked."""
        log.warning("the guest panicked")
        action = self.panic_action
        if action == "none":
            self.emit("GuestPanicked", "run")
        elif action == "pause" or (action == "shutdown" and not self.shutdown_ends):
            self.emit("GuestPanicked", "pause")
            self.pause(RunState.GUEST_PANICKED)
        else:
            self.emit("GuestPanicked", "poweroff")
            self.pause(RunState.GUEST_PANICKED)
            self.request_shutdown("the guest panicked", int(action == "exit-failure"), cause="guest-panic")
