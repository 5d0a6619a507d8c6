# SPDX-License-Identifier: Apache-2.0
"""Network back ends: the host's side of a network card."""
