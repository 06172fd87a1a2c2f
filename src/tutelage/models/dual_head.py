"""Two classifiers on one backbone, which answer together: one taught by labels, one by a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from tutelage.models.parts import put
from tutelage.models.standard import standard_taps_of
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


@component("part", "dual-head")
class DualHead(nn.Module):
    """Two linear classifiers whose probabilities are mixed; the model answers with logarithms of the mixture.

    Args:
        replaced: The linear classifier whose place it takes; only its shape counts.
        alpha: Share of the second classifier, which a teacher teaches.
        beta: Temperature of the second classifier's probabilities in the mixture.

    Raises:
        InputError: What it replaces is no linear classifier.
    """

    def __init__(
        self,
        replaced: nn.Module,
        /,
        *,
        alpha: Annotated[float, Ge(0), Le(1)] = 0.5,
        beta: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        super().__init__()
        if not isinstance(replaced, nn.Linear):
            raise InputError(
                f"only a linear classifier can get a second one beside it, not a {type(replaced).__name__}"
            )
        self.alpha, self.beta = alpha, beta
        weight = replaced.weight

        def like() -> nn.Linear:
            shape, bias = (replaced.in_features, replaced.out_features), replaced.bias is not None
            return nn.Linear(*shape, bias=bias, device=weight.device, dtype=weight.dtype)

        self.task, self.transfer = like(), like()

    def forward(self, embedding: Tensor) -> Tensor:
        """``[batch, width]`` to ``[batch, classes]``: see `mixed`."""
        return mixed(self.task(embedding), self.transfer(embedding), alpha=self.alpha, beta=self.beta)

    def described(self) -> Mapping[str, Any]:
        """What a saved model says of it."""
        return {"name": "dual-head", "alpha": self.alpha, "beta": self.beta}


def mixed(task: Tensor, transfer: Tensor, *, alpha: float, beta: float) -> Tensor:
    """log((1 − alpha) softmax(task) + alpha softmax(transfer / beta)) (arXiv:2506.00910).

    Args:
        task: ``[batch, classes]`` logits.
        transfer: ``[batch, classes]`` logits.
        alpha: Share of the second, in [0, 1].
        beta: Temperature of the second, above 0.

    Returns:
        ``[batch, classes]`` float32 or better; its softmax is the mixture.
    """
    shares = torch.log(torch.tensor([1.0 - alpha, alpha], device=task.device))
    both = torch.stack(
        [task.float().log_softmax(-1) + shares[0], (transfer.float() / beta).log_softmax(-1) + shares[1]]
    )
    return both.logsumexp(0)


def give_second_classifier(model: nn.Module, *, alpha: float, beta: float, example: Tensor) -> str:
    """Put a `DualHead` in place of a model's classifier, unless it has one.

    Args:
        model: Changed in place.
        alpha: See `DualHead`.
        beta: See `DualHead`.
        example: ``[batch, *input_shape]``, to find the classifier of a model that does not declare it.

    Returns:
        Where it is: taps at ``<path>.task`` and ``<path>.transfer`` see the two classifiers' logits.

    Raises:
        InputError: The model has no linear classifier.
    """
    found: list[str] = [path for path, part in model.named_modules() if isinstance(part, DualHead)]
    if found:
        return found[0]
    path: str = standard_taps_of(model, example).get("classifier", "")
    if not path:
        raise InputError(f"the model {type(model).__name__} has no linear classifier that could get a second beside it")
    put(model, path, DualHead(model.get_submodule(path), alpha=alpha, beta=beta))
    return path
