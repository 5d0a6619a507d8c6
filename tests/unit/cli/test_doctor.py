# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds, and what it says to do."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from cli_parts import Program

from qdevpy.cli import doctor
from qdevpy.cli.doctor import Finding


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

    assert all(name in out for name in ("C core", "/dev/kvm", "/dev/net/tun", "io_uring", "passt", "plugins"))


@pytest.mark.parametrize(
    ("error", "advice"),
    [(errno.ENOENT, "modprobe kvm_intel"), (errno.EACCES, "usermod -aG kvm"), (errno.EIO, "dmesg")],
)
def test_kvm_that_cannot_be_opened_has_advice(monkeypatch: pytest.MonkeyPatch, error: int, advice: str) -> None:
    def refuse(*args: Any) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "open", refuse)

    (finding,) = doctor._kvm()

    assert not finding.ok
    assert finding.found == os.strerror(error)
    assert advice in finding.advice


def test_program_that_is_not_installed_is_missing() -> None:
    finding = doctor._program("no-such-program", "nothing", "install it")

    assert not finding.ok
