"""The distillers of a panel that are no methods of their own: logits, hints in the middle, SimKD, ReviewKD."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tutelage.data.batch import Batch
from tutelage.distill.base import Distillation, LogitDistillation
from tutelage.distill.parts.features import captured, same_positions
from tutelage.engine.method import Room
from tutelage.engine.terms import Losses
from tutelage.losses import (
    cross_entropy,
    hierarchical_context,
    logit_distance,
    normalized_rest,
    normalized_target,
)
from tutelage.measure.dissection import spread
from tutelage.models.inert import evaluating
from tutelage.models.outputs import Outputs
from tutelage.models.standard import standard_taps_of
from tutelage.models.taps import Taps, places
from tutelage.recipe.errors import InputError


class LogitMSE(LogitDistillation):
    """The teacher's logits are regressed on, without labels."""

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``transfer``: squared difference, mean over classes."""
        return Losses(transfer=logit_distance(student.logits, teacher.logits))


class NKD(LogitDistillation):
    """The label with the teacher's weight, and the other classes among themselves (arXiv:2303.13005).

    Args:
        gamma: Weight of the other classes.
        temperature: Softens these.
    """

    def __init__(self, gamma: float, temperature: float) -> None:
        super().__init__()
        self.gamma, self.temperature = gamma, temperature

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``target + gamma * rest``."""
        target = normalized_target(student.logits, teacher.logits, batch.labels)
        rest = normalized_rest(student.logits, teacher.logits, batch.labels, temperature=self.temperature)
        return Losses(target=target, rest=rest).weighted(rest=self.gamma)


def middle(room: Room, name: str) -> str:
    """The tap of a model's middle block: of hidden states that include the embedding's, or of a network's stages.

    Raises:
        InputError: The model has no ``blocks``.
    """
    count = len(places(room.modules[name], ["blocks.*"]))
    tokens = captured(room, name, "features").ndim == 3
    return f"blocks.{max(0, count // 2 - 1) if tokens else count // 2}"


def maps_of(features: Tensor, what: str) -> Tensor:
    """Feature maps, tokens laid out in space.

    Raises:
        InputError: The layer has no positions.
    """
    try:
        return spread(features)
    except ValueError as error:
        raise InputError(f"{what}: {error}") from error


class Regressor(nn.Sequential):
    """A convolution from the student's map to the teacher's, with normalisation and ReLU, that meets its size.

    Args:
        student: ``[batch, channels, height, width]``.
        teacher: ``[batch, channels, height, width]``.

    Raises:
        InputError: The student's map is smaller, and not by half.
    """

    def __init__(self, student: Tensor, teacher: Tensor) -> None:
        ours, theirs = student.shape[1], teacher.shape[1]
        small, large = student.shape[2], teacher.shape[2]
        layer: nn.Module
        if small == 2 * large:
            layer = nn.Conv2d(ours, theirs, 3, stride=2, padding=1)
        elif 2 * small == large:
            layer = nn.ConvTranspose2d(ours, theirs, 4, stride=2, padding=1)
        elif small >= large:
            layer = nn.Conv2d(ours, theirs, 1 + small - large)
        else:
            raise InputError(f"a hint from {large} x {large} positions to {small} x {small} needs as many, or half")
        super().__init__(layer, nn.BatchNorm2d(theirs), nn.ReLU())


