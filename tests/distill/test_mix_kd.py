"""MIX-KD: who is mixed with whom, the identities of the card, and the smoothness of a teacher trained with mixup."""

from __future__ import annotations

import math

import pytest
import torch

from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.kd import KD
from tutelage.distill.mix_kd import MixKD
from tutelage.distill.samplers.partial_mixup import PartialMixup
from tutelage.engine.method import Room, Step
from tutelage.losses import entropy, unit_spread
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError

INFO = DataInfo((3,), 4, ("a", "b", "c", "d"), "")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch_of(count, seed=0):
    return Batch(random(count, 3), torch.arange(count) % 4, torch.arange(count), torch.arange(count) * 7919 + seed)


def sampled(count=40, seed=0, **arguments):
    sampler = PartialMixup(**arguments)
    batch = batch_of(count, seed)
    sampler.setup(Room({}, INFO, batch, ()))
    return sampler, batch, sampler.sample(Step(batch, {}, 0, 0, 0.0))


# ---------------------------------------------------------------------- mixing


def test_inputs_and_labels_are_mixed_by_the_same_share_with_the_same_partner():
    sampler, batch, mixed = sampled(mix="full")
    other, share = sampler.pairs(batch.seeds), sampler.shares(batch.seeds)
    for i in range(40):
        j, s = int(other[i]), float(share[i])
        assert torch.allclose(mixed.inputs[i], s * batch.inputs[i] + (1 - s) * batch.inputs[j], atol=1e-6)
        expected = torch.zeros(4)
        expected[batch.labels[i]] += s
        expected[batch.labels[j]] += 1 - s
        assert torch.allclose(mixed.labels[i], expected, atol=1e-6)
    assert torch.allclose(mixed.labels.sum(-1), torch.ones(40))
    assert torch.equal(mixed.ids, batch.ids)
    assert len(share.unique()) == 40


def test_pairs_are_a_permutation_that_differs_from_batch_to_batch():
    sampler = PartialMixup()
    met = torch.zeros(6, 6)
    for seed in range(3000):
        other = sampler.pairs(batch_of(6, seed).seeds)
        assert other.sort().values.tolist() == [*range(6)]
        met[torch.arange(6), other] += 1
    # Every sample meets every other, itself included, equally often.
    assert (met / 3000 - 1 / 6).abs().max() < 0.03


@pytest.mark.parametrize(("fraction", "count"), [(0.0, 0), (0.1, 4), (0.5, 20), (1.0, 40)])
def test_exactly_so_many_are_mixed(fraction, count):
    _, batch, mixed = sampled(mixed_fraction=fraction)
    rows = (mixed.labels != torch.nn.functional.one_hot(batch.labels, 4)).any(-1)
    changed = (mixed.inputs != batch.inputs).any(-1)
    assert int(changed.sum()) in range(count - 3, count + 1)
    assert (changed | ~rows).all()
    sampler = PartialMixup(mixed_fraction=fraction)
    assert int((sampler.shares(batch.seeds) < 1).sum()) == count


def test_with_replacement_more_are_mixed_than_said():
    sampler = PartialMixup(mixed_fraction=0.1, exact=False)
    shares = torch.stack([sampler.shares(batch_of(64, seed).seeds) for seed in range(200)])
    assert (shares < 1).float().mean().item() == pytest.approx(math.exp(-0.9), abs=0.02)


def test_none_is_the_batch_with_labels_as_distributions():
    _, batch, mixed = sampled(mix="none")
    assert torch.equal(mixed.inputs, batch.inputs)
    assert torch.equal(mixed.labels, torch.nn.functional.one_hot(batch.labels, 4).float())


def test_shares_are_uniform_where_beta_is_1():
    shares = torch.cat([PartialMixup(mix="full").shares(batch_of(64, seed).seeds) for seed in range(100)])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.02)
    assert shares.var().item() == pytest.approx(1 / 12, abs=0.01)


# ---------------------------------------------------------------------- the loss


def test_a_student_whose_logits_are_scaled_and_moved_has_nothing_to_learn():
    teacher = random(8, 4)
    losses = MixKD().loss(Outputs(2.5 * teacher - 3), Outputs(teacher), batch_of(8))
    assert losses["transfer"].abs().max() < 1e-6


