# SPDX-License-Identifier: Apache-2.0
"""The relay between guests and vhost back ends once more, on a build with AddressSanitizer and UBSan."""

from __future__ import annotations

from pathlib import Path

import pytest
from sanitized import SanitizedTree

HERE = Path(__file__).parent


@pytest.mark.slow
def test_back_ends_that_go_and_come_pass_under_sanitizers(tmp_path: Path) -> None:
    tests = [HERE / "vhost_rig.py", HERE / "test_vhost_user_reconnect.py", HERE.parent / "parts" / "vhost_server.py"]
    tree = SanitizedTree(tmp_path, tests, ["qdevpy/native/build_core.py", "plugins/virtio_blk/build_blk.py"])
    assert " passed" in tree.pytest()
