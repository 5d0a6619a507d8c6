# SPDX-License-Identifier: Apache-2.0
"""PCI lines, virtio-pci, host notifiers and hostile guests once more, on a core with AddressSanitizer and UBSan."""

from __future__ import annotations

from pathlib import Path

import pytest
from sanitized import SanitizedTree

HERE = Path(__file__).parent
PCI = HERE.parent / "unit" / "pci"
TESTS = [
    *(
        HERE / f"{name}.py"
        for name in (
            "null_device",
            "virtio_pci_rig",
            "notifier_rig",
            "ring_forms",
            "test_host_notifier_rules",
            "test_ring_forms",
            "test_taps",
            "test_tracing",
        )
    ),
    *(HERE / f"test_virtio_pci_{part}.py" for part in ("identity", "legacy", "modern", "state", "failures", "hostile")),
    *(PCI / f"{name}.py" for name in ("conftest", "widget", "test_pci_bus", "test_bars")),
]


@pytest.mark.slow
def test_transport_tests_pass_under_sanitizers(tmp_path: Path) -> None:
    tree = SanitizedTree(tmp_path, TESTS, ["qdevpy/native/build_core.py"])
    assert " passed" in tree.pytest()
