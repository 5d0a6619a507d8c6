# SPDX-License-Identifier: Apache-2.0
"""The virtio network card (virtio 1.2, section 5.1)."""
