"""CutMixPick: what makes a good data augmentation in knowledge distillation (arXiv:2012.02909, NeurIPS 2022)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.distill.base import LogitDistillation
from tutelage.distill.samplers.cutmix_pick import Criterion
from tutelage.distill.samplers.cutmix_pick import CutMixPick as Sampler
from tutelage.engine.method import Step
from tutelage.engine.terms import Losses
from tutelage.losses import kl_divergence
from tutelage.models.outputs import Outputs
from tutelage.recipe.registry import method
from tutelage.recipe.types import Of, Ramped


@method("cutmixpick", paper="arXiv:2012.02909", route="distill")
class CutMixPick(LogitDistillation):
    """Distil on each batch and on an augmented one, of whose samples those are kept on which the teacher is least sure.

    Any augmentation will do, mixed or not; the teacher is asked about the augmented images themselves. Augmentations of
    the data come first. `tutelage.api.score_augmentations` ranks augmentations with the teacher alone. A recipe's own
    ``sampler`` takes the place of augmenting and picking.

    Args:
        augment: What the second batch goes through, in this order; empty for ``cutmix`` with one box a batch.
        pick: What the samples of the augmented batches are kept for: ``teacher_entropy`` or ``student_entropy`` at
            temperature 1; ``kl`` from teacher to student; ``dissimilarity`` of the teacher's probabilities from the
            originals'; ``none``: one augmented batch as it comes.
        pick_runs: How many augmented batches are picked from.
        keep: How many samples are kept; null for as many as the batch has.
        mix_weights: Weights of the transfer term on the batch, of a label term on the augmented one, and of the
            transfer term on it.
        temperature: Softens both distributions.
        alpha: Weight of the three together.
        gamma: Weight of the label term on the batch.
    """

    whole_step: ClassVar[bool] = True

    makes_inputs: ClassVar[bool] = True

    def __init__(
        self,
        *,
        augment: Annotated[tuple[Any, ...], Of("augment")] = (),
        pick: Criterion = "teacher_entropy",
        pick_runs: Annotated[int, Ge(1)] = 2,
        keep: Annotated[int, Ge(1)] | None = None,
        mix_weights: tuple[Annotated[float, Ge(0)], Annotated[float, Ge(0)], Annotated[float, Ge(0)]] = (1.0, 0.0, 1.0),
        temperature: Annotated[float, Gt(0), Ramped()] = 4.0,
        alpha: Annotated[float, Ge(0), Ramped()] = 0.9,
        gamma: Annotated[float, Ge(0), Ramped()] = 0.1,
    ) -> None:
        super().__init__()
        self.mix_weights, self.temperature, self.alpha, self.gamma = mix_weights, temperature, alpha, gamma
        self.sampler = Sampler(augment=augment, pick=pick, runs=pick_runs, keep=keep)

    def compare(self, step: Step) -> Losses:
        """``gamma * CE + alpha * (w1 * KL on the batch + w2 * CE + w3 * KL on what is made of it)``."""
        assert self.sampler is not None
        first, second, third = (self.alpha * weight for weight in self.mix_weights)
        losses = self.loss(step.forward("student"), step.forward("teacher"), step.batch)
        losses = losses.weighted(task=self.gamma, transfer=first)
        if not second and not third:
            return losses
        if isinstance(self.sampler, Sampler):
            self.sampler.temperature = self.temperature
        made = step.on(self.sampler.sample(step))
        student, teacher = made.forward("student"), made.forward("teacher")
        losses = losses | Losses(mixed=self._transfer(student, teacher)).weighted(mixed=third)
        if not second:
            return losses
        task = self.task(student, made.batch)["task"]
        return losses | Losses(mixed_task=task).weighted(mixed_task=second)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``CE`` and ``T² * KL(teacher / T, student / T)`` of one batch."""
        return self.task(student, batch) | Losses(transfer=self._transfer(student, teacher))

    def _transfer(self, student: Outputs, teacher: Outputs) -> Tensor:
        return kl_divergence(student.logits, teacher.logits.detach(), temperature=self.temperature)
