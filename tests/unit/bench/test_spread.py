# SPDX-License-Identifier: Apache-2.0
"""Medians, spreads and ratios."""

from __future__ import annotations

import pytest

from qdevpy.bench.spread import Spread, paired_ratios, show_number


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [([3.0], Spread(3, 3, 3, 1)), ([9.0, 1.0, 2.0], Spread(2, 1, 9, 3)), ([1.0, 2.0, 4.0, 9.0], Spread(3, 1, 9, 4))],
)
def test_spread_of_numbers_has_their_median_and_ends(numbers: list[float], expected: Spread) -> None:
    assert Spread.of(numbers) == expected


def test_spread_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no numbers"):
        Spread.of([])


def test_ratios_are_made_pair_by_pair() -> None:
    # a host that was three times as slow in the second pair: the medians' ratio would be 1
    assert paired_ratios([10, 30, 10], [5, 15, 5]) == [2, 2, 2]


def test_ratio_over_zero_is_left_out() -> None:
    assert paired_ratios([1, 2], [0, 4]) == [0.5]


def test_ratios_of_unequal_numbers_of_turns_are_an_error() -> None:
    with pytest.raises(ValueError, match="2 numbers over 1"):
        paired_ratios([1, 2], [1])


@pytest.mark.parametrize(
    ("number", "text"), [(0.01234, "0.0123"), (1.0, "1"), (99.96, "100"), (1234.6, "1,235"), (987654.3, "987,654")]
)
def test_numbers_are_shown_with_three_digits_or_as_integers(number: float, text: str) -> None:
    assert show_number(number) == text
