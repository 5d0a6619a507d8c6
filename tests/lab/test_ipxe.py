# SPDX-License-Identifier: Apache-2.0
"""iPXE boots from virtio-net, polling, with ioeventfds and without (docs/host-notifiers.md, rule 10)."""

import re
import sys
from pathlib import Path

import pytest
from lab_ipxe import GOOD

from qdevpy_machine.board import PC

SCENARIO = Path(__file__).with_name("lab_ipxe.py")


def installed(name):
    return any((Path(folder) / name).exists() for folder in PC.data_folders)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not installed("bios-256k.bin"), reason="not installed: seabios")
@pytest.mark.skipif(not installed("efi-virtio.rom"), reason="not installed: ipxe-qemu")
def test_ipxe_boots_from_virtio_net_with_and_without_ioeventfd(run_where_kvm_is_complete):
    status, output = run_where_kvm_is_complete([sys.executable, str(SCENARIO), "on", "off"])

    assert status == 0, output
    for ioeventfd in ("on", "off"):
        assert f"ioeventfd {ioeventfd}: status {GOOD << 1 | 1}" in output, output
    kicks = re.findall(r"^nic0: ioeventfd allowed; kicks: (\d+) by ioeventfd, (\d+) synchronous", output, re.MULTILINE)
    (with_eventfd, _), (without, synchronous) = [(int(a), int(b)) for a, b in kicks]
    assert (with_eventfd > 3, without, synchronous > 3) == (True, 0, True)
