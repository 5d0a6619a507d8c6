# SPDX-License-Identifier: Apache-2.0
"""The PCI device of docs/device-author.md, taken from there, does what it says."""

import re
from pathlib import Path

from qdevpy.testing.driver import PCIDriver
from qdevpy.testing.machine import FakeMachine

DOCUMENT = Path(__file__).resolve().parents[3] / "docs/device-author.md"


def test_doorbell_of_the_document_counts_and_interrupts():
    source = re.search(r"```python\n([^`]*class Doorbell.*?)```", DOCUMENT.read_text(), re.S)
    names = {}
    exec(compile(source[1], str(DOCUMENT), "exec"), names)
    with FakeMachine() as machine:
        driver = PCIDriver(machine, machine.plug_device(names["Doorbell"](), limit=2))
        for _ in range(3):
            driver.bar_write(0, 4, 1, 4)
        assert driver.bar_read(0, 0, 4) == 2
        assert driver.intx_level
