# SPDX-License-Identifier: Apache-2.0
"""The histogram of a meter (``qd_meter.h``)."""

from itertools import pairwise

import pytest

from qdevpy.native.core import lib

LAST = lib.QD_METER_BUCKETS - 1


@pytest.mark.parametrize("bucket", range(LAST + 1))
def test_bucket_counts_its_lowest_value_and_not_the_one_below(bucket):
    lowest = lib.qd_meter_lowest(bucket)
    assert lib.qd_meter_bucket(lowest) == bucket
    assert bucket == 0 or lib.qd_meter_bucket(lowest - 1) == bucket - 1


@pytest.mark.parametrize("ns", [1 << 40, 1 << 50, (1 << 64) - 1])
def test_what_takes_longer_than_the_last_bucket_is_in_it(ns):
    assert lib.qd_meter_bucket(ns) == LAST


def test_bucket_is_at_most_a_sixteenth_of_its_value_wide():
    edges = [lib.qd_meter_lowest(bucket) for bucket in range(LAST + 1)]
    assert all(high - low <= max(low / 16, 1) for low, high in pairwise(edges))
