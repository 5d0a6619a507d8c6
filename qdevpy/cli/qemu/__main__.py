# SPDX-License-Identifier: Apache-2.0
"""``python -m qdevpy.cli.qemu``."""

from qdevpy.cli.qemu import main

main()
