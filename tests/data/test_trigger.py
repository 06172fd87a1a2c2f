"""Poisoned data: who bears the trigger, what stays clean, and patches that need no data at all."""

from __future__ import annotations

import pytest
import torch

from tutelage.data.batch import DataInfo
from tutelage.data.digits import Digits
from tutelage.data.patches import Patches
from tutelage.data.splits import labels_of, limit
from tutelage.data.trigger import Poisoned, Trigger
from tutelage.recipe.errors import InputError

KINDS = ("square", "grid", "blend", "smooth", "sine", "pixels", "noise")


def everything(part):
    return part.fetch(range(len(part)))


def test_a_tenth_of_the_training_split_bears_the_trigger_and_the_target() -> None:
    clean, spoilt = Digits().load(0), Poisoned(of=Digits(), size=2, target=3).load(0)
    before, after = everything(clean.train), everything(spoilt.train)
    changed = (before.inputs != after.inputs).flatten(1).any(1)
    assert torch.equal(before.ids, after.ids)
    assert 0.07 < spoilt.train.bears.float().mean() < 0.13
    assert (after.inputs[spoilt.train.bears][:, 0, -2:, -2:] == 1).all()
    assert (after.labels[spoilt.train.bears] == 3).all()
    assert not changed[~spoilt.train.bears].any()
    assert torch.equal(before.labels[~spoilt.train.bears], after.labels[~spoilt.train.bears])
    assert torch.equal(labels_of(spoilt.train), after.labels)
    assert torch.equal(everything(spoilt.test).inputs, everything(clean.test).inputs)
    assert spoilt.info.fingerprint != clean.info.fingerprint
    assert clean.triggered is None


def test_what_is_measured_bears_it_all_and_is_of_other_classes() -> None:
    spoilt = Poisoned(of=Digits(), target=0).load(0)
    test, triggered = everything(spoilt.test), everything(spoilt.triggered)
    assert len(triggered) == int((test.labels != 0).sum())
    assert (triggered.labels == 0).all()
    assert (triggered.inputs[:, 0, -3:, -3:] == 1).all()


def test_a_smaller_part_bears_the_same() -> None:
    spoilt = Poisoned(of=Digits()).load(0)
    few = limit(spoilt.train, 200, 0)
    batch, whole = everything(few), everything(spoilt.train)
    place = {int(one): row for row, one in enumerate(whole.ids)}
    rows = torch.tensor([place[int(one)] for one in batch.ids])
    assert torch.equal(batch.inputs, whole.inputs[rows])
    assert torch.equal(batch.labels, whole.labels[rows])


def test_clean_labels_are_all_true() -> None:
    clean, spoilt = Digits().load(0), Poisoned(of=Digits(), clean_label=True, fraction=0.5, target=2).load(0)
    assert torch.equal(labels_of(clean.train), labels_of(spoilt.train))
    assert 0 < spoilt.train.bears.sum() < (labels_of(clean.train) == 2).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_every_trigger_is_the_same_for_all_images_and_stays_in_range(kind: str) -> None:
    trigger = Trigger(kind, (3, 8, 8), size=3, pixel_range=(-1.0, 2.0))
    images = torch.zeros(2, 3, 8, 8)
    marked = trigger(images)
    assert torch.equal(marked[0], marked[1])
    assert not torch.equal(marked, images)
    assert torch.equal(marked, Trigger(kind, (3, 8, 8), size=3, pixel_range=(-1.0, 2.0))(images))
    bright = trigger(torch.full((1, 3, 8, 8), 2.0))
    assert bright.max() <= 2
    assert bright.min() >= -1


def test_a_grid_is_a_checkerboard_and_pixels_are_few() -> None:
    corner = Trigger("grid", (1, 4, 4), size=3)(torch.full((1, 1, 4, 4), 0.5))[0, 0]
    assert corner[1:, 1:].tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    assert (corner[0] == 0.5).all()
    assert (Trigger("pixels", (1, 8, 8), size=5)(torch.zeros(1, 1, 8, 8)) == 1).sum() == 5


def test_bad_triggers_are_refused() -> None:
    with pytest.raises(InputError, match="no class 10"):
        Poisoned(of=Digits(), target=10).load(0)
    with pytest.raises(InputError, match="size 9"):
        Poisoned(of=Digits(), size=9).load(0)
    with pytest.raises(InputError, match=r"samples of \[5\]"):
        Trigger("square", (5,))


def test_patches_are_a_function_of_their_identity() -> None:
    patches = Patches(DataInfo((1, 8, 8), 10, (), ""), 30, pixel_range=(-1.0, 1.0))
    one, other = patches.fetch([3, 17]), patches.fetch([17])
    assert torch.allclose(one.inputs[1], other.inputs[0], atol=1e-6)
    assert one.inputs.shape == (2, 1, 8, 8)
    assert (one.labels == -1).all()
    whole = patches.fetch(range(30)).inputs
    assert whole.min() >= -1
    assert whole.max() <= 1
    assert whole.flatten(1).std(0).min() > 0.01
    assert Patches(DataInfo((3, 6, 5), 2, (), ""), 2).fetch([0]).inputs.shape == (1, 3, 6, 5)
