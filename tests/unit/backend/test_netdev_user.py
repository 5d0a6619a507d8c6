# SPDX-License-Identifier: Apache-2.0
"""User networking: port forwarding, the program's life."""

import pytest

from qdevpy.backend.netdev_user import UserNetDev
from qdevpy.backend.passt_ports import port_options
from qdevpy.errors import BackendError


@pytest.fixture
def fake(tmp_path):
    """A program in passt's place: it writes its options down and waits for the end of its socket."""
    path = tmp_path / "passt"
    path.write_text(
        f"#!/usr/bin/env python3\nimport socket, sys\nopen('{tmp_path}/options', 'w').write(' '.join(sys.argv[1:]))\n"
        "peer = socket.socket(fileno=int(sys.argv[-1]))\npeer.sendall(b'here')\npeer.recv(1)\n"
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def build():
    made = []

    def build(**options):
        netdev = UserNetDev(id="net")
        for name, value in options.items():
            netdev.set_property(name, value)
        made.append(netdev)
        return netdev

    yield build
    for netdev in made:
        netdev.close()


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ("", []),
        ("tcp::8080-:80", ["--tcp-ports", "8080:80"]),
        ("hostfwd=tcp:127.0.0.1:8080-:80", ["--tcp-ports", "127.0.0.1/8080:80"]),
        ("udp::53-:53 ::22-:22", ["--udp-ports", "53:53", "--tcp-ports", "22:22"]),
        ("8080:80", ["--tcp-ports", "8080:80"]),
        ("192.0.2.1/22-80:32-90", ["--tcp-ports", "192.0.2.1/22-80:32-90"]),
        ("all", ["--tcp-ports", "all"]),
    ],
)
def test_port_options_speak_both_languages(given, options):
    assert port_options(given) == options


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("tcp::8080-10.0.2.15:80", "leave '10.0.2.15' away"),
        ("tcp::0-:80", "0 is no port"),
        ("tcp::80-:65536", "65536 is no port"),
        ("tcp:8080", "expected 'tcp:"),
        ("--log-file=/etc/passwd", "expected 'tcp:"),
        ("sctp::1-:1", "expected 'tcp:"),
        ("80;rm", "expected 'tcp:"),
    ],
)
def test_port_options_that_make_no_sense_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        port_options(given)


def test_open_starts_program_with_options_and_close_ends_it(build, fake, tmp_path):
    netdev = build(passt=str(fake), hostfwd="tcp::8080-:80", ipv6="off", mtu="1400")
    netdev.open()
    process, peer = netdev._process, netdev._peer
    peer.setblocking(True)
    assert peer.recv(4) == b"here"
    options = (tmp_path / "options").read_text()
    assert options.startswith("--foreground --quiet --ipv4-only --mtu 1400 --tcp-ports 8080:80 --fd ")
    assert netdev.port(0).fd == peer.fileno()
    netdev.close()
    assert process.returncode is not None
    assert netdev.port(0) is None


def test_program_that_ends_takes_link_down(build, fake, caplog):
    netdev = build(passt=str(fake), ipv4="off")
    netdev.open()
    netdev._process.terminate()
    netdev._process.wait()
    netdev.peer_gone()
    netdev.peer_gone()
    assert not netdev.link_up
    assert "passt ended with status" in caplog.text


def test_program_that_is_not_there_names_the_package(build):
    with pytest.raises(BackendError, match=r"netdev 'net': type user needs the program passt.*apt install passt"):
        build(passt="no-such-passt").open()


def test_program_that_cannot_run_says_why(build, fake):
    fake.write_text("#!/no/such/interpreter\n")
    with pytest.raises(BackendError, match="cannot run"):
        build(passt=str(fake)).open()


def test_options_without_sense_are_refused(build, fake):
    with pytest.raises(BackendError, match="both off"):
        build(passt=str(fake), ipv4="off", ipv6="off").open()
    with pytest.raises(BackendError, match="hostfwd: 'x::': expected"):
        build(passt=str(fake), hostfwd="x::").open()
