# SPDX-License-Identifier: Apache-2.0
"""The card's C part built with AddressSanitizer and UBSan, under the same tests."""

from pathlib import Path

import pytest
from sanitized import SanitizedTree

HERE = Path(__file__).resolve().parent


@pytest.mark.slow
def test_net_tests_pass_under_sanitizers(tmp_path):
    rigs = ("net_rig", "net_tap", "net_wires", "ring_forms")
    names = ("batches", "control", "dgram", "hostile", "pci", "ring_forms", "stream", "udp")
    tests = [HERE / f"{name}.py" for name in (*rigs, *(f"test_net_{name}" for name in names))]
    tree = SanitizedTree(tmp_path, tests, ["qdevpy/native/build_core.py", "plugins/virtio_net/build_net.py"])
    where = tree.python("-c", "import qdevpy_virtio_net._native as native; print(native.__file__)")
    assert where.startswith(str(tmp_path))
    assert " passed" in tree.pytest()
