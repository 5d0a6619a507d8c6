# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin: fixtures for devices without KVM, for machines on it, and for Linux guests; docs/testing.md is its manual.

pytest imports this file wherever qdevpy is installed, used or not: it imports nothing of qdevpy itself, only what a fixture
or a marker needs when it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

import pytest

if TYPE_CHECKING:
    from qdevpy.testing.booted import BootedMachine
    from qdevpy.testing.driver import ModernDriver, PCIDriver
    from qdevpy.testing.guest import GuestProgram
    from qdevpy.testing.initramfs import File
    from qdevpy.testing.kernel import Kernel
    from qdevpy.testing.linux import LinuxGuest
    from qdevpy.testing.machine import FakeMachine

#: a file, a packaged definition's name, YAML (anything with a line end in it), or the definition as Python has it
Definition: TypeAlias = str | PathLike[str] | Mapping[str, Any] | None

MARKER = "needs_host"
NEEDS = "needs "  #: how the reason of a test begins that was skipped for want of something
SHOWN = 1 << 16  #: characters of the end of a transcript that a failing test's report has
SETTINGS = {
    "qdevpy_kernel": "kernel that boot_linux boots: a bzImage, or debian:cloud-amd64",
    "qdevpy_initrd": "initrd for it, instead of one that is made of busybox",
    "qdevpy_require": "needs of tests that must be there: without them tests fail and are not skipped; 'all' is every one",
    "qdevpy_timeout": "seconds to wait for what is expected of a machine where a test does not say (default: 60)",
}

