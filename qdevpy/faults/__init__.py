# SPDX-License-Identifier: Apache-2.0
"""Faults on purpose: requests that fail, come late or never, links that go down, as a driver's author asks for them.

``machine.faults`` is :class:`.injector.Faults`; definitions have ``faults:``; docs/faults.md tells how. A device that has none is
not tapped (``qd_tap.h``), and nothing of this is imported.
"""
