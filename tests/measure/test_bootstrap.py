from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.measure import bootstrap
from tutelage.measure.bootstrap import across_seeds, gap_recovered, interval, mean_interval, paired_difference, weights

numbers = st.lists(st.floats(-100, 100), min_size=1, max_size=60)


@pytest.mark.parametrize(("n", "resamples"), [(1, 5), (7, 1000), (5000, 1001)])
def test_weights_are_multinomial_draws(n: int, resamples: int) -> None:
    drawn = np.concatenate(list(weights(n, resamples=resamples)))
    assert drawn.shape == (resamples, n)
    assert (drawn.sum(axis=1) == n).all()
    if n > 1:
        # Var of a multinomial count is 1 - 1/n.
        assert drawn.var() == pytest.approx(1 - 1 / n, rel=0.05)


def test_kept_and_streamed_weights_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = np.concatenate(list(weights(40, resamples=50)))
    monkeypatch.setattr(bootstrap, "_KEEP", 0)
    assert np.array_equal(np.concatenate(list(weights(40, resamples=50))), kept)


def test_memory_does_not_grow_with_the_samples() -> None:
    values = np.random.default_rng(0).random(400_000)
    tracemalloc.start()
    mean_interval(values, resamples=60)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The whole matrix would take 192 MB in float64.
    assert peak < 120e6


def test_coverage_of_means_is_near_95_percent() -> None:
    rng = np.random.default_rng(1)
    hits = {"bernoulli": 0, "difference": 0, "skewed": 0}
    for _ in range(300):
        a, b = rng.random(150) < 0.8, rng.random(150) < 0.7
        number = mean_interval(a)
        hits["bernoulli"] += number.low <= 0.8 <= number.high
        number = paired_difference(a, b)
        hits["difference"] += number.low <= 0.1 <= number.high
        number = mean_interval(rng.exponential(2.0, size=150))
        hits["skewed"] += number.low <= 2.0 <= number.high
    for name, count in hits.items():
        assert 0.90 <= count / 300 <= 0.985, (name, count / 300)


def test_coverage_of_the_recovered_gap_is_near_95_percent() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        baseline, after, source = (rng.random(400) < p for p in (0.6, 0.75, 0.9))
        number = gap_recovered(after, baseline, source)
        hits += number is not None and number.low is not None and number.low <= 0.5 <= number.high
    assert 0.90 <= hits / 200 <= 0.99


def test_pairing_narrows_the_difference() -> None:
    rng = np.random.default_rng(3)
    hard = rng.random(500)
    a, b = hard < 0.8, hard < 0.75
    paired = paired_difference(a, b)
    unpaired = paired_difference(a, rng.permutation(b))
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)
    assert paired.value == pytest.approx(a.mean() - b.mean())


@given(numbers)
@settings(max_examples=60, deadline=None)
def test_a_mean_lies_in_its_interval_within_the_data(values: list[float]) -> None:
    number = mean_interval(values, resamples=200)
    assert number.value == pytest.approx(np.mean(values), abs=1e-9)
    assert min(values) - 1e-9 <= number.low <= number.high <= max(values) + 1e-9
    assert number.n == len(values)


@given(numbers, st.floats(-5, 5))
@settings(max_examples=40, deadline=None)
def test_intervals_move_with_the_data(values: list[float], shift: float) -> None:
    here, there = mean_interval(values, resamples=100), mean_interval(np.array(values) + shift, resamples=100)
    assert there.low == pytest.approx(here.low + shift, abs=1e-9)
    assert there.high == pytest.approx(here.high + shift, abs=1e-9)


def test_the_same_call_gives_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(0).random(100)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values) != mean_interval(values, seed=1)


def test_a_proportion_of_all_or_nothing_is_not_certain() -> None:
    # Clopper-Pearson: 1 - 0.025^(1/n).
    number = mean_interval(np.zeros(100, dtype=bool))
    assert (number.low, number.high) == (0.0, pytest.approx(0.0362, abs=1e-4))
    number = mean_interval(np.ones(100, dtype=bool))
    assert (number.low, number.high) == (pytest.approx(0.9638, abs=1e-4), 1.0)
    assert mean_interval(np.zeros(100)).high == 0.0


def test_an_interval_of_a_plain_mean_agrees_with_mean_interval() -> None:
    values = np.random.default_rng(4).random(300)
    general, plain = interval(lambda w: w @ values / 300, 300), mean_interval(values)
    assert general.value == pytest.approx(plain.value)
    assert general.low == pytest.approx(plain.low, abs=2e-3)
    assert general.high == pytest.approx(plain.high, abs=2e-3)


def test_gap_recovered_worked_example() -> None:
    baseline = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0] * 40)
    source = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0] * 40)
    after = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0] * 40)
    number = gap_recovered(after, baseline, source)
    assert number.value == pytest.approx(0.75)
    assert 0.6 < number.low < 0.75 < number.high < 0.9
    # A lower-is-better quality closes the same gap.
    assert gap_recovered(1 - after, 1 - baseline, 1 - source).value == pytest.approx(0.75)


def test_no_gap_gives_nothing_and_an_uncertain_gap_no_interval() -> None:
    rng = np.random.default_rng(5)
    same = rng.random(200)
    assert gap_recovered(rng.random(200), same, rng.permutation(same)) is None
    baseline = rng.random(200) < 0.5
    source = baseline.copy()
    source[np.flatnonzero(~baseline)[:2]] = True
    source[np.flatnonzero(baseline)[:1]] = False
    number = gap_recovered(rng.random(200) < 0.5, baseline, source)
    assert number is not None
    assert (number.low, number.high) == (None, None)


def test_across_seeds_is_the_t_interval() -> None:
    from scipy import stats

    values = [0.9, 0.92, 0.87, 0.95]
    number = across_seeds(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (number.value, number.n) == (pytest.approx(0.91), 4)
    assert (number.low, number.high) == (pytest.approx(low), pytest.approx(high))
    alone = across_seeds([0.5])
    assert (alone.value, alone.low, alone.high, alone.n) == (0.5, None, None, 1)


def test_bad_input_is_refused() -> None:
    for call in (lambda: mean_interval([]), lambda: mean_interval(np.zeros((2, 2))), lambda: across_seeds([])):
        with pytest.raises(ValueError, match="at least one value"):
            call()
    with pytest.raises(ValueError, match="not 2 and 3"):
        paired_difference([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="three times"):
        gap_recovered([1, 2], [1, 2], [1, 2, 3])
