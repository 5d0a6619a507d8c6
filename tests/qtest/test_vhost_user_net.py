# SPDX-License-Identifier: Apache-2.0
"""virtio-net on a vhost-user netdev: frames through a back end of our own, several pairs, back ends that go."""

import struct

import pytest
import vhost_server as vs

from qdevpy.backend.chardev_socket import SocketChardev
from qdevpy.backend.netdev_vhost_user import VhostUserNetDev
from qdevpy.errors import BackendError
from qdevpy.testing.driver import ModernDriver
from qdevpy.testing.machine import FakeMachine
from qdevpy.vhost.frontend import State
from qdevpy.virtio import defs
from qdevpy.virtio.pci_types import device_types_for
from qdevpy_virtio_net import numbers as n
from qdevpy_virtio_net.device import VirtIONet

HEADER = bytes(12)
FEATURES = vs.F_VERSION_1 | vs.F_PROTOCOL | vs.F_INDIRECT | 1 << n.F_MRG_RXBUF | 1 << n.F_MQ
CONTROL = 1 << n.F_CTRL_VQ | 1 << n.F_MQ


@pytest.fixture(autouse=True)
def soon(monkeypatch, caplog):
    """Chardevs try again at once; and nothing fails silently."""
    from qdevpy.vm.loop import MainLoop

    later = MainLoop.call_later
    monkeypatch.setattr(MainLoop, "call_later", lambda loop, seconds, call: later(loop, min(seconds, 0.01), call))
    yield
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


