# SPDX-License-Identifier: Apache-2.0
"""Debian's stock kernel reads the SMBIOS tables, and hears of the power button."""

import json
import sys
from pathlib import Path

import lab_linux
import lab_power
import pytest
from conftest import SECONDS_IN_LAB

from qdevpy.testing.kernel import GUEST_MODULES

UUID = "00112233-4455-6677-8899-aabbccddeeff"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stock_kernel_reads_smbios_and_hears_the_power_button(tmp_path, stock_kernel, run_where_kvm_is_complete):
    initrd = tmp_path / "initrd.gz"
    initrd.write_bytes(lab_linux.make_initramfs(stock_kernel, lab_power.INIT, (*GUEST_MODULES, "button")))
    wanted = {"kernel": str(stock_kernel.image), "initrd": str(initrd), "uuid": UUID, "timeout": SECONDS_IN_LAB}
    (tmp_path / "power.json").write_text(json.dumps(wanted))

    status, output = run_where_kvm_is_complete([sys.executable, str(Path(lab_power.__file__)), "{out}"])

    assert status == 0, output
    result = json.loads((tmp_path / "result.json").read_text())
    console = (tmp_path / "console").read_text(errors="replace").replace("\r", "")
    assert result["failure"] is None, f"{result['failure']}\n{console}"
    assert result["status"] == 0, console
    assert "hot: product_name Standard PC (i440FX + PIIX, 1996)" in console
    assert "hot: sys_vendor QEMU" in console
    assert f"hot: product_uuid {UUID}" in console
