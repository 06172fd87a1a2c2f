"""Scores of untrained networks: how alike a candidate is to its teacher, and what it takes (arXiv:2303.15678)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tutelage.data.batch import Batch
from tutelage.distill.base import Distillation
from tutelage.distill.parts.trials import begun
from tutelage.engine.method import Room
from tutelage.losses import class_semantics, classifier_gradient, similarity_preserving
from tutelage.measure.proxies import untrained
from tutelage.models.cost import latency, weight_flops
from tutelage.models.outputs import Outputs
from tutelage.models.participant import Participant
from tutelage.models.standard import parameters_of
from tutelage.recipe.spec import Spec

if TYPE_CHECKING:
    from tutelage.engine.run import Run


def similarities(student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
    """``relation`` and ``semantic`` score of a pair on a batch: negative distances, so that higher is more alike.

    Args:
        student: With the taps ``features`` and ``embedding``.
        teacher: With the same taps.
        batch: What both were shown.
    """
    gradients = [classifier_gradient(one.logits, one.embedding, batch.labels) for one in (student, teacher)]
    return {
        "relation": -similarity_preserving(student.features, teacher.features),
        "semantic": -class_semantics(gradients[0], gradients[1].detach()),
    }


@dataclass
class Candidate:
    """What is known of a choice."""

    values: dict[str, Any]
    cost: dict[str, float]
    scores: dict[str, float] = field(default_factory=dict)


class Judge:
    """Scores candidates against one teacher, on the same batches from the same seeds.

    Args:
        run: The run.
        batches: What they are shown.
        seeds: Initialisations that scores are averaged over.
        trained: Whether the teacher has its knowledge.
        timed: Whether candidates are timed.
        proxy: A distillation whose negated loss is a further score.
    """

    def __init__(
        self,
        run: Run,
        batches: Sequence[Batch],
        *,
        seeds: int = 1,
        trained: bool = False,
        timed: bool = False,
        proxy: Distillation | None = None,
    ) -> None:
        self.run, self.batches, self.timed, self.proxy = run, batches, timed, proxy
        spec = run.recipe.slots["teacher"]
        if trained:
            self.teachers = [untrained(run.source("teacher"))] * seeds
        else:
            self.teachers = [untrained(begun(run, spec, "diswot-teacher", i)) for i in range(seeds)]

    def cost(self, spec: Spec) -> dict[str, float]:
        """Parameters, operations of one sample, and, where it is limited, the time that one takes."""
        module, example = begun(self.run, spec, "diswot", 0), self.batches[0].inputs[:1]
        return {
            "parameters": float(parameters_of(module)),
            "flops": float(weight_flops(module, example)),
            "latency": latency(module, example, seconds=0.05) if self.timed else 0.0,
        }

    def scores(self, spec: Spec) -> dict[str, float]:
        """Means over seeds and batches; no weight moves."""
        found: dict[str, list[float]] = {}
        for i, teacher in enumerate(self.teachers):
            student = untrained(begun(self.run, spec, "diswot", i))
            for batch in self.batches:
                for name, value in self._pair(student, teacher, batch).items():
                    found.setdefault(name, []).append(value)
        return {name: sum(values) / len(values) for name, values in found.items()}

    def _pair(self, student: nn.Module, teacher: nn.Module, batch: Batch) -> dict[str, float]:
        modules = {"teacher": teacher, "student": student}
        proxy = copy.deepcopy(self.proxy)
        room = Room(modules, self.run.splits.info, batch, ["student"])
        if proxy is not None:
            torch.manual_seed(self.run.seed_of("diswot", "proxy"))
            proxy.setup(room)
            proxy.to(batch.inputs.device)
        for name in modules:
            room.tap(name, "features", "embedding")
        # Both count as trained, so that their normalisation goes on using the batch's own statistics.
        both = {
            n: Participant(n, m, trainable=True, taps=room.taps(n), example=batch.inputs) for n, m in modules.items()
        }
        try:
            with torch.no_grad():
                outputs = {name: one(batch) for name, one in both.items()}
                pair = similarities(outputs["student"], outputs["teacher"], batch)
                if proxy is not None:
                    pair["proxy"] = -proxy.loss(outputs["student"], outputs["teacher"], batch).without("task").total()
        finally:
            for one in both.values():
                one.close()
        return {name: float(value) for name, value in pair.items()}
