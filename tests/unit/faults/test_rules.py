# SPDX-License-Identifier: Apache-2.0
"""Rules by themselves: what values mean, which requests they choose, and that the choice can be had again."""

import pytest

from qdevpy.errors import FaultError
from qdevpy.faults.kinds import Duration, Period, Probability, Span, Words
from qdevpy.faults.rule import make_rule
from qdevpy.faults.schedule import MAX_IDENTITIES, Identities, Request, RuleSchedule
from qdevpy.faults.target import FaultTarget

MS = 1_000_000


class Target(FaultTarget):
    kinds = ("read", "write")
    has_sectors = True
    offers = ("io-error",)


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        (Duration(), "50ms", 50 * MS),
        (Duration(), "1.5s", 1500 * MS),
        (Duration(), 2, 2000 * MS),
        (Duration(), 0.25, 250 * MS),
        (Duration(), "3m", 180_000 * MS),
        (Duration(), "7us", 7000),
        (Period(), "5s-10s", (5000 * MS, 10_000 * MS)),
        (Period(), (1, 2), (1000 * MS, 2000 * MS)),
        (Span(), "100-199", range(100, 200)),
        (Span(), "7", range(7, 8)),
        (Span(), range(3, 5), range(3, 5)),
        (Span(), 12, range(12, 13)),
        (Probability(), "0.25", 0.25),
        (Probability(), "5%", 0.05),
        (Probability(), ".5", 0.5),
        (Words(("a", "b")), "b, a", ("b", "a")),
        (Words(("a", "b")), ["a", "a"], ("a",)),
        (Words(("a", "b")), '["a", "b"]', ("a", "b")),
    ],
)
def test_value_is_understood_as_text_and_as_pythons_own(kind, given, value):
    assert kind.parse(given) == value


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (Duration(), "50 parsecs"),
        (Duration(), "-1s"),
        (Duration(), ""),
        (Duration(), True),
        (Duration(), "9999999m"),
        (Period(), "5s"),
        (Period(), "10s-5s"),
        (Period(), "5s-5s"),
        (Span(), "9-3"),
        (Span(), "-3"),
        (Span(), "a-b"),
        (Span(), range(0)),
        (Span(), range(0, 9, 2)),
        (Span(), "99999999999999999999999"),
        (Probability(), "1.5"),
        (Probability(), "101%"),
        (Probability(), "often"),
        (Words(("a",)), "c"),
        (Words(("a",)), ""),
        (Words(("a",)), "[a"),
    ],
)
def test_value_that_makes_no_sense_is_refused(kind, given):
    with pytest.raises(ValueError, match=r"\w"):
        kind.parse(given)


@pytest.mark.parametrize(
    ("kind", "text"),
    [(Duration(), "50ms"), (Duration(), "2s"), (Period(), "5s-10s"), (Span(), "100-199"), (Span(), "7"), (Words(), "a, b")],
)
def test_value_is_written_as_it_was_read(kind, text):
    assert kind.format(kind.parse(text)) == text


def hits(count=12, *, kinds=("read",), places=(), now=0, seed=0, on=0, **options):
    """Numbers of the requests that a rule hits, of COUNT; their kinds and sectors go round."""
    schedule = RuleSchedule(seed)
    schedule.add(make_rule(1, "disk0", "io-error", Target(None), options))
    found = []
    for n in range(1, count + 1):
        sector = places[(n - 1) % len(places)] if places else n
        request = Request(on, n, n, kinds[(n - 1) % len(kinds)], sector, 1)
        if schedule.at_request(request, now):
            found.append(n)
    return found


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ({"nth": 5}, [5]),
        ({"every": 4}, [4, 8, 12]),
        ({"from": 10}, [10, 11, 12]),
        ({"to": 2}, [1, 2]),
        ({"from": 3, "to": 5}, [3, 4, 5]),
        ({"from": 5, "every": 3}, [5, 8, 11]),
        ({"times": 2}, [1, 2]),
        ({"every": 2, "times": 2}, [2, 4]),
        ({"sectors": "4-6"}, [4, 5, 6]),
        ({"queue": 1}, []),
        ({"probability": 0}, []),
        ({"probability": 1, "from": 11}, [11, 12]),
        ({"after": "1s"}, []),
        ({"between": "0s-1s", "nth": 1}, [1]),
    ],
)
def test_rule_chooses_these_requests(options, numbers):
    assert hits(**options) == numbers


