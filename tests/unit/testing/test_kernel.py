# SPDX-License-Identifier: Apache-2.0
"""Kernels with their modules as distributions install them, and initrds that are made for them."""

import gzip
import lzma
import re

import pytest

from qdevpy.testing.initramfs import File, initramfs
from qdevpy.testing.kernel import Kernel, KernelError
from qdevpy.testing.linux import make_initrd
from qdevpy.testing.needs import find_missing

VERSION = "6.1.0-cloud"


@pytest.fixture
def kernel(tmp_path):
    """Three modules: blk needs pci, which needs ring, each compressed in another way."""
    (tmp_path / "boot").mkdir()
    image = tmp_path / "boot" / f"vmlinuz-{VERSION}"
    image.write_bytes(b"kernel")
    drivers = tmp_path / "lib/modules" / VERSION / "kernel/drivers"
    drivers.mkdir(parents=True)
    (drivers / "virtio-blk.ko.xz").write_bytes(lzma.compress(b"blk\0depends=virtio_pci\0"))
    (drivers / "virtio_pci.ko.gz").write_bytes(gzip.compress(b"pci\0depends=virtio_ring\0"))
    (drivers / "virtio_ring.ko").write_bytes(b"ring\0depends=\0")
    return Kernel.of(image)


def names_in(archive):
    """The paths in an initramfs, in order."""
    data = gzip.decompress(archive)
    names, at = [], 0
    while True:
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        if name == "TRAILER!!!":
            return names
        names.append(name)
        at += (110 + fields[11] + 3 & ~3) + (fields[6] + 3 & ~3)


def test_kernels_version_and_modules_are_found_beside_it(kernel):
    assert kernel.version == VERSION
    modules = kernel.modules(["virtio_blk", "built_in"])
    assert list(modules) == ["modules/00-virtio_ring.ko", "modules/01-virtio_pci.ko", "modules/02-virtio_blk.ko"]
    assert [file.content[:3] for file in modules.values()] == [b"rin", b"pci", b"blk"]


def test_kernel_without_modules_is_one_all_the_same(tmp_path):
    (tmp_path / "bzImage").write_bytes(b"kernel")
    assert Kernel.of(tmp_path / "bzImage").modules(["virtio_blk"]) == {}


@pytest.mark.parametrize("place", ["no-such-kernel", "/no/such/folder/vmlinuz-1"])
def test_kernel_that_is_not_there_is_refused_with_what_may_be_given(place):
    with pytest.raises(KernelError, match=rf"kernel {re.escape(place)}: .* is not there; give a bzImage, or debian:cloud-amd64"):
        Kernel.of(place)


@pytest.mark.skipif(find_missing("busybox") is not None, reason=f"{find_missing('busybox')}")
def test_initrd_has_modules_in_order_and_the_tests_own_files(kernel):
    names = names_in(make_initrd(kernel, modules=["virtio_blk"], files={"/etc/greeting": b"hello", "lamp.ko": File(b"", 0o600)}))
    assert [name for name in names if name.startswith("modules/")] == [
        "modules/00-virtio_ring.ko", "modules/01-virtio_pci.ko", "modules/02-virtio_blk.ko",
    ]  # fmt: skip
    assert {"init", "bin/busybox", "etc/greeting", "lamp.ko"} <= set(names)


def test_archive_has_folders_before_what_is_in_them():
    assert names_in(initramfs({"a/b/c": File(b"12345"), "d": File(b"")})) == ["a", "a/b", "a/b/c", "d"]
