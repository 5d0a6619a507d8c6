# SPDX-License-Identifier: Apache-2.0
"""The pc board: chips, firmware tables, and the boot loader."""
