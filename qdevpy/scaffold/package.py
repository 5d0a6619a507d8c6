# SPDX-License-Identifier: Apache-2.0
"""From a device's name, a package with the device: it installs, passes its own checks and boots as it stands.

The files are templates beside this module, ``FOLDER/PATH.in``, in which ``@package@`` and the like stand for names. A kind of
plugin is a list of folders, of which the later ones replace files of the earlier.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import attrs

from qdevpy import __version__
from qdevpy.errors import ScaffoldError

KINDS = ("pci", "virtio")
TEMPLATES = Path(__file__).parent / "templates"
LONGEST = 32
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@attrs.frozen
class Names:
    """What things are called in a new package.

    :ivar name: as the user gave it: ``my-lamp``
    """

    name: str
    kind: str

    @classmethod
    def of(cls, name: str, kind: str) -> Names:
        """Check NAME.

        :raises ScaffoldError: it cannot be one
        """
        if not NAME.fullmatch(name) or len(name) > LONGEST:
            better = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")[:LONGEST].rstrip("-") or "my-device"
            raise ScaffoldError(
                f"'{name}' cannot be a plugin's name: at most {LONGEST} lower-case letters, digits and single '-' in between, "
                f"a letter first; '{better}' would do"
            )
        if name.startswith("qdevpy-"):
            raise ScaffoldError(f"'{name}': the package is called qdevpy-NAME anyway; leave 'qdevpy-' out")
        if kind == "virtio" and name.startswith("virtio-"):
            raise ScaffoldError(f"'{name}': the device is called virtio-NAME anyway; leave 'virtio-' out")
        return cls(name, kind)

    @property
    def device(self) -> str:
        """The device's base name, which must be new: its type for PCI, without transport for virtio."""
        return self.name if self.kind == "pci" else f"virtio-{self.name}"

    @property
    def type(self) -> str:
        """What stands under ``devices:``."""
        return self.name if self.kind == "pci" else f"virtio-{self.name}-pci"

    @property
    def distribution(self) -> str:
        """What pip knows."""
        return f"qdevpy-{self.name}"

    @property
    def package(self) -> str:
        """What Python imports."""
        return self.distribution.replace("-", "_")

    def substitutions(self) -> Mapping[str, str]:
        """By the word that stands between ``@`` in templates."""
        return {
            "name": self.name,
            "symbol": self.name.replace("-", "_"),
            "class": "".join(part.capitalize() for part in self.name.split("-")),
            "device": self.device,
            "type": self.type,
            "distribution": self.distribution,
            "package": self.package,
            "version": ".".join(__version__.split(".")[:2]),
        }


def render(names: Names, *, native: bool) -> dict[str, str]:
    """The files of a package: their paths in it, and what is in them.

    :param native: the queue is served by C
    """
    words = names.substitutions()
    files: dict[str, str] = {}
    for folder in ("any", names.kind, *(["native"] if native else [])):
        top = TEMPLATES / folder
        for template in sorted(top.rglob("*.in")):
            path = _fill(str(template.relative_to(top)).removesuffix(".in"), words)
            files[path] = _fill(template.read_text(), words)
    return files


def _fill(text: str, words: Mapping[str, str]) -> str:
    return re.sub(r"@(\w+)@", lambda found: words[found[1]], text)


def write(files: Mapping[str, str], folder: Path) -> None:
    """Write FILES below FOLDER, which is new or empty.

    :raises ScaffoldError: there is something, or it cannot be written
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ScaffoldError(f"{folder} exists already, and nothing is overwritten; remove it, or choose another --directory")
        for path, text in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    except OSError as error:
        raise ScaffoldError(f"{error.filename or folder}: {error.strerror}; choose another --directory") from error