def test_without_mixing_the_label_term_is_cross_entropy_in_units_of_the_spread():
    logits = 5 * random(8, 4)
    losses = MixKD(mix="none").loss(Outputs(logits), Outputs(random(8, 4, seed=1)), batch_of(8))
    expected = torch.nn.functional.cross_entropy(logits / logits.std(-1, keepdim=True), batch_of(8).labels)
    assert losses["task"].mean().item() == pytest.approx(expected.item(), abs=1e-6)
    assert (losses.weight("task"), losses.weight("transfer")) == (0.1, 0.9)
    assert MixKD(mix="none").sampler is None


def test_at_a_temperature_it_is_classic_distillation():
    ours, theirs, batch = Outputs(random(8, 4)), Outputs(random(8, 4, seed=1)), batch_of(8)
    mine = MixKD(scale="temperature", temperature=3.0, gamma=0.4, alpha=0.6).loss(ours, theirs, batch)
    assert mine.total().item() == pytest.approx(KD(temperature=3.0, alpha=0.4).loss(ours, theirs, batch).total().item())


def test_it_predicts_in_the_unit_that_it_learned_in():
    model = torch.nn.Linear(3, 4)
    inputs = random(5, 3)
    assert torch.equal(MixKD().predict(model, inputs), unit_spread(model(inputs)))
    assert torch.equal(MixKD(scale="temperature").predict(model, inputs), model(inputs))


def test_the_teacher_gets_no_gradient():
    teacher, student = random(8, 4).requires_grad_(), random(8, 4, seed=1).requires_grad_()
    MixKD().loss(Outputs(student), Outputs(teacher), batch_of(8)).total().backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


# ---------------------------------------------------------------------- runs


def test_a_teacher_trained_with_mixup_is_smoother_and_teaches(recipe, go):
    """The one outcome of the card that no seed can turn: the mixup teacher's probabilities have the higher entropy."""
    from tutelage.data.digits import Digits
    from tutelage.models.weights import load_model

    net = {"model": "mlp", "hidden": [32]}
    test = Digits().load(0).test.fetch(range(200))
    found = {}
    for name, augment in (("plain", []), ("mixup", ["mixup"])):
        data = {"name": "digits", "limit": 400, "augment": augment}
        teacher = go(recipe("supervised", teacher=None, student=net, data=data, epochs=12))
        with torch.no_grad():
            found[name] = entropy(load_model(teacher.folder)(test.inputs)).mean().item()
        report = go(recipe("mix-kd", teacher={**net, "weights": str(teacher.folder)}, epochs=6)).report
        assert report["rows"][1]["measures"]["quality"]["accuracy"]["value"] > 0.7
    assert found["mixup"] > 1.3 * found["plain"]


def test_beside_other_terms_what_is_mixed_stays_mixed(recipe, go, weights):
    assert go(recipe("mix-kd", also=["kd"], epochs=1)).report["status"] == "done"
    whole = weights(go(recipe({"name": "mix-kd", "mix": "full"}, also=["ttm"], epochs=1)))
    none = weights(go(recipe({"name": "mix-kd", "mix": "none"}, also=["ttm"], epochs=1)))
    assert not torch.equal(whole["head.weight"], none["head.weight"])


def test_the_sampler_mixes_for_other_methods_too(recipe, go):
    sampler = {"name": "partial-mixup", "mixed_fraction": 0.5}
    assert go(recipe("kd", sampler=sampler, epochs=1)).report["status"] == "done"


def test_labels_that_nobody_knows_cannot_be_mixed():
    sampler, batch, _ = sampled(mix="full")
    some = batch.with_(labels=torch.where(batch.ids > 3, -1, batch.labels))
    with pytest.raises(InputError, match="partial-mixup"):
        sampler.sample(Step(some, {}, 0, 0, 0.0))
    none = sampler.sample(Step(batch.with_(labels=torch.full((40,), -1)), {}, 0, 0, 0.0))
    assert (none.labels == -1).all()


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"name": "mix-kd", "mixed_fraction": 1.5}, "mixed_fraction: found 1.5"),
        ({"name": "mix-kd", "mix": "parts"}, "partial"),
        ({"name": "mix-kd", "scale": "stdev"}, "'std'"),
    ],
)
def test_what_cannot_be(method, said, recipe, go):
    with pytest.raises(InputError, match=said):
        go(recipe(method))