class Mirror(vs.Server):
    """Sends every frame back to the pair that it came from."""

    def __init__(self, path, **offers):
        super().__init__(path, self.answer, **{"features": FEATURES, "queues": 2} | offers)
        self.frames = []
        self.owed = {}  # frames that came before a buffer for them: kicks of two rings are seen in any order
        self.back = b""

    def answer(self, index, chain):
        if index % 2:
            self.frames.append((index // 2, chain.readable[12:]))
            self.owed.setdefault(index // 2, []).append(chain.readable[12:])
            return b""
        return HEADER[:10] + b"\x01\0" + self.back

    def _begin(self, ring, head):
        chain = self._chain(ring, head)
        if ring.index % 2:
            self._finish(ring, chain)
        else:
            ring.held.append(chain)
        rx, owed = self.rings.get(ring.index & ~1), self.owed.get(ring.index // 2)
        while rx and rx.held and owed:
            self.back = owed.pop(0)
            self._finish(rx, rx.held.pop(0))


class Rig:
    """Machine, card and back end."""

    def __init__(self, tmp_path, offers=None, queues=1, **properties):
        self.path, self.offers = tmp_path / "switch", offers or {}
        self.servers = []
        self.start_server()
        self.machine = FakeMachine()
        try:
            self.machine.open_backend(SocketChardev(id="c0"), path=str(self.path), reconnect=1)
            self.netdev = self.machine.open_backend(VhostUserNetDev(id="lan"), chardev="c0", queues=queues)
            self.proxy = self.machine.plug_type(device_types_for(VirtIONet, "test")[0], netdev=self.netdev, **properties)
        except BaseException:
            self.__exit__()
            raise
        self.device, self.driver = self.proxy.device, ModernDriver(self.machine, self.proxy)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.machine.close()
        for server in self.servers:
            server.close()

    def start_server(self, **offers):
        self.server = Mirror(self.path, **self.offers | offers)
        self.server.start()
        self.servers.append(self.server)

    @property
    def frontend(self):
        return self.device.vhost.frontend

    def wait(self, condition, what):
        self.machine.wait_for(condition, what)

    def mirror(self, frame, pair=0):
        """Send a frame; what comes back."""
        rx, tx = self.driver.queues[2 * pair], self.driver.queues[2 * pair + 1]
        into = rx.add([], [2048])
        rx.kick()
        tx.add([HEADER + frame])
        tx.kick()
        return self.receive(into, pair)

    def receive(self, into, pair=0):
        rx = self.driver.queues[2 * pair]
        written = rx.wait(into)
        return rx.read(into)[12:written]

    def control(self, kind, command, data):
        ctrl = self.driver.queues[-1]
        _, answer = ctrl.request([bytes([kind, command]), data], [1])
        return answer[0]


def test_frames_go_to_the_back_end_and_come_from_it(tmp_path):
    with Rig(tmp_path) as rig:
        rig.driver.start(msix=True)
        assert rig.mirror(b"x" * 60) == b"x" * 60
        assert rig.server.frames == [(0, b"x" * 60)]
        assert rig.driver.interrupts(1) >= 1
        assert rig.device.link_up


def test_features_are_those_of_the_back_end_and_the_cards_own(tmp_path):
    with Rig(tmp_path, mq=False) as rig:
        offered = rig.driver.offered
        assert offered >> n.F_MRG_RXBUF & 1
        assert offered >> n.F_CTRL_VQ & 1
        assert offered >> n.F_MAC & 1
        for feature in (n.F_CSUM, n.F_GUEST_TSO4, n.F_GUEST_ANNOUNCE, n.F_MQ, defs.F_RING_EVENT_IDX, defs.F_RING_RESET):
            assert not offered >> feature & 1
        rig.driver.start(offered & ~(1 << defs.F_RING_INDIRECT_DESC), msix=True)
        sent = [struct.unpack("=Q", payload)[0] for number, payload, _ in rig.server.log[-1] if number == vs.SET_FEATURES]
        assert sent == [vs.F_VERSION_1 | vs.F_PROTOCOL | 1 << n.F_MRG_RXBUF]


def test_control_queue_stays_the_cards(tmp_path):
    with Rig(tmp_path) as rig:
        rig.driver.start(1 << n.F_CTRL_VQ | 1 << n.F_CTRL_RX, msix=True)
        assert rig.control(n.CTRL_RX, n.CTRL_RX_PROMISC, b"\x01") == n.OK
        assert rig.server.requests().count(vs.SET_VRING_KICK) == 2


def test_pairs_are_enabled_as_the_driver_uses_them(tmp_path):
    with Rig(tmp_path, queues=2, mq=True) as rig:
        rig.driver.start(CONTROL, msix=True)
        assert [ring.enabled for _, ring in sorted(rig.server.rings.items())] == [True, True, False, False]
        assert rig.control(n.CTRL_MQ, n.CTRL_MQ_VQ_PAIRS_SET, struct.pack("<H", 2)) == n.OK
        rig.wait(lambda: all(ring.enabled for ring in rig.server.rings.values()), "all enabled")
        for pair in (0, 1):
            assert rig.mirror(bytes([pair]) * 60, pair) == bytes([pair]) * 60
        assert [pair for pair, _ in rig.server.frames] == [0, 1]
        assert rig.control(n.CTRL_MQ, n.CTRL_MQ_VQ_PAIRS_SET, struct.pack("<H", 1)) == n.OK
        rig.wait(lambda: not rig.server.rings[2].enabled, "disabled")


def test_card_with_several_pairs_serves_a_driver_that_uses_one(tmp_path):
    with Rig(tmp_path, queues=2, mq=True) as rig:
        rig.driver.start(1 << n.F_CTRL_VQ | 1 << n.F_CTRL_RX, msix=True, queues=3)
        assert rig.mirror(b"y" * 60) == b"y" * 60
        assert rig.control(n.CTRL_RX, n.CTRL_RX_PROMISC, b"\x01") == n.OK
        assert sorted(rig.server.rings) == [0, 1]


def test_back_end_with_fewer_pairs_than_the_netdev_wants_is_refused(tmp_path):
    with pytest.raises(BackendError, match="serves 2 queue pairs; 3 are wanted"), Rig(tmp_path, queues=3):
        pass


def test_link_follows_the_back_end_and_frames_go_on_with_the_next(tmp_path):
    with Rig(tmp_path) as rig:
        rig.driver.start(1 << n.F_STATUS, msix=True)
        assert rig.mirror(b"1" * 60) == b"1" * 60
        rig.server.close()
        rig.wait(lambda: not rig.device.link_up, "link down")
        assert rig.frontend.state is State.ORPHANED
        assert rig.driver.read_config(6, 2) & n.S_LINK_UP == 0
        rx, tx = rig.driver.queues[:2]
        into = rx.add([], [2048])
        tx.add([HEADER + b"2" * 60])
        tx.kick()
        rig.start_server()
        assert rig.receive(into) == b"2" * 60
        assert rig.device.link_up
        assert rig.mirror(b"3" * 60) == b"3" * 60


def test_receive_buffers_that_were_offered_stay_for_the_next_back_end(tmp_path):
    with Rig(tmp_path) as rig:
        rig.driver.start(msix=True)
        rx = rig.driver.queues[0]
        buffers = [rx.add([], [2048]) for _ in range(4)]
        rx.kick()
        rig.wait(lambda: len(rig.server.rings[0].held) == 4, "the back end has them")
        rig.server.hang_up()
        rig.wait(lambda: len(rig.server.log) == 2 and rig.frontend.state is State.SERVING, "back again")
        tx = rig.driver.queues[1]
        for number, into in enumerate(buffers):
            rig.wait(lambda: rig.server.rings[0].held, "the back end has a buffer")
            tx.add([HEADER + bytes([number]) * 60])
            tx.kick()
            assert rig.receive(into) == bytes([number]) * 60


def test_cable_that_is_pulled_pauses_the_back_end(tmp_path):
    with Rig(tmp_path) as rig:
        rig.driver.start(msix=True)
        rig.device.set_link(False)
        rig.wait(lambda: not rig.server.rings[1].enabled, "disabled")
        rig.device.set_link(True)
        assert rig.mirror(b"z" * 60) == b"z" * 60


def test_netdev_without_a_chardev_says_so(tmp_path):
    with FakeMachine() as machine, pytest.raises(BackendError, match="netdev 'lan': there is no chardev 'c1'"):
        machine.open_backend(VhostUserNetDev(id="lan"), chardev="c1")


def test_card_is_unplugged_and_the_netdev_serves_another(tmp_path):
    with Rig(tmp_path) as rig:
        rig.driver.start(msix=True)
        assert rig.mirror(b"1" * 60) == b"1" * 60
        rig.machine.pci.unplug(rig.proxy)
        rig.proxy = rig.machine.plug_type(device_types_for(VirtIONet, "test")[0], netdev=rig.netdev)
        rig.device, rig.driver = rig.proxy.device, ModernDriver(rig.machine, rig.proxy)
        rig.driver.start(msix=True)
        assert rig.mirror(b"2" * 60) == b"2" * 60
