"""What a language model makes of tokens: hidden states, and logits only where they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tutelage.models.outputs import Outputs


class TokenOutputs(Outputs):
    """Outputs of a language model.

    Logits of all positions are large, 200 MB for 1,000 tokens of a common vocabulary; a loss that looks at some
    positions takes them from the hidden states (`at`), and one that never needs them whole takes states and weight.

    Args:
        hidden: ``[batch, tokens, width]``: the last hidden states, which the output matrix is multiplied with.
        weight: ``[vocabulary, width]`` output matrix.
        bias: ``[vocabulary]``, if there is one.
        taps: What was captured.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None = None, taps: Mapping[str, Tensor] | None = None
    ) -> None:
        for name, value in {"hidden": hidden, "weight": weight, "bias": bias, "taps": dict(taps or {})}.items():
            object.__setattr__(self, name, value)

    @property
    def logits(self) -> Tensor:
        """``[batch, tokens, vocabulary]``, computed anew each time."""
        return torch.nn.functional.linear(self.hidden, self.weight, self.bias)

    def at(self, places: Tensor) -> Tensor:
        """``[places, vocabulary]`` logits of some positions.

        Args:
            places: Int64 places in the flattened ``[batch * tokens]``.
        """
        return torch.nn.functional.linear(self.hidden.flatten(0, 1)[places], self.weight, self.bias)

    def with_taps(self, taps: Mapping[str, Tensor]) -> TokenOutputs:
        """The same outputs, and captures."""
        return TokenOutputs(self.hidden, self.weight, self.bias, {**self.taps, **taps})

    def __eq__(self, other: Any) -> bool:
        return self is other

    __hash__ = object.__hash__
