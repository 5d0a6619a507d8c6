# SPDX-License-Identifier: Apache-2.0
"""The human monitor's commands, a module for each topic; :mod:`qdevpy.monitor.hmp.table` lists them."""
