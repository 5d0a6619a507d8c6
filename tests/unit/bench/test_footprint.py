# SPDX-License-Identifier: Apache-2.0
"""Memory beyond the guest's, out of the kernel's books."""

from __future__ import annotations

import pytest

from qdevpy.bench.footprint import beyond_guest
from qdevpy.bench.program import BenchError

MIB = 1 << 20
SMAPS = f"""\
00400000-00402000 r-xp 00000000 fd:00 1 /usr/bin/vmm
Size:                  8 kB
Rss:                   8 kB
Anonymous:             0 kB
VmFlags: rd ex
7f0000000000-{0x7F0000000000 + 64 * MIB:x} rw-s 00000000 00:01 2 /memfd:ram (deleted)
Rss:               60000 kB
Anonymous:             0 kB
7fff00000000-7fff00004000 rw-p 00000000 00:00 0 [heap]
Rss:                  16 kB
Anonymous:            12 kB
"""


def test_memory_of_all_mappings_but_the_guests_is_summed() -> None:
    assert beyond_guest(SMAPS, 64 * MIB) == {"Size": 8, "Rss": 24, "Anonymous": 12}


def test_process_without_the_guests_memory_is_an_error() -> None:
    with pytest.raises(BenchError, match="0 mappings of 32 MiB"):
        beyond_guest(SMAPS, 32 * MIB)