def test_rule_counts_only_requests_that_fit():
    assert hits(kinds=("read", "write"), requests="write", nth=2) == [4]
    assert hits(places=(1, 9, 9), sectors=9, nth=3) == [5]


def test_rule_counts_also_when_its_time_has_not_come():
    schedule = RuleSchedule(0)
    schedule.add(make_rule(1, "disk0", "io-error", Target(None), {"nth": 3, "after": "1s"}))
    requests = [Request(0, n, n, "read", n, 1) for n in range(1, 6)]

    assert [bool(schedule.at_request(each, 0)) for each in requests] == [False] * 5, "the third came too early"


def test_request_without_a_sector_is_in_no_range():
    schedule = RuleSchedule(0)
    schedule.add(make_rule(1, "disk0", "io-error", Target(None), {"sectors": "0-999"}))

    assert not schedule.at_request(Request(0, 1, 1, "", None, 0), 0)
    assert schedule.at_request(Request(0, 2, 2, "read", 990, 100), 0)
    assert not schedule.at_request(Request(0, 3, 3, "read", 1000, 1), 0)


def test_probability_is_the_same_for_a_seed_and_about_what_it_says():
    first = hits(4000, probability=0.25, seed=7)

    assert hits(4000, probability=0.25, seed=7) == first
    assert hits(4000, probability=0.25, seed=8) != first
    assert hits(4000, probability=0.25, seed=7) != hits(4000, probability=0.25, seed=7, on=1)
    assert 850 < len(first) < 1150


def test_seed_of_a_rule_goes_before_that_of_all():
    schedule = RuleSchedule(1)
    schedule.add(make_rule(1, "disk0", "io-error", Target(None), {"probability": 0.5, "seed": 2}))
    found = [n for n in range(1, 100) if schedule.at_request(Request(0, n, n), 0)]

    assert found == hits(99, probability=0.5, seed=2)


def test_request_of_one_queue_does_not_move_the_dice_of_another():
    alone = RuleSchedule(5)
    beside = RuleSchedule(5)
    for schedule in (alone, beside):
        schedule.add(make_rule(1, "disk0", "io-error", Target(None), {"probability": 0.5}))

    def decide(schedule, queue, n):
        return bool(schedule.at_request(Request(queue, n, n), 0))

    one = [decide(alone, 0, n) for n in range(64)]
    two = []
    for n in range(64):
        decide(beside, 1, n)
        two.append(decide(beside, 0, n))
    assert one == two


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        ("delay", {}, "'delay' needs option 'for'"),
        ("used-length", {}, "'used-length' needs option 'length'"),
        ("io-error", {"nth": 1, "every": 2}, "'nth' is one request"),
        ("io-error", {"from": 5, "to": 3}, "'to' (3) is before 'from' (5)"),
        ("io-error", {"seed": 3}, "'seed' is for 'probability'"),
        ("io-error", {"after": 1, "between": "2s-3s"}, "'after' and 'between' do not go together"),
        ("io-error", {"for": "1s"}, "option 'for' is not for 'io-error'"),
        ("config-change", {}, "when?"),
        ("config-change", {"times": 3}, "when?"),
        ("io-error", {"nth": 0}, "out of range"),
    ],
)
def test_options_that_do_not_go_together_are_refused(what, options, message):
    with pytest.raises(FaultError) as refused:
        make_rule(1, "disk0", what, Target(None), options)

    assert message in str(refused.value)


def test_device_that_says_nothing_of_its_requests_takes_the_generic_effects():
    target = FaultTarget(None)

    assert "io-error" not in target.effects
    assert "link-down" not in target.effects
    assert {"delay", "complete-twice", "needs-reset", "lost-interrupt"} <= set(target.effects)
    with pytest.raises(FaultError, match="all of one kind"):
        make_rule(1, "lamp0", "delay", target, {"for": 1, "requests": "read"})
    with pytest.raises(FaultError, match="no sectors"):
        make_rule(1, "lamp0", "delay", target, {"for": 1, "sectors": 1})


def test_requests_that_are_too_many_to_be_known_have_numbers_only():
    identities = Identities()
    assert [identities.count("read", 8, 1) for _ in range(3)] == [1, 2, 3]
    assert identities.count("flush", None, 0) == 1
    assert identities.count("", None, 0) == 0
    for sector in range(MAX_IDENTITIES):
        identities.count("read", sector, 2)

    assert identities.count("read", MAX_IDENTITIES + 5, 2) == 0
    assert identities.count("read", 8, 1) == 4
