"""A model with a role in a transfer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.models.outputs import Outputs
from tutelage.models.taps import Taps, matching, standard_taps_of


class Participant:
    """A named model: whether it is trained, what is captured of it, and what is frozen in it.

    Args:
        name: Its slot: ``teacher``, ``student``.
        module: The model; taps sit on it, whatever wraps it later.
        trainable: Whether it is trained; otherwise it is frozen, in evaluation mode, and runs without a graph. (Under
            ``no_grad`` and not ``inference_mode``: a student's graph may hold on to a teacher's outputs.)
        taps: What to capture, see `Taps`.
        frozen: Globs of submodules that stay as they are although the model is trained.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        *,
        trainable: bool,
        taps: Sequence[str] = (),
        frozen: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.module = module
        self.trainable = trainable
        self.wrapped: nn.Module = module
        self._tap_names = tuple(taps)
        self._taps: Taps | None = None
        self._frozen = [module.get_submodule(path) for glob in frozen for path in matching(module, glob)]
        if not trainable:
            module.requires_grad_(False)
        for part in self._frozen:
            part.requires_grad_(False)
        self.mode(trainable)

    def mode(self, train: bool) -> None:
        """Training or evaluation mode; what is frozen stays in evaluation mode, so that its statistics do not move."""
        self.wrapped.train(train and self.trainable)
        for part in self._frozen:
            part.eval()

    def __call__(self, batch: Batch) -> Outputs:
        """Outputs for a batch, with what its taps captured."""
        if self._taps is None and self._tap_names:
            self._place(batch.inputs)
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            logits = self.wrapped(batch.inputs)
        return Outputs(logits, self._taps.collect() if self._taps is not None else {})

    def _place(self, example: Tensor) -> None:
        self._taps = Taps(self.module, self._tap_names, standard_taps_of(self.module, example[:2]))

    @property
    def parameters_total(self) -> int:
        """Parameters of the model, trained or not."""
        return sum(p.numel() for p in self.module.parameters())

    def close(self) -> None:
        """Take the taps off the model."""
        if self._taps is not None:
            self._taps.remove()
            self._taps = None
