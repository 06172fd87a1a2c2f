"""MIX-KD: the role of mixup in knowledge distillation (arXiv:2211.03946, WACV 2023)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.distill.base import LogitDistillation
from tutelage.distill.samplers.partial_mixup import PartialMixup
from tutelage.engine.terms import Losses
from tutelage.losses import cross_entropy, kl_divergence, unit_spread
from tutelage.models.outputs import Outputs
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped


@method("mix-kd", paper="arXiv:2211.03946", route="distill")
class MixKD(LogitDistillation):
    """Distil on a batch of which a small part is mixed, with every sample's logits in units of their own spread.

    Mixup and temperature both smooth, and a teacher that was trained with mixup is smooth already. The spread takes the
    temperature's place: it differs from sample to sample, and leaves nothing to tune. Teacher and student both see the
    mixed inputs. For a teacher of the study's other kind, train one with ``data.augment: [mixup]`` and name its run.

    With ``scale: std`` the student answers with logits in that unit too (`predict`), in which its calibration is meant;
    its saved weights give them unscaled.

    Args:
        mix: ``none`` of a batch, ``full``, or ``partial``.
        mixed_fraction: Share of a batch that ``partial`` mixes.
        beta: The share of a sample that stays is drawn from Beta(beta, beta).
        exact: Mix exactly that share, rounded; false for the authors' draw with replacement, which mixes more.
        scale: Divide logits by their ``std`` over classes, in both terms; or by a ``temperature`` in the transfer term,
            as classic distillation does, with its factor temperature².
        temperature: For ``scale: temperature``.
        gamma: Weight of the label term.
        alpha: Weight of the transfer term.
    """

    makes_inputs: ClassVar[bool] = True

    def __init__(
        self,
        *,
        mix: Literal["none", "full", "partial"] = "partial",
        mixed_fraction: Annotated[float, Ge(0), Le(1)] = 0.1,
        beta: Annotated[float, Gt(0)] = 1.0,
        exact: bool = True,
        scale: Literal["std", "temperature"] = "std",
        temperature: Annotated[float, Gt(0), Ramped()] = 4.0,
        gamma: Annotated[float, Ge(0), Ramped()] = 0.1,
        alpha: Annotated[float, Ge(0), Ramped()] = 0.9,
    ) -> None:
        super().__init__()
        self.scale, self.temperature, self.gamma, self.alpha = scale, temperature, gamma, alpha
        if mix != "none":
            self.sampler = PartialMixup(mix=mix, mixed_fraction=mixed_fraction, beta=beta, exact=exact)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``gamma * CE(z / σ(z)) + alpha * KL(t / σ(t), z / σ(z))`` (equations 5 to 7)."""
        ours, theirs = student.logits, teacher.logits.detach()
        if self.scale == "std":
            ours, theirs = unit_spread(ours), unit_spread(theirs)
        transfer = kl_divergence(ours, theirs, temperature=self.temperature if self.scale == "temperature" else 1.0)
        terms = Losses(task=cross_entropy(ours, batch.labels), transfer=transfer)
        return terms.weighted(task=self.gamma, transfer=self.alpha)

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """``[batch, classes]`` logits in units of their spread, or as they are with ``scale: temperature``."""
        logits: Tensor = model(inputs)
        return unit_spread(logits) if self.scale == "std" else logits
