"""PESF-KD: parameter-efficient and student-friendly knowledge distillation (arXiv:2205.15308, TMM 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.distill.base import LogitDistillation
from tutelage.distill.parts.features import as_tokens, captured, held_out
from tutelage.engine.method import Finding, Room, Turn
from tutelage.engine.terms import Losses
from tutelage.losses import corrected, cross_entropy, kl_divergence, sharpness
from tutelage.models.inert import evaluating
from tutelage.models.outputs import Outputs
from tutelage.models.standard import parameters_of
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe
from tutelage.recipe.types import Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run


class HeadAdapter(nn.Module):
    """What is added to a teacher's logits.

    Args:
        width: Of its input.
        classes: How many logits there are.
        rank: Width of its middle.
        form: ``vision``: −W2 ReLU(W1 W0 h), all but the first between classes; ``language``: W0 h + W2 ReLU(W1 h).
        dropout: Of the language form's middle path, in training.
        zero: Start as zero, so that the teacher starts as it was.
    """

    def __init__(
        self, width: int, classes: int, *, rank: int, form: Literal["vision", "language"], dropout: float, zero: bool
    ) -> None:
        super().__init__()
        self.form = form
        self.first = nn.Linear(width, classes)
        self.down = nn.Linear(classes if form == "vision" else width, rank)
        self.up = nn.Linear(rank, classes)
        self.drop = nn.Dropout(dropout if form == "language" else 0.0)
        for layer in (self.up, self.first) if form == "language" else (self.up,):
            if zero:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, width]`` to ``[batch, classes]``."""
        first = self.first(inputs)
        middle = self.up(torch.relu(self.down(first if self.form == "vision" else inputs)))
        out: Tensor = -middle if self.form == "vision" else first + self.drop(middle)
        return out


