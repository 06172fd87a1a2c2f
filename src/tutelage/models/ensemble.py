"""Several models as one: the mean of what they say."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from tutelage.data.batch import DataInfo
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component
from tutelage.recipe.types import Of


@component("model", "ensemble")
class Ensemble(nn.Module):
    """Several models, each with weights of its own, that answer as one.

    Args:
        data: What it is built for.
        members: The models; each may have its own ``weights``.
        average: What is averaged: ``probabilities`` of the classes, ``sigmoids``: a probability of each class by
            itself, or ``logits``.
        shares: How much each member counts, in their order; null for all alike. They are divided by their sum.

    Raises:
        InputError: The shares are not one a member, or none is above 0.
    """

    shares: Tensor

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        members: Annotated[list[Annotated[Any, Of("model")]], MinLen(1)],
        average: Literal["probabilities", "sigmoids", "logits"] = "probabilities",
        shares: list[Annotated[float, Ge(0)]] | None = None,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(one if isinstance(one, nn.Module) else one.build(data) for one in members)
        self.average = average
        given = [1.0] * len(members) if shares is None else shares
        if len(given) != len(members) or not sum(given) > 0:
            raise InputError(f"an ensemble of {len(members)} members needs as many shares, some above 0, not {given}")
        # Not saved: a member that is trained further is still the same member.
        self.register_buffer("shares", torch.tensor(given) / sum(given), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, *input_shape]`` to ``[batch, classes]``: mean logits, or the logarithm of the mean probability.

        Of sigmoids it is their logit, so that the sigmoid of the output is the mean.
        """
        logits = torch.stack([member(inputs) for member in self.members])
        if self.average == "logits":
            return torch.einsum("m,mbc->bc", self.shares.to(logits.dtype), logits)
        if self.average == "probabilities":
            return self._log_mean(logits.float().log_softmax(-1))
        return self._log_mean(logsigmoid(logits.float())) - self._log_mean(logsigmoid(-logits.float()))

    def _log_mean(self, logarithms: Tensor) -> Tensor:
        return (logarithms + self.shares.log()[:, None, None]).logsumexp(0)
