"""What all engines of a cluster did and do, from their reports."""

from __future__ import annotations

import pytest

from curator_llm.cluster.cluster_counts import ClusterCounts


def test_totals_of_engines_that_are_gone_stay_and_what_they_had_in_flight_does_not():
    counts = ClusterCounts()
    counts.take("one", 1, {"s": {"done": 5, "in_flight": 2}}, 0.0)
    counts.take("two", 1, {"s": {"done": 7, "in_flight": 3}}, 0.0)
    counts.gone("one")
    found = counts.status(1.0)
    assert found["engines"] == 1
    assert found["scopes"]["s"]["counts"]["done"] == 12
    assert found["scopes"]["s"]["levels"] == {"in_flight": 3}


def test_an_engine_that_is_silent_for_long_has_nothing_in_flight_until_it_reports_again():
    counts = ClusterCounts()
    counts.take("one", 1, {"s": {"done": 5, "in_flight": 2}}, 0.0)
    assert counts.status(60.0)["scopes"]["s"]["levels"] == {}
    assert counts.status(60.0, interval_s=10.0)["scopes"]["s"]["levels"] == {"in_flight": 2}, "it reports seldom"
    counts.take("one", 2, {"s": {"done": 6, "in_flight": 1}}, 61.0)
    assert counts.status(61.0)["scopes"]["s"]["levels"] == {"in_flight": 1}
    assert counts.status(61.0)["scopes"]["s"]["counts"]["done"] == 6


@pytest.mark.parametrize("order", [[1, 2, 3], [1, 1, 2, 2, 3, 3], [3, 1, 2], [1, 3, 2, 3]])
def test_late_lost_and_repeated_reports_do_not_skew(order):
    counts = ClusterCounts()
    for seq in order:
        counts.take("one", seq, {"s": {"done": 10 * seq, "in_flight": seq}}, 0.0)
    found = counts.status(0.0)["scopes"]["s"]
    assert found["counts"]["done"] == 30
    assert found["levels"] == {"in_flight": 3}


def test_a_thousand_engines_are_remembered_and_the_counts_of_all():
    counts = ClusterCounts()
    for number in range(5_000):
        counts.take(str(number), 1, {"s": {"done": 2}}, float(number))
        counts.gone(str(number))
    assert len(counts.engines) == 1_000
    assert counts.status(5_000.0)["scopes"]["s"]["counts"]["done"] == 10_000


def test_a_speed_is_that_of_the_last_half_minute_and_of_work_since_the_first_report():
    counts = ClusterCounts()
    for second in range(100):
        counts.take("one", second, {"s": {"done": 1_000 + 3 * second}}, float(second))
    counts.take("two", 1, {"s": {"done": 5_000}}, 99.0)
    found = counts.status(99.0)
    assert (found["recent_s"], found["scopes"]["s"]["recent"]["done"]) == (30.0, 90)
    assert counts.status(200.0)["scopes"]["s"]["recent"] == {}


def test_a_partition_that_is_taken_elsewhere_lets_no_count_fall():
    counts = ClusterCounts()
    counts.take("one", 1, {"s": {"open rows": 9, "open rows ok": 4}}, 0.0)
    counts.take("one", 2, {"s": {}}, 1.0)
    assert counts.status(1.0)["scopes"]["s"]["counts"] == {"rows answered": 4}
    assert counts.status(1.0)["scopes"]["s"]["levels"] == {}
