# SPDX-License-Identifier: Apache-2.0
"""MSI-X: who may fire, what waits, what the guest sees of it."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdevpy.accel.base import MsiMessage
from qdevpy.accel.none import NoneAccelerator
from qdevpy.pci.config import ConfigSpace
from qdevpy.pci.msix import ENABLE, FUNCTION_MASK, MSIX

MESSAGE = MsiMessage(0xFEE0_1000, 0x41)


class Table:
    """MSI-X by itself."""

    def __init__(self, vectors=4):
        self.config = ConfigSpace()
        self.accel = NoneAccelerator()
        self.msix = MSIX(self.config, vectors, 1, self.accel)
        self.at = next(offset for identifier, offset in self.config.capabilities() if identifier == 0x11)

    def control(self, bits):
        self.config.write(self.at + 2, bits, 2)
        self.msix.config_written()

    def program(self, vector, *, masked=False, message=MESSAGE):
        for offset, value in ((0, message.address), (4, 0), (8, message.data), (12, int(masked))):
            self.msix.write(vector * 16 + offset, value, 4)

    def pending(self, vector):
        return self.msix.read(self.msix.pba_offset + vector // 8, 1) >> vector % 8 & 1

    def delivered(self):
        """Messages that the accelerator would have sent."""
        found = []
        for fd, message in self.accel.irqfds.values():
            try:
                found += [message] * os.eventfd_read(fd)
            except BlockingIOError:
                continue
        return found

    def close(self):
        self.msix.close()


@pytest.fixture
def table():
    table = Table()
    yield table
    table.close()


def test_capability_says_size_table_and_pending_bits(table):
    assert table.config.get(table.at + 2, 2) == 3
    assert table.config.get(table.at + 4, 4) == 1
    assert table.config.get(table.at + 8, 4) == 0x800 | 1


@pytest.mark.parametrize(
    ("vectors", "pba", "size"), [(1, 0x800, 0x1000), (128, 0x800, 0x1000), (129, 0x1000, 0x2000), (2048, 0x8000, 0x10000)]
)
def test_table_and_pending_bits_do_not_overlap(vectors, pba, size):
    table = Table(vectors)
    assert (table.msix.pba_offset, table.msix.size) == (pba, size)
    assert vectors * 16 <= pba
    assert pba + vectors // 8 <= size
    table.close()


def test_vectors_are_masked_at_first(table):
    assert [table.msix.read(16 * vector + 12, 4) for vector in range(4)] == [1, 1, 1, 1]


def test_vector_in_use_unmasked_and_enabled_is_delivered(table):
    table.msix.use(2)
    table.control(ENABLE)
    table.program(2)
    table.msix.notify(2)
    assert table.delivered() == [MESSAGE]


@pytest.mark.parametrize("reason", ["disabled", "function mask", "vector mask", "not in use"])
def test_vector_with_a_reason_not_to_is_not_assigned(table, reason):
    if reason != "not in use":
        table.msix.use(2)
    table.control(0 if reason == "disabled" else ENABLE | FUNCTION_MASK * (reason == "function mask"))
    table.program(2, masked=reason == "vector mask")
    assert table.accel.irqfds == {}


@pytest.mark.parametrize("mask", ["vector", "function"])
def test_signal_while_masked_is_pending_and_delivered_once_when_unmasked(table, mask):
    table.msix.use(2)
    table.control(ENABLE | FUNCTION_MASK * (mask == "function"))
    table.program(2, masked=mask == "vector")
    table.msix.notify(2)
    table.msix.notify(2)
    assert (table.pending(2), table.pending(1), table.delivered()) == (1, 0, [])
    table.program(2)
    table.control(ENABLE)
    assert table.pending(2) == 0
    assert set(table.delivered()) == {MESSAGE}
    assert table.delivered() == []


def test_message_changed_while_unmasked_is_the_one_that_is_sent(table):
    table.msix.use(0)
    table.control(ENABLE)
    table.program(0)
    other = MsiMessage(0xFEE0_2000, 0x51)
    table.program(0, message=other)
    table.msix.notify(0)
    assert table.delivered() == [other]


def test_last_user_takes_what_is_pending_with_it(table):
    table.control(ENABLE)
    table.msix.use(1)
    table.msix.use(1)
    table.msix.notify(1)
    table.msix.unuse(1)
    assert table.pending(1) == 1
    table.msix.unuse(1)
    assert table.pending(1) == 0


def test_vector_that_nobody_uses_is_not_signalled(table):
    table.msix.notify(1)
    assert table.pending(1) == 0


@pytest.mark.parametrize("vector", [-1, 4, 0xFFFF])
def test_vector_that_is_not_there_is_ignored(table, vector):
    table.msix.use(vector)
    table.msix.notify(vector)
    table.msix.unuse(vector)
    assert table.msix.fd(vector) == -1


def test_reset_masks_everything_and_drops_what_is_pending(table):
    table.msix.use(2)
    table.control(ENABLE)
    table.program(2)
    table.msix.reset()
    assert (table.msix.enabled, table.accel.irqfds, table.msix.read(2 * 16 + 12, 4)) == (False, {}, 1)
    assert table.msix.read(2 * 16, 4) == 0


def test_reserved_bits_of_a_vector_read_as_zero(table):
    for offset in range(0, 16, 4):
        table.msix.write(offset, 0xFFFF_FFFF, 4)
    assert [table.msix.read(offset, 4) for offset in range(0, 16, 4)] == [0xFFFF_FFFC, 0xFFFF_FFFF, 0xFFFF_FFFF, 1]


def test_pending_bits_cannot_be_written(table):
    table.msix.write(table.msix.pba_offset, 0xFF, 8)
    assert table.msix.read(table.msix.pba_offset, 8) == 0


def test_accelerator_that_refuses_is_logged_and_harmless(table, caplog, monkeypatch):
    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(table.accel, "assign_irqfd", refuse)
    table.msix.use(2)
    table.control(ENABLE)
    table.program(2)
    assert "MSI-X vector 2" in caplog.text
    for _ in range(3):
        table.control(0)
        table.control(ENABLE)
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    table.msix.notify(2)
    assert table.pending(2) == 1


def test_saved_table_and_pending_bits_come_back(table):
    table.msix.use(2)
    table.control(ENABLE)
    table.program(2, masked=True)
    table.msix.notify(2)
    state = table.msix.save()
    other = Table()
    other.config.data[:] = table.config.data
    other.msix.load(state)
    other.msix.use(2)
    assert other.pending(2) == 1
    other.program(2)
    assert other.delivered() == [MESSAGE]
    other.close()


def test_close_gives_irqfds_and_eventfds_back():
    table = Table()
    table.msix.use(0)
    table.control(ENABLE)
    table.program(0)
    fd = table.msix.fd(0)
    table.close()
    assert table.accel.irqfds == {}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 0xFFF), st.integers(0, (1 << 64) - 1), st.sampled_from([1, 2, 4, 8])),
    st.tuples(st.just("control"), st.integers(0, 0xFFFF)),
    st.tuples(st.sampled_from(["use", "unuse", "notify"]), st.integers(-1, 6)),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_any_sequence_keeps_the_accelerator_in_step_with_the_table(steps):
    table = Table()
    users = dict.fromkeys(range(4), 0)
    try:
        for name, *arguments in steps:
            if name == "write":
                offset, value, size = arguments
                table.msix.write(offset, value & ((1 << 8 * size) - 1), size)
                assert 0 <= table.msix.read(offset, size) < 1 << 8 * size
            elif name == "control":
                table.control(arguments[0])
            else:
                getattr(table.msix, name)(arguments[0])
                if name != "notify" and arguments[0] in users:
                    change = 1 if name == "use" else -1
                    users[arguments[0]] = max(0, users[arguments[0]] + change)
            control = table.config.get(table.at + 2, 2)
            firing = {
                v
                for v in range(4)
                if users[v] and control & ENABLE and not control & FUNCTION_MASK and not table.msix.read(16 * v + 12, 1) & 1
            }
            assert {fd for fd, _ in table.accel.irqfds.values()} == {table.msix.fd(v) for v in firing}
    finally:
        table.close()
