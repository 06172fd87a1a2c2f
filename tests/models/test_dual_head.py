"""Two classifiers on one backbone: how they are mixed, and that a saved model has both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tutelage.data.batch import DataInfo
from tutelage.models.dual_head import DualHead, give_second_classifier, mixed
from tutelage.models.mlp import MLP
from tutelage.models.weights import describe, load_model, save_weights
from tutelage.recipe.errors import InputError

TASK, TRANSFER = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[0.0, 1.0, 0.0]])
INFO = DataInfo((1, 4, 4), 3, ("a", "b", "c"), "x")


@pytest.mark.parametrize(
    ("beta", "expected"), [(1.0, (0.527868, 0.345156, 0.126976)), (2.0, (0.558932, 0.283029, 0.158039))]
)
def test_the_worked_example(beta: float, expected: tuple[float, ...]) -> None:
    torch.testing.assert_close(
        mixed(TASK, TRANSFER, alpha=0.5, beta=beta).softmax(-1)[0], torch.tensor(expected), atol=1e-6, rtol=0
    )


def test_the_ends_of_the_mixture_are_the_two() -> None:
    torch.testing.assert_close(mixed(TASK, TRANSFER, alpha=0.0, beta=1.0).softmax(-1), TASK.softmax(-1))
    torch.testing.assert_close(mixed(TASK, TRANSFER, alpha=1.0, beta=1.0).softmax(-1), TRANSFER.softmax(-1))


def test_a_model_gets_it_once_and_is_saved_with_it(tmp_path: Path) -> None:
    model, inputs = MLP(INFO, hidden=(5,)), torch.randn(3, 1, 4, 4)
    path = give_second_classifier(model, alpha=0.25, beta=2.0, example=inputs)
    assert path == give_second_classifier(model, alpha=0.25, beta=2.0, example=inputs) == "head"
    head = model.head
    assert isinstance(head, DualHead)
    assert not torch.equal(head.task.weight, head.transfer.weight)
    model.eval()
    embedding = model.blocks(inputs.flatten(1))
    torch.testing.assert_close(
        model(inputs).exp(),
        0.75 * head.task(embedding).softmax(-1) + 0.25 * (head.transfer(embedding) / 2).softmax(-1),
    )
    save_weights(model, tmp_path / "model", describe("mlp", {"hidden": [5]}, INFO))
    again = load_model(tmp_path / "model")
    torch.testing.assert_close(again(inputs), model(inputs))


def test_only_a_linear_classifier_gets_a_second() -> None:
    with pytest.raises(InputError, match="not a Conv2d"):
        DualHead(nn.Conv2d(1, 1, 1))
    with pytest.raises(InputError, match="no linear classifier that could get a second"):
        give_second_classifier(nn.Sequential(nn.Flatten()), alpha=0.5, beta=1.0, example=torch.zeros(2, 1, 4, 4))
