"""CAT-KD: class attention transfer (arXiv:2304.12777, CVPR 2023)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.base import LogitDistillation
from tutelage.distill.parts.features import as_map, captured, classifier_of, map_grid
from tutelage.distill.parts.map_sheet import map_sheet
from tutelage.engine.method import Room
from tutelage.engine.terms import Losses
from tutelage.losses import binary_maps, class_activation_maps, class_attention
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped


@method("cat-kd", paper="arXiv:2304.12777", route="distill")
class CATKD(LogitDistillation):
    """Teach where in an image each class is found: match class activation maps of all classes, labels optional.

    The maps are what the classifier's weight makes of each position of the last feature map, so nothing is rebuilt; the
    classifier must see that map's mean. Without labels (``ce_weight: 0``) it is the paper's CAT. Choose the weight so
    that the weighted term lies between 1 and 50 after the first epoch: it is a mean over classes, so more classes need
    more.

    Args:
        cat_weight: Weight of the maps' difference; the paper has 0.5 to 600 by pair, the small ones without
            ``normalize``.
        resolution: Side that maps are pooled to.
        normalize: Bring each pooled map to length 1, so that its scale does not count; advised where teacher and
            student are built differently.
        ce_weight: Weight of the label term.
        binarize: Replace each of the teacher's maps by where it is above its mean absolute value (a study of the
            paper).
        classes: Compare the maps of all classes, or of those that the teacher finds most or least likely (a study).
        class_count: How many classes ``top`` and ``bottom`` take.
        bias: Whether the student's classifier has a bias; without, its logits are exactly its maps' means, as in the
            authors' code.
        feature: Tap of the last feature map, or of the last tokens.
        classifier: Path of the linear layer after it.
    """

    def __init__(
        self,
        *,
        cat_weight: Annotated[float, Ge(0), Ramped()] = 400.0,
        resolution: Annotated[int, Ge(1)] = 2,
        normalize: bool = True,
        ce_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        binarize: bool = False,
        classes: Literal["all", "top", "bottom"] = "all",
        class_count: Annotated[int, Ge(1)] | None = None,
        bias: bool = True,
        feature: str = "features",
        classifier: str = "classifier",
    ) -> None:
        super().__init__()
        self.cat_weight, self.ce_weight = cat_weight, ce_weight
        self.resolution, self.normalize, self.binarize = resolution, normalize, binarize
        self.classes, self.class_count, self.bias = classes, class_count, bias
        self.feature, self.classifier = feature, classifier

    def setup(self, room: Room) -> None:
        """Tap the maps, and see that the classifiers look at their mean.

        Raises:
            InputError: A tap or classifier is not there, the classifier sees something else, or there are not as many
                classes as are to be chosen.
        """
        super().setup(room)
        if (self.classes == "all") is not (self.class_count is None):
            given = "nothing" if self.class_count is None else str(self.class_count)
            raise InputError(
                f"method.class_count: 'top' and 'bottom' need a number of classes, and 'all' takes none; got "
                f"{given} with '{self.classes}'"
            )
        if self.class_count is not None and self.class_count > room.info.classes:
            raise InputError(f"method.class_count: {self.class_count} of {room.info.classes} classes cannot be chosen")
        # Not as submodules: the student's classifier is the student's to train and save.
        self._seers = {name: _Seer(room, name, self.feature, self.classifier) for name in ("teacher", "student")}
        head = self._seers["student"].head
        if not self.bias and head.bias is not None:
            nn.init.zeros_(head.bias)
            head.bias.requires_grad_(False)

    def maps(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        """``[batch, classes, height, width]`` class activation maps of student and teacher, the teacher's detached."""
        ours = self._seers["student"].maps(student)
        return ours, self._seers["teacher"].maps(teacher).detach()

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``ce * CE + cat * mean squared difference of the pooled maps``."""
        ours, theirs = self.maps(student, teacher)
        chosen = None
        if self.class_count is not None:
            chosen = teacher.logits.detach().topk(self.class_count, largest=self.classes == "top").indices
        apart = class_attention(
            ours,
            binary_maps(theirs) if self.binarize else theirs,
            resolution=self.resolution,
            normalize=self.normalize,
            chosen=chosen,
        )
        terms = Losses(maps=apart).weighted(maps=self.cat_weight)
        if self.ce_weight == 0:
            return terms
        return self.task(student, batch).weighted(task=self.ce_weight) | terms


class _Seer:
    """Makes a model's class activation maps of its captures."""

    def __init__(self, room: Room, name: str, feature: str, classifier: str) -> None:
        self.feature = feature
        shown = captured(room, name, feature)
        self.grid = map_grid(room, name, shown, "method.feature")
        self.head = classifier_of(room, name, classifier)
        laid = as_map(shown, self.grid)
        fits = laid.shape[1] == self.head.in_features
        if fits:
            logits = room.look(name).logits
            told = self.head(laid.mean((2, 3)))
            fits = told.shape == logits.shape and torch.allclose(told, logits, rtol=1e-2, atol=1e-3)
        if not fits:
            raise InputError(
                f"the {name}'s classifier does not see the mean of '{feature}' {list(shown.shape[1:])}, so its class "
                "activation maps are not exact; name the last feature map before a global average and one linear layer"
            )

    def maps(self, outputs: Outputs) -> Tensor:
        return class_activation_maps(as_map(outputs.taps[self.feature], self.grid), self.head.weight)


def render(
    teacher: nn.Module,
    student: nn.Module,
    examples: Batch,
    path: str | Path,
    *,
    feature: str = "features",
    classifier: str = "classifier",
) -> Path:
    """Draw the maps of each sample's labelled class, teacher beside student, into a picture file.

    Args:
        teacher: The teacher.
        student: The student.
        examples: What they are shown, a row each; labels are class indices.
        path: Where the picture goes.
        feature: As for the method.
        classifier: As for the method.

    Returns:
        The path.

    Raises:
        InputError: The maps do not exist, or matplotlib is not installed.
    """
    shape = tuple(examples.inputs.shape[1:])
    room = Room({"teacher": teacher, "student": student}, DataInfo(shape, 0, (), ""), examples, ())
    row = torch.arange(len(examples), device=examples.labels.device)
    shown = {}
    with torch.no_grad():
        for name in ("teacher", "student"):
            maps = _Seer(room, name, feature, classifier).maps(room.look(name))
            shown[name] = maps[row, examples.labels]
    titles = [f"class {int(label)}" for label in examples.labels]
    return map_sheet(path, examples.inputs, shown, titles=titles)
