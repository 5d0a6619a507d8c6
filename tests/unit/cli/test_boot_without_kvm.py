# SPDX-License-Identifier: Apache-2.0
"""What a user reads whose host has no KVM that may be used; it needs no such host."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from qdevpy.cli.app import run

ADVICE = {
    errno.ENOENT: "load the module (modprobe kvm_intel or kvm_amd)",
    errno.EACCES: "add your user to group 'kvm' (sudo usermod -aG kvm $USER) and log in again",
    errno.EPERM: "allow this container the device (--device /dev/kvm)",
    errno.ENODEV: "the processor's virtualization is off; switch it on in the firmware",
    errno.EBUSY: "another hypervisor (VirtualBox, VMware)",
}


@pytest.mark.parametrize("error", ADVICE, ids=errno.errorcode.get)
def test_boot_where_kvm_cannot_be_opened_is_one_line_of_advice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, error: int
) -> None:
    open_file = os.open

    def open_other_than_kvm(path: Any, flags: int, *more: Any, **options: Any) -> int:
        if path == "/dev/kvm":
            raise OSError(error, os.strerror(error), path)
        return open_file(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", open_other_than_kvm)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "kernel").touch()
    (tmp_path / "machine.yaml").write_text("machine: pc\naccel: kvm\nboot: {kernel: ./kernel}\n")
    threads = threading.active_count()

    status = run(["boot", str(tmp_path / "machine.yaml")])

    out, err = capsys.readouterr()
    assert (status, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith("qdevpy: error: ")
    assert "/dev/kvm: " in line
    assert ADVICE[error] in line
    assert threading.active_count() == threads
