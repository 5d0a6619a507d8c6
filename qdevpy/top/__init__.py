# SPDX-License-Identifier: Apache-2.0
"""``qdevpy top``: what a running machine does, from two snapshots of its counters."""
