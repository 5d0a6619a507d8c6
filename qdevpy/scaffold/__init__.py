# SPDX-License-Identifier: Apache-2.0
"""Packages to begin a device with; ``qdevpy new-plugin`` writes them."""
