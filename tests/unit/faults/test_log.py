# SPDX-License-Identifier: Apache-2.0
"""The fault log: what is written is what is read, and what is no log says where."""

import json
import os

import pytest

from qdevpy.errors import FaultError
from qdevpy.faults.log import Entry, FaultLog, read_log
from qdevpy.faults.schedule import ReplaySchedule, Request

HEAD = '{"qdevpy-faults": 1, "seed": 0}\n'
ENTRIES = [
    Entry(
        time=5, device="disk0", what="io-error", rule=1, queue=0, request=3, total=4,
        kind="read", sector=8, sectors=2, occurrence=1,
    ),
    Entry(time=6, device="lamp0", what="delay", rule=2, queue=1, request=9, total=9, duration=1000),
    Entry(time=7, device="net0", what="link-down", total=12, duration=5),
    Entry(time=8, device="net0", what="config-change"),
]  # fmt: skip


def written(folder, entries=ENTRIES):
    path = str(folder / "faults.jsonl")
    log = FaultLog(path, 0)
    for entry in entries:
        log.write(entry)
    log.close()
    return path


def test_log_is_read_as_it_was_written(tmp_path):
    assert read_log(written(tmp_path)) == ENTRIES


def test_line_has_what_a_reader_looks_for_and_nothing_empty(tmp_path):
    with open(written(tmp_path)) as file:
        lines = [json.loads(line) for line in file]

    wanted = {"time": 6, "device": "lamp0", "what": "delay", "rule": 2, "queue": 1, "request": 9, "total": 9, "for": 1000}
    assert lines[2] == wanted
    assert lines[4] == {"time": 8, "device": "net0", "what": "config-change", "rule": 0}


def test_line_is_in_the_file_at_once(tmp_path):
    path = tmp_path / "faults.jsonl"
    log = FaultLog(str(path), 0)
    log.write(ENTRIES[0])

    assert read_log(str(path)) == ENTRIES[:1]
    log.close()


def test_full_disk_ends_the_log_and_not_the_machine(caplog):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    log = FaultLog("/dev/full", 0)
    log.write(ENTRIES[0])
    log.write(ENTRIES[1])
    log.close()

    assert [record.getMessage() for record in caplog.records if "no more is written" in record.getMessage()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: not JSON"),
        ("hello\n", ":1: not JSON"),
        ('{"seed": 1}\n', ":1: not a fault log"),
        ('{"qdevpy-faults": 2}\n', ":1: not a fault log"),
        (HEAD + "[]\n", ":2: expected a JSON object"),
        (HEAD + "{\n", ":2: not JSON"),
        (HEAD + '{"time": 1, "device": "d"}\n', ":2: 'what' is missing"),
        (HEAD + '{"time": 1, "device": "d", "what": "io-eror"}\n', ":2: what: 'io-eror': not known; did you mean 'io-error'?"),
        (HEAD + '{"time": "1", "device": "d", "what": "delay"}\n', ':2: time: "1": expected a whole number'),
        (HEAD + '{"time": -1, "device": "d", "what": "delay"}\n', ":2: time: -1"),
        (HEAD + '{"time": true, "device": "d", "what": "delay"}\n', ":2: time: true"),
        (HEAD + '{"time": 1, "device": 2, "what": "delay"}\n', ":2: device: 2: expected a text"),
        (HEAD + '\n{"time": 1, "device": "d", "what": "delay", "qeue": 1}\n', ":3: 'qeue' is not known; did you mean 'queue'?"),
        ("[" * 100_000 + "\n", ":1: not JSON"),
    ],
)
def test_what_is_no_log_says_which_line(tmp_path, text, message):
    path = tmp_path / "faults.jsonl"
    path.write_text(text)

    with pytest.raises(FaultError) as refused:
        read_log(str(path))

    assert message in str(refused.value)


def test_binary_file_is_no_log(tmp_path):
    path = tmp_path / "faults.jsonl"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(FaultError, match="not UTF-8"):
        read_log(str(path))


def names(schedule, request):
    return [firing.effect.name for firing in schedule.at_request(request, 0)]


def test_replay_knows_a_request_by_what_it_asks_for():
    schedule = ReplaySchedule(ENTRIES[:1])

    assert names(schedule, Request(1, 99, 99, "read", 8, 2, 1)) == ["io-error"]
    assert names(schedule, Request(0, 3, 3, "read", 8, 2, 2)) == []
    assert names(schedule, Request(0, 3, 4, "read", 9, 2, 1)) == []


def test_replay_knows_a_request_by_its_number_where_it_says_nothing():
    schedule = ReplaySchedule(ENTRIES[1:2])

    assert names(schedule, Request(1, 9, 20)) == ["delay"]
    assert names(schedule, Request(0, 9, 9)) == []
    assert schedule.at_request(Request(1, 9, 20), 0)[0].duration == 1000


def test_replay_puts_what_came_at_a_time_after_as_many_requests():
    schedule = ReplaySchedule(ENTRIES[2:])

    assert names(schedule, Request(0, 12, 12)) == ["link-down"]
    assert [(ns, firing.effect.name) for ns, firing in schedule.at_times()] == [(8, "config-change")]
