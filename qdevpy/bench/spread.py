# SPDX-License-Identifier: Apache-2.0
"""What several runs of the same say: a middle, and how far they lie apart."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import attrs


@attrs.frozen
class Spread:
    """The median of some numbers, with the smallest and the largest.

    :ivar count: how many there were
    """

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread:
        """:raises ValueError: there are none"""
        if not numbers:
            raise ValueError("no numbers")
        return cls(statistics.median(numbers), min(numbers), max(numbers), len(numbers))


def paired_ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """ABOVE over BELOW, each with its neighbour in time: what slows the host down for a while is in both.

    A pair whose lower part is zero says nothing and is left out.

    :raises ValueError: they are no pairs
    """
    if len(above) != len(below):
        raise ValueError(f"{len(above)} numbers over {len(below)}")
    return [a / b for a, b in zip(above, below, strict=True) if b]


def show_number(number: float) -> str:
    """Three significant digits, or all of an integer's."""
    if abs(number) >= 1000:
        return f"{number:,.0f}"
    return f"{number:.3g}"
