# SPDX-License-Identifier: Apache-2.0
"""RAM that a vhost-user back end can map: QEMU's options for it, which say what is so here anyway."""

import pytest

from qdevpy.errors import QdevpyError

CHARDEV = ("-chardev", "socket,id=c,path=store")
DEVICE = ("-device", "vhost-user-blk-pci,chardev=c,num-queues=2")
OBJECT = ("-object", "memory-backend-memfd,id=mem,size=64M,share=on")


@pytest.mark.parametrize(
    "kind", ["memory-backend-memfd,id=mem,size=64M,share=on", "memory-backend-file,id=mem,size=64M,mem-path=/x,share=on"]
)
def test_object_and_its_name_at_the_machine_leave_the_size_of_memory(import_words, kind):
    text = import_words("-machine", "pc,memory-backend=mem", "-object", kind, *CHARDEV, *DEVICE)
    assert "memory: 64M" in text
    assert "memory-backend" not in text
    assert "vhost-user-blk-pci: {chardev: c, num-queues: 2}" in text


def test_size_of_memory_that_is_given_stands(import_words):
    assert "memory: 32M" in import_words("-m", "32M", *OBJECT, "-machine", "memory-backend=mem")


def test_name_of_no_object_is_an_error_with_those_that_are(import_words):
    with pytest.raises(QdevpyError, match=r"memory-backend=men: no object of type .* is called so .there is mem."):
        import_words(*OBJECT, "-machine", "memory-backend=men")


def test_export_gives_qemu_memory_that_can_be_mapped(load, export_words):
    text = "machine: pc\nmemory: 64M\nchardevs: {c: {type: socket, path: s}}\ndevices:\n  - vhost-user-blk-pci: {chardev: c}\n"
    words = export_words(load(text))
    assert "memory-backend-memfd,id=ram,size=64M,share=on" in words
    assert "memory-backend=ram" in words


def test_export_of_a_vhost_user_netdev_does_so_too(load, export_words):
    text = "machine: pc\nchardevs: {c: {type: socket, path: s}}\nnetdevs: {n: {type: vhost-user, chardev: c, queues: 2}}\n"
    words = export_words(load(text))
    assert "memory-backend-memfd,id=ram,size=128M,share=on" in words
    assert "vhost-user,id=n,chardev=c,queues=2" in words
