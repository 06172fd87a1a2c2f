"""CutMixPick: what is kept, the three weights, and the teacher's score of augmentations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.data.augment import Cutout, Shift
from tutelage.data.batch import Batch, DataInfo
from tutelage.data.mixing import CutMix
from tutelage.data.splits import TensorExamples
from tutelage.distill.cutmixpick import CutMixPick
from tutelage.distill.kd import KD
from tutelage.distill.parts.augmentation_score import rank_agreement, score_augmentation, transfer_covariance
from tutelage.distill.samplers.cutmix_pick import CutMixPick as Sampler
from tutelage.distill.samplers.cutmix_pick import picked
from tutelage.engine.method import Room, Step
from tutelage.losses import cross_entropy, entropy, kl_divergence
from tutelage.models.convnet import ConvNet
from tutelage.models.mlp import MLP
from tutelage.models.participant import Participant
from tutelage.recipe.errors import InputError, RecipeError

INFO = DataInfo((1, 8, 8), 4, tuple("abcd"), "")


def batch_of(count=12, seed=0):
    inputs = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Batch(inputs, torch.arange(count) % 4, torch.arange(count), torch.arange(count) * 7919)


def ready(part, student=None, teacher=None):
    torch.manual_seed(0)
    modules = {"teacher": teacher or MLP(INFO, hidden=[16]), "student": student or MLP(INFO, hidden=[8])}
    batch = batch_of()
    room = Room(modules, INFO, batch, ["student"])
    getattr(part, "prepare", part.setup)(room)
    participants = {name: Participant(name, one, trainable=name == "student") for name, one in modules.items()}
    return Step(batch, participants, 0, 0, 0.0)


# ---------------------------------------------------------------------- picking


@pytest.mark.parametrize("pick", ["teacher_entropy", "student_entropy", "kl", "dissimilarity"])
def test_what_is_kept_scores_no_less_than_what_is_left(pick):
    sampler = Sampler(pick=pick, runs=3)
    step = ready(sampler)
    kept = sampler.sample(step)
    whole = Sampler(pick="none", runs=3, keep=36)
    whole.setup(Room({}, INFO, step.batch, ()))
    pool = whole.sample(step)
    assert (len(kept), len(pool)) == (12, 36)
    with torch.no_grad():
        scores = sampler.scores(step, pool)
    rows = [next(i for i in range(36) if torch.equal(pool.inputs[i], one)) for one in kept.inputs]
    left = [i for i in range(36) if i not in rows]
    assert scores[rows].min() >= scores[left].max()
    # Labels stay with their samples.
    assert torch.equal(kept.labels, pool.labels[rows])
    assert torch.allclose(kept.labels.sum(-1), torch.ones(12))
    teacher, student = (step.on(pool).forward(name).logits for name in ("teacher", "student"))
    nearest = [(t - step.forward("teacher").logits.softmax(-1)).norm(dim=1).min() for t in teacher.softmax(-1)]
    expected = {
        "teacher_entropy": entropy(teacher),
        "student_entropy": entropy(student),
        "kl": kl_divergence(student, teacher, temperature=4.0),
        "dissimilarity": torch.stack(nearest),
    }
    assert torch.allclose(scores, expected[pick], atol=1e-5)


def test_one_run_is_cutmix_whatever_the_criterion():
    results = []
    for pick in ("none", "teacher_entropy"):
        sampler = Sampler(pick=pick, runs=1)
        results.append(sampler.sample(ready(sampler)))
    assert torch.equal(results[0].inputs, results[1].inputs)
    assert not torch.equal(results[0].inputs, batch_of().inputs)


def test_any_augmentation_can_be_picked_from_and_labels_need_not_be_mixed():
    sampler = Sampler(augment=(Shift(pixels=1), Cutout(size=3)), keep=5)
    kept = sampler.sample(ready(sampler))
    assert kept.labels.dtype == torch.int64
    assert len(kept) == 5


def test_trying_moves_no_statistics_of_the_student():
    student = ConvNet(INFO, width=2, depth=1)
    sampler = Sampler(pick="student_entropy")
    step = ready(sampler, student=student)
    step.participants["student"].mode(True)
    before = {k: v.clone() for k, v in student.state_dict().items()}
    sampler.sample(step)
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())
    assert student.training


def test_the_order_of_the_pool_is_kept():
    pool = batch_of(6)
    assert picked(pool, torch.tensor([0.0, 5, 1, 3, 4, 2]), 3).ids.tolist() == [1, 3, 4]
    assert picked(pool, None, 2).ids.tolist() == [0, 1]


# ---------------------------------------------------------------------- the loss


def test_without_augmented_terms_it_is_classic_distillation():
    method = CutMixPick(mix_weights=(1.0, 0.0, 0.0))
    step = ready(method)
    losses = method.compare(step)
    plain = KD(alpha=0.1).compare(step)
    assert losses.total().item() == pytest.approx(plain.total().item(), rel=1e-6)
    assert set(losses) == {"task", "transfer"}


def test_the_three_weights_and_the_teachers_answer_to_what_is_mixed():
    method = CutMixPick(mix_weights=(2.0, 3.0, 4.0), alpha=0.5, gamma=0.25)
    step = ready(method)
    losses = method.compare(step)
    weights = {name: losses.weight(name) for name in losses}
    assert weights == {"task": 0.25, "transfer": 1.0, "mixed": 2.0, "mixed_task": 1.5}
    made = step.on(method.sampler.sample(step))
    teacher, student = made.forward("teacher").logits, made.forward("student").logits
    assert torch.allclose(losses["mixed"], kl_divergence(student, teacher, temperature=4.0), atol=1e-6)
    assert torch.allclose(losses["mixed_task"], cross_entropy(student, made.batch.labels), atol=1e-6)


def test_the_authors_leave_labels_of_mixed_images_out():
    method = CutMixPick()
    assert set(method.compare(ready(method))) == {"task", "transfer", "mixed"}


# ---------------------------------------------------------------------- the teacher's score


class Constant(nn.Module):
    def forward(self, inputs):
        return torch.tensor([1.0, 0.0, -1.0]).expand(len(inputs), 3)


def examples(count=90, seed=0):
    inputs = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return TensorExamples(inputs, torch.arange(count) % 4)


def test_a_teacher_that_always_says_the_same_has_no_spread():
    found = score_augmentation(Constant(), examples(), {"none": [], "cutout": [Cutout(size=4)]}, batch_size=8, epochs=3)
    assert [one.spread for one in found] == [0.0, 0.0]


def test_the_score_of_no_augmentation_is_that_of_a_loop():
    torch.manual_seed(0)
    teacher, data = MLP(INFO, hidden=[8]), examples()
    (found,) = score_augmentation(teacher, data, {"none": []}, batch_size=20, batches=2, originals=False, epochs=2)
    from tutelage.data.loader import Loader

    loader, means = Loader(data, batch_size=20, seed=0, shuffle=True), []
    for epoch in range(2):
        batches = [batch for batch in loader.epoch(epoch) if len(batch) == 20]
        for i in (0, 2):
            both = torch.cat([batches[i].inputs, batches[i + 1].inputs])
            means.append(teacher(both).softmax(-1).mean(0))
    assert found.draws == 4
    assert found.spread == pytest.approx(torch.stack(means).std(0).mean().item(), rel=1e-4)


def test_settings_that_cannot_be_compared_or_say_nothing():
    teacher, data = MLP(INFO, hidden=[8]), examples()
    for settings, said in (
        ({"batch_size": 20}, "covers all 90"),
        ({"batch_size": 8, "batches": 3}, "an even number"),
        ({"batch_size": 8, "epochs": 0}, "fewer than two draws"),
    ):
        with pytest.raises(InputError, match=said):
            score_augmentation(teacher, data, {"none": []}, **settings)
    with pytest.raises(InputError, match="no augmentation"):
        score_augmentation(teacher, data, {}, batch_size=8)
    student = Sampler(pick="student_entropy")
    student.setup(Room({}, INFO, batch_of(), ()))
    with pytest.raises(InputError, match="only the teacher is here"):
        score_augmentation(teacher, data, {"pick": student}, batch_size=8)


def test_covariance_of_transfer_losses():
    torch.manual_seed(0)
    teacher, student, batch = MLP(INFO, hidden=[8]), MLP(INFO, hidden=[4]), batch_of()
    assert transfer_covariance(teacher, student, batch, [], draws=3) == pytest.approx(0.0, abs=1e-7)
    assert transfer_covariance(teacher, student, batch, [Shift(pixels=2)], draws=5) != 0.0


def test_correlations_with_students_losses():
    found = rank_agreement([1.0, 2.0, 3.0, 4.0], [1.1, 1.9, 3.5, 3.7])
    assert found["spearman"]["value"] == pytest.approx(1.0)
    assert found["pearson"]["value"] == pytest.approx(
        torch.corrcoef(torch.tensor([[1, 2, 3, 4], [1.1, 1.9, 3.5, 3.7]]))[0, 1].item()
    )
    assert set(found) == {"pearson", "spearman", "kendall"}
    with pytest.raises(InputError, match="at least 3"):
        rank_agreement([1.0, 2.0], [1.0, 2.0])


# ---------------------------------------------------------------------- runs


def trained(examples, epochs=15):
    """A small convolutional teacher of digits."""
    torch.manual_seed(0)
    teacher = ConvNet(DataInfo((1, 8, 8), 10, tuple("0123456789"), ""), width=8, depth=2)
    whole = examples.fetch(range(len(examples)))
    optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-2)
    for _ in range(epochs):
        for rows in torch.randperm(len(whole)).split(100):
            optimizer.zero_grad()
            cross_entropy(teacher(whole.inputs[rows]), whole.labels[rows]).mean().backward()
            optimizer.step()
    return teacher.eval()


@pytest.mark.slow
def test_picked_images_leave_the_teachers_mean_steadier_than_any_and_these_than_none():
    """The card's order on digits: cutmix-pick below cutmix, and cutmix below no augmentation."""
    from tutelage.data.digits import Digits
    from tutelage.data.splits import limit

    splits = Digits().load(0)
    info, few = splits.info, limit(splits.train, 300, 0)
    teacher = trained(splits.train)
    pick = Sampler()
    pick.setup(Room({}, info, few.fetch(range(4)), ()))
    augments = {"none": [], "cutmix": [CutMix(info)], "cutmix-pick": pick}
    spreads = []
    for seed in range(3):
        found = score_augmentation(teacher, few, augments, batch_size=20, epochs=10, seed=seed)
        spreads.append({one.name: one.spread for one in found})
    mean = {name: sum(one[name] for one in spreads) / 3 for name in augments}
    assert mean["cutmix-pick"] < mean["cutmix"] < mean["none"], mean


