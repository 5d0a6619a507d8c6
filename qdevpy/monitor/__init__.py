# SPDX-License-Identifier: Apache-2.0
"""QMP and the human monitor: how a machine is asked and told things while it runs."""
