# SPDX-License-Identifier: Apache-2.0
"""Back ends: what a device is plugged into on the host's side."""
