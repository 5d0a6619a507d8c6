# SPDX-License-Identifier: Apache-2.0
"""The C core built with AddressSanitizer and UBSan, under the same tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from sanitized import SanitizedTree

MINE = Path(__file__).resolve()

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> SanitizedTree:
    """The core and its tests, but those that build it in their own way."""
    tests = [path for path in MINE.parent.glob("*.py") if path.name not in (MINE.name, "test_races.py")]
    return SanitizedTree(tmp_path_factory.mktemp("sanitized"), tests, ["qdevpy/native/build_core.py"])


def test_ring_queue_and_space_tests_pass_under_sanitizers(tree: SanitizedTree) -> None:
    assert " passed" in tree.pytest()


def test_sanitizers_are_awake(tree: SanitizedTree) -> None:
    """A queue used after its device was freed ends the process; else the test above would show nothing."""
    program = (
        "from qdevpy.native.core import lib; from qdevpy.native.memory import GuestMemory; from qdevpy.native.vdev import VDev\n"
        "vdev = VDev(GuestMemory()); queue = vdev.add_queue(); vdev.close(); lib.qd_vq_forget(queue)"
    )
    with pytest.raises(AssertionError, match="heap-use-after-free"):
        tree.python("-c", program)
