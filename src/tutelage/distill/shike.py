"""SHIKE: experts of different depths that teach each other, for long-tailed classes (arXiv:2304.01279, CVPR 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tutelage.data.splits import labels_of
from tutelage.engine.method import Finding, Method, Result, Room, Step, Train, Turn
from tutelage.engine.predicting import predict
from tutelage.engine.terms import Losses
from tutelage.losses import (
    balanced_cross_entropy,
    cross_entropy,
    hardest_negative_suppression,
    mutual_divergence,
)
from tutelage.models.expert_resnet import ExpertResNet
from tutelage.models.freezing import stay_in_eval
from tutelage.models.outputs import Outputs
from tutelage.models.taps import Taps
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe
from tutelage.recipe.types import Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run


class Excavation(Method):
    """The first stage: every expert learns the labels and from the others, and all keep the hardest wrong class down.

    Args:
        mutual_weight: See `SHIKE`.
        hns_weight: See `SHIKE`.
        hns_target: See `SHIKE`.
        kl_reduction: See `SHIKE`.
        detach_teacher: See `SHIKE`.
    """

    def __init__(
        self,
        mutual_weight: float,
        hns_weight: float,
        hns_target: Literal["released", "excluded"],
        kl_reduction: str,
        detach_teacher: bool,
    ) -> None:
        super().__init__()
        self.mutual_weight, self.hns_weight, self.hns_target = mutual_weight, hns_weight, hns_target
        self.kl_reduction, self.detach_teacher = kl_reduction, detach_teacher

    def setup(self, room: Room) -> None:
        """Look at the experts' heads."""
        room.tap("student", "heads.*")

    def turns(self) -> Sequence[Turn]:
        """The experts move together."""
        return (Turn("experts", self.compare, trains=("student",)),)

    def compare(self, step: Step) -> Losses:
        """``Σ CE + mutual * Σ KL between experts + hns * Σ KL to the grand teacher``."""
        logits = logits_of(step.forward("student"), "heads")
        return self.loss(logits, step.batch.labels)

    def loss(self, logits: Tensor, labels: Tensor) -> Losses:
        """Of ``[experts, batch, classes]`` logits and ``[batch]`` class indices, per sample."""
        # An element mean divides by the classes too.
        share = 1 / logits.shape[-1] if self.kl_reduction == "mean" else 1.0
        suppression = hardest_negative_suppression(
            logits, labels, target=self.hns_target, detach_teacher=self.detach_teacher
        )
        return Losses(
            task=cross_entropy(logits, labels.expand(len(logits), -1)).sum(0),
            mutual=share * mutual_divergence(logits, detach_teacher=self.detach_teacher),
            suppression=share * suppression,
        ).weighted(mutual=self.mutual_weight, suppression=self.hns_weight)


class Balancing(Method):
    """The second stage: a new head of each expert, for classes of equal weight, and nothing else moves.

    Args:
        counts: ``[classes]`` training samples of each class.
        rt_init: See `SHIKE`.
        lr_scale: See `SHIKE`.
        freeze_statistics: See `SHIKE`.
    """

    counts: Tensor

    def __init__(self, counts: Tensor, rt_init: str, lr_scale: float, freeze_statistics: bool) -> None:
        super().__init__()
        self.rt_init, self.lr_scale, self.freeze_statistics = rt_init, lr_scale, freeze_statistics
        self.register_buffer("counts", counts)

    def setup(self, room: Room) -> None:
        """Freeze all but the balanced heads, which are what predicts from now on."""
        student = room.modules["student"]
        assert isinstance(student, ExpertResNet)
        if self.rt_init == "copy":
            student.balanced_heads.load_state_dict(student.heads.state_dict())
        student.balance()
        for name, parameter in student.named_parameters():
            # Left out of the optimiser: of gradients of zero, weight decay would still shrink what is frozen.
            parameter.requires_grad_(name.startswith("balanced_heads."))
        if self.freeze_statistics:
            for part in student.modules():
                if isinstance(part, _BatchNorm):
                    stay_in_eval(part)
        room.tap("student", "balanced_heads.*")

    def turns(self) -> Sequence[Turn]:
        """The balanced heads move."""
        return (Turn("balance", self.compare, trains=("student",), scales={"student": self.lr_scale}),)

    def compare(self, step: Step) -> Losses:
        """``Σ CE(logits + log counts)``, per sample."""
        logits = logits_of(step.forward("student"), "balanced_heads")
        labels = step.batch.labels.expand(len(logits), -1)
        return Losses(task=balanced_cross_entropy(logits, labels, self.counts).sum(0))


