"""What a model said about a split: the one thing that measures read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Predicted:
    """A model's predictions for the samples of one split. NumPy arrays are accepted and become tensors on the CPU.

    Args:
        name: Whose predictions they are, e.g. ``student``.
        logits: ``[n, classes]``; ``-inf`` marks a class the model cannot name.
        labels: ``[n]`` int64 class indices.
        ids: ``[n]`` int64: each sample's stable position in its data set.

    Raises:
        ValueError: The shapes do not fit together, there is no sample, or a label is outside ``[0, classes)``.
    """

    name: str
    logits: Tensor
    labels: Tensor
    ids: Tensor

    def __post_init__(self) -> None:
        for field, kind in (("logits", torch.float32), ("labels", torch.int64), ("ids", torch.int64)):
            object.__setattr__(self, field, torch.as_tensor(getattr(self, field)).detach().to("cpu", kind))
        if self.logits.ndim != 2 or not self.logits.numel():
            raise ValueError(f"logits of '{self.name}' must be [n, classes] with n >= 1, not {list(self.logits.shape)}")
        n, classes = self.logits.shape
        for field in ("labels", "ids"):
            shape = tuple(getattr(self, field).shape)
            if shape != (n,):
                raise ValueError(f"{field} of '{self.name}' must be [{n}] to fit its logits, not {list(shape)}")
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= classes:
            raise ValueError(f"labels of '{self.name}' must lie in [0, {classes}), the classes of its logits")

    def __len__(self) -> int:
        return int(self.logits.shape[0])

    @cached_property
    def log_probabilities(self) -> Tensor:
        """``[n, classes]`` float64; a row of NaN where the model's output is not a distribution."""
        return torch.log_softmax(self.logits.double(), dim=1)

    @cached_property
    def probabilities(self) -> Tensor:
        """``[n, classes]`` float64."""
        return self.log_probabilities.exp()

    @cached_property
    def classes(self) -> Tensor:
        """``[n]`` int64: the predicted class; -1 where the output is NaN, so a diverged model is not right by luck."""
        broken = self.log_probabilities.isnan().any(dim=1)
        return self.logits.argmax(dim=1).masked_fill(broken, -1)

    @cached_property
    def correct(self) -> Tensor:
        """``[n]`` bool: whether the predicted class is the label."""
        return self.classes == self.labels

    @cached_property
    def losses(self) -> Tensor:
        """``[n]`` float64: cross-entropy of each sample, in nats."""
        return -self.log_probabilities.gather(1, self.labels[:, None])[:, 0]

    def aligned_to(self, other: Predicted) -> Predicted:
        """The same predictions in the other's sample order.

        Raises:
            ValueError: The two are not about the same samples, or disagree on a label, so comparing them means nothing.
        """
        mine = self
        if not torch.equal(self.ids, other.ids):
            here, there = self.ids.argsort(stable=True), other.ids.argsort(stable=True)
            if len(self) != len(other) or not torch.equal(self.ids[here], other.ids[there]):
                raise ValueError(f"'{self.name}' and '{other.name}' were measured on different samples")
            order = torch.empty_like(here)
            order[there] = here
            mine = Predicted(self.name, self.logits[order], self.labels[order], self.ids[order])
        if not torch.equal(mine.labels, other.labels):
            raise ValueError(f"'{self.name}' and '{other.name}' have different labels for the same samples")
        return mine
