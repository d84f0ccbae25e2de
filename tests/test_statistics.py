"""Intervals, paired tests and correlations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import statistics
from eval.statistics import bootstrap_interval, least_p_value, paired_difference, pearson


def test_a_95_percent_interval_covers_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.normal(1.0, 2.0, 60), seed=trial)
        covered += low <= 1.0 <= high
    assert 178 <= covered <= 199


def test_the_interval_of_a_normal_mean_is_that_of_theory() -> None:
    scores = np.random.default_rng(0).normal(0.0, 1.0, 4000)
    low, high = bootstrap_interval(scores, seed=0)
    half = 1.96 * scores.std() / np.sqrt(len(scores))
    assert (low, high) == pytest.approx((scores.mean() - half, scores.mean() + half), abs=0.1 * half)


def test_equal_items_in_a_cluster_are_no_more_evidence_than_one() -> None:
    scores = np.random.default_rng(0).normal(size=50)
    clusters = [f"s{index:02d}" for index in range(50)]
    assert bootstrap_interval(np.repeat(scores, 9), clusters=np.repeat(clusters, 9).tolist(), seed=3) == pytest.approx(
        bootstrap_interval(scores, seed=3)
    )


def test_a_weight_of_three_is_the_item_three_times() -> None:
    scores, weights = [0.0, 1.0, 0.5, 0.2], [3, 1, 2, 1]
    repeated = np.repeat(scores, weights)
    clusters = np.repeat(["a", "b", "c", "d"], weights).tolist()
    assert bootstrap_interval(scores, weights=weights, seed=1) == pytest.approx(
        bootstrap_interval(repeated, clusters=clusters, seed=1)
    )


def test_one_cluster_has_no_interval() -> None:
    assert bootstrap_interval([0.1, 0.9], clusters=["one", "one"], seed=0) == (None, None)


def test_the_same_seed_gives_the_same_interval_however_it_is_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).random(30)
    whole = bootstrap_interval(scores, seed=5)
    monkeypatch.setattr(statistics, "BLOCK_SIZE", 700)
    assert bootstrap_interval(scores, seed=5) == whole
    assert bootstrap_interval(scores, seed=6) != whole


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_an_interval_lies_between_the_least_and_the_largest_score(scores: list[float]) -> None:
    low, high = bootstrap_interval(scores, seed=0)
    assert min(scores) - 1e-12 <= low <= high <= max(scores) + 1e-12


def test_the_sign_flip_test_of_few_is_that_of_all_sign_flips() -> None:
    a = np.array([0.1, 0.4, 0.35, 0.8, 0.2, 0.6, 0.3, 0.5])
    b = a + np.array([0.2, 0.1, -0.05, 0.15, 0.3, 0.02, 0.12, -0.01])
    differences = b - a
    flips = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1).T
    exact = np.mean(np.abs(flips @ differences) >= abs(differences.sum()) - 1e-12)
    found = paired_difference(a, b, seed=0)
    assert found.difference == pytest.approx(differences.mean())
    assert found.p_value == pytest.approx(exact)
    assert found.n == 8


def test_the_sign_flip_test_of_many_is_near_that_of_all_sign_flips() -> None:
    differences = np.random.default_rng(5).normal(0.3, 1.0, 12)
    flips = np.array(np.meshgrid(*[[-1, 1]] * 12)).reshape(12, -1).T
    exact = np.mean(np.abs(flips @ differences) >= abs(differences.sum()) - 1e-12)
    assert 0.05 < exact < 0.6
    assert paired_difference(np.zeros(12), differences, seed=0).p_value == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("num_clusters", range(1, 16))
def test_no_p_value_is_less_than_that_of_clusters_that_all_differ_alike(num_clusters: int) -> None:
    least = paired_difference(np.zeros(num_clusters), np.ones(num_clusters), seed=0).p_value
    assert least >= least_p_value(num_clusters)
    if num_clusters <= 11:  # 1,024 tosses, all counted
        assert least == least_p_value(num_clusters) == 2 / 2**num_clusters
    else:
        assert least == pytest.approx(least_p_value(num_clusters), abs=0.002)


def test_a_system_does_not_differ_from_itself() -> None:
    scores = np.random.default_rng(0).random(40)
    found = paired_difference(scores, scores, seed=0)
    assert (found.difference, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_exchangeable_systems_are_rarely_told_apart_and_a_clear_difference_always() -> None:
    rng = np.random.default_rng(0)
    false_alarms = sum(
        paired_difference(rng.random(30), rng.random(30), seed=trial).p_value <= 0.05 for trial in range(200)
    )
    assert 2 <= false_alarms <= 20
    a = rng.random(30)
    assert paired_difference(a, a + 0.2 + 0.1 * rng.random(30), seed=0).p_value < 0.001


def test_clusters_make_a_paired_difference_less_certain() -> None:
    rng = np.random.default_rng(1)
    clusters = np.repeat([f"s{index}" for index in range(8)], 20).tolist()
    a = rng.random(160)
    b = a + 0.1 + np.repeat(rng.normal(0, 0.2, 8), 20)
    alone, together = paired_difference(a, b, seed=0), paired_difference(a, b, clusters=clusters, seed=0)
    assert together.difference == pytest.approx(alone.difference)
    assert together.p_value > alone.p_value
    assert (alone.n, together.n) == (160, 8)
    assert together.high - together.low > alone.high - alone.low


def test_pearson_is_r_with_fishers_interval() -> None:
    x = [1.0, 2.0, 3.0, 4.0, 5.0]
    y = [2.0, 1.0, 4.0, 3.0, 5.0]
    found = pearson(x, y)
    assert found.r == pytest.approx(0.8)
    assert (found.low, found.high) == pytest.approx((-0.2796, 0.9861), abs=1e-4)
    assert found.n == 5


def test_pearson_of_few_or_perfectly_aligned_points_has_no_interval() -> None:
    assert pearson([1, 2, 3], [1, 3, 2]).low is None
    assert pearson([1, 2, 3, 4], [2, 4, 6, 8]) == statistics.Correlation(1.0, None, None, 4)
    with pytest.raises(ValueError, match="vary"):
        pearson([1, 1, 1, 1], [1, 2, 3, 4])
