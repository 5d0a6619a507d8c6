# SPDX-License-Identifier: Apache-2.0
"""``qdevpy bench``: the same guest on qdevpy and on another program, in turns, and what the two differ in.

Nothing else imports this package. What is measured comes from plugins (hook ``qdevpy_benches``); the measuring guest
is the demo guest in its bench mode. docs/bench.md tells how the figures are made.
"""
