"""Mixing: partners, shares, true areas, labels; decided by seeds alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy import stats

from tutelage.api import run
from tutelage.data.batch import Batch, DataInfo
from tutelage.data.loader import apply
from tutelage.data.mixing import CutMix, Mixup, partners, soft_labels
from tutelage.data.seeds import beta, mix
from tutelage.recipe.errors import InputError, RecipeError

INFO = DataInfo((2, 8, 10), 3, ("a", "b", "c"), "")


def images(count: int = 12, epoch: int = 0) -> Batch:
    ids = torch.arange(count)
    # Every pixel says whose it is.
    inputs = ids.float().view(-1, 1, 1, 1).expand(count, 2, 8, 10).clone()
    return Batch(inputs, ids % 3, ids, mix(0, epoch, ids))


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 4.0])
def test_beta_is_distributed_as_it_should_be(alpha: float) -> None:
    drawn = beta(mix(3, 0, torch.arange(20_000)), 7, alpha).double().numpy()
    assert 0 <= drawn.min() <= drawn.max() <= 1
    # At a small alpha a float cannot tell numbers near 1 from 1, so only the inner part has a shape to compare.
    inner = drawn[(drawn > 1e-4) & (drawn < 1 - 1e-4)]
    law = stats.beta(alpha, alpha)
    low, high = law.cdf(1e-4), law.cdf(1 - 1e-4)
    assert stats.kstest(inner, lambda x: (law.cdf(x) - low) / (high - low)).pvalue > 1e-3
    assert len(inner) / len(drawn) == pytest.approx(high - low, abs=0.015)
    with pytest.raises(ValueError, match="alpha above 0"):
        beta(torch.arange(3), 0, 0.0)


@pytest.mark.parametrize("count", [2, 3, 50])
def test_nobody_is_their_own_partner(count: int) -> None:
    for epoch in range(20):
        seeds = mix(1, epoch, torch.arange(count))
        other = partners(seeds)
        assert sorted(other.tolist()) == list(range(count))
        assert bool((other != torch.arange(count)).all())
        # The pairs do not depend on where in the batch the samples stand.
        turned = partners(seeds.flip(0))
        assert torch.equal(count - 1 - turned.flip(0), other)


def test_partners_change_from_epoch_to_epoch() -> None:
    pairs = {tuple(partners(mix(0, epoch, torch.arange(6))).tolist()) for epoch in range(20)}
    assert len(pairs) > 10


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_mixup_blends_inputs_and_labels_alike(per: str) -> None:
    batch = images()
    out = Mixup(INFO, per=per)(batch)
    other = partners(batch.seeds)
    share = (out.inputs[:, 0, 0, 0] - other) / (batch.ids - other)
    assert bool(((share >= -1e-6) & (share <= 1 + 1e-6)).all())
    expected = share[:, None] * soft_labels(batch.labels, 3, "x") + (1 - share[:, None]) * soft_labels(
        batch.labels[other], 3, "x"
    )
    torch.testing.assert_close(out.labels, expected, atol=1e-5, rtol=0)
    assert (len(share.mul(1e4).round().unique()) == 1) is (per == "batch")
    assert torch.equal(out.ids, batch.ids)


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_cutmix_pastes_one_box_and_weighs_by_its_true_area(per: str) -> None:
    batch, clipped, other_size = images(200), 0, set()
    out = CutMix(INFO, per=per)(batch)
    other = partners(batch.seeds)
    for i in range(200):
        pasted = out.inputs[i] == float(other[i])
        assert bool((pasted | (out.inputs[i] == float(i))).all())
        assert torch.equal(pasted[0], pasted[1])
        rows, columns = pasted[0].any(1), pasted[0].any(0)
        assert torch.equal(pasted[0], rows[:, None] & columns[None, :])
        area = float(pasted[0].float().mean())
        clipped += bool(rows[0] | columns[0]) and 0 < area < 1
        other_size.add(round(area, 4))
        expected = (1 - area) * soft_labels(batch.labels[i], 3, "x") + area * soft_labels(
            batch.labels[other[i]], 3, "x"
        )
        torch.testing.assert_close(out.labels[i], expected, atol=1e-6, rtol=0)
    assert (len(other_size) == 1) is (per == "batch")
    assert clipped > 20 or per == "batch"


def test_the_box_has_the_share_that_was_drawn_where_nothing_is_cut_off() -> None:
    """With the centre in the middle of a large image, its area is 1 - share up to whole pixels."""
    info = replace(INFO, input_shape=(1, 64, 64))
    cut, count = CutMix(info, per="sample"), 4000
    ids = torch.arange(count)
    batch = Batch(torch.arange(2.0).repeat(count // 2).view(-1, 1, 1, 1).expand(count, 1, 64, 64), ids % 3, ids, ids)
    share = cut.share(batch.seeds)
    half = ((1 - share).sqrt() * 64 / 2).floor()
    pasted = cut._within(torch.full((count,), 32), (1 - share).sqrt(), 64)
    assert torch.equal(pasted.sum(1).float(), 2 * half)


@pytest.mark.parametrize("kind", [Mixup, CutMix])
def test_a_mixed_batch_is_a_function_of_its_seeds(kind) -> None:
    batch, augmentation = images(), kind(INFO, per="sample")
    first, again = apply(batch, [augmentation]), apply(batch, [augmentation])
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.labels, again.labels)
    assert torch.equal(first.seeds, batch.seeds)
    assert not torch.equal(apply(images(epoch=1), [augmentation]).inputs, first.inputs)
    assert torch.equal(batch.inputs, images().inputs)


@pytest.mark.parametrize("kind", [Mixup, CutMix])
def test_the_probability_of_mixing(kind) -> None:
    batch = images(400)
    out = kind(INFO, per="sample", p=0.25, alpha=4.0)(batch)
    kept = (out.inputs == batch.inputs).flatten(1).all(1)
    assert 260 <= int(kept.sum()) <= 340
    assert torch.equal(kind(INFO, p=0.0)(batch).inputs, batch.inputs)
    assert kind(INFO, p=0.0)(batch).labels.dtype == torch.float32


@pytest.mark.parametrize("kind", [Mixup, CutMix])
def test_a_sample_alone_stays(kind) -> None:
    batch = images(1)
    out = kind(INFO)(batch)
    assert torch.equal(out.inputs, batch.inputs)
    assert out.labels.tolist() == [[1.0, 0.0, 0.0]]


def test_samples_without_labels_are_mixed_without_labels() -> None:
    batch = images()
    hidden = batch.with_(labels=torch.full_like(batch.labels, -1))
    out = Mixup(INFO)(hidden)
    assert torch.equal(out.inputs, Mixup(INFO)(batch).inputs)
    assert torch.equal(out.labels, hidden.labels)
    some = batch.with_(labels=torch.where(batch.ids < 3, -1, batch.labels))
    with pytest.raises(InputError, match=r"'mixup' mixes labels in 0\.\.2, but the batch holds labels from -1 to 2"):
        Mixup(INFO)(some)


def test_mixing_twice_mixes_mixed_labels() -> None:
    out = apply(images(), [Mixup(INFO), CutMix(INFO)])
    torch.testing.assert_close(out.labels.sum(1), torch.ones(12))
    assert out.labels.shape == (12, 3)


def test_cutmix_refuses_tables() -> None:
    with pytest.raises(InputError, match=r"'cutmix' needs images.*\[12, 4\]"):
        CutMix(INFO)(images().with_(inputs=torch.zeros(12, 4)))


def test_a_recipe_gives_them_the_number_of_classes(tmp_path) -> None:
    train = {"epochs": 3, "batch_size": 32, "optimizer": {"name": "adam", "lr": 5e-3}}
    recipe = {
        "method": {"name": "kd", "alpha": 0.5},
        "teacher": {"model": "mlp", "hidden": [16], "weights": {"train": {**train, "epochs": 1}}},
        "student": {"model": "mlp", "hidden": [16]},
        "data": {"name": "digits", "limit": 100, "augment": [{"name": "mixup", "alpha": 0.2}, "cutmix"]},
        "train": train,
        "measure": ["accuracy"],
        "baseline": False,
    }
    report = run(recipe, root=tmp_path).report
    assert report["status"] == "done"


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_a_method_that_needs_classes_refuses_them_before_it_starts(name: str, tmp_path) -> None:
    recipe = {
        "method": "topkd",
        "teacher": {"model": "mlp", "weights": {"train": {"epochs": 1}}},
        "student": "mlp",
        "data": {"name": "digits", "augment": [name]},
    }
    with pytest.raises(RecipeError, match=f"'{name}' mixes labels, which the method cannot take"):
        run(recipe, root=tmp_path)
    assert not list(tmp_path.iterdir())
