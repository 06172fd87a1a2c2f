"""The order of batches: a function of (seed, epoch), whatever the ranks, workers, restarts and accumulation."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from tutelage.data.augment import Noise, Shift
from tutelage.data.batch import Batch
from tutelage.data.loader import Loader, apply, micro, share
from tutelage.data.seeds import mix
from tutelage.data.splits import TensorExamples
from tutelage.recipe.errors import InputError, RunError

EXAMPLES = TensorExamples(torch.rand(101, 1, 6, 6), torch.arange(101) % 5, torch.arange(101) * 3)


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(getattr(one, f), getattr(other, f)) for f in ("inputs", "labels", "ids", "seeds"))


def joined(batches: Sequence[Batch]) -> Batch:
    return Batch(*(torch.cat([getattr(b, f) for b in batches]) for f in ("inputs", "labels", "ids", "seeds")))


def loader(**changes) -> Loader:
    return Loader(EXAMPLES, **{"batch_size": 16, "seed": 4, "shuffle": True, **changes})


def test_an_epoch_shows_every_sample_once_with_the_seed_of_its_view() -> None:
    batches = list(loader().epoch(2))
    assert [len(b) for b in batches] == [16] * 6 + [5]
    whole = joined(batches)
    assert sorted(whole.ids.tolist()) == EXAMPLES.ids.tolist()
    assert torch.equal(whole.seeds, mix(4, 2, whole.ids))
    torch.testing.assert_close(whole.inputs, EXAMPLES.inputs[whole.ids // 3])


def test_epochs_and_seeds_give_other_orders_and_the_same_one_again() -> None:
    ids = [
        joined(list(it)).ids.tolist()
        for it in (loader().epoch(0), loader().epoch(0), loader().epoch(1), loader(seed=5).epoch(0))
    ]
    assert ids[0] == ids[1]
    assert ids[0] != ids[2] != ids[3] != ids[0]


def test_unshuffled_is_the_examples_own_order() -> None:
    assert joined(list(loader(shuffle=False).epoch(3))).ids.tolist() == EXAMPLES.ids.tolist()


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_share_each_global_batch(world: int) -> None:
    ranks = [list(loader(rank=rank, world=world).epoch(1)) for rank in range(world)]
    for step, whole in enumerate(loader().epoch(1)):
        parts = [rank[step] for rank in ranks]
        assert same(joined(parts), whole)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert min(map(len, parts)) >= 1


def test_a_rank_without_a_sample_is_refused_and_told_why() -> None:
    with pytest.raises(InputError, match=r"last batch of an epoch has 5 samples for 6 processes.*batch_size or limit"):
        loader(world=6)
    assert loader(world=6, drop_last=True).steps_per_epoch == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_is_the_rest_of_it(workers: int) -> None:
    subject = loader(workers=workers)
    whole = list(subject.epoch(1))
    assert all(same(a, b) for a, b in zip(whole[4:], subject.epoch(1, start=4), strict=True))
    assert list(subject.epoch(1, start=7)) == []
    with pytest.raises(InputError, match="7 steps"):
        subject.epoch(1, start=8)


def test_what_is_skipped_is_not_fetched() -> None:
    class Watched(TensorExamples):
        touched = 0

        def fetch(self, indices) -> Batch:
            self.touched += len(indices)
            return super().fetch(indices)

    watched = Watched(EXAMPLES.inputs, EXAMPLES.labels)
    list(Loader(watched, batch_size=16, seed=0, shuffle=True).epoch(0, start=6))
    assert watched.touched == 5


def test_workers_change_nothing_epoch_after_epoch() -> None:
    alone, helped = (loader(workers=workers, augment=[Shift(), Noise()]) for workers in (0, 2))
    for epoch in range(2):
        assert all(same(a, b) for a, b in zip(alone.epoch(epoch), helped.epoch(epoch), strict=True))


def test_an_abandoned_epoch_does_not_spoil_the_next_and_cannot_be_continued() -> None:
    subject = loader(workers=1)
    abandoned = subject.epoch(0)
    next(abandoned)
    assert all(same(a, b) for a, b in zip(subject.epoch(1), loader().epoch(1), strict=True))
    with pytest.raises((RunError, StopIteration)):
        next(abandoned)


def test_micro_batches_are_the_batch() -> None:
    batch = next(loader().epoch(0))
    for parts in (1, 3, 16, 40):
        pieces = micro(batch, parts)
        assert len(pieces) == min(parts, 16)
        assert same(joined(pieces), batch)
        assert max(map(len, pieces)) - min(map(len, pieces)) <= 1
    with pytest.raises(ValueError, match="1 part or more"):
        micro(batch, 0)


def test_augmentation_does_not_depend_on_micro_batches_or_ranks() -> None:
    chain = [Shift(pixels=2), Noise(std=0.3)]
    whole = apply(next(loader().epoch(0)), chain)
    pieces = [apply(piece, chain) for piece in micro(next(loader().epoch(0)), 3)]
    ranks = [next(loader(rank=rank, world=2, augment=chain).epoch(0)) for rank in range(2)]
    assert same(joined(pieces), whole)
    assert same(joined(ranks), whole)


def test_augmentation_replays_and_changes_with_the_epoch() -> None:
    by_epoch = [joined(list(loader(augment=[Noise()]).epoch(epoch))) for epoch in (0, 0, 1)]
    ordered = [b.inputs[b.ids.argsort()] for b in by_epoch]
    assert torch.equal(ordered[0], ordered[1])
    assert not torch.equal(ordered[0], ordered[2])


def test_two_of_one_kind_decide_apart_and_the_seeds_come_back() -> None:
    batch = next(loader().epoch(0))
    once, twice = apply(batch, [Noise(std=1.0)]), apply(batch, [Noise(std=1.0)] * 2)
    first, second = once.inputs - batch.inputs, twice.inputs - once.inputs
    assert not torch.allclose(first, second)
    assert torch.equal(twice.seeds, batch.seeds)
    assert apply(batch, []) is batch


def test_nothing_is_augmented_unless_asked() -> None:
    batch = next(loader().epoch(0))
    assert torch.equal(batch.inputs, EXAMPLES.inputs[batch.ids // 3])


def test_drop_last_and_global_sizes() -> None:
    full, dropped = loader(), loader(drop_last=True)
    assert (full.steps_per_epoch, dropped.steps_per_epoch) == (7, 6)
    assert [full.global_size(step) for step in (0, 6)] == [16, 5]
    assert [len(b) for b in dropped.epoch(0)] == [16] * 6


def test_a_batch_larger_than_the_data_is_one_step_or_refused() -> None:
    assert loader(batch_size=500).steps_per_epoch == 1
    with pytest.raises(InputError, match="choose at most 101"):
        loader(batch_size=500, drop_last=True)


@pytest.mark.parametrize("changes", [{"batch_size": 0}, {"workers": -1}, {"rank": 2, "world": 2}])
def test_impossible_settings_are_refused(changes) -> None:
    with pytest.raises(InputError, match="must hold"):
        loader(**changes)


def test_nothing_to_load_is_refused() -> None:
    with pytest.raises(InputError, match="no samples"):
        Loader(TensorExamples(torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64)), batch_size=1, seed=0, shuffle=True)


@pytest.mark.parametrize(("count", "world"), [(10, 3), (3, 3), (7, 2)])
def test_shares_tile_the_batch(count: int, world: int) -> None:
    assert [i for rank in range(world) for i in range(count)[share(count, rank, world)]] == list(range(count))


def test_views_repeat_and_orders_do_not():
    examples = TensorExamples(torch.arange(10.0)[:, None], torch.zeros(10, dtype=torch.int64))
    loaders = [Loader(examples, batch_size=4, seed=3, shuffle=True, views=views) for views in (None, 3)]
    for epoch in range(7):
        fresh, kept = ([*loader.epoch(epoch)] for loader in loaders)
        for one, two in zip(fresh, kept, strict=True):
            assert torch.equal(one.ids, two.ids)
            assert torch.equal(two.seeds, mix(3, epoch % 3, two.ids))
            assert torch.equal(one.seeds, two.seeds) == (epoch < 3)
