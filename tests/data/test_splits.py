"""Divisions share nothing, keep proportions and are the same every time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.data.digits import Digits
from tutelage.data.dividing import stratified
from tutelage.data.pool import Pool, statistics, streamed_statistics
from tutelage.data.splits import Examples, Subset, TensorExamples, ids_of, labels_of, limit, select
from tutelage.recipe.errors import InputError

LABELS = torch.tensor([0] * 100 + [1] * 50 + [2] * 10)


class Bare:
    """The least that counts as examples: a length and ``fetch``."""

    def __init__(self, labels: Tensor) -> None:
        self._labels = labels

    def __len__(self) -> int:
        return len(self._labels)

    def fetch(self, indices) -> Batch:
        at = torch.as_tensor(indices)
        return Batch(at[:, None].float(), self._labels[at], at, torch.zeros_like(at))


def test_parts_are_disjoint_complete_and_proportional() -> None:
    parts = stratified(LABELS, validation=0.1, test=0.2, seed=0)
    together = torch.cat([parts.train, parts.validation, parts.test])
    assert sorted(together.tolist()) == list(range(160))
    assert torch.bincount(LABELS[parts.test]).tolist() == [20, 10, 2]
    assert torch.bincount(LABELS[parts.validation]).tolist() == [10, 5, 1]
    assert parts.warnings == ()


def test_the_seed_and_nothing_else_decides() -> None:
    first, again, other = (stratified(LABELS, validation=0.1, test=0.2, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.test, again.test)
    assert not torch.equal(first.test, other.test)


def test_a_class_too_small_to_divide_is_trained_on_and_named() -> None:
    labels = torch.tensor([0] * 20 + [1] * 1)
    parts = stratified(labels, validation=0.1, test=0.1, seed=0, names=("many", "single"))
    assert 20 in parts.train.tolist()
    assert "'single' has 1 samples" in parts.warnings[0]


def test_fractions_must_leave_something_to_train_on() -> None:
    with pytest.raises(InputError, match="add up to less than 1"):
        stratified(LABELS, validation=0.5, test=0.5, seed=0)


@pytest.mark.parametrize("make", [lambda y: TensorExamples(y[:, None].float(), y), Bare], ids=["tensors", "bare"])
def test_a_limit_is_balanced_and_a_prefix_of_larger_ones(make) -> None:
    examples: Examples = make(LABELS)
    small, large = (limit(examples, count, seed=3) for count in (12, 24))
    assert torch.bincount(labels_of(small)).tolist() == [4, 4, 4]
    ids = [part.fetch(range(len(part))).ids.tolist() for part in (small, large)]
    assert ids[1][:12] == ids[0]
    assert labels_of(small).tolist() == LABELS[torch.tensor(ids[0])].tolist()


def test_a_limit_beyond_the_small_classes_takes_from_the_others() -> None:
    examples = TensorExamples(LABELS[:, None].float(), LABELS)
    assert torch.bincount(labels_of(limit(examples, 40, 0))).tolist() == [15, 15, 10]
    assert limit(examples, None, 0) is examples


@pytest.mark.parametrize("count", [0, 161])
def test_a_limit_outside_the_data_is_refused(count: int) -> None:
    with pytest.raises(InputError, match=r"outside 1\.\.160"):
        limit(TensorExamples(LABELS[:, None].float(), LABELS), count, 0)


def test_a_subset_of_foreign_examples_keeps_their_ids() -> None:
    part = select(Bare(LABELS), torch.tensor([7, 3, 120]))
    assert isinstance(part, Subset)
    batch = part.fetch([2, 0])
    assert (batch.ids.tolist(), batch.labels.tolist()) == ([120, 7], [1, 0])
    assert isinstance(part, Examples)


def test_fetch_follows_the_indices_and_has_zero_seeds() -> None:
    batch = TensorExamples(torch.arange(6.0)[:, None], torch.arange(6), torch.arange(100, 106)).fetch([4, 1])
    assert (batch.inputs.flatten().tolist(), batch.labels.tolist()) == ([4, 1], [4, 1])
    assert (batch.ids.tolist(), batch.seeds.tolist()) == ([104, 101], [0, 0])


def test_bytes_are_scaled_when_fetched() -> None:
    scale = (torch.tensor(2.0 / 255), torch.tensor(-1.0))
    examples = TensorExamples(torch.tensor([[0], [255]], dtype=torch.uint8), torch.tensor([0, 1]), scale=scale)
    torch.testing.assert_close(examples.fetch([0, 1]).inputs, torch.tensor([[-1.0], [1.0]]))
    torch.testing.assert_close(examples.select(torch.tensor([1])).fetch([0]).inputs, torch.tensor([[1.0]]))
    assert examples.inputs.dtype == torch.uint8


def test_lengths_must_agree() -> None:
    with pytest.raises(InputError, match="3 inputs, 2 labels"):
        TensorExamples(torch.zeros(3, 1), torch.zeros(2, dtype=torch.int64))


def test_digits_are_what_they_say() -> None:
    splits = Digits().load(seed=0)
    assert splits.info.input_shape == (1, 8, 8)
    assert splits.info.classes == 10
    assert splits.record["sizes"] == {"train": 1259, "validation": 179, "test": 359}
    parts = [p.fetch(range(len(p))) for p in (splits.train, splits.validation, splits.test)]
    assert sorted(torch.cat([p.ids for p in parts]).tolist()) == list(range(1797))
    inputs = torch.cat([p.inputs for p in parts])
    assert inputs.shape == (1797, 1, 8, 8)
    assert (float(inputs.min()), float(inputs.max())) == (0.0, 1.0)


def test_the_division_ignores_the_runs_seed_unless_told() -> None:
    assert Digits().load(0).info == Digits().load(1).info
    follow = Digits(split_seed=None)
    assert not torch.equal(follow.load(0).test.ids, follow.load(1).test.ids)
    assert follow.load(0).info.fingerprint != follow.load(1).info.fingerprint
    assert follow.load(5).test.ids.tolist() == Digits(split_seed=5).load(0).test.ids.tolist()


def test_normalisation_uses_the_training_split_alone() -> None:
    plain, normal = Digits().load(0), Digits(normalize="data").load(0)
    mean, deviation = statistics(plain.train.inputs)
    torch.testing.assert_close(normal.test.inputs, (plain.test.inputs - mean) / deviation)
    torch.testing.assert_close(normal.train.inputs.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    assert plain.info.fingerprint != normal.info.fingerprint


def test_no_validation_is_none() -> None:
    assert Digits(validation_fraction=0.0).load(0).validation is None


def test_statistics_survive_large_values_and_constants_streamed_or_not() -> None:
    values = torch.stack([torch.arange(1000.0) + 1e5, torch.full((1000,), 3.0)], 1)
    whole, streamed = statistics(values), streamed_statistics(values.split(64))
    assert float(whole[1][1]) == 1.0
    torch.testing.assert_close(whole[1][0], torch.arange(1000.0).std(correction=0), rtol=1e-3, atol=0)
    torch.testing.assert_close(streamed[0], whole[0])
    torch.testing.assert_close(streamed[1], whole[1], rtol=1e-3, atol=0)
    images = torch.rand(50, 3, 4, 5)
    for one, other in zip(statistics(images), streamed_statistics(images.split(7)), strict=True):
        torch.testing.assert_close(one, other)


def test_a_sample_that_is_in_two_parts_is_reported() -> None:
    inputs = torch.arange(40.0)[:, None].repeat(2, 3)
    splits = Pool().divide(inputs, torch.tensor([0, 1] * 40), names=("a", "b"), seed=0, about={})
    assert any("test samples have the same content as a training sample" in w for w in splits.warnings)
    unique = Pool().divide(torch.arange(80.0)[:, None], torch.tensor([0, 1] * 40), names=("a", "b"), seed=0, about={})
    assert unique.warnings == []


def test_the_fingerprint_follows_the_content() -> None:
    inputs, labels = torch.arange(40.0)[:, None], torch.tensor([0, 1] * 20)
    changed = inputs.clone()
    changed[7] += 1
    marks = [
        Pool().divide(x, labels, names=("a", "b"), seed=0, about={}).info.fingerprint for x in (inputs, inputs, changed)
    ]
    assert marks[0] == marks[1] != marks[2]


def test_one_class_is_nothing_to_learn() -> None:
    with pytest.raises(InputError, match="one class only, 'a'"):
        Pool().divide(torch.zeros(9, 1), torch.zeros(9, dtype=torch.int64), names=("a",), seed=0, about={})


def test_samples_without_content_know_who_they_are():
    from tutelage.data.batch import DataInfo
    from tutelage.data.splits import Examples, Nothing

    nothing = Nothing(DataInfo((3, 4, 4), 2, ("a", "b"), ""), 5)
    batch = nothing.fetch([4, 0])
    assert isinstance(nothing, Examples)
    assert len(nothing) == 5
    assert batch.inputs.shape == (2, 3, 4, 4)
    assert not batch.inputs.any()
    assert batch.ids.tolist() == [4, 0]
    assert batch.labels.tolist() == [-1, -1]


def test_identities_are_found_however_they_are_kept() -> None:
    bare, own = Bare(LABELS), TensorExamples(torch.zeros(3, 1), torch.zeros(3), torch.tensor([7, 2, 9]))
    assert torch.equal(ids_of(bare), torch.arange(160))
    assert torch.equal(ids_of(Subset(bare, torch.tensor([5, 1]))), torch.tensor([5, 1]))
    assert torch.equal(ids_of(Subset(own, torch.tensor([2, 0]))), torch.tensor([9, 7]))
