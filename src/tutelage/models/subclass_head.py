"""A classifier over subclasses that answers with classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from tutelage.losses import class_logits
from tutelage.models.parts import put
from tutelage.models.standard import standard_taps_of
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


@component("part", "subclass-head")
class SubclassHead(nn.Module):
    """A linear classifier with several outputs a class; a class is as probable as its subclasses together.

    The model that it is put into keeps answering ``[batch, classes]``, so that it is measured, exported and used as
    any other.

    Args:
        replaced: The linear classifier whose place it takes; only its shape counts.
        subclasses: Outputs a class.

    Raises:
        InputError: What it replaces is no linear classifier.
    """

    present: Tensor

    def __init__(self, replaced: nn.Module, /, *, subclasses: Annotated[int, Ge(1)]) -> None:
        super().__init__()
        if not isinstance(replaced, nn.Linear):
            raise InputError(f"only a linear classifier can get subclasses, not a {type(replaced).__name__}")
        self.count = subclasses
        weight = replaced.weight
        self.subclasses = nn.Linear(
            replaced.in_features,
            replaced.out_features * subclasses,
            bias=replaced.bias is not None,
            device=weight.device,
            dtype=weight.dtype,
        )
        self.register_buffer(
            "present", torch.ones(replaced.out_features, subclasses, dtype=torch.bool, device=weight.device)
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """``[batch, width]`` to ``[batch, classes]`` logits."""
        return class_logits(self.split(self.subclasses(embedding)))

    def split(self, logits: Tensor) -> Tensor:
        """``[batch, classes * subclasses]`` as ``[batch, classes, subclasses]``; those that do not exist get −inf."""
        split: Tensor = logits.unflatten(-1, self.present.shape)
        return split.masked_fill(~self.present, float("-inf"))

    def described(self) -> Mapping[str, Any]:
        """What a saved model says of it."""
        return {"name": "subclass-head", "subclasses": self.count}


def divide_classifier(model: nn.Module, subclasses: int, example: Tensor) -> tuple[str, SubclassHead]:
    """Give a model's classifier several outputs a class, newly initialised, unless it has them already.

    Args:
        model: Changed in place.
        subclasses: Outputs a class.
        example: ``[batch, *input_shape]``, to find the classifier of a model that does not declare it.

    Returns:
        The tap at which its logits of subclasses, ``[batch, classes * subclasses]``, are found; and the new head.

    Raises:
        InputError: The model has no linear classifier, or one with another number of subclasses.
    """
    found = {path: part for path, part in model.named_modules() if isinstance(part, SubclassHead)}
    if not found:
        path = standard_taps_of(model, example).get("classifier", "")
        if not path:
            raise InputError(f"the model {type(model).__name__} has no linear classifier that could get subclasses")
        head = SubclassHead(model.get_submodule(path), subclasses=subclasses)
        put(model, path, head)
        found[path] = head
    path, head = next(iter(found.items()))
    if head.count != subclasses:
        raise InputError(f"the model's head has {head.count} subclasses a class already; expected {subclasses}")
    return f"{path}.subclasses", head
