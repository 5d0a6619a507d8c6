# SPDX-License-Identifier: Apache-2.0
"""qdevpy: a QEMU-compatible, qdev-style device framework with a KVM machine model."""

__version__ = "0.1.0"
