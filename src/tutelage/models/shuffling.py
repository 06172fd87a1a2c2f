"""Copies of a network whose late filters look at the wrong channels (arXiv:2306.02368)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.conv import _ConvNd

from tutelage.models.inert import evaluating
from tutelage.recipe.errors import InputError


class Shuffles(nn.Module):
    """An ensemble of one network with input channels permuted at random in some convolutions.

    In each copy all filters of a layer are permuted alike. What is kept are the permutations alone: the copies are made
    of the network's own weights when they are asked.

    Args:
        network: The network; it is not held.
        copies: How many.
        layers: How many of the last convolutions are shuffled; negative for the first ones, 0 for none.

    Raises:
        InputError: The network has no convolution.
    """

    def __init__(self, network: nn.Module, *, copies: int = 3, layers: int = 5) -> None:
        super().__init__()
        every = [f"{path}.weight" for path, part in network.named_modules() if isinstance(part, _ConvNd)]
        if layers and not every:
            raise InputError(
                f"the teacher ({type(network).__name__}) has no convolution whose channels could be shuffled; use a "
                "convolutional teacher, or set n_shuffle_layers to 0"
            )
        self.layers = every[max(len(every) - layers, 0) :] if layers > 0 else every[: -layers or 0]
        self.copies = copies
        for place, name in enumerate(self.layers):
            width = network.get_parameter(name).shape[1]
            self.register_buffer(f"orders_{place}", torch.zeros(copies, width, dtype=torch.int64))
        self.draw()

    def draw(self) -> None:
        """Permute anew."""
        for orders in self.buffers():
            for copy in orders:
                copy.copy_(torch.randperm(len(copy), device=copy.device))

    def weights(self, network: nn.Module, copy: int) -> dict[str, Tensor]:
        """The shuffled weights of a copy, by name."""
        return {
            name: network.get_parameter(name)[:, orders[copy]]
            for name, orders in zip(self.layers, self.buffers(), strict=True)
        }

    def forward(self, network: nn.Module, images: Tensor) -> Tensor:
        """``[batch, classes]``: the mean of the copies' logits, in evaluation mode."""
        with evaluating(network):
            made = [functional_call(network, self.weights(network, copy), (images,)) for copy in range(self.copies)]
        return torch.stack(made).mean(0)
