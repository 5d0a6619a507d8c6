# SPDX-License-Identifier: Apache-2.0
"""Port forwarding: QEMU's ``hostfwd`` in passt's words."""

from __future__ import annotations

import re

ACCEPTED = "'tcp:[address]:port-:port' (QEMU, also udp) or '[address/]port[:port]' (passt, tcp)"
QEMU = re.compile(r"(tcp|udp)?:([^:]*):(\d+)-([^:]*):(\d+)")
PASST = re.compile(r"(?:[\w.:%]+/)?(?:all|none|[\d~][-\d,:~]*)")


def port_options(text: str) -> list[str]:
    """Options of passt for port forwarding.

    :param text: forwardings with spaces between them; a leading ``hostfwd=`` is ignored
    :raises ValueError: what is wrong with which of them
    """
    options = []
    for given in text.split():
        options += _option(given.removeprefix("hostfwd="))
    return options


def _option(given: str) -> list[str]:
    match = QEMU.fullmatch(given)
    if match is None:
        if not PASST.fullmatch(given):
            raise ValueError(f"'{given}': expected {ACCEPTED}")
        return ["--tcp-ports", given]
    protocol, address, port, guest, guest_port = match.groups()
    if guest:
        raise ValueError(f"'{given}': passt forwards to the guest whatever its address; leave '{guest}' away")
    for number in (port, guest_port):
        if not 1 <= int(number) <= 65535:
            raise ValueError(f"'{given}': {number} is no port; expected 1 to 65535")
    host = f"{address}/" if address else ""
    return ["--udp-ports" if protocol == "udp" else "--tcp-ports", f"{host}{port}:{guest_port}"]
