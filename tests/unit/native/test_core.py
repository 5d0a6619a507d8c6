# SPDX-License-Identifier: Apache-2.0
"""The typed view of the core, and the build's promises to plugins."""

from __future__ import annotations

from qdevpy.native import include_dir
from qdevpy.native.core import CoreLib, lib


def test_typed_view_names_only_what_the_core_has() -> None:
    names = {name for name in (*vars(CoreLib), *CoreLib.__annotations__) if name.startswith(("qd_", "QD_"))}
    assert len(names) > 50
    assert [name for name in sorted(names) if not hasattr(lib, name)] == []


def test_include_dir_has_the_public_headers() -> None:
    assert {path.name for path in include_dir().glob("*.h")} >= {"qd_queue.h", "qd_vring.h", "qd_mem.h", "qd_loop.h"}
