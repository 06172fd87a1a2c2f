"""The counter hash: known values, uniformity, independence, replay."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from tutelage.data.seeds import _hash, _hash_int, _signed, derive, integers, mix, normal, shuffle, uniform

IDS = torch.arange(20_000)


def test_the_hash_is_splitmix64() -> None:
    """First outputs of the reference generator started at 0: its state advances by the golden constant."""
    golden = 0x9E3779B97F4A7C15
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [_hash_int(golden * (step + 1)) for step in range(3)] == expected
    states = torch.tensor([_signed(golden * (step + 1)) for step in range(3)])
    assert _hash(states).tolist() == [_signed(value) for value in expected]


def test_seeds_differ_between_samples_epochs_and_runs() -> None:
    views = torch.stack([mix(seed, epoch, IDS) for seed in (0, 1, -1, 2**63) for epoch in (0, 1)])
    assert views.unique().numel() == views.numel()


def test_a_seed_does_not_depend_on_its_batch() -> None:
    whole = mix(3, 1, IDS)
    assert torch.equal(whole[[5, 900, 17]], mix(3, 1, torch.tensor([5, 900, 17])))
    assert torch.equal(uniform(whole, 2, (3,))[900], uniform(whole[900:901], 2, (3,))[0])


@pytest.mark.parametrize("salt", [0, 1, 7])
def test_uniform_fills_the_unit_interval(salt: int) -> None:
    draws = uniform(mix(0, 0, IDS), salt)
    assert draws.dtype == torch.float32
    assert draws.min() >= 0
    assert draws.max() < 1
    assert stats.kstest(draws.numpy(), "uniform").pvalue > 1e-3


def test_salts_epochs_neighbours_and_places_are_uncorrelated() -> None:
    seeds = mix(0, 0, IDS)
    first = uniform(seeds, 0)
    others = [uniform(seeds, 1), uniform(mix(0, 1, IDS), 0), uniform(derive(seeds, 0), 0), first.roll(1)]
    others += list(uniform(seeds, 0, (2,)).unbind(1))
    for other in others:
        assert abs(float(torch.corrcoef(torch.stack([first, other]))[0, 1])) < 4 / len(IDS) ** 0.5


def test_bits_are_balanced() -> None:
    seeds = mix(5, 2, IDS)
    for bit in range(64):
        ones = int(((seeds >> bit) & 1).sum())
        assert abs(ones - len(IDS) / 2) < 5 * (len(IDS) / 4) ** 0.5, f"bit {bit}"


def test_normal_is_standard_normal() -> None:
    draws = normal(mix(1, 0, IDS), 0)
    assert bool(torch.isfinite(draws).all())
    assert stats.kstest(draws.numpy(), "norm").pvalue > 1e-3


def test_integers_are_uniform_within_their_range() -> None:
    draws = integers(mix(0, 0, IDS), -2, 3, 0)
    counts = torch.stack([(draws == value).sum() for value in range(-2, 3)])
    assert int(counts.sum()) == len(IDS)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    assert integers(IDS, 4, 5, 0).unique().tolist() == [4]
    with pytest.raises(ValueError, match="high - low"):
        integers(IDS, 3, 3, 0)


def test_shuffle_is_a_fresh_permutation_each_epoch() -> None:
    first, second = shuffle(1000, 0, 0), shuffle(1000, 0, 1)
    assert sorted(first.tolist()) == list(range(1000))
    assert not torch.equal(first, second)
    assert torch.equal(first, shuffle(1000, 0, 0))
    assert abs(float(stats.spearmanr(first, torch.arange(1000)).statistic)) < 0.15


def test_a_samples_view_says_nothing_of_its_place_in_the_epoch() -> None:
    seeds = mix(0, 3, IDS)[shuffle(len(IDS), 0, 3)]
    for drawn in (seeds, uniform(seeds, 0)):
        assert abs(float(stats.spearmanr(drawn, IDS).statistic)) < 4 / len(IDS) ** 0.5


def test_nothing_draws_from_global_generators() -> None:
    before = torch.get_rng_state()
    normal(mix(0, 0, IDS[:8]), 0), shuffle(8, 0)
    assert torch.equal(before, torch.get_rng_state())
