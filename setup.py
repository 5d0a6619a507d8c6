# SPDX-License-Identifier: Apache-2.0
"""Only what pyproject.toml cannot say: the C modules."""

from setuptools import setup

setup(
    cffi_modules=[
        "qdevpy/native/build_core.py:ffibuilder",
        "plugins/virtio_blk/build_blk.py:ffibuilder",
        "plugins/virtio_net/build_net.py:ffibuilder",
    ]
)
