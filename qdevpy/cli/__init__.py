# SPDX-License-Identifier: Apache-2.0
"""The command line: ``qdevpy boot``, ``check``, ``tree``, ``devices`` and their like."""

from qdevpy.cli.app import main

__all__ = ["main"]
