"""Merged classes: labels, names, splits and what stays of the finer labels."""

from __future__ import annotations

import pytest
import torch

from tutelage.data.digits import Digits
from tutelage.data.merged import Merged
from tutelage.data.splits import labels_of, limit
from tutelage.recipe import load_recipe
from tutelage.recipe.errors import InputError, RecipeError

PARITY = [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]


def test_the_samples_are_the_same_under_coarser_labels():
    fine, coarse = Digits().load(0), Merged(of=Digits(), groups=PARITY).load(0)
    assert coarse.info.classes == 2
    assert coarse.info.class_names == ("0+2+4+6+8", "1+3+5+7+9")
    assert coarse.info.fingerprint != fine.info.fingerprint
    for part in ("train", "validation", "test"):
        before, after = getattr(fine, part).fetch(range(20)), getattr(coarse, part).fetch(range(20))
        assert torch.equal(before.inputs, after.inputs)
        assert torch.equal(before.ids, after.ids)
        assert torch.equal(after.labels, before.labels % 2)


def test_a_limit_balances_the_coarse_classes_and_keeps_the_fine_labels():
    few = limit(Merged(of=Digits(), groups=PARITY).load(0).train, 40, 0)
    assert labels_of(few).bincount().tolist() == [20, 20]
    assert torch.equal(few.fine % 2, labels_of(few))
    assert torch.equal(few.labels[:7], few.fetch(range(7)).labels)


def test_classes_by_name_and_names_of_ones_own():
    data = Merged(of=Digits(), groups=[["0", 1, "2"], [3, 4, 5, 6, 7, 8, 9]], names=["few", "many"])
    assert data.outline().info.class_names == ("few", "many")
    assert data.outline().train == Digits().outline().train
    assert labels_of(data.load(0).test).bincount().tolist()[0] == int((labels_of(Digits().load(0).test) < 3).sum())


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ([[0, 2, 4], [1, 3, 5, 7, 9]], "in none: 6, 8"),
        ([[*range(10)], [1]], "in several: 1"),
        ([[*range(10)]], "two groups"),
        ([[*range(10)], [10]], "no class 10"),
        ([[*range(10)], ["ten"]], "no class 'ten'"),
    ],
)
def test_groups_that_are_no_division(groups, said):
    with pytest.raises(InputError, match=said):
        Merged(of=Digits(), groups=groups).load(0)


def test_too_few_names():
    with pytest.raises(InputError, match="1 names for 2 groups"):
        Merged(of=Digits(), groups=PARITY, names=["even"]).load(0)


def test_keys_of_the_inner_data_that_would_do_nothing():
    data = {"name": "merged", "of": {"name": "digits", "limit": 3}, "groups": PARITY}
    with pytest.raises(RecipeError, match="'limit' does nothing here"):
        load_recipe({"method": "supervised", "student": "mlp", "data": data})
    fine = load_recipe({"method": "supervised", "student": "mlp", "data": {**data, "of": "digits", "limit": 9}})
    assert load_recipe(fine.to_dict()) == fine
