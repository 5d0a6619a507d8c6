# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator

import pytest
from widget import BusRig


@pytest.fixture
def rig() -> Iterator[BusRig]:
    rig = BusRig()
    yield rig
    rig.machine.close()