def test_a_run_and_the_sampler_beside_another_method(recipe, go):
    report = go(recipe("cutmixpick", epochs=6)).report
    assert report["rows"][1]["measures"]["quality"]["accuracy"]["value"] > 0.5
    sampler = {"name": "cutmix-pick", "augment": ["mixup"], "pick": "kl"}
    assert go(recipe("kd", sampler=sampler, epochs=1)).report["status"] == "done"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": {"name": "cutmixpick", "pick": "entropy"}}, "teacher_entropy"),
        ({"method": {"name": "cutmixpick", "pick_runs": 0}}, "pick_runs: found 0"),
        ({"method": {"name": "cutmixpick", "augment": ["cutmx"]}}, "'cutmix'"),
        ({"method": {"name": "cutmixpick", "mix_weights": [1, 0]}}, "mix_weights"),
        ({"method": "kd", "also": ["cutmixpick"]}, "batches of its own"),
    ],
)
def test_what_cannot_be(changes, said, recipe, go):
    with pytest.raises(InputError, match=said):
        go({**recipe("kd"), **changes})


def test_a_remembered_teacher_cannot_be_asked_about_new_images(recipe, go):
    teacher = {**recipe("kd")["teacher"], "cache": True}
    for changes in ({"method": "cutmixpick"}, {"sampler": "cutmix-pick"}, {"method": "mix-kd"}):
        with pytest.raises(RecipeError, match="made anew"):
            go({**recipe("kd", teacher=teacher), **changes})
