# SPDX-License-Identifier: Apache-2.0
"""virtio-serial: consoles and serial ports (virtio 1.2, section 5.3)."""
