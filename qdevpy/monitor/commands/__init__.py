# SPDX-License-Identifier: Apache-2.0
"""QMP commands, a module for each topic; :mod:`qdevpy.monitor.table` lists them."""
