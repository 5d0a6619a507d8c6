# SPDX-License-Identifier: Apache-2.0
"""virtio-blk's requests, errors and models once more, on a build with AddressSanitizer and UBSan."""

from __future__ import annotations

from pathlib import Path

import pytest
from sanitized import SanitizedTree

HERE = Path(__file__).parent


@pytest.mark.slow
def test_requests_errors_and_models_pass_under_sanitizers(tmp_path: Path) -> None:
    tests = [
        HERE / name
        for name in ("blk_driver.py", "test_blk_requests.py", "test_blk_errors.py", "test_blk_model.py", "test_blk_merging.py")
    ]
    tree = SanitizedTree(tmp_path, tests, ["qdevpy/native/build_core.py", "plugins/virtio_blk/build_blk.py"])
    where = tree.python("-c", "import qdevpy_virtio_blk._native as native; print(native.__file__)")
    assert where.startswith(str(tmp_path))
    assert " passed" in tree.pytest()