class MiddleHint(Distillation):
    """The regressed middle map of the student against the teacher's, beside labels, in one stage.

    Args:
        weight: Of the hint.
        student_tap: The student's layer; ``None`` for the middle one.
        teacher_tap: The teacher's.
    """

    def __init__(self, weight: float, student_tap: str | None, teacher_tap: str | None) -> None:
        super().__init__()
        self.weight = weight
        self.taps: dict[str, str | None] = {"student": student_tap, "teacher": teacher_tap}

    def setup(self, room: Room) -> None:
        """Tap both layers and build the regressor."""
        self.places = {name: tap or middle(room, name) for name, tap in self.taps.items()}
        shown = {n: maps_of(captured(room, n, tap), f"the {n}'s hint layer") for n, tap in self.places.items()}
        self.regressor = Regressor(shown["student"], shown["teacher"])

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``CE + weight * mean squared difference``."""
        ours = self.regressor(maps_of(student.taps[self.places["student"]], "student"))
        theirs = maps_of(teacher.taps[self.places["teacher"]], "teacher").detach()
        hint = (ours - theirs).float().square().mean((1, 2, 3))
        task = cross_entropy(student.logits, batch.labels)
        return Losses(task=task, hint=hint).weighted(hint=self.weight)


class SimKD(Distillation):
    """The teacher's classifier answers, on the student's features brought to its own (arXiv:2203.14001).

    Labels are not used, and the classifier does not move: only features are matched.

    Args:
        kind: ``cnn``: last feature maps, through a bottleneck of convolutions; ``cls``: embeddings, through a
            perceptron; ``dual``: as ``cls``, with the teacher's embedding brought to the student's beside it.
    """

    def __init__(self, kind: Literal["cnn", "cls", "dual"]) -> None:
        super().__init__()
        self.kind = kind
        self.tap = "features" if kind == "cnn" else "embedding"

    def setup(self, room: Room) -> None:
        """Tap both models, build what lies between, and copy the teacher's classifier.

        Raises:
            InputError: The teacher has no linear classifier, or a last layer has no positions.
        """
        shown = {name: self._seen(captured(room, name, self.tap)) for name in ("student", "teacher")}
        ours, theirs = shown["student"].shape[1], shown["teacher"].shape[1]
        build = _bottleneck if self.kind == "cnn" else _perceptron
        # A map of the same width still needs its convolutions, as in the paper; an embedding does not.
        same = ours == theirs and self.kind != "cnn"
        self.projector: nn.Module = nn.Identity() if same else build(ours, theirs)
        self.inverter: nn.Module = _perceptron(theirs, ours) if self.kind == "dual" and not same else nn.Identity()
        teacher = room.modules["teacher"]
        path = standard_taps_of(teacher, room.example.inputs).get("classifier")
        if path is None:
            raise InputError("simkd: the teacher has no linear classifier that could answer for the student")
        self.head = copy.deepcopy(teacher.get_submodule(path)).requires_grad_(False)

    def _seen(self, features: Tensor) -> Tensor:
        return maps_of(features, "simkd_cnn") if self.kind == "cnn" else features

    def _pair(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        ours, theirs = self._seen(student.taps[self.tap]), self._seen(teacher.taps[self.tap]).detach()
        first, second = same_positions(ours, theirs)
        return self.projector(first), second

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``feature``: mean squared difference; ``inverse``, the same in the student's width, for ``dual``."""
        ours, theirs = self._pair(student, teacher)
        terms = Losses(feature=(ours - theirs).float().square().flatten(1).mean(1))
        if self.kind != "dual":
            return terms
        back = self.inverter(theirs) - self._seen(student.taps[self.tap])
        return terms | Losses(inverse=back.float().square().flatten(1).mean(1))

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """The teacher's classifier on what the projector makes of the student's features."""
        taps = Taps(model, [self.tap], example=inputs)
        try:
            model(inputs)
            features = self._seen(taps.collect()[self.tap])
        finally:
            taps.remove()
        with evaluating(self):
            return self.answer(features)

    def answer(self, features: Tensor) -> Tensor:
        """``[batch, classes]`` logits from the student's features."""
        found = self.projector(features)
        logits: Tensor = self.head(found.mean((2, 3)) if found.ndim == 4 else found)
        return logits


def _bottleneck(ours: int, theirs: int) -> nn.Sequential:
    half = max(1, theirs // 2)
    layers: list[nn.Module] = []
    for before, after, side in ((ours, half, 1), (half, half, 3), (half, theirs, 1)):
        layers += [nn.Conv2d(before, after, side, padding=side // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def _perceptron(ours: int, theirs: int) -> nn.Sequential:
    half = max(1, ours // 2)
    layers: list[nn.Module] = []
    for before, after in ((ours, half), (half, half), (half, theirs)):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers)


class ReviewKD(LogitDistillation):
    """Each of the teacher's stages is learned from the student's stages of that depth and all deeper ones.

    From arXiv:2104.09044: stages are fused from the deepest to the shallowest by attention, and compared in their
    hierarchical context. Models of different depth are compared at their last stages.

    Args:
        weight: Of the distances, summed over stages.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def setup(self, room: Room) -> None:
        """Tap the stages and build the fusions."""
        super().setup(room)
        paths = {name: list(places(room.modules[name], ["blocks.*"])) for name in ("student", "teacher")}
        depth = min(len(each) for each in paths.values())
        self.places = {name: each[-depth:] for name, each in paths.items()}
        shown = {n: [maps_of(captured(room, n, path), "reviewkd") for path in each] for n, each in self.places.items()}
        inner = min(256, max(one.shape[1] for one in shown["teacher"]))
        pairs = list(zip(shown["student"], shown["teacher"], strict=True))
        self.fusions = nn.ModuleList(
            _Fusion(ours.shape[1], inner, theirs.shape[1], last=i == depth - 1)
            for i, (ours, theirs) in enumerate(pairs)
        )

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``CE + weight * sum over stages of the distance``."""
        distance: Tensor | None = None
        deeper: Tensor | None = None
        for i in reversed(range(len(self.fusions))):
            ours = maps_of(student.taps[self.places["student"][i]], "student")
            theirs = maps_of(teacher.taps[self.places["teacher"][i]], "teacher").detach()
            fused, deeper = self.fusions[i](ours, deeper)
            here = hierarchical_context(*same_positions(fused, theirs))
            distance = here if distance is None else distance + here
        assert distance is not None
        return (self.task(student, batch) | Losses(review=distance)).weighted(review=self.weight)


class _Fusion(nn.Module):
    """A stage's map and what came from the deeper ones, weighted position by position."""

    def __init__(self, ours: int, inner: int, theirs: int, *, last: bool) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(ours, inner, 1, bias=False), nn.BatchNorm2d(inner))
        self.attend = None if last else nn.Sequential(nn.Conv2d(2 * inner, 2, 1), nn.Sigmoid())
        self.leave = nn.Sequential(nn.Conv2d(inner, theirs, 3, padding=1, bias=False), nn.BatchNorm2d(theirs))

    def forward(self, here: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """In the teacher's width, and in the inner one for the stage before."""
        x: Tensor = self.enter(here)
        if self.attend is not None and deeper is not None:
            other = interpolate(deeper, x.shape[2:], mode="nearest")
            share = self.attend(torch.cat([x, other], 1))
            x = x * share[:, :1] + other * share[:, 1:]
        return self.leave(x), x
