# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds, and what it says to do."""

from __future__ import annotations

import errno
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from cli_parts import Program

import qdevpy_virtio_blk.doctor
from qdevpy.accel.kvm.doctor import HostReport
from qdevpy.cli import doctor
from qdevpy.plugin.finding import Finding
from qdevpy_virtio_blk import engines
from qdevpy_virtio_blk.plugin import qdevpy_doctors


def test_doctor_prints_findings_and_advice(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [
        Finding("/dev/kvm", True, "can be opened", "nothing", required=True),
        Finding("passt", False, "not in PATH", "install it"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))

    result = program("doctor")

    assert result.status == 0
    assert "install it" in result.out
    assert "nothing" not in result.out


def test_doctor_fails_where_something_required_is_missing(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: iter([Finding("/dev/kvm", False, "gone", "get one", required=True)]))

    assert program("doctor").status == 1


def test_doctor_looks_at_everything(program: Program) -> None:
    out = program("doctor").out

    assert all(name in out for name in ("C core", "/dev/kvm", "/dev/net/tun", "passt", "plugins"))


@pytest.mark.parametrize(
    ("error", "found", "ok"),
    [
        (0, "drives' I/O by io_uring", True),
        (errno.EPERM, "the kernel refuses io_uring (Operation not permitted: sysctl kernel.io_uring_disabled=0)", False),
        (errno.ENOSYS, "neither this build of qdevpy (liburing-dev was missing) nor perhaps the kernel has io_uring", False),
    ],
)
def test_disk_engines_are_told_of(monkeypatch: pytest.MonkeyPatch, error: int, found: str, ok: bool) -> None:
    lib = SimpleNamespace(blk_probe=lambda engine: -error if engines.ENGINES[engine] == "io_uring" else 0)
    monkeypatch.setitem(sys.modules, "qdevpy_virtio_blk._native", SimpleNamespace(lib=lib))

    told = {finding.name: finding for finding in qdevpy_virtio_blk.doctor.findings()}

    assert list(told) == ["aio: threads", "aio: io_uring", "aio: native"]
    assert (told["aio: io_uring"].found, told["aio: io_uring"].ok) == (found, ok)
    assert told["aio: native"].ok


def test_disk_engines_that_were_not_built_say_how_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qdevpy_virtio_blk._native", None)

    (finding,) = qdevpy_virtio_blk.doctor.findings()

    assert not finding.ok
    assert "build it" in finding.advice


def test_plugins_findings_are_among_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = SimpleNamespace(broken=(), device_types={}, doctors=qdevpy_doctors())
    monkeypatch.setattr(doctor, "load_plugins", lambda: registry)

    assert [finding.name for finding in doctor._plugins()] == ["plugins", "aio: threads", "aio: io_uring", "aio: native"]


def test_plugin_whose_findings_fail_is_named() -> None:
    (finding,) = doctor._asked("no_such_module_of_a_plugin")

    assert (finding.name, finding.ok) == ("no_such_module_of_a_plugin", False)
    assert "ModuleNotFoundError" in finding.found


def findings_for(monkeypatch: pytest.MonkeyPatch, **report: Any) -> dict[str, Finding]:
    monkeypatch.setattr("qdevpy.accel.kvm.doctor.host_report", lambda: HostReport("/dev/kvm", **report))
    return {finding.name: finding for finding in doctor._kvm()}


def test_kvm_that_cannot_be_used_has_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings_for(monkeypatch, problem="/dev/kvm: Permission denied; join group kvm")

    assert found["/dev/kvm"] == Finding("/dev/kvm", False, "/dev/kvm: Permission denied; join group kvm", required=True)


def test_kvm_capabilities_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings_for(
        monkeypatch, capabilities={"KVM_CAP_A": 0, "KVM_CAP_B": 0, "KVM_CAP_C": 1}, needed=("KVM_CAP_A",), modules=("kvm",)
    )

    assert (found["KVM_CAP_A"].required, found["KVM_CAP_B"].required) == (True, False)
    assert "KVM_CAP_C" not in found
    assert found["KVM modules"].found == "kvm"


@pytest.mark.parametrize(("rate", "ok"), [(1e6, False), (1e9, True)])
def test_emulated_guest_kernels_are_told_of(monkeypatch: pytest.MonkeyPatch, rate: float, ok: bool) -> None:
    found = findings_for(monkeypatch, instructions_per_second=rate, start_ms=5.0)

    assert found["guest kernel code"].ok is ok


def test_core_that_is_not_built_is_the_only_thing_said_about_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "import_module", importing_nothing)

    found = {finding.name: finding for finding in doctor.examine()}

    assert not found["C core"].ok
    assert "/dev/kvm" not in found


def importing_nothing(name: str) -> Any:
    raise ImportError(name)


def test_device_file_that_is_missing_has_advice() -> None:
    assert doctor._device_file("/dev/no-such-thing", "nothing", "make one") == Finding(
        "/dev/no-such-thing", False, "No such file or directory (nothing)", "make one"
    )


def test_program_that_is_not_installed_is_missing() -> None:
    finding = doctor._program("no-such-program", "nothing", "install it")

    assert not finding.ok
