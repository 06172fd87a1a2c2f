"""Shaping a training split: long tails, hidden labels, and what is said of them."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage.api import run
from tutelage.api.inspecting import describe_data
from tutelage.data.batch import DataInfo
from tutelage.data.digits import Digits
from tutelage.data.shaping import hide, long_tailed, shape, tail, training_size
from tutelage.data.splits import Splits, TensorExamples, limit
from tutelage.recipe import load_recipe
from tutelage.recipe.errors import InputError


def examples(each: int = 50, classes: int = 4) -> TensorExamples:
    labels = torch.arange(classes).repeat(each)
    return TensorExamples(
        torch.arange(len(labels), dtype=torch.float32)[:, None], labels, torch.arange(len(labels)) + 7
    )


def test_the_sizes_are_those_of_the_formula() -> None:
    assert tail(torch.full((4,), 1000), 1000).tolist() == [1000, 100, 10, 1]
    # CIFAR-100-LT with imbalance 100, as published: 10,847 images.
    sizes = tail(torch.full((100,), 500), 100)
    assert (int(sizes[0]), int(sizes[-1]), int(sizes.sum())) == (500, 5, 10_847)
    assert tail(torch.full((3,), 9), 1).tolist() == [9, 9, 9]


@given(st.lists(st.integers(1, 200), min_size=2, max_size=12), st.floats(1, 100))
def test_no_class_is_asked_for_more_than_it_has(available: list[int], imbalance: float) -> None:
    sizes = tail(torch.tensor(available), imbalance)
    assert bool((sizes <= torch.tensor(available)).all())
    assert bool((sizes.diff() <= 0).all())


def test_which_samples_stay_is_seeded_and_nested() -> None:
    mild, strong = (long_tailed(examples(), imbalance, 4, seed=0) for imbalance in (2, 25))
    assert torch.bincount(strong.labels).tolist() == [50, 17, 5, 2]
    assert set(strong.ids.tolist()) < set(mild.ids.tolist())
    assert torch.equal(long_tailed(examples(), 25, 4, seed=0).ids, strong.ids)
    assert not torch.equal(long_tailed(examples(), 25, 4, seed=1).ids, strong.ids)


def test_a_class_is_not_emptied() -> None:
    with pytest.raises(InputError, match=r"imbalance 60 empties class 'd': the first class has 50 .* at most 50"):
        long_tailed(examples(), 60, 4, 0, names=("a", "b", "c", "d"))
    assert len(long_tailed(examples(), 50, 4, 0)) == 50 + 13 + 3 + 1


def test_hidden_labels_read_minus_one_and_only_an_answer_tells_them() -> None:
    whole = examples()
    known, hidden = hide(whole, 12, 4, seed=3)
    assert torch.bincount(known.labels).tolist() == [3] * 4
    assert hidden is not None
    assert len(known) + len(hidden) == len(whole)
    assert not set(known.ids.tolist()) & set(hidden.ids.tolist())
    batch = hidden.select(torch.tensor([5, 2])).fetch([0, 1])
    assert batch.labels.tolist() == [-1, -1]
    assert torch.equal(batch.ids, hidden.ids[[5, 2]])
    told = hidden.answer(torch.tensor([5, 2])).fetch([0, 1])
    assert torch.equal(told.labels, (told.ids - 7) % 4)
    assert torch.equal(told.inputs, batch.inputs)
    more, _ = hide(whole, 20, 4, seed=3)
    assert set(known.ids.tolist()) < set(more.ids.tolist())
    assert hide(whole, len(whole), 4, seed=3)[1] is None


@pytest.mark.parametrize("labelled", [3, 201])
def test_too_few_and_too_many_labels_are_refused(labelled: int) -> None:
    with pytest.raises(InputError, match=rf"data\.labelled {labelled} is outside 4\.\.200"):
        hide(examples(), labelled, 4, 0)


def test_what_was_done_is_recorded_and_the_other_parts_stay() -> None:
    splits = Digits().load(0)
    shaped = shape(splits, {"limit": 500, "imbalance": 10.0, "labelled": 40, "augment": ()}, 0)
    assert shaped.info.class_counts == tuple(torch.bincount(shaped.train.labels, minlength=10).tolist())
    assert shaped.record["imbalance"] == 10.0
    assert shaped.record["class_counts"] == list(shaped.info.class_counts)
    assert sum(shaped.info.class_counts) == 40
    assert shaped.unlabelled is not None
    assert len(shaped.unlabelled) == int(tail(torch.full((10,), 50), 10.0).sum()) - 40
    assert shaped.test is splits.test
    assert shaped.validation is splits.validation
    assert training_size(500, 10, {"limit": 500, "imbalance": 10.0}) == int(tail(torch.full((10,), 50), 10.0).sum())
    assert training_size(500, 10, {"limit": 300, "imbalance": None, "labelled": 40}) == 40
    plain = shape(splits, {}, 0)
    assert plain.train is splits.train
    assert sum(plain.info.class_counts) == len(splits.train)
    assert plain.unlabelled is None
    assert shape(splits, {"limit": 30}, 5).train.ids.tolist() == limit(splits.train, 30, 5).ids.tolist()


def test_labels_that_are_not_held_are_not_read_to_count_them() -> None:
    class Slow:
        def __len__(self) -> int:
            return 10

        def fetch(self, indices):
            raise AssertionError("nobody asked for a sample")

    splits = Splits(Slow(), None, Slow(), DataInfo((1,), 2, ("a", "b"), ""))
    assert shape(splits, {"limit": None}, 0).info.class_counts == ()


def test_a_recipe_shapes_what_is_trained_on(tmp_path) -> None:
    recipe = {
        "method": "supervised",
        "student": {"model": "mlp", "hidden": [8]},
        "data": {"name": "digits", "imbalance": 20, "labelled": 40},
        "train": {"epochs": 1, "batch_size": 20},
        "measure": ["accuracy"],
    }
    described = describe_data(load_recipe(recipe))
    assert described["train"] == 40
    assert described["unlabelled"] > 100
    finished = run(recipe, root=tmp_path)
    manifest = json.loads((finished.folder / "manifest.json").read_text())
    assert manifest["data"]["class_counts"] == [row["train"] for row in described["per_class"]]
    assert manifest["data"]["labelled"] == 40
