"""RKD: relational knowledge distillation (arXiv:1904.05068, CVPR 2019)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.distill.base import Distillation
from tutelage.engine.method import Room
from tutelage.engine.terms import Losses
from tutelage.losses import angle_relation, cross_entropy, distance_relation
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped


@method("rkd", paper="arXiv:1904.05068", route="distill")
class RKD(Distillation):
    """Copy the geometry of a batch: the distances and angles between samples, not the samples' outputs.

    The embeddings may differ in width and scale, and the models in their classes. The defaults are those of
    classification; metric learning uses 1, 2 and no task term. With several processes or accumulated parts, relations
    are those inside a part.

    Args:
        distance_weight: Weight of the distances between pairs.
        angle_weight: Weight of the angles of triplets.
        task_weight: Weight of the label term.
        feature: The tap that is compared, one vector a sample.
        max_triplet_batch: Angles of at most this many samples of a batch, for they take its cube in memory; null for
            all.
        huber_delta: Threshold of Huber's loss.
        normalize_student: Bring the student's embeddings to length 1; the paper advises against it.
    """

    def __init__(
        self,
        *,
        distance_weight: Annotated[float, Ge(0), Ramped()] = 25.0,
        angle_weight: Annotated[float, Ge(0), Ramped()] = 50.0,
        task_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        feature: str = "embedding",
        max_triplet_batch: Annotated[int, Ge(3)] | None = None,
        huber_delta: Annotated[float, Gt(0)] = 1.0,
        normalize_student: bool = False,
    ) -> None:
        super().__init__()
        self.distance_weight, self.angle_weight, self.task_weight = distance_weight, angle_weight, task_weight
        self.feature, self.max_triplet_batch = feature, max_triplet_batch
        self.huber_delta, self.normalize_student = huber_delta, normalize_student

    def setup(self, room: Room) -> None:
        """Tap both models.

        Raises:
            InputError: The tap matches nothing, or several places.
        """
        for name in ("teacher", "student"):
            room.tap(name, self.feature)
            found = room.look(name).taps
            if set(found) != {self.feature}:
                raise InputError(f"method.feature: '{self.feature}' is {len(found)} places of the {name}; name one")

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``task * CE + distance * RKD-D + angle * RKD-A``."""
        ours, theirs = student.taps[self.feature].flatten(1), teacher.taps[self.feature].flatten(1)
        if self.normalize_student:
            ours = torch.nn.functional.normalize(ours, dim=-1)
        distance = distance_relation(ours, theirs, delta=self.huber_delta)
        angle = angle_relation(ours, theirs, indices=self._triplets(batch), delta=self.huber_delta)
        terms = Losses(distance=distance, angle=angle).weighted(distance=self.distance_weight, angle=self.angle_weight)
        # Without a task, the models need not name the classes of the labels.
        if self.task_weight == 0:
            return terms
        task = Losses(task=cross_entropy(student.logits, batch.labels)).weighted(task=self.task_weight)
        return task | terms

    def _triplets(self, batch: Batch) -> Tensor | None:
        if self.max_triplet_batch is None or len(batch) <= self.max_triplet_batch:
            return None
        # Seeds are hashes: the smallest are a random choice, and the same one when the step is done again.
        return batch.seeds.argsort()[: self.max_triplet_batch]