@method("shike", paper="arXiv:2304.01279", route="distill")
class SHIKE(Method):
    """Experts inside one network, each looking back to another depth, teach each other; then their heads are balanced.

    Long-tailed classes differ in the depth that serves them. In a first stage the experts learn labels, each other's
    distributions, and to hold down the hardest wrong class together; in a second one, the last epochs, only a new
    classifier of each expert is trained, with log class counts added to its logits. The student is an `expert-resnet`;
    the network predicts with the mean of these classifiers, without counts.

    Args:
        hns_weight: Weight of the hardest negatives' suppression.
        mutual_weight: Weight of the divergences between experts.
        hns_target: What stands at the label in the suppression: 0 for the teacher and -30 for the expert, as
            ``released``; or the label is ``excluded`` from both, which is the paper's idea.
        kl_reduction: Divergences are averaged over classes too (``mean``, as released) or only over the batch
            (``batchmean``): then weights of a classes-th part mean the same.
        detach_teacher: Let no gradient flow to the teaching side of the divergences; the released code lets it.
        balanced_share: Share of the epochs, at the end, that the second stage has: 20 of 200.
        balanced_lr_scale: Its factor on the learning rate: 0.1 after 0.15.
        rt_init: Where the second stage's classifiers begin: anew (``fresh``), or as a ``copy`` of the first's.
        freeze_statistics: Keep batch statistics in the second stage; the released code moves them.
        many: A class with more training samples than this counts as frequent in the report.
        few: A class with fewer counts as rare.
    """

    slots: ClassVar[dict[str, str]] = {"student": "model", "data": "data"}
    hard_labels: ClassVar[bool] = True

    def __init__(
        self,
        *,
        hns_weight: Annotated[float, Ge(0), Ramped()] = 10.0,
        mutual_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        hns_target: Literal["released", "excluded"] = "released",
        kl_reduction: Literal["mean", "batchmean"] = "mean",
        detach_teacher: bool = False,
        balanced_share: Annotated[float, Gt(0), Lt(1)] = 0.1,
        balanced_lr_scale: Annotated[float, Gt(0)] = 0.667,
        rt_init: Literal["fresh", "copy"] = "fresh",
        freeze_statistics: bool = False,
        many: Annotated[int, Ge(1)] = 100,
        few: Annotated[int, Ge(1)] = 20,
    ) -> None:
        super().__init__()
        self.excavation = Excavation(mutual_weight, hns_weight, hns_target, kl_reduction, detach_teacher)
        self.balanced_share, self.balanced_lr_scale = balanced_share, balanced_lr_scale
        self.rt_init, self.freeze_statistics, self.many, self.few = rt_init, freeze_statistics, many, few
        self._counts = torch.zeros(0)
        self._said: dict[str, Tensor] = {}

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """Stages of another method, too few epochs for two stages, and group sizes that overlap."""
        problems, spec, where = [], recipe.method, recipe.method.place

        def note(message: str, hint: str, *path: str) -> None:
            problems.append(Problem(message, path, where.file, where.line, where.column, hint))

        if spec.name != "shike" or recipe.stages or recipe.also:
            note("shike makes its own two stages.", "Leave out `stages` and `also`.", "method")
            return problems
        if recipe.train.epochs < 2:
            note("shike has two stages and needs an epoch for each.", "Set `epochs: 2` or more.", "train", "epochs")
        if spec.args["few"] > spec.args["many"]:
            note(f"a class of {spec.args['many']} samples would be frequent and rare.", "", "method", "few")
        return problems

    def setup(self, room: Room) -> None:
        """Refuse a student without experts.

        Raises:
            InputError: It is no `expert-resnet`.
        """
        student = room.modules["student"]
        if not isinstance(student, ExpertResNet):
            raise InputError(f"student: a {type(student).__name__} has no experts; shike trains `model: expert-resnet`")

    def stages(self, run: Run) -> Iterator[Train]:
        """The experts, and in the last epochs their balanced heads."""
        student, train = run.source("student"), run.recipe.train
        flags = {parameter: parameter.requires_grad for parameter in student.parameters()}
        counts = run.splits.info.class_counts
        self._counts = (
            torch.tensor(counts)
            if counts
            else torch.bincount(labels_of(run.splits.train), minlength=run.splits.info.classes)
        )
        last = min(max(1, round(self.balanced_share * train.epochs)), train.epochs - 1)
        yield Train("experts", self.excavation, {"student": student}, replace(train, epochs=train.epochs - last))
        self._said["experts"] = self._logits(run, student, "heads")
        balancing = Balancing(self._counts, self.rt_init, self.balanced_lr_scale, self.freeze_statistics)
        yield Train("balance", balancing, {"student": student}, replace(train, epochs=last), stream="balance")
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
        self._said["balance"] = self._logits(run, student, "balanced_heads")

    def results(self, run: Run) -> Sequence[Result]:
        """The student."""
        student = run.models["student"]
        return (Result("student", student, "recipient", (student,)),)

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """Accuracy on the test split after each stage, of all experts together and of each, by frequency of class."""
        labels = labels_of(run.splits.test)
        size = self._counts[labels]
        groups = {
            "all": torch.ones_like(size, dtype=torch.bool),
            "many": size > self.many,
            "medium": (size >= self.few) & (size <= self.many),
            "few": size < self.few,
        }
        rows: list[dict[str, object]] = []
        for stage, said in self._said.items():
            every = {"together": said.mean(1), **{f"expert {i + 1}": said[:, i] for i in range(said.shape[1])}}
            for who, logits in every.items():
                right = (logits.argmax(-1) == labels).double()
                found = {name: float(right[at].mean()) if bool(at.any()) else None for name, at in groups.items()}
                rows.append({"stage": stage, "experts": who, **found})
        return {"accuracy_by_class_size": rows}

    def _logits(self, run: Run, student: nn.Module, heads: str) -> Tensor:
        """``[test, experts, classes]``: what each expert says."""
        student.to(run.accelerator.device)
        taps = Taps(student, (f"{heads}.*",))

        def each(inputs: Tensor) -> Tensor:
            student(inputs)
            return torch.stack([tap for _, tap in sorted(taps.collect().items(), key=_place)], 1)

        try:
            return predict(each, (student,), run.splits.test, run.accelerator.device).logits
        finally:
            taps.remove()


def logits_of(outputs: Outputs, heads: str) -> Tensor:
    """``[experts, batch, classes]``: what was captured of the heads, in their order."""
    found = sorted((item for item in outputs.taps.items() if item[0].startswith(f"{heads}.")), key=_place)
    return torch.stack([tap for _, tap in found])


def _place(item: tuple[str, Tensor]) -> int:
    return int(item[0].rpartition(".")[2])
