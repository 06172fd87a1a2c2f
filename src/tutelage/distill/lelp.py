"""LELP: linear projections of teacher embeddings for few-class distillation (arXiv:2409.20449)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.distill.base import LogitDistillation
from tutelage.distill.parts.subclasses import Clusters, Directions, Division, Knowledge
from tutelage.engine.method import Finding, Room
from tutelage.engine.terms import Losses
from tutelage.losses import logit_null_space, subclass_divergence, subclass_targets
from tutelage.models.outputs import Outputs
from tutelage.models.participant import Participant
from tutelage.models.remembered import Seen, see
from tutelage.models.subclass_head import divide_classifier
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import method
from tutelage.recipe.runfolder import atomic_write
from tutelage.recipe.types import Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run


@method("lelp", paper="arXiv:2409.20449", route="distill")
class LELP(LogitDistillation):
    """Divide each class along the teacher's embeddings, and teach the student all the parts of all classes.

    Where there are two or three classes, the teacher's probabilities say next to nothing; where in its class a sample
    lies says more. Before training, the teacher passes once over the unaugmented training samples. The student's
    classifier gets ``subclasses`` outputs a class, newly initialised, and goes on answering with classes: the sums over
    their parts. Inputs may be anything that the models take, such as features of texts in a table.

    Args:
        subclasses: Parts of each class; fewer where a class's samples vary along fewer directions.
        beta: Temperature of a sample's shares in the parts of a class, for ``split: pca``.
        temperature: Softens the teacher's class probabilities.
        soften_student: Divide the student's logits by the temperature too, and multiply the terms by its square.
        null_space: Look only at what of the embedding the teacher's logits do not already say; for a teacher with a
            linear classifier.
        rotate: Rotate the directions of a class at random, so that they vary about equally.
        split: ``pca``: soft parts along the main directions; hard parts for comparison: ``kmeans``, ``agglomerative``
            and ``tsne`` (k-means on its map) clusters, or the true subclasses (``oracle``) of data such as ``merged``.
        alpha: Weight of the label term; the rest has 1 - alpha.
        assign_by: A training sample counts for the class of its label, or for the teacher's first choice; samples
            without a label (below 0) for the latter anyway.
        export: Write the part of its class that each training sample is most in to ``subclasses.csv`` in the run
            folder.
    """

    def __init__(
        self,
        *,
        subclasses: Annotated[int, Ge(1)] = 5,
        beta: Annotated[float, Gt(0), Ramped()] = 0.5,
        temperature: Annotated[float, Gt(0), Ramped()] = 1.0,
        soften_student: bool = False,
        null_space: bool = True,
        rotate: bool = True,
        split: Literal["pca", "kmeans", "agglomerative", "tsne", "oracle"] = "pca",
        alpha: Annotated[float, Ge(0), Le(1), Ramped()] = 0.0,
        assign_by: Literal["label", "teacher"] = "label",
        export: bool = False,
    ) -> None:
        super().__init__()
        self.subclasses, self.beta, self.temperature = subclasses, beta, temperature
        self.soften_student, self.null_space, self.rotate = soften_student, null_space, rotate
        self.split, self.alpha, self.assign_by, self.export = split, alpha, assign_by, export
        self.division: Division | None = None
        self._learnt = False
        self._tap = ""
        self._names: tuple[str, ...] = ()
        self._sizes: list[list[int]] = []

    def survey(self, run: Run) -> None:
        """Divide the classes, from one pass of the teacher over the training samples.

        Raises:
            InputError: The teacher has no embedding or, with ``null_space``, no linear classifier.
        """
        if self._learnt:
            return
        example = run.example().inputs
        teacher = Participant(
            "teacher", run.source("teacher").to(example.device), trainable=False, taps=("embedding",), example=example
        )
        try:
            seen = see(teacher, run.splits.train, example.device)
            projection = logit_null_space(teacher.classifier(example).weight).cpu() if self.null_space else None
        finally:
            teacher.close()
        groups = seen.outputs.logits.argmax(-1)
        if self.assign_by == "label":
            groups = torch.where(seen.labels >= 0, seen.labels, groups)
        fine = getattr(run.splits.train, "fine", None)
        known = Knowledge(seen.outputs.embedding.flatten(1), groups, seen.ids, fine)
        size = int(seen.ids.max()) + 1
        self.division = self._undivided(seen.outputs.logits.shape[-1], known.embeddings.shape[-1], size)
        self.division.learn(known, projection, run.seed_of("lelp", "division"))
        self._learnt, self._names = True, run.splits.info.class_names
        for name, row in zip(self._names, self.division.present, strict=True):
            if self.split == "pca" and int(row.sum()) < self.subclasses:
                run.warnings.append(
                    f"lelp: class '{name}' is divided into {int(row.sum())} parts instead of {self.subclasses}, for "
                    "its samples vary along no more directions of the teacher's embedding"
                )
        own = self._own(seen, groups)
        self._sizes = [own[groups == k].bincount(minlength=self.subclasses).tolist() for k in range(len(self._names))]
        if self.export and run.accelerator.is_main_process:
            rows = zip(seen.ids.tolist(), groups.tolist(), own.tolist(), strict=True)
            text = "".join(f"{one},{group},{part}\n" for one, group, part in rows)
            atomic_write(run.folder.path / "subclasses.csv", f"id,class,subclass\n{text}")

    def _undivided(self, classes: int, width: int, size: int) -> Division:
        if self.split == "pca":
            return Directions(classes, width, self.subclasses, rotate=self.rotate)
        return Clusters(classes, width, self.subclasses, by=self.split, size=size)

    def _own(self, seen: Seen, groups: Tensor) -> Tensor:
        """``[samples]`` int64: the part of its class that each sample is most in."""
        assert self.division is not None
        division = self.division.to(groups.device)
        shares = division.shares(seen.outputs.embedding.flatten(1), seen.ids, 1.0)
        return shares[torch.arange(len(groups), device=groups.device), groups].argmax(-1)

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """How many training samples are most in each part of their class: even parts teach most."""
        rows = [
            {"class": name, **{f"part {i}": count for i, count in enumerate(sizes, 1)}}
            for name, sizes in zip(self._names, self._sizes, strict=True)
        ]
        return {"parts": rows} if rows else {}

    def setup(self, room: Room) -> None:
        """Tap the teacher's embedding, and give the student's classifier its parts.

        Raises:
            InputError: The models' classes differ, or the student has no linear classifier.
        """
        super().setup(room)
        room.tap("teacher", "embedding")
        shown = room.look("teacher")
        if self.division is None:
            self.division = self._undivided(shown.logits.shape[-1], shown.embedding.flatten(1).shape[-1], 0)
        self._tap, head = divide_classifier(room.modules["student"], self.subclasses, room.example.inputs)
        head.present.copy_(self.division.present)
        room.tap("student", self._tap)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``alpha * CE + (1 - alpha) * (KL between classes + KL within them)``; the first KL is plain distillation.

        Raises:
            InputError: There was no pass over the training samples, as inside a method that makes its own teachers.
        """
        if not self._learnt or self.division is None:
            raise InputError("lelp divides classes before a stage, which the method around it does not let it do")
        shares = self.division.shares(teacher.embedding.flatten(1), batch.ids, self.beta)
        target = subclass_targets(teacher.logits, shares, temperature=self.temperature)
        present = self.division.present
        logits = student.taps[self._tap].unflatten(-1, present.shape).masked_fill(~present, float("-inf"))
        between, within = subclass_divergence(
            logits, target, temperature=self.temperature if self.soften_student else 1.0
        )
        terms = Losses(transfer=between, within=within).weighted(transfer=1 - self.alpha, within=1 - self.alpha)
        # Without a label term, the samples need no labels.
        return self.task(student, batch).weighted(task=self.alpha) | terms if self.alpha else terms
