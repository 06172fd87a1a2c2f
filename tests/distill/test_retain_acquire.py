"""LRA: what reaches the student, what the memory holds, no real image, and an outcome on digits."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.distill.placing import participants
from torch import nn

from tutelage import api
from tutelage.data.batch import Batch, DataInfo
from tutelage.data.splits import TensorExamples
from tutelage.distill.parts.data_free import plain
from tutelage.distill.retain_acquire import RetainAcquire
from tutelage.engine.method import Room, Step
from tutelage.engine.stopping import Interrupted
from tutelage.models.convnet import ConvNet
from tutelage.models.vit import ViT
from tutelage.recipe.errors import InputError, RecipeError

INFO = DataInfo((1, 8, 8), 3, ("a", "b", "c"), "")
EXAMPLE = Batch(torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64), torch.arange(2), torch.arange(2))
TINY = {"latent": 8, "generator_width": 8, "steps": 6, "student_steps": 2, "generator_lr": 5e-3, "push_every": 1}


def placed(method: RetainAcquire, student: nn.Module | None = None, seed: int = 0, epoch: int = 1) -> Step:
    """A method that is set up, and a step of four samples."""
    torch.manual_seed(seed)
    models = {"teacher": ConvNet(INFO, width=4, depth=2), "student": student or ConvNet(INFO, width=2, depth=2)}
    for module in models.values():
        module.double()
    method.sized(8)
    room = Room(models, INFO, EXAMPLE.with_(inputs=EXAMPLE.inputs.double()), ["student"])
    method.setup(room)
    method.double()
    batch = plain(torch.zeros(4, 1, 8, 8, dtype=torch.float64))
    return Step(batch, participants(room), 3, epoch, 0.5)


@pytest.fixture(autouse=True)
def doubles():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def images(seed: int, count: int) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def gradient(method: RetainAcquire, student: nn.Module | None = None) -> tuple[torch.Tensor, Step]:
    step = placed(method, student)
    both = images(1, 5)
    teacher = method.asked(step.on(plain(both))).logits
    term = method.retention(step, both, teacher, 4).mean()
    module = step.participants["student"].module
    found = torch.autograd.grad(term, list(module.parameters()), allow_unused=True) if term.requires_grad else [None]
    return torch.cat([g.flatten() for g in found if g is not None] or [torch.zeros(1)]), step


def test_retention_reaches_the_student_from_live_weights_only():
    assert gradient(RetainAcquire(**TINY))[0].abs().max() > 0
    assert gradient(RetainAcquire(**TINY, virtual_start="released"))[0].abs().max() == 0


def test_retention_after_a_virtual_step_is_the_derivative_of_two_plain_evaluations():
    """One weight is moved by hand, and the virtual step taken by SGD itself."""
    method = RetainAcquire(**TINY, inner_lr=0.3, inner_weight_decay=0.01, distance="mse")
    step = placed(method)
    both = images(1, 5)
    teacher = method.asked(step.on(plain(both))).logits
    student = step.participants["student"].module
    weight = student.head.weight
    term = method.retention(step, both, teacher, 4).mean()
    (found,) = torch.autograd.grad(term, weight)

    def by_hand(change: float) -> float:
        twin = copy.deepcopy(student)
        with torch.no_grad():
            twin.head.weight[0, 0] += change
        optimizer = torch.optim.SGD(twin.parameters(), lr=0.3, momentum=0.9, weight_decay=0.01)
        (twin(both[:4]) - teacher[:4]).square().mean().backward()
        optimizer.step()
        return (twin(both[4:]) - teacher[4:]).square().mean().item()

    assert term.item() == pytest.approx(by_hand(0.0), rel=1e-9)
    slope = (by_hand(1e-5) - by_hand(-1e-5)) / 2e-5
    assert found[0, 0].item() == pytest.approx(slope, rel=1e-5)


def test_first_order_leaves_out_second_derivatives():
    full, _ = gradient(RetainAcquire(**TINY, distance="mse"))
    first, _ = gradient(RetainAcquire(**TINY, distance="mse", first_order=True))
    assert full.shape == first.shape
    assert (full - first).abs().max() > 1e-6


def test_a_virtual_step_leaves_no_trace_in_the_student_s_statistics():
    step = placed(method := RetainAcquire(**TINY))
    student = step.participants["student"].module
    before = {name: value.clone() for name, value in student.named_buffers()}
    both = images(1, 5)
    method.retention(step, both, method.asked(step.on(plain(both))).logits, 4)
    assert all(torch.equal(before[name], value) for name, value in student.named_buffers())


def test_a_virtual_step_of_no_size_is_replay_counted_once_more():
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    method = RetainAcquire(**TINY, inner_lr=0.0)
    step = placed(method, student)
    method.bank.push(images(2, 1))
    torch.manual_seed(5)
    losses = method.transfer(step)
    assert torch.allclose(losses["retention"], losses["transfer"][4:])
    plain_replay = RetainAcquire(**TINY, meta=False)
    step = placed(plain_replay, student)
    plain_replay.bank.push(images(2, 1))
    torch.manual_seed(5)
    assert torch.allclose(plain_replay.transfer(step)["transfer"], losses["transfer"])


def test_an_empty_memory_is_plain_distillation():
    for memory in ("bank", "none"):
        step = placed(method := RetainAcquire(**TINY, memory=memory))
        losses = method.transfer(step)
        assert set(losses) == {"transfer"}
        assert losses["transfer"].shape == (4,)


def test_the_generator_s_loss_has_gradients_to_the_generator_through_a_frozen_teacher():
    step = placed(method := RetainAcquire(**TINY))
    losses = method.generate(step)
    assert set(losses) == {"one_hot", "balance", "activation", "adversarial"}
    losses.total().backward()
    assert all(p.grad is not None for p in method.generator.parameters())
    assert all(p.grad is None for p in step.participants["teacher"].module.parameters())
    assert losses.total().item() == pytest.approx(
        losses["one_hot"].mean().item()
        + 5 * losses["balance"].item()
        + 0.1 * losses["activation"].item()
        + losses["adversarial"].item()
    )


def test_a_generative_memory_recalls_and_learns():
    step = placed(method := RetainAcquire(**TINY, memory="generative", memory_latent=6))
    assert method.recall(step, 5).shape == (5, 1, 8, 8)
    losses = method.remember(step)
    losses.total().backward()
    assert all(p.grad is not None for part in (method.encoder, method.decoder) for p in part.parameters())
    assert all(p.grad is None for p in method.generator.parameters())
    assert set(method.transfer(step)) == {"transfer", "retention"}
    step = placed(method, epoch=0)
    assert set(method.transfer(step)) == {"transfer"}


def test_attention_has_second_derivatives():
    found, _ = gradient(RetainAcquire(**TINY), ViT(INFO, patch=4, dim=8, depth=1, heads=2))
    assert torch.isfinite(found).all()


def test_the_bank_keeps_the_last_images_of_some_epochs():
    step = placed(method := RetainAcquire(**{**TINY, "push_every": 2}))
    for epoch in range(4):
        method.before_step(step)
        method.transfer(step)
        method.epoch_ended(epoch)
    assert len(method.bank) == 2
    assert method.bank.images.shape[1:] == (1, 1, 8, 8)


TEACHER = {"model": "mlp", "hidden": [32], "weights": {"train": {"epochs": 8, "batch_size": 50, "optimizer": "adam"}}}


@pytest.fixture
def tiny(recipe):
    torch.set_default_dtype(torch.float32)

    def make(epochs=2, **method):
        return recipe(
            {"name": "retain-acquire", **TINY, **method},
            teacher=TEACHER,
            data={"name": "digits", "limit": 600},
            epochs=epochs,
        )

    return make


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["bank", "generative"])
def test_an_interrupted_run_ends_alike(tiny, tmp_path, memory):
    from tests.engine.conftest import InterruptAt, same, stage_end

    content = tiny(2, memory=memory, memory_latent=6)
    whole = api.run(content, run_dir=tmp_path / "whole").folder
    with pytest.raises(Interrupted):
        api.run(content, run_dir=tmp_path / "pieces", listener=InterruptAt("transfer", 8))
    pieces = api.resume(tmp_path / "pieces").folder
    one, two = (stage_end(folder, "transfer") for folder in (whole, pieces))
    assert same(one["models"]["student"], two["models"]["student"])
    assert same(one["method"], two["method"])


def test_training_reads_no_real_image(tiny, go, monkeypatch):
    go(tiny())  # The teacher is trained and kept.
    seen = []
    real = TensorExamples.fetch
    monkeypatch.setattr(TensorExamples, "fetch", lambda self, at: seen.append(len(self)) or real(self, at))
    finished = go(tiny())
    # Shapes are looked up on a few training samples before anything is trained, and teachers are kept.
    train = 600
    assert seen.count(train) <= 2
    assert finished.report["status"] == "done"


@pytest.mark.slow
def test_a_student_without_data_knows_more_than_chance(tiny, go):
    finished = go(tiny(10, steps=30, latent=16, generator_width=16, generator_lr=1e-2, inner_lr=0.1))
    report = finished.report
    assert report["arrived"]["after"]["value"] > 0.3
    (row,) = report["findings"]["accuracy over epochs"]
    assert row["stage"] == "transfer"


def test_bad_recipes_are_refused(recipe, go):
    method = {"name": "retain-acquire", "memory": "banc", "inner_lr": -1}
    with pytest.raises(RecipeError) as caught:
        go(recipe(method))
    assert "'bank'" in str(caught.value)
    assert "method.inner_lr: found -1" in str(caught.value)
    with pytest.raises(InputError, match="has no weights"):
        go(recipe("retain-acquire", teacher={"model": "convnet"}))
    taught = {"model": "convnet", "weights": {"train": {"epochs": 1}}, "cache": True}
    with pytest.raises(InputError, match="images that are made anew"):
        go(recipe("retain-acquire", teacher=taught))
    with pytest.raises(InputError, match="takes images"):
        placed_on_table()


def placed_on_table():
    table = DataInfo((5,), 3, ("a", "b", "c"), "")
    linear = nn.Linear(5, 3)
    room = Room({"teacher": linear, "student": linear}, table, EXAMPLE.with_(inputs=torch.zeros(2, 5)), ["student"])
    RetainAcquire().setup(room)
