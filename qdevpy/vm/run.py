# SPDX-License-Identifier: Apache-2.0
"""``qdevpy boot``: build, reset, run until the machine ends, clean up; the exit status."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from qdevpy.vm.build import build_machine
from qdevpy.vm.machine import Machine, RunState

if TYPE_CHECKING:
    from types import FrameType

    from qdevpy.definition.model import MachineDefinition
    from qdevpy.plugin.registry import Registry

log = logging.getLogger(__name__)


@contextmanager
def ending_signals(machine: Machine, *, final: bool = False) -> Iterator[None]:
    """SIGTERM, SIGHUP and SIGINT end the machine; handlers are as before on return.

    :param final: the process ends with the machine; signals do nothing from then on, so that its status is the machine's
    """

    def end(number: int, frame: FrameType | None) -> None:
        machine.request_shutdown(f"terminated by signal {signal.Signals(number).name}", cause="host-signal")

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    wakeup = signal.set_wakeup_fd(machine.loop.wake_fd, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if final else handler)


def boot(
    definition: MachineDefinition,
    registry: Registry,
    *,
    accel: str | None = None,
    no_reboot: bool = False,
    stats: bool = False,
    ready: Callable[[], None] | None = None,
    final: bool = False,
    control: bool = False,
    trace: str | None = None,
) -> int:
    """Run a machine to its end.

    :param accel: instead of the definition's
    :param no_reboot: a reset ends the machine
    :param stats: print on stderr how kicks travelled, a line a device
    :param ready: called once everything is open, before the guest's first instruction
    :param final: see :func:`ending_signals`
    :param control: have a control socket (:mod:`qdevpy.monitor.control`)
    :param trace: a file that gets a trace of what happens
    :returns: 0 after power-off, the guest's status after isa-debug-exit, 1 after a crash
    :raises QdevpyError: the machine cannot be built or booted
    """
    with ExitStack() as stack:
        machine = stack.enter_context(build_machine(definition, registry, accel=accel, no_reboot=no_reboot))
        stack.enter_context(ending_signals(machine, final=final))
        tracing = stack.enter_context(ExitStack())
        if trace is not None:
            from qdevpy.vm.tracing import traced

            tracing.enter_context(traced(machine, trace))
        machine.reset()
        log.info("first guest instruction after %.1f ms of CPU time", time.process_time() * 1000)
        # the program starts without garbage collection (qdevpy.cli); what exists by now lives as long as the machine
        gc.freeze()
        gc.enable()
        if (accel or definition.accel) == "none":
            log.warning("accel none has no CPUs: nothing runs until the machine is ended (Ctrl-C, or Ctrl-A x on its terminal)")
        if control:
            from qdevpy.monitor.control import open_control

            open_control(machine)
        if ready is not None:
            ready()
        if not (definition.run.paused or definition.run.preconfig):
            machine.start()
        ending = machine.run()
        tracing.close()
        if machine.hurried:
            leave_at_once(machine)
        if stats:
            for line in kick_report(machine):
                print(line, file=sys.stderr)
        crashed = machine.state is RunState.CRASHED
    if crashed:
        print(f"qdevpy: {ending.reason}", file=sys.stderr)
    else:
        log.info("%s", ending.reason)
    return ending.status


def leave_at_once(machine: Machine) -> NoReturn:
    """End the process although the host's storage does not answer: nothing waits for it, the terminal is restored."""
    busy = ", ".join(f"{device.label}: {device.requests_in_flight}" for device in machine.devices() if device.requests_in_flight)
    for (section, _), backend in machine.backends.items():
        if section == "chardevs":
            with suppress(Exception):
                backend.close()
    if machine.control is not None:
        with suppress(Exception):
            machine.control.close()
    print(f"qdevpy: ended with requests in flight ({busy}); what they wrote may be lost", file=sys.stderr, flush=True)
    os._exit(1)


def kick_report(machine: Machine) -> Iterator[str]:
    """A line for each virtio device: policy, kicks by way, requests, interrupts."""
    from qdevpy.virtio.device import VirtIODevice

    for device in machine.devices():
        if not isinstance(device, VirtIODevice):
            continue
        total = dict.fromkeys(("kicks_ioeventfd", "kicks_sync", "kicks_polled", "requests", "interrupts"), 0)
        for queue in device.queues:
            for name, count in queue.counters().items():
                total[name] += count
        policy = device.ioeventfd.value if device.ioeventfd else "none"
        polled = f", {total['kicks_polled']} found by polling" if total["kicks_polled"] else ""
        yield (
            f"{device.id or device.base_name}: ioeventfd {policy}; kicks: {total['kicks_ioeventfd']} by ioeventfd, "
            f"{total['kicks_sync']} synchronous{polled}; {total['requests']} requests, {total['interrupts']} interrupts"
        )
