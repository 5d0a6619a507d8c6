# SPDX-License-Identifier: Apache-2.0
"""No CPU: a program outside drives registers, memory, interrupts and time, over QEMU's qtest protocol."""
