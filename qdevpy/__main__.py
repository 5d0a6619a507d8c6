# SPDX-License-Identifier: Apache-2.0
"""``python -m qdevpy``."""

from qdevpy.cli import main

if __name__ == "__main__":
    main()
