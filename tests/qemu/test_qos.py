# SPDX-License-Identifier: Apache-2.0
"""QEMU's qos-test: libqos' drivers of virtio-blk, virtio-net and virtio-serial on machine pc."""

import pytest
from qemu_programs import qos_tests


def test_qos_offers_exactly_the_tests_that_are_run(run_program):
    offered = [line for line in run_program("qos-test", "-l").splitlines() if line.startswith("/")]
    wanted = [f"/virtio-{device}-pci/" for device in ("blk", "net", "serial")]
    ours = [test for test in offered if test.startswith("/x86_64/pc/") and any(name in test for name in wanted)]
    assert sorted(ours) == sorted(qos_tests())
    assert len(ours) == 19


@pytest.mark.parametrize("path", qos_tests(), ids=lambda path: path.split("/pci-bus/")[1])
def test_qos_test_passes(run_program, path):
    output = run_program("qos-test", "-p", path)
    assert f"ok 1 {path}" in output.splitlines()
