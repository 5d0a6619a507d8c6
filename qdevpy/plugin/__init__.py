# SPDX-License-Identifier: Apache-2.0
"""Plugins: hook specifications and loading."""

from qdevpy.plugin.spec import hookimpl, hookspec

__all__ = ["hookimpl", "hookspec"]
