"""Forward passes that leave a model as it was: for looking at shapes, counting, and finding standard taps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards each module's own mode again (not one mode for all of them)."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def dry_forward(module: nn.Module, example: Tensor) -> Any:
    """The output of an evaluation forward that computes shapes only, where the model can: no arithmetic, no memory.

    A model whose forward needs values (``.item()``, tensors that are no buffers) is run for real instead, on copies of
    its buffers; either way no parameter, buffer, mode or random state moves. Hooks fire.

    Args:
        module: Any model.
        example: ``[batch, *input_shape]``; only its shape and type count on the first way.
    """
    named = [*module.named_parameters(), *module.named_buffers()]
    on_meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in named}
    with evaluating(module), torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            return functional_call(module, on_meta, (example.to("meta"),))
        except (RuntimeError, NotImplementedError):
            if example.is_meta or any(tensor.is_meta for _, tensor in named):
                raise
        copies = {name: buffer.clone() for name, buffer in module.named_buffers()}
        return functional_call(module, copies, (example,))
