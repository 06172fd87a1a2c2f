"""A model in a method: its role's name, whether it is trained, and the taps that sit in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.models.freezing import freeze, stay_in_eval, stays_in_eval
from tutelage.models.inert import evaluating
from tutelage.models.outputs import Outputs, first_tensor
from tutelage.models.paths import STANDARD, modules_of
from tutelage.models.standard import parameters_of, standard_taps_of
from tutelage.models.taps import Taps
from tutelage.recipe.errors import InputError

__all__ = ["Participant", "freeze", "observing", "stay_in_eval", "stays_in_eval"]


class Participant:
    """A named model of a method.

    One that is not trained has its parameters frozen, stays in evaluation mode and runs without a graph: under
    ``no_grad`` and not ``inference_mode``, because a student's loss saves the teacher's outputs for its backward pass,
    which inference tensors forbid. With ``gradients=True`` its forward keeps a graph all the same, so that gradients
    reach its features and inputs, though never its parameters.

    The taps sit in the raw module; forwards go through `wrapped`, whatever that is. Standard taps of a module that
    declares none are found at the first forward, from its inputs' shape.

    Args:
        name: Its role, e.g. ``teacher``.
        module: The raw module, ``[batch, *input_shape]`` to ``[batch, classes]`` logits.
        trainable: Whether it is trained.
        taps: What its forwards capture, see `Taps`.
        gradients: Whether forwards keep a graph; as ``trainable`` unless given.
        example: ``[batch, *input_shape]``, to find the standard taps of a module that declares none now.

    Attributes:
        wrapped: What is called: the module itself until the engine puts it in a wrapper (distributed, compiled).

    Raises:
        InputError: A tap matches nothing; the text lists the nearest real ones.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        *,
        trainable: bool,
        taps: Sequence[str] = (),
        gradients: bool | None = None,
        example: Tensor | None = None,
    ) -> None:
        self.name = name
        self.module = module
        self.trainable = trainable
        self.gradients = trainable if gradients is None else gradients
        self.wrapped: Any = module
        self._asked = tuple(taps)
        self._taps: Taps | None = None
        self._flags = [] if trainable else [(p, p.requires_grad) for p in module.parameters()]
        if not trainable:
            module.requires_grad_(False)
            module.eval()
        declared = getattr(module, "standard_taps", None) is not None
        if declared or example is not None or not set(taps) & set(STANDARD):
            self._place(example)

    def __call__(self, batch: Batch) -> Outputs:
        """Logits and captures for a batch.

        Raises:
            InputError: The model returns no tensor, or a capture is not usable, see `Taps.collect`.
        """
        return self.forward(*batch.arguments)

    def forward(self, *inputs: Tensor) -> Outputs:
        """As a call, for inputs ``[batch, *input_shape]`` that are no batch, e.g. generated ones."""
        taps = self._taps or self._place(inputs[0])
        with torch.set_grad_enabled(self.gradients and torch.is_grad_enabled()), taps.capturing():
            made = self.wrapped(*inputs)
        captured = taps.collect()
        if isinstance(made, Outputs):
            return made.with_taps(captured)
        return Outputs(self._logits(made), captured)

    def predict(self, inputs: Tensor) -> Tensor:
        """``[batch, classes]`` logits in evaluation mode, without a graph or captures; modes are as before afterwards.

        Goes through `wrapped`, as sharded modules must: in a distributed run every process calls it equally often.
        """
        with evaluating(self.module), torch.no_grad():
            return self._logits(self.wrapped(inputs))

    def mode(self, train: bool) -> None:
        """Training or evaluation mode; what is frozen, or not trained at all, stays in evaluation mode."""
        self.wrapped.train(train and self.trainable)
        self.module.train(train and self.trainable)

    @property
    def taps(self) -> tuple[str, ...]:
        """What was asked to be captured."""
        return self._asked

    @property
    def parameters_total(self) -> int:
        """How many numbers its parameters are, shared ones counted once."""
        return parameters_of(self.module)

    def classifier(self, example: Tensor | None = None) -> nn.Linear:
        """The last layer, whose ``weight`` ``[classes, width]`` and ``bias`` some objectives look at.

        Args:
            example: ``[batch, *input_shape]``, needed where the model declares no standard taps.

        Raises:
            InputError: The model has none.
        """
        path = standard_taps_of(self.module, example).get("classifier", "")
        part = modules_of(self.module).get(path.partition(":")[0])
        if not path or not isinstance(part, nn.Linear):
            raise InputError(f"the {self.name} ({type(self.module).__name__}) has no linear classifier")
        return part

    def close(self) -> None:
        """Take the taps out of the module; what was frozen only for this role can be trained in the next."""
        if self._taps is not None:
            self._taps.remove()
        for parameter, flag in self._flags:
            parameter.requires_grad_(flag)
        self._flags = []

    def _place(self, example: Tensor | None) -> Taps:
        try:
            self._taps = Taps(self.module, self._asked, example=example)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from error
        self._taps.enabled = False
        return self._taps

    def _logits(self, output: Any) -> Tensor:
        if isinstance(output, Outputs):
            return output.logits
        # Outputs of transformers put a loss first when they have one.
        found = getattr(output, "logits", None)
        logits = found if isinstance(found, Tensor) else first_tensor(output)
        if logits is None:
            raise InputError(f"the {self.name} ({type(self.module).__name__}) returns no tensor")
        return logits


@contextlib.contextmanager
def observing(
    name: str, module: nn.Module, taps: Sequence[str] = (), *, example: Tensor | None = None
) -> Iterator[Participant]:
    """A participant in evaluation mode and without a graph, for a while: the module is left as it was.

    Args:
        name: Its role.
        module: The raw module.
        taps: What its forwards capture.
        example: As for `Participant`.

    Raises:
        InputError: A tap matches nothing.
    """
    with evaluating(module), torch.no_grad():
        participant = Participant(name, module, trainable=False, taps=taps, example=example)
        try:
            yield participant
        finally:
            participant.close()
