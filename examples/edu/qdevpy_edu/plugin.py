"""What this package offers to qdevpy."""

from collections.abc import Iterable

from qdevpy.plugin import hookimpl
from qdevpy.qdev.device import Device

from qdevpy_edu.device import Edu


@hookimpl
def qdevpy_devices() -> Iterable[type[Device]]:
    """The edu device."""
    return [Edu]
