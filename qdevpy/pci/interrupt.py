# SPDX-License-Identifier: Apache-2.0
"""How a device in Python interrupts: by what its driver enabled, MSI-X, MSI or its pin."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdevpy.pci.device import PCIDevice


class Interrupt:
    """A function's interrupts. With the VM lock held.

    :ivar mode: ``msix``, ``msi`` or ``intx``: what the driver enabled
    """

    def __init__(self, function: PCIDevice) -> None:
        self._function = function
        self._asserted: set[int] = set()

    @property
    def mode(self) -> str:
        """What the driver enabled."""
        function = self._function
        if function.msix is not None and function.msix.enabled:
            return "msix"
        if function.msi_capability is not None and function.msi_capability.enabled:
            return "msi"
        return "intx"

    def raise_(self, vector: int = 0) -> None:
        """Interrupt: send VECTOR's message, or assert the pin until every vector that did so is lowered.

        Where the driver enabled fewer MSI vectors than the class offers, those beyond send vector 0's message.
        """
        function, mode = self._function, self.mode
        if mode == "msix":
            assert function.msix is not None
            function.msix.notify(vector)
        elif mode == "msi":
            msi = function.msi_capability
            assert msi is not None
            msi.notify(vector if vector < msi.enabled_vectors else 0)
        else:
            self._asserted.add(vector)
            function.set_intx(True)

    def lower(self, vector: int = 0) -> None:
        """The driver has seen to it: the pin is released, as far as VECTOR goes. Messages need no such thing."""
        self._asserted.discard(vector)
        if not self._asserted:
            self._function.set_intx(False)

    def reset(self) -> None:
        """Nothing is asserted, and every MSI-X vector may be sent."""
        self._asserted.clear()
        self._function.set_intx(False)
        msix = self._function.msix
        if msix is not None:
            msix.unuse_all()
            for vector in range(msix.vectors):
                msix.use(vector)
