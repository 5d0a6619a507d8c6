# SPDX-License-Identifier: Apache-2.0
"""Only what pyproject.toml cannot say: the C modules and the demo guest."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

build_guest = runpy.run_path(str(Path(__file__).parent / "machine/build_guest.py"))["build"]


class BuildPython(build_py):
    """Makes the guest first, so that it is there when package data are collected."""

    def run(self) -> None:
        """Carry out the command."""
        build_guest()
        super().run()


class BuildExtensions(build_ext):
    """``setup.py build_ext --inplace`` makes everything that is compiled."""

    def run(self) -> None:
        """Carry out the command."""
        build_guest()
        super().run()


setup(
    cmdclass={"build_py": BuildPython, "build_ext": BuildExtensions},
    cffi_modules=[
        "qdevpy/native/build_core.py:ffibuilder",
        "plugins/virtio_blk/build_blk.py:ffibuilder",
        "plugins/virtio_net/build_net.py:ffibuilder",
    ],
)
