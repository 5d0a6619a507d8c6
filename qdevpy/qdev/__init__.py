# SPDX-License-Identifier: Apache-2.0
"""qdev: properties, device life cycle, buses and the device tree."""
