"""WCoRD: Wasserstein contrastive representation distillation (arXiv:2012.08674, CVPR 2021)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.nn.functional import linear, normalize
from torch.nn.utils.parametrizations import spectral_norm

from tutelage.data.batch import Batch
from tutelage.distill.base import Distillation
from tutelage.distill.parts.features import captured
from tutelage.distill.parts.memory_bank import MemoryBank
from tutelage.engine.method import Room, Step
from tutelage.engine.terms import Losses
from tutelage.losses import cosine_cost, critic_gap, cross_entropy, noise_contrast, transport_cost
from tutelage.models.outputs import Outputs
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped


@method("wcord", paper="arXiv:2012.08674", route="distill")
class WCoRD(Distillation):
    """Match the distribution of features: tell pairs apart over the whole data, and move batches onto each other.

    The global term sets each sample's pair against samples from a memory of all; its critic is 1-Lipschitz. The local
    term is what it costs to transport the student's batch onto the teacher's; it does not know which sample is which,
    so it only helps beside terms that do. Teacher and student may name different classes. A divergence of the outputs
    comes with ``also: [kd]``.

    Args:
        global_weight: Weight of the contrast with the memory; 0 for transport alone.
        local_weight: Weight of the transport inside the batch; 0 for contrast alone.
        task_weight: Weight of the label term; 0 where the student's labels are not those of the task.
        global_form: ``nce``: is this pair a sample's own; ``wasserstein``: the dual form of the distance.
        critic: ``dot``: the cosine over the temperature; ``bilinear`` or ``mlp``: learned, with spectral norm 1.
        negatives: Samples that each is told apart from; at most all others.
        other_classes: Take them from other classes only.
        in_batch_negatives: Take the others of the batch instead, without a memory.
        memory_momentum: Share of a memory's row that stays at each visit.
        temperature: Of the ``dot`` critic.
        proj_dim: Width of the space in which both sides are compared; both projections are trained.
        ot: Where the transport's plan comes from.
        epsilon: Entropy of ``sinkhorn``.
        ot_iters: Iterations of ``sinkhorn`` (null: 20) and ``ipot`` (null: 50).
        feature: The tap that is compared, one vector a sample.
    """

    log_z: Tensor

    def __init__(
        self,
        *,
        global_weight: Annotated[float, Ge(0), Ramped()] = 0.8,
        local_weight: Annotated[float, Ge(0), Ramped()] = 0.05,
        task_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        global_form: Literal["nce", "wasserstein"] = "nce",
        critic: Literal["dot", "bilinear", "mlp"] = "dot",
        negatives: Annotated[int, Ge(1)] = 16384,
        other_classes: bool = False,
        in_batch_negatives: bool = False,
        memory_momentum: Annotated[float, Ge(0), Lt(1)] = 0.5,
        temperature: Annotated[float, Gt(0), Ramped()] = 0.07,
        proj_dim: Annotated[int, Ge(1)] = 128,
        ot: Literal["sinkhorn", "ipot", "exact"] = "sinkhorn",
        epsilon: Annotated[float, Gt(0), Ramped()] = 0.05,
        ot_iters: Annotated[int, Ge(1)] | None = None,
        feature: str = "embedding",
    ) -> None:
        super().__init__()
        self.global_weight, self.local_weight, self.task_weight = global_weight, local_weight, task_weight
        self.global_form, self.critic_kind, self.temperature = global_form, critic, temperature
        self.negatives, self.other_classes, self.in_batch_negatives = negatives, other_classes, in_batch_negatives
        self.memory_momentum, self.proj_dim, self.feature = memory_momentum, proj_dim, feature
        self.ot, self.epsilon = ot, epsilon
        self.ot_iters = ot_iters if ot_iters is not None else {"ipot": 50}.get(ot, 20)
        self.bank: MemoryBank | None = None
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def setup(self, room: Room) -> None:
        """Tap both models; build projections, critic and memory.

        Raises:
            InputError: The tap matches nothing, or several places.
        """
        shown = {name: captured(room, name, self.feature).flatten(1) for name in ("teacher", "student")}
        self.project = nn.ModuleDict({name: nn.Linear(one.shape[1], self.proj_dim) for name, one in shown.items()})
        self.critic = Critic(self.critic_kind, self.proj_dim)
        self.total = 0 if room.examples is None else len(room.examples)
        if not self.in_batch_negatives and room.examples is not None:
            self.bank = MemoryBank(room.examples, self.proj_dim)
        # Of each direction; set once, by the first step.
        self.register_buffer("log_z", torch.full((2,), float("nan")))

    def projected(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        """``[batch, proj_dim]`` vectors of length 1 of student and teacher; the teacher's features have no gradient."""
        ours = self.project["student"](student.taps[self.feature].flatten(1))
        theirs = self.project["teacher"](teacher.taps[self.feature].flatten(1).detach())
        return normalize(ours.float(), dim=-1), normalize(theirs.float(), dim=-1)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``task * CE + global * contrast both ways + local * Σ plan · cost``."""
        ours, theirs = self.projected(student, teacher)
        terms = Losses()
        if self.task_weight:
            terms = Losses(task=cross_entropy(student.logits, batch.labels)).weighted(task=self.task_weight)
        if self.global_weight and (len(ours) > 1 or not self.in_batch_negatives):
            terms = terms | self.contrast(ours, theirs, batch).weighted(contrast=self.global_weight)
        if self.local_weight:
            with torch.autocast(ours.device.type, enabled=False):
                cost = cosine_cost(ours, theirs)
                moved = transport_cost(cost, solver=self.ot, epsilon=self.epsilon, iterations=self.ot_iters)
            terms = terms | Losses(transport=moved).weighted(transport=self.local_weight)
        return terms if terms else Losses(nothing=0.0 * ours.sum())

    def contrast(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Losses:
        """``contrast``: the teacher's vector among students', and the student's among teachers'.

        Of ``nce`` it notes ``information``: nats that the two sides have in common at least.
        """
        with torch.autocast(ours.device.type, enabled=False):
            if self.bank is None:
                chosen, mask = self._others(batch)
                tables = ours, theirs
            else:
                rows = self.bank.rows(batch.ids)
                chosen, mask = self.bank.draw(rows, self.negatives, other_classes=self.other_classes), None
                tables = self.bank.student, self.bank.teacher
                self._seen.append((rows, ours.detach(), theirs.detach()))
            scores = self.critic(ours, theirs, tables, chosen)
            if self.critic_kind == "dot":
                scores = [score / self.temperature for score in scores]
            own, by_teacher, by_student = scores
            if self.global_form == "wasserstein":
                gaps = [critic_gap(own, others, mask=mask) for others in (by_teacher, by_student)]
                return Losses(contrast=gaps[0] + gaps[1])
            ways = []
            for side, others in enumerate((by_teacher, by_student)):
                shift = self._shift(side, own, others)
                ways.append(noise_contrast(own - shift, others - shift, total=max(self.total, 1), mask=mask))
            bound = math.log(chosen.shape[1]) - torch.stack(ways).detach().mean(1).amin()
            return Losses(contrast=ways[0] + ways[1]).noting(information=bound)

    def _others(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Positions of the others of the batch, and which of them count."""
        count = len(batch)
        place = torch.arange(count, device=batch.ids.device)
        chosen = torch.arange(count - 1, device=place.device).expand(count, -1)
        chosen = chosen + (chosen >= place[:, None])
        # A sample that is twice in a batch is no other.
        mask = batch.ids[chosen] != batch.ids[:, None]
        if self.other_classes:
            labels = batch.labels.argmax(1) if batch.labels.is_floating_point() else batch.labels
            mask = mask & ((labels[chosen] != labels[:, None]) | (labels[:, None] < 0))
        return chosen, None if bool(mask.all()) else mask

    def _shift(self, side: int, own: Tensor, others: Tensor) -> Tensor | float:
        """What the memory's scores are divided by, log Z, so that they start where a probability is not 0 or 1."""
        if self.bank is None:
            return 0.0
        if bool(self.log_z[side].isnan()):
            every = torch.cat([own.detach(), others.detach().flatten()])
            self.log_z[side] = every.logsumexp(0) - math.log(len(every)) + math.log(self.total)
        return self.log_z[side].clone()

    def before_step(self, step: Step) -> None:
        """Nothing is seen yet."""
        self._seen = []

    def after_step(self, step: Step) -> None:
        """Only now do the memory's rows move: scores were of what it held before."""
        if self.bank is not None and self._seen:
            rows, ours, theirs = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
            self.bank.update(rows, ours, theirs, self.memory_momentum)
        self._seen = []