@method("pesf-kd", paper="arXiv:2205.15308", route="distill")
class PESFKD(LogitDistillation):
    """Let the teacher come towards its student: a small adapter on its head is trained with the student.

    The divergence reaches both sides, and a label term keeps the adapted teacher right; the teacher itself stays
    frozen, and the adapter is dropped afterwards. Weight decay would shrink it back to the plain teacher: ``train:
    {groups: [{match: method.adapter.*, weight_decay: 0}]}``. For language the paper has ``form: language``,
    ``distance: mse``, temperature 5, and 1 − alpha for ``gamma`` and ``teacher_ce``. The report has the gap between
    the two sides' sharpness.

    Args:
        mode: Train an ``adapter``; or, for comparison, nothing of the teacher (``frozen``), or all of it (``online``).
        rank: Width of the adapter's middle; 64 for language.
        form: The adapter's: ``vision``, or ``language``.
        adapter_input: The teacher's embedding (``feature``), or its ``logits``.
        adapter_rate: Learning rate of the adapter, or of the teacher online, as a multiple of the student's: the
            paper's 2e-5 beside 0.05.
        dropout: Of the language form.
        zero_init: Start from the teacher as it is; the published code starts from PyTorch's own weights.
        temperature: Of the transfer term.
        alpha: Weight of the transfer term.
        gamma: Weight of the student's label term.
        teacher_ce: Weight of the adapted teacher's label term.
        distance: Kullback-Leibler divergence, or the mean squared distance of probabilities; both times temperature².
        correct_labels: As the published code: the student learns from the raw teacher with the label's logit made the
            largest, and the adapter from the student treated alike.
    """

    def __init__(
        self,
        *,
        mode: Literal["adapter", "frozen", "online"] = "adapter",
        rank: Annotated[int, Ge(1)] = 32,
        form: Literal["vision", "language"] = "vision",
        adapter_input: Literal["feature", "logits"] = "feature",
        adapter_rate: Annotated[float, Gt(0)] = 4e-4,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.1,
        zero_init: bool = True,
        temperature: Annotated[float, Gt(0), Ramped()] = 6.0,
        alpha: Annotated[float, Ge(0), Ramped()] = 1.0,
        gamma: Annotated[float, Ge(0), Ramped()] = 1.0,
        teacher_ce: Annotated[float, Ge(0), Ramped()] = 1.0,
        distance: Literal["kl", "mse"] = "kl",
        correct_labels: bool = False,
    ) -> None:
        super().__init__()
        self.mode, self.rank, self.form, self.adapter_input = mode, rank, form, adapter_input
        self.adapter_rate, self.dropout, self.zero_init = adapter_rate, dropout, zero_init
        self.temperature, self.alpha, self.gamma, self.teacher_ce = temperature, alpha, gamma, teacher_ce
        self.distance, self.correct_labels = distance, correct_labels

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """Also a place where its adapter would have no rate of its own."""
        problems = super().check(recipe)
        for spec in recipe.also:
            if spec.name == "pesf-kd":
                where, hint = spec.place, "Make pesf-kd the method, and the other its `also`."
                text = "pesf-kd trains its adapter at a rate of its own, which it cannot beside another method."
                problems.append(Problem(text, ("also",), where.file, where.line, where.column, hint))
        return problems

    def setup(self, room: Room) -> None:
        """Tap the teacher's embedding and build the adapter.

        Raises:
            InputError: The classes differ, or the teacher has no embedding.
        """
        super().setup(room)
        if self.mode != "adapter":
            return
        classes = width = room.look("teacher").logits.shape[-1]
        if self.adapter_input == "feature":
            width = as_tokens(captured(room, "teacher", "embedding")).shape[-1]
        self.adapter = HeadAdapter(
            width, classes, rank=self.rank, form=self.form, dropout=self.dropout, zero=self.zero_init
        )

    def adapted(self, teacher: Outputs) -> Tensor:
        """``[batch, classes]``: what the student learns from; gradients reach the adapter, or online the teacher."""
        if self.mode == "online":
            return teacher.logits
        plain = teacher.logits.detach()
        if self.mode == "frozen":
            return plain
        seen = plain if self.adapter_input == "logits" else as_tokens(teacher.embedding.detach()).mean(1)
        moved: Tensor = plain + self.adapter(seen)
        return moved

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``gamma * CE(student) + alpha * T² * distance(adapted, student) + teacher_ce * CE(adapted)``.

        Raises:
            InputError: Labels are to be corrected, and are mixed.
        """
        if self.correct_labels and batch.labels.is_floating_point():
            raise InputError("method.correct_labels needs each sample's own class, and labels are mixed; leave out one")
        ours, theirs = student.logits, self.adapted(teacher)
        right = [corrected(side, batch.labels) for side in (ours, teacher.logits)] if self.correct_labels else []
        terms = self.task(student, batch) | Losses(transfer=self._apart(ours, right[1] if right else theirs))
        terms = terms.weighted(task=self.gamma, transfer=self.alpha)
        if self.mode != "frozen":
            terms = terms | Losses(teacher=cross_entropy(theirs, batch.labels)).weighted(teacher=self.teacher_ce)
            if right:
                terms = terms | Losses(back=self._apart(theirs, right[0])).weighted(back=self.alpha)
        gap = sharpness(theirs.detach()) - sharpness(ours.detach())
        return terms.noting(sharpness_gap=gap)

    def _apart(self, moved: Tensor, goal: Tensor) -> Tensor:
        if self.distance == "kl":
            return kl_divergence(moved, goal, temperature=self.temperature)
        sides = [(side.float() / self.temperature).softmax(-1) for side in (moved, goal)]
        return (sides[0] - sides[1]).square().mean(-1) * self.temperature**2

    def turns(self) -> Sequence[Turn]:
        """The student moves, and at a rate of its own the adapter or the teacher."""
        (*first, last) = super().turns()
        if self.mode == "online":
            last = replace(last, trains=("student", "teacher", "method"), scales={"teacher": self.adapter_rate})
        elif self.mode == "adapter":
            last = replace(last, scales={"method": self.adapter_rate})
        return (*first, last)

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """On the test set, how much sharper the teacher is than the student, and how right; and its sizes."""
        gaps, plain_gaps, hits, apart = [], [], [], []
        tap = ("embedding",) if self.mode == "adapter" and self.adapter_input == "feature" else ()
        with evaluating(self), torch.no_grad():
            for batch, said in held_out(run, {"student": (), "teacher": tap}):
                theirs, ours = self.adapted(said["teacher"]), said["student"].logits
                gaps.append(sharpness(theirs) - sharpness(ours))
                plain_gaps.append(sharpness(said["teacher"].logits) - sharpness(ours))
                hits.append((theirs.argmax(-1) == batch.labels).float())
                apart.append(kl_divergence(ours, theirs))
        means = [float(torch.cat(values).mean()) for values in (gaps, plain_gaps, hits, apart)]
        found = dict(
            zip(("sharpness_gap", "plain_sharpness_gap", "adapted_accuracy", "adapted_kl"), means, strict=True)
        )
        return {
            **found,
            "adapter_parameters": parameters_of(self.adapter) if self.mode == "adapter" else 0,
            "teacher_parameters": parameters_of(run.models["teacher"]),
        }
