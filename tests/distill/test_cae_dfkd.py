"""CAE-DFKD: rounds, pool and warm-up, what the generator minimises, and an outcome without data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.distill.placing import participants
from torch import nn

from tutelage import api
from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.cae_dfkd import CAEDFKD, RestartedAdam, embedded
from tutelage.distill.parts.data_free import plain
from tutelage.engine.method import Room, Step
from tutelage.engine.stopping import Interrupted
from tutelage.losses import kl_divergence
from tutelage.models.convnet import ConvNet
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError, RecipeError

INFO = DataInfo((1, 8, 8), 3, ("a", "b", "c"), "")
EXAMPLE = Batch(torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64), torch.arange(2), torch.arange(2))
TINY = {
    "steps": 6,
    "embedding_width": 16,
    "hidden": 16,
    "generator_width": 8,
    "warmup": 1,
    "warmup_rounds": 2,
    "g_steps": 3,
    "synthesis_batch": 32,
    "pool_size": 256,
    "cncl_width": 8,
}


def placed(method: CAEDFKD, index: int = 6, epoch: int = 1, teacher: nn.Module | None = None) -> Step:
    torch.manual_seed(0)
    models = {"teacher": teacher or ConvNet(INFO, width=4, depth=2), "student": ConvNet(INFO, width=2, depth=2)}
    room = Room(models, INFO, EXAMPLE, ["student"])
    method.setup(room)
    return Step(plain(torch.zeros(4, 1, 8, 8)), participants(room), index, epoch, 0.5)


def test_the_generator_s_loss_is_the_sum_of_its_terms():
    step = placed(method := CAEDFKD(**TINY))
    losses = method.generate(step)
    total = losses.total()
    terms = {name: term.mean().item() for name, term in losses.items()}
    assert total.item() == pytest.approx(
        0.5 * terms["one_hot"] + 10 * terms["statistics"] + 1.33 * terms["adversarial"], rel=1e-5
    )
    total.backward()
    assert all(p.grad is not None for p in method.generator.parameters())
    assert all(p.grad is None for p in step.participants["teacher"].module.parameters())


def test_nobody_is_an_adversary_during_the_warm_up():
    step = placed(method := CAEDFKD(**TINY))
    assert "adversarial" in method.generate(step)
    assert "adversarial" not in method.generate(replace(step, epoch=0))


def test_statistics_are_those_of_every_normalisation():
    class Seen(nn.Module):
        def __init__(self):
            super().__init__()
            self.flat, self.norm, self.head = nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 3)

        def forward(self, inputs):
            return self.head(self.norm(self.flat(inputs)))

    teacher = Seen()
    teacher.norm.running_mean += 1
    step = placed(method := CAEDFKD(**TINY, adv=0.0), teacher=teacher)
    images = torch.rand(5, 1, 8, 8)
    found = method.judge(step.on(plain(images)))["statistics"].item()
    flat = images.flatten(1)
    by_hand = (flat.mean(0) - 1).norm() + (flat.var(0, unbiased=False) - 1).norm()
    assert found == pytest.approx(by_hand.item(), rel=1e-5)


def test_turns_move_in_their_steps():
    warm, generator, transfer = CAEDFKD(**TINY, rounds=4).turns()
    assert (warm.times, generator.times, transfer.times) == (6, 12, 1)
    step = placed(CAEDFKD(**TINY))
    moves = {
        (turn.name, index): turn.when(replace(step, index=index, epoch=index // 6))
        for turn in (warm, generator, transfer)
        for index in (0, 1, 6, 7)
    }
    assert {key for key, moved in moves.items() if moved} == {
        ("warm-up", 0),
        ("generator", 6),
        ("transfer", 6),
        ("transfer", 7),
    }
    turns = CAEDFKD(**TINY, host="interleaved", student_steps=2).turns()
    assert [turn.name for turn in turns] == ["generator", "transfer"]
    assert turns[0].when(replace(step, index=4))
    assert turns[1].when(replace(step, index=0, epoch=0))


def test_the_best_batch_of_each_round_goes_to_the_pool():
    step = placed(method := CAEDFKD(**TINY))
    turn = method.turns()[1]
    method.before_step(step)
    seen = []
    for repeat in range(6):
        losses = method.generate(replace(step, repeat=repeat))
        seen.append((losses.total().item(), method._kept))
        method.after_backward(step, turn)
        with torch.no_grad():
            for parameter in method.generator.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    assert len(method.pool) == 2
    for number, part in enumerate((seen[:3], seen[3:])):
        best = part[-1][1]
        assert torch.equal(method.pool.batches()[number], best)


def test_a_generator_lives_for_some_epochs():
    step = placed(method := CAEDFKD(**TINY, g_life=2))
    before = method.generator.layers[1].weight.clone()
    method.before_step(replace(step, index=6, epoch=1))
    assert torch.equal(method.generator.layers[1].weight, before)
    method.before_step(replace(step, index=13, epoch=2))
    assert torch.equal(method.generator.layers[1].weight, before)
    method.before_step(replace(step, index=12, epoch=2))
    assert not torch.equal(method.generator.layers[1].weight, before)


def test_the_student_learns_the_pool_and_the_contrast():
    step = placed(method := CAEDFKD(**TINY))
    method.pool.push(torch.rand(32, 1, 8, 8))
    losses = method.transfer(step)
    assert losses["transfer"].shape == losses["contrast"].shape == (4,)
    assert losses.weight("contrast") == 0.5
    losses.total().backward()
    assert all(p.grad is None for p in method.generator.parameters())
    assert all(p.grad is not None for p in method.projector.parameters())
    step = placed(without := CAEDFKD(**TINY, cncl_weight=0.0))
    without.pool.push(torch.rand(32, 1, 8, 8))
    assert set(without.transfer(step)) == {"transfer"}


def test_the_divergence_keeps_its_square_of_twenty():
    student, teacher = torch.randn(3, 4), torch.randn(3, 4)
    found = CAEDFKD(**TINY).student_loss(Outputs(student), Outputs(teacher))["transfer"]
    assert torch.allclose(found, kl_divergence(student, teacher, temperature=20.0))


def test_adam_forgets_after_every_round():
    weight, twin = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = RestartedAdam([weight], lr=0.1, every=2)
    plain_adam = torch.optim.Adam([twin], lr=0.1, betas=(0.5, 0.999))
    for move in range(4):
        if move == 2:
            plain_adam = torch.optim.Adam([twin], lr=0.1, betas=(0.5, 0.999))
        for parameter, one in ((weight, optimizer), (twin, plain_adam)):
            parameter.grad = parameter.detach() * (move + 1)
            one.step()
    assert torch.equal(weight, twin)


def test_a_teacher_without_normalisation_is_refused_unless_nobody_asks():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(InputError, match=r"method\.bn: the teacher has no batch normalisation"):
        placed(CAEDFKD(**TINY), teacher=linear)
    assert "statistics" not in (method := CAEDFKD(**TINY, bn=0.0)).generate(placed(method, teacher=linear))


CONV = {"model": "convnet", "width": 8}
TEACHER = {**CONV, "weights": {"train": {"epochs": 6, "batch_size": 50, "optimizer": {"name": "adam", "lr": 5e-3}}}}
LEARNT = {**TINY, "steps": 25, "g_steps": 10, "warmup_rounds": 4, "synthesis_batch": 64, "pool_size": 1024, "bn": 1.0}


@pytest.mark.slow
def test_a_student_without_data_knows_more_than_chance_and_is_probed(recipe, go):
    method = {"name": "cae-dfkd", **LEARNT, "hidden": 32, "generator_width": 16}
    parity = {"name": "merged", "of": "digits", "groups": [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]}
    content = recipe({**method, "probe": parity}, teacher=TEACHER, student=CONV, data={"name": "digits"})
    content["train"] |= {"epochs": 5, "batch_size": 48}
    report = go(content).report
    assert report["arrived"]["after"]["value"] > 0.25
    rows = {row["features of"]: row["accuracy of a linear probe"] for row in report["findings"]["transfer"]}
    assert set(rows) == {"student", "teacher", "pixels"}
    assert rows["teacher"]["value"] > 0.9
    assert 0.5 < rows["student"]["value"] <= 1


@pytest.mark.slow
def test_an_interrupted_run_ends_alike(recipe, tmp_path):
    from tests.engine.conftest import InterruptAt, same, stage_end

    method = {"name": "cae-dfkd", **TINY, "g_life": 1}
    content = recipe(method, teacher=TEACHER, student={**CONV, "width": 4}, data={"name": "digits", "limit": 300})
    content["train"] |= {"epochs": 3, "batch_size": 8}
    whole = api.run(content, run_dir=tmp_path / "whole").folder
    with pytest.raises(Interrupted):
        api.run(content, run_dir=tmp_path / "pieces", listener=InterruptAt("transfer", 8))
    pieces = api.resume(tmp_path / "pieces").folder
    one, two = (stage_end(folder, "transfer") for folder in (whole, pieces))
    assert same(one["models"]["student"], two["models"]["student"])
    assert same(one["method"], two["method"])


def test_embeddings_are_the_classifier_s_input_and_the_model_stays_as_it_was():
    model = ConvNet(INFO, width=2).train()
    found = embedded(model, torch.rand(5, 1, 8, 8), batch_size=2)
    assert found.shape == (5, 8)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())


def test_bad_recipes_are_refused(recipe, go):
    with pytest.raises(RecipeError) as caught:
        go(recipe({"name": "cae-dfkd", "embeddings": "texts", "cncl_tau": 0}))
    assert "'text'" in str(caught.value)
    assert "method.cncl_tau" in str(caught.value)
    with pytest.raises(InputError, match="embeddings of text need"):
        go(recipe({"name": "cae-dfkd", "embeddings": "text"}, teacher=TEACHER))
