"""Teachers specialised by a mask on one of their layers: how they are found, asked, and kept at their best."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tutelage.data.splits import ids_of
from tutelage.engine.callbacks import Callback
from tutelage.engine.method import Room, Step
from tutelage.losses import kl_divergence
from tutelage.models.inert import evaluating
from tutelage.models.paths import Place, modules_of, resolve
from tutelage.models.rewriting import FeatureMask, rewritten
from tutelage.models.taps import places
from tutelage.recipe.errors import InputError

if TYPE_CHECKING:
    from tutelage.engine.trainer import Trainer


@dataclass(frozen=True)
class Specialist:
    """A teacher with a mask on one layer.

    Args:
        teacher: Name of the participant.
        place: The layer.
        mask: What its features are multiplied by.
    """

    teacher: str
    place: Place
    mask: FeatureMask

    @property
    def name(self) -> str:
        """The teacher and its layer, in words."""
        return f"{self.teacher} at {self.place}"

    def logits(self, step: Step) -> Tensor:
        """``[batch, classes]``: what it says of a step's batch."""
        with rewritten(step.participants[self.teacher].module, self.place, self.mask):
            return step.forward(self.teacher).logits

    def predict(self, teacher: nn.Module, inputs: Tensor) -> Tensor:
        """``[batch, classes]`` of inputs, in evaluation mode and without a graph."""
        with torch.no_grad(), evaluating(teacher), evaluating(self.mask), rewritten(teacher, self.place, self.mask):
            logits: Tensor = teacher(inputs)
        return logits


def layers_of(room: Room, name: str, asked: Sequence[str]) -> dict[Place, Tensor]:
    """The layers of a teacher that masks go on, each with an example of what passes it.

    Args:
        room: Where the teacher is.
        name: Its name.
        asked: Taps; empty for its last two blocks.

    Raises:
        InputError: There is no such layer, or no block.
    """
    module = room.modules[name]
    modules = modules_of(module)
    if not asked:
        try:
            asked = resolve("blocks.*", modules, "layer")[-2:]
        except InputError as error:
            raise InputError(f"{name}: {error} Name its layers by {name}_layers") from error
    found = places(module, asked, modules, example=room.example.inputs)
    # A room of its own: what is looked at once need not be captured in every step.
    look = Room(room.modules, room.info, room.example, ())
    look.tap(name, *asked)
    taps = look.look(name).taps
    return {place: taps[key] for key, place in found.items()}


class BestMasks(Callback):
    """Hand on the masks of the epoch in which what all say of the validation split is closest to the student.

    Args:
        specialists: Those whose masks are trained.
        temperature: Of the divergence.
    """

    def __init__(self, specialists: Sequence[Specialist], temperature: float) -> None:
        self.specialists, self.temperature = specialists, temperature
        self.best: float | None = None
        self.states: list[dict[str, Any]] = []

    def started(self, trainer: Trainer) -> None:
        """Refuse to decide by samples that are held out."""
        if trainer.validation is not None and trainer.splits.domains is not None:
            trainer.splits.domains.refuse_held_out(ids_of(trainer.validation), "mst-distill")

    def validated(self, trainer: Trainer, epoch: int, scores: Mapping[str, float]) -> None:
        """Keep copies where the epoch is the best so far; without a validation split the last one counts."""
        if trainer.validation is None:
            return
        total = float(divergences(self.specialists, trainer, self.temperature).sum())
        if self.best is None or total < self.best:
            self.best = total
            self.states = [copy.deepcopy(dict(one.mask.state_dict())) for one in self.specialists]

    def finished(self, trainer: Trainer) -> None:
        """Hand on the best."""
        for one, state in zip(self.specialists, self.states, strict=False):
            one.mask.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        """The best masks and how close they were."""
        return {"best": self.best, "states": self.states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on comparing."""
        self.best, self.states = state["best"], [dict(one) for one in state["states"]]


def divergences(specialists: Sequence[Specialist], trainer: Trainer, temperature: float) -> Tensor:
    """``[specialists]``: mean divergence of each from the student, on the validation split."""
    examples, size = trainer.validation, trainer.settings.batch_size
    assert examples is not None
    total = torch.zeros(len(specialists))
    models = trainer.stage.models
    for start in range(0, len(examples), size):
        batch = examples.fetch(range(start, min(start + size, len(examples)))).to(trainer.device)
        with torch.no_grad(), evaluating(models["student"]):
            student = models["student"](batch.inputs)
        for place, one in enumerate(specialists):
            said = one.predict(models[one.teacher], batch.inputs)
            total[place] += kl_divergence(said, student, temperature=temperature).sum().cpu()
    return total / len(examples)
