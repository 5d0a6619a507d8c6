# SPDX-License-Identifier: Apache-2.0
"""An initramfs: files in a gzipped cpio archive of format newc (Linux, driver-api/early-userspace/buffer-format)."""

from __future__ import annotations

import gzip
import stat
from collections.abc import Mapping
from typing import NamedTuple


class File(NamedTuple):
    """A regular file; CONTENT with ``mode`` 0755 is a program."""

    content: bytes
    mode: int = 0o644


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _member(inode: int, name: str, mode: int, content: bytes) -> bytes:
    path = name.encode() + b"\0"
    fields = [inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0]
    return _pad(b"070701" + b"".join(b"%08x" % field for field in fields) + path) + _pad(content)


def initramfs(files: Mapping[str, File]) -> bytes:
    """The archive with FILES, path -> file, and the folders they stand in."""
    folders = sorted({"/".join(path.split("/")[:n]) for path in files for n in range(1, path.count("/") + 1)})
    members = [(folder, stat.S_IFDIR | 0o755, b"") for folder in folders]
    members += [(path, stat.S_IFREG | file.mode, file.content) for path, file in sorted(files.items())]
    archive = b"".join(_member(inode, *member) for inode, member in enumerate(members, 1))
    return gzip.compress(archive + _member(0, "TRAILER!!!", 0, b""), 1, mtime=0)
