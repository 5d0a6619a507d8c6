# SPDX-License-Identifier: Apache-2.0
"""``{type: user}``: the host's network without privileges, through passt."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, ClassVar

import attrs

from qdevpy.backend.netdev import NetDev, Port, PortKind
from qdevpy.backend.passt_ports import port_options
from qdevpy.qdev import property as prop

if TYPE_CHECKING:
    from subprocess import Popen

log = logging.getLogger(__name__)


class UserNetDev(NetDev):
    """Starts ``passt`` with one end of a socket pair, so nothing is left in the file system; passt ends when the
    other end closes, be it because this process dies.
    """

    type_name: ClassVar[str] = "user"
    description: ClassVar[str] = "user networking: starts passt"

    hostfwd: str | None = prop.string(
        help="ports forwarded to the guest, with spaces between: tcp:[ADDR]:PORT-:PORT (or udp), or passt's [ADDR/]PORT[:PORT]"
    )
    ipv4: bool = prop.boolean(True, help="offer IPv4")
    ipv6: bool = prop.boolean(True, help="offer IPv6")
    mtu: int = prop.uint16(0, help="MTU announced to the guest; 0: passt's default")
    passt: str = prop.string("passt", help="the program, by name or path")

    _process: Popen[bytes] | None = attrs.field(default=None, init=False)
    _peer: socket.socket | None = attrs.field(default=None, init=False)

    def open(self) -> None:
        """Start passt.

        :raises BackendError: it is not installed, or an option makes no sense
        """
        import subprocess  # only this back end needs it

        command = self._command()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [*command, "--fd", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C in the terminal is the guest's
                )
            except OSError as error:
                ours.close()
                raise self.fail(f"cannot run '{self.passt}': {error.strerror}") from error
        ours.setblocking(False)
        self._peer = ours

    def _command(self) -> list[str]:
        import shutil

        found = shutil.which(self.passt)
        if found is None:
            raise self.fail(
                f"type user needs the program passt, and '{self.passt}' is not in PATH; "
                "install it (Debian: apt install passt), or use another type: tap, stream, dgram, null"
            )
        if not (self.ipv4 or self.ipv6):
            raise self.fail("ipv4 and ipv6 are both off; leave at least one on")
        command = [found, "--foreground", "--quiet"]
        if not self.ipv6:
            command.append("--ipv4-only")
        if not self.ipv4:
            command.append("--ipv6-only")
        if self.mtu:
            command += ["--mtu", str(self.mtu)]
        try:
            return command + port_options(self.hostfwd or "")
        except ValueError as error:
            raise self.fail(f"hostfwd: {error}") from None

    def close(self) -> None:
        """Hang up and end passt."""
        if self._peer is not None:
            self._peer.close()
            self._peer = None
        if self._process is not None:
            self._process.terminate()  # it ends by itself, too; this does not wait for it to notice
            self._process.wait()
            self._process = None

    def port(self, index: int) -> Port | None:
        """Our end, while passt has the other one."""
        return None if self._peer is None else Port(PortKind.STREAM, self._peer.fileno())

    def peer_gone(self) -> None:
        """The program ended: there is no network any more."""
        if self._peer is None:
            return
        status = self._process.poll() if self._process is not None else None
        log.warning(
            "netdev '%s': passt ended%s; the guest has no network any more (does the host have a route?)",
            self.name,
            "" if status is None else f" with status {status}",
        )
        self._peer.close()
        self._peer = None
        self.set_link(False)
