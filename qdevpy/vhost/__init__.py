# SPDX-License-Identifier: Apache-2.0
"""vhost: another program, or the host's kernel, serves a device's queues. docs/vhost.md has what users see."""
