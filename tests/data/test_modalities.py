"""Two modalities a sample: who is paired with whom, and in which channels each lies."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from tutelage.data.batch import DataInfo
from tutelage.data.digits import Digits
from tutelage.data.modalities import Halves, PairedData, halve, match
from tutelage.data.rotated import Rotated
from tutelage.data.splits import Splits, TensorExamples, ids_of, limit, select
from tutelage.recipe import load_recipe
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.registry import registry


@dataclass
class Numbers:
    """Images that say (offset + id), with as many samples a part as told."""

    sizes: tuple[int, int, int] = (12, 4, 4)
    names: tuple[str, ...] = ("a", "b")
    offset: int = 0
    shape: tuple[int, ...] = (1, 3, 4)

    def load(self, seed: int) -> Splits:
        parts, start = [], 0
        for size in self.sizes:
            ids = torch.arange(start, start + size)
            inputs = (self.offset + ids.float()).view(-1, 1, 1, 1).expand(-1, *self.shape).clone()
            parts.append(TensorExamples(inputs, ids % len(self.names), ids))
            start += size
        return Splits(parts[0], parts[1] if self.sizes[1] else None, parts[2], DataInfo(self.shape, 2, self.names, "x"))


def test_partners_have_the_label_and_are_used_up_before_any_is_used_again() -> None:
    first, second = torch.tensor([0, 1] * 10), torch.tensor([0] * 4 + [1] * 20)
    partners = match(first, second, 0)
    assert torch.equal(second[partners], first)
    assert sorted(torch.bincount(partners[first == 0], minlength=4).tolist()) == [2, 2, 3, 3]
    assert len(partners[first == 1].unique()) == 10
    assert torch.equal(match(first, second, 0), partners)
    assert not torch.equal(match(first, second, 1), partners)
    with pytest.raises(InputError, match="no partner has the label 1"):
        match(first, torch.zeros(3, dtype=torch.int64), 0)


def test_pairs_are_of_one_class_and_one_part() -> None:
    # The second names its classes in another order, so that its label 0 is the first's label 1.
    data = PairedData(first=Numbers(), second=Numbers(sizes=(6, 2, 2), names=("b", "a"), offset=1000, shape=(2, 3, 4)))
    splits = data.load(0)
    assert splits.info.input_shape == (3, 3, 4)
    assert splits.record["channels"] == [1, 2]
    for name, others in (("train", range(6)), ("validation", range(6, 8)), ("test", range(8, 10))):
        part = getattr(splits, name)
        batch = part.fetch(range(len(part)))
        assert torch.equal(batch.inputs[:, 0, 0, 0].long(), batch.ids)
        theirs = batch.inputs[:, 1, 0, 0].long() - 1000
        assert set(theirs.tolist()) <= set(others)
        assert torch.equal(1 - theirs % 2, batch.labels)
        assert torch.equal(part.labels, batch.labels)
        assert torch.equal(part.ids, batch.ids)


def test_what_does_not_fit_is_not_paired() -> None:
    with pytest.raises(InputError, match=r"different classes: a, b \(2\) and a, c \(2\)"):
        PairedData(first=Numbers(), second=Numbers(names=("a", "c"))).load(0)
    with pytest.raises(InputError, match=r"shapes \[1, 3, 4\] and \[1, 4, 4\]"):
        PairedData(first=Numbers(), second=Numbers(shape=(1, 4, 4))).load(0)
    with pytest.raises(InputError, match="no validation split"):
        PairedData(first=Numbers(), second=Numbers(sizes=(6, 0, 2))).load(0)
    with pytest.raises(InputError, match="second data set's test split cannot be paired: no partner"):
        PairedData(first=Numbers(), second=Numbers(sizes=(6, 2, 1))).load(0)


def test_halves_are_channels_and_nothing_is_lost() -> None:
    whole, halves = Digits().load(0), Halves(of=Digits()).load(0)
    assert halves.info.input_shape == (2, 8, 4)
    assert halves.info.fingerprint != whole.info.fingerprint
    for name in ("train", "validation", "test"):
        one, two = (getattr(s, name).fetch(range(20)) for s in (whole, halves))
        assert torch.equal(torch.cat([two.inputs[:, :1], two.inputs[:, 1:]], 3), one.inputs)
        assert torch.equal(one.labels, two.labels)
        assert torch.equal(one.ids, two.ids)
    colour = torch.arange(2 * 3 * 2 * 4.0).view(2, 3, 2, 4)
    assert torch.equal(halve(colour)[:, :3], colour[..., :2])
    outline = Halves(of=Digits()).outline()
    assert outline.info.input_shape == (2, 8, 4)
    assert outline.train == len(halves.train)


def test_halves_are_limited_and_selected_like_any_examples() -> None:
    train = Halves(of=Digits()).load(0).train
    few = limit(train, 30, 0)
    assert torch.bincount(few.labels).tolist() == [3] * 10
    again = select(few, torch.tensor([4, 2]))
    assert torch.equal(again.fetch([0, 1]).inputs, few.fetch([4, 2]).inputs)
    assert torch.equal(ids_of(again), ids_of(few)[[4, 2]])


def test_halves_keep_what_is_known_of_domains() -> None:
    splits = Halves(of=Rotated(of=Digits(), hold_out=1)).load(0)
    assert splits.domains is not None
    assert set(splits.domains.of(ids_of(splits.test)).tolist()) == {1}


def test_an_odd_width_has_no_halves() -> None:
    with pytest.raises(InputError, match=r"even width .*not \[1, 3, 5\]"):
        Halves(of=Numbers(shape=(1, 3, 5))).load(0)


def whole(data: dict) -> dict:
    return {"method": "supervised", "student": "mlp", "data": data}


def test_a_recipe_names_the_data_sets_inside() -> None:
    spec = load_recipe(whole({"name": "halves", "of": {"name": "digits", "test_fraction": 0.5}})).slots["data"]
    assert len(spec.build().load(0).test) == pytest.approx(898, abs=5)
    assert registry().get("data", "paired").params[0].required
    with pytest.raises(RecipeError, match=r"'limit' does nothing here\. Give it to the outer data set"):
        load_recipe(whole({"name": "halves", "of": {"name": "digits", "limit": 5}}))
