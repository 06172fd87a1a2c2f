"""Participants: what is trained moves, what is frozen stays, and forwards go where the engine says."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from tutelage.data.batch import Batch, DataInfo
from tutelage.models.convnet import ConvNet
from tutelage.models.freezing import freeze, stays_in_eval
from tutelage.models.mlp import MLP
from tutelage.models.participant import Participant
from tutelage.recipe.errors import InputError


@pytest.fixture
def net(info: DataInfo) -> ConvNet:
    torch.manual_seed(0)
    return ConvNet(info, width=4)


def _statistics(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def test_a_teacher_gives_outputs_that_a_students_loss_can_use(net: ConvNet, info: DataInfo, batch: Batch) -> None:
    teacher = Participant("teacher", net, trainable=False, taps=["features", "embedding"])
    student = Participant("student", ConvNet(info, width=4), trainable=True, taps=["features"])
    teacher.mode(True)
    student.mode(True)
    before = _statistics(net)
    source, own = teacher(batch), student(batch)
    assert not source.logits.requires_grad
    assert not source.embedding.requires_grad
    # A product saves the teacher's tensor for the backward pass, which inference mode would forbid.
    (own.features * source.features).sum().backward()
    assert all(torch.equal(before[name], buffer) for name, buffer in net.named_buffers())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert student.module.get_parameter("blocks.0.0.weight").grad is not None


def test_gradients_through_a_teacher_reach_inputs_only(net: ConvNet, batch: Batch) -> None:
    teacher = Participant("teacher", net, trainable=False, gradients=True)
    inputs = batch.inputs.clone().requires_grad_(True)
    teacher.forward(inputs).logits.sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.any()
    assert all(parameter.grad is None for parameter in net.parameters())


def test_closing_gives_the_model_back(net: ConvNet) -> None:
    net.head.bias.requires_grad_(False)
    teacher = Participant("teacher", net, trainable=False, taps=["features"])
    assert not any(parameter.requires_grad for parameter in net.parameters())
    teacher.close()
    assert [n for n, p in net.named_parameters() if not p.requires_grad] == ["head.bias"]
    assert not any(part._forward_hooks for part in net.modules())


def test_mode_and_predict(net: ConvNet, batch: Batch) -> None:
    student = Participant("student", net, trainable=True, taps=["features"])
    student.mode(True)
    net.blocks[1].eval()
    modes, before = [part.training for part in net.modules()], _statistics(net)
    logits = student.predict(batch.inputs)
    assert [part.training for part in net.modules()] == modes
    assert all(torch.equal(before[name], buffer) for name, buffer in net.named_buffers())
    assert not logits.requires_grad
    student.mode(False)
    assert torch.equal(student(batch).logits, logits)
    assert student(batch).logits.requires_grad


def test_forwards_go_through_the_wrapper(net: ConvNet, batch: Batch) -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            out: Tensor = self.module(x)
            return out

    student = Participant("student", net, trainable=True, taps=["features", "blocks.0"])
    wrapper = Wrapper(net)
    student.wrapped = wrapper
    out = student(batch)
    student.predict(batch.inputs)
    assert wrapper.calls == 2
    assert list(out.taps) == ["features", "blocks.0"]
    student.mode(False)
    assert not wrapper.training
    assert not net.training


def test_a_foreign_model_finds_its_taps_at_the_first_forward(batch: Batch) -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 10))
    student = Participant("student", module, trainable=True, taps=["embedding", "features", "0"])
    out = student(batch)
    assert out.embedding.shape == (4, 108)
    assert out.features.shape == (4, 3, 6, 6)
    assert module.get_submodule("1").num_batches_tracked == 1, "looking counted as a batch"
    assert student.classifier(batch.inputs) is module[4]
    with pytest.raises(InputError, match=r"^student: the tap 'embed' matches nothing"):
        Participant("student", module, trainable=True, taps=["embed"])


def test_outputs_of_other_kinds(batch: Batch) -> None:
    class Answer(nn.Module):
        def __init__(self, kind: str) -> None:
            super().__init__()
            self.kind, self.head = kind, nn.Linear(64, 10)

        def forward(self, x: Tensor) -> object:
            logits = self.head(x.flatten(1))
            return {"tuple": (logits, x), "dict": {"logits": logits}, "none": None}[self.kind]

    for kind in ("tuple", "dict"):
        assert Participant("a", Answer(kind), trainable=True)(batch).logits.shape == (4, 10)
    with pytest.raises(InputError, match=r"the a .Answer. returns no tensor"):
        Participant("a", Answer("none"), trainable=True)(batch)


def test_facts(net: ConvNet) -> None:
    student = Participant("student", net, trainable=True, taps=["features"])
    assert student.parameters_total == sum(p.numel() for p in net.parameters())
    assert student.classifier() is net.head
    assert student.taps == ("features",)


def test_frozen_statistics_do_not_move(net: ConvNet, batch: Batch) -> None:
    names = freeze(net, ["blocks.0"])
    assert names == [name for name, _ in net.named_parameters() if name.startswith("blocks.0.")]
    student = Participant("student", net, trainable=True)
    student.mode(True)
    net.train()
    before = _statistics(net)
    student(batch).logits.sum().backward()
    moved = {name for name, buffer in net.named_buffers() if not torch.equal(buffer, before[name])}
    assert moved
    assert not any(name.startswith("blocks.0.") for name in moved)
    assert all((p.grad is None) == n.startswith("blocks.0.") for n, p in net.named_parameters())
    assert net.training
    assert net.blocks[1].training


def test_frozen_dropout_drops_nothing(info: DataInfo, inputs: Tensor) -> None:
    module = MLP(info, hidden=(16,), dropout=0.5).train()
    assert not torch.equal(module(inputs), module(inputs))
    freeze(module, ["*"])
    module.train()
    assert torch.equal(module(inputs), module(inputs))


def test_freezing_by_parameter(net: ConvNet) -> None:
    assert freeze(net, ["blocks.1.1.*"]) == ["blocks.1.1.weight", "blocks.1.1.bias"]
    net.train()
    assert not net.get_submodule("blocks.1.1").training, "all its parameters are frozen"
    assert freeze(net, ["**.4.bias"]) == ["blocks.0.4.bias", "blocks.1.4.bias", "blocks.2.4.bias"]
    net.train()
    assert net.get_submodule("blocks.0.4").training, "its weight is not frozen"


def test_a_frozen_model_can_be_copied_pickled_and_loaded(net: ConvNet, inputs: Tensor) -> None:
    freeze(net, ["blocks.0"])
    state = net.state_dict()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):  # noqa: S301 - made here
        other.load_state_dict(state)
        other.train()
        part = other.get_submodule("blocks.0.1")
        assert stays_in_eval(part)
        assert not part.training
        assert vars(part)["train"].args[0] is part, "a copy that freezes the original"
        other(inputs)
        assert part.num_batches_tracked == 0
    net.train()
    assert net.training


def test_freezing_nothing_is_refused(net: ConvNet) -> None:
    with pytest.raises(
        InputError, match=r"freeze: 'block.0' matches no module and no parameter. Did you mean 'blocks.0'"
    ):
        freeze(net, ["block.0"])