class Critic(nn.Module):
    """Scores pairs of a teacher's and a student's vector; 1-Lipschitz, whatever it learns.

    Args:
        kind: ``dot``: h_t · h_s; ``bilinear``: h_t · A h_s; ``mlp``: two layers on both.
        width: Of both vectors.
    """

    def __init__(self, kind: Literal["dot", "bilinear", "mlp"], width: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "bilinear":
            self.map: nn.Linear = nn.Linear(width, width, bias=False)
            spectral_norm(self.map)
        elif kind == "mlp":
            self.first: nn.Linear = nn.Linear(2 * width, width)
            self.last: nn.Linear = nn.Linear(width, 1)
            for layer in (self.first, self.last):
                spectral_norm(layer)

    def forward(self, student: Tensor, teacher: Tensor, tables: tuple[Tensor, Tensor], rows: Tensor) -> list[Tensor]:
        """Scores of own pairs, of the teacher's vectors with students', and of the student's with teachers'.

        Args:
            student: ``[batch, width]``.
            teacher: ``[batch, width]``.
            tables: ``[samples, width]`` of students and of teachers.
            rows: ``[batch, others]`` int64 rows of the tables.

        Returns:
            ``[batch]``, ``[batch, others]``, ``[batch, others]``.
        """
        students, teachers = tables
        if self.kind == "mlp":
            return self._mlp(student, teacher, students[rows], teachers[rows])
        # Read once: each look at a normalised weight moves its estimate of the norm.
        mapped = teacher if self.kind == "dot" else teacher @ self.map.weight
        back = student if self.kind == "dot" else linear(student, self.map.weight)
        # All scores and then those that were drawn: a table of scores is smaller than as many vectors.
        among = [(mapped @ students.T).gather(1, rows), (back @ teachers.T).gather(1, rows)]
        return [(mapped * student).sum(1), *among]

    def _mlp(self, student: Tensor, teacher: Tensor, students: Tensor, teachers: Tensor) -> list[Tensor]:
        width = student.shape[1]
        weight, last = self.first.weight, self.last.weight

        def score(of_teacher: Tensor, of_student: Tensor) -> Tensor:
            inner = linear(of_teacher, weight[:, :width], self.first.bias) + linear(of_student, weight[:, width:])
            return linear(torch.relu(inner), last, self.last.bias).squeeze(-1)

        own = score(teacher, student)
        return [own, score(teacher[:, None], students), score(teachers, student[:, None])]
