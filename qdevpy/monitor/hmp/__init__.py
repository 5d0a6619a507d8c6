# SPDX-License-Identifier: Apache-2.0
"""QEMU's human monitor: lines of text in, text out."""