OPEN: pytest.StashKey[list[BootedMachine]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Every setting may stand in the configuration, and on the command line, which wins."""
    group = parser.getgroup("qdevpy", "virtual machines (qdevpy)")
    for name, text in SETTINGS.items():
        kind: Literal["args", "string"] = "args" if name == "qdevpy_require" else "string"
        parser.addini(name, text, kind)
        action, metavar = "append" if kind == "args" else "store", name.partition("_")[2].upper()
        group.addoption(f"--{name.replace('_', '-')}", action=action, dest=name, metavar=metavar, help=text)


def pytest_configure(config: pytest.Config) -> None:
    """The marker, and where open machines are kept."""
    config.addinivalue_line("markers", f"{MARKER}(need, ...): skip, or fail, where the host lacks a need (docs/testing.md)")
    config.stash[OPEN] = []


# -- what the host must have


@contextmanager
def told_plainly() -> Iterator[None]:
    """A mistake in a test's markers or settings fails it with the message alone."""
    mistake = None
    try:
        yield
    except ValueError as error:
        mistake = str(error)
    if mistake is not None:
        pytest.fail(mistake, pytrace=False)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The needs of a test are looked at before any of its fixtures is made."""
    for marker in item.iter_markers(MARKER):
        require(item.config, *marker.args)


def require(config: pytest.Config, *needs: str) -> None:
    """Go on only where the host has NEEDS, as :mod:`qdevpy.testing.needs` lists them; else skip the test, or fail it."""
    from qdevpy.testing.needs import find_missing

    for need in needs:
        with told_plainly():
            missing = find_missing(need)
        if missing is not None:
            refuse(config, need, missing)


def refuse(config: pytest.Config, need: str, missing: str) -> NoReturn:
    """Skip the test for want of NEED; where that is required, fail it."""
    required = [*config.getini("qdevpy_require"), *(config.getoption("qdevpy_require") or ())]
    if need in required or "all" in required:
        pytest.fail(f"needs {need}, which qdevpy_require says must be there: {missing}", pytrace=False)
    pytest.skip(f"{NEEDS}{need}: {missing}")


def setting(config: pytest.Config, name: str) -> str | None:
    """A setting; a relative path in the configuration is relative to its file, one of the command line to where pytest runs."""
    given: str | None = config.getoption(name)
    if given:
        return given
    written: str = config.getini(name)
    if not written or name == "qdevpy_timeout" or written.startswith("debian:"):
        return written or None
    return str((config.inipath.parent if config.inipath else config.rootpath) / written)


def patience(config: pytest.Config) -> float:
    """Seconds to wait where a test does not say."""
    from qdevpy.testing.booted import PATIENCE

    text = setting(config, "qdevpy_timeout")
    with told_plainly():
        return _seconds(text) if text else PATIENCE


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"qdevpy_timeout is {text!r}; give a number of seconds") from None


# -- reports


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails has consoles and logs of the machines that are open in its report."""
    report = yield
    if report.failed:
        for machine in item.config.stash[OPEN]:
            for transcript in (machine.console, *machine.channels.values(), machine.log):
                if transcript.text:
                    report.sections.append((transcript.name, transcript.text[-SHOWN:]))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What was missing, a line for each need, where pytest itself is not asked to list skipped tests (``-rs``)."""
    if "s" in terminalreporter.reportchars:
        return
    missing: dict[str, int] = {}
    for report in terminalreporter.getreports("skipped"):
        reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
        if reason.startswith(NEEDS):
            missing[reason] = missing.get(reason, 0) + 1
    for reason, count in sorted(missing.items()):
        terminalreporter.write_line(f"{count} skipped: {reason}")


# -- without KVM


@pytest.fixture
def bare_machine() -> Iterator[FakeMachine]:
    """A running machine without a CPU: RAM, one PCI bus, everything real but the guest."""
    from qdevpy.testing.machine import FakeMachine

    with FakeMachine() as machine:
        yield machine


@pytest.fixture
def plug_pci(bare_machine: FakeMachine) -> Callable[..., PCIDriver]:
    """Plug a device of an installed plugin's into the bare machine: ``plug_pci("my-lamp", id="dev0", limit=5)``; its driver."""
    from qdevpy.plugin.manager import load_plugins
    from qdevpy.testing.driver import PCIDriver

    def plug(type_name: str, **properties: Any) -> PCIDriver:
        return PCIDriver(bare_machine, bare_machine.plug_type(load_plugins().device_type(type_name), **properties))

    return plug


@pytest.fixture
def plug_virtio(bare_machine: FakeMachine) -> Callable[..., ModernDriver]:
    """The same for a virtio device, with a driver that has taken FEATURES and set DRIVER_OK: ``plug_virtio("my-pci", 1)``."""
    from qdevpy.plugin.manager import load_plugins
    from qdevpy.testing.driver import ModernDriver

    def plug(type_name: str, features: int = 0, **properties: Any) -> ModernDriver:
        driver = ModernDriver(bare_machine, bare_machine.plug_type(load_plugins().device_type(type_name), **properties))
        driver.start(features)
        return driver

    return plug


# -- on KVM


class Machines:
    """Machines that one fixture has booted; they are closed when it ends, whatever came of the test.

    :param folder: for what belongs to them
    """

    def __init__(self, config: pytest.Config, folder: Path, stack: ExitStack) -> None:
        self._config = config
        self._folder = folder
        self._stack = stack
        self._count = 0

    def _name(self, word: str) -> str:
        self._count += 1
        return word if self._count == 1 else f"{word} {self._count}"

    def _keep(self, machine: BootedMachine) -> None:
        self._config.stash[OPEN].append(machine)
        self._stack.callback(self._close, machine)

    def _close(self, machine: BootedMachine) -> None:
        try:
            machine.close()
        finally:
            self._config.stash[OPEN].remove(machine)

    def _read(self, definition: Definition) -> tuple[list[str], dict[str, Any]]:
        """What a definition is laid over, and its keys."""
        if definition is None:
            return [], {}
        if isinstance(definition, Mapping):
            return [], dict(definition)
        text = fspath(definition)
        if "\n" not in text:
            return [text], {}
        file = self._folder / f"definition-{self._count}.yaml"
        file.write_text(text)
        return [str(file)], {}

    def boot(self, definition: Definition = None, *, qmp: bool = False, reboot: bool = False, **keys: Any) -> BootedMachine:
        """Boot a machine on KVM.

        :param keys: top-level keys of the definition, which win: ``memory="64M"``, ``devices=[{"my-lamp": {"addr": 4}}]``
        :param qmp: it has a monitor, ``machine.qmp.execute("query-status")``
        :param reboot: a reset of the guest's is one, and not the end
        """
        require(self._config, "kvm")
        from qdevpy.testing.booted import BootedMachine

        name = self._name("machine")
        base, own = self._read(definition)
        options = [] if reboot else ["--no-reboot"]
        machine = BootedMachine(base, own | keys, name=name, qmp=qmp, options=options, patience=patience(self._config))
        self._keep(machine)
        return machine

    def run_program(self, definition: Definition, program: GuestProgram, **keys: Any) -> BootedMachine:
        """Boot PROGRAM for the machine's kernel and wait for its end.

        :raises AssertionError: a check of the program's failed, which it names, or the machine did
        """
        from qdevpy.testing.guest import check_ending

        kernel = self._folder / f"program-{self._count}.elf"
        program.save(kernel)
        machine = self.boot(definition, **keys, boot={"kernel": str(kernel), **keys.pop("boot", {})})
        check_ending(program, machine.wait())
        return machine

    def boot_linux(
        self,
        definition: Definition = None,
        *,
        kernel: str | PathLike[str] | None = None,
        initrd: str | PathLike[str] | None = None,
        modules: Sequence[str] = (),
        files: Mapping[str, bytes | File] | None = None,
        append: str = "",
        shell: bool | None = None,
        **keys: Any,
    ) -> LinuxGuest:
        """Boot a stock Linux kernel; the guest, at its shell.

        :param kernel: instead of the setting
        :param initrd: instead of the setting; with neither, one is made, with MODULES loaded and FILES in it
        :param append: more of the kernel's command line
        :param shell: whether that initrd serves the shell's port; by default only one that was made here does
        """
        require(self._config, "complete-kvm")
        from qdevpy.testing.linux import LinuxGuest, make_initrd

        found = self._kernel(kernel)
        archive = initrd or setting(self._config, "qdevpy_initrd")
        name = self._name("guest")
        if archive is None:
            require(self._config, "busybox")
            archive = self._folder / f"initrd-{self._count}.gz"
            archive.write_bytes(make_initrd(found, modules=modules, files=files))
            shell = True
        base, own = self._read(definition)
        guest = LinuxGuest(
            found.image,
            archive,
            base=base,
            keys=own | keys,
            append=append,
            shell=bool(shell),
            name=name,
            patience=patience(self._config),
        )
        self._keep(guest.machine)
        return guest

    def _kernel(self, given: str | PathLike[str] | None) -> Kernel:
        from qdevpy.testing.kernel import Kernel, KernelError

        place = given or setting(self._config, "qdevpy_kernel")
        if place is None:
            refuse(self._config, "kernel", "none is set; give --qdevpy-kernel=FILE, or qdevpy_kernel in pytest's configuration")
        try:
            return Kernel.of(place)
        except KernelError as error:
            missing = str(error)
        refuse(self._config, "kernel", missing)


@pytest.fixture
def _machines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machines]:
    with ExitStack() as stack:
        yield Machines(request.config, tmp_path, stack)


@pytest.fixture(scope="module")
def _module_machines(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with ExitStack() as stack:
        yield Machines(request.config, tmp_path_factory.mktemp("machines"), stack)


@pytest.fixture
def boot_machine(_machines: Machines) -> Callable[..., BootedMachine]:
    """Boot a machine from a definition, on KVM: :meth:`Machines.boot`."""
    return _machines.boot


@pytest.fixture
def run_program(_machines: Machines) -> Callable[..., BootedMachine]:
    """Boot a :class:`~qdevpy.testing.guest.GuestProgram` in a machine, and wait for its end: :meth:`Machines.run_program`."""
    return _machines.run_program


@pytest.fixture
def boot_linux(_machines: Machines) -> Callable[..., LinuxGuest]:
    """Boot a stock Linux with devices under test: :meth:`Machines.boot_linux`."""
    return _machines.boot_linux


@pytest.fixture(scope="module")
def boot_linux_module(_module_machines: Machines) -> Callable[..., LinuxGuest]:
    """As ``boot_linux``, for a fixture of scope module: the guest stays until the last test of the file."""
    return _module_machines.boot_linux
