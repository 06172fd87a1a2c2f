"""A teacher's classifier fitted to a few labels, held near where it was, as CLAP does (arXiv:2312.12730)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from tutelage.engine.method import Method, Step, Turn
from tutelage.engine.optimizers import sgd
from tutelage.engine.terms import Losses
from tutelage.losses import cross_entropy
from tutelage.models.freezing import freeze
from tutelage.models.standard import standard_taps_of
from tutelage.recipe.errors import InputError


class Prototypes(Method):
    """Cross-entropy, and each class's weights pulled back to their start, as strongly as they were right.

    The loss is CE + Σ_c a_c ‖w_c − w_c⁰‖².

    Args:
        weight: ``[classes, width]`` the classifier's weights, which are trained.
        strength: ``[classes]`` a: how well each class was known at the start.
        lr: Learning rate of stochastic gradient descent with momentum 0.9.
    """

    start: Tensor
    strength: Tensor

    def __init__(self, weight: Tensor, strength: Tensor, lr: float) -> None:
        super().__init__()
        self.lr = lr
        # Found through the stage's model, whose device it follows; not a part of this module.
        self._weight = [weight]
        self.register_buffer("start", weight.detach().clone())
        self.register_buffer("strength", strength)

    def turns(self) -> Sequence[Turn]:
        """One, with an optimiser of its own."""
        own = partial(sgd, lr=self.lr, momentum=0.9, weight_decay=0.0)
        return (Turn("prototypes", self.fit, trains=("teacher",), optimizer=own),)

    def fit(self, step: Step) -> Losses:
        """Both terms."""
        logits = step.forward("teacher").logits
        away = (self._weight[0] - self.start).square().sum(1)
        return Losses(task=cross_entropy(logits, step.batch.labels), anchor=(self.strength * away).sum())


def few_shot(
    teacher: nn.Module, inputs: Tensor, labels: Tensor, classes: int, lr: float
) -> tuple[nn.Module, Prototypes]:
    """A copy of a teacher of which only the classifier's weights can be trained, and the method that trains them.

    Args:
        teacher: As it was before any label was bought; left alone.
        inputs: ``[labelled, *input_shape]``.
        labels: ``[labelled]`` int64.
        classes: Number of classes.
        lr: Learning rate.

    Raises:
        InputError: The teacher has no linear classifier.
    """
    own = copy.deepcopy(teacher).eval()
    path = standard_taps_of(own, inputs[:2]).get("classifier", "")
    part = own.get_submodule(path) if path else None
    if not isinstance(part, nn.Linear):
        raise InputError(f"the teacher {type(own).__name__} has no linear classifier that could be fitted to labels")
    with torch.no_grad():
        right = own(inputs).float().softmax(-1).gather(1, labels[:, None]).squeeze(1)
    sums = torch.zeros(classes, device=right.device).index_add_(0, labels, right)
    counts = torch.bincount(labels, minlength=classes)
    for parameter in own.parameters():
        parameter.requires_grad_(True)
    freeze(own, [name for name, _ in own.named_parameters() if name != f"{path}.weight"])
    return own, Prototypes(part.weight, sums / counts.clamp(min=1), lr)
