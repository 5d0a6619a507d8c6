# SPDX-License-Identifier: Apache-2.0
"""The demo machine on a complete KVM, wherever that is: CPL 0 is not emulated there, and CPUID is the machine's."""

import re
import sys

import pytest

VARIANTS = ("", "--set=global.virtio-blk-pci.ioeventfd=off --set=global.virtio-net-pci.ioeventfd=off --append=transport=legacy")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_demo_passes_its_checks_on_a_complete_kvm(run_where_kvm_is_complete):
    """Both in one run, since starting the lab takes longer than the demo."""
    commands = [f"{sys.executable} -m qdevpy -v boot demo {options} </dev/null" for options in VARIANTS]

    status, output = run_where_kvm_is_complete(["sh", "-c", " && ".join(commands)])

    assert status == 0, output
    assert len(re.findall(r"^demo: \d+ checks passed", output, re.MULTILINE)) == len(VARIANTS), output
    assert re.search(r"disk0: .* 0 by ioeventfd", output), output
