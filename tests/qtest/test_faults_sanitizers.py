# SPDX-License-Identifier: Apache-2.0
"""Faults on a disk once more, on a build with AddressSanitizer and UBSan."""

from __future__ import annotations

from pathlib import Path

import pytest
from sanitized import SanitizedTree

HERE = Path(__file__).parent


@pytest.mark.slow
def test_faults_pass_under_sanitizers(tmp_path: Path) -> None:
    tests = [HERE / name for name in ("blk_driver.py", "ring_forms.py", "test_faults_on_disk.py")]
    tree = SanitizedTree(tmp_path, tests, ["qdevpy/native/build_core.py", "plugins/virtio_blk/build_blk.py"])
    assert " passed" in tree.pytest()
