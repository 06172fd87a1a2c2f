"""HARD: hard augmentations for robust distillation (arXiv:2305.14890)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.distill.base import LogitDistillation
from tutelage.distill.samplers.hard import Hard
from tutelage.engine.method import Finding, Step, Turn
from tutelage.engine.terms import Losses
from tutelage.losses import kl_divergence
from tutelage.models.augmentors import Augmentor
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import method
from tutelage.recipe.types import Of, Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run


@method("hard-augmentations", paper="arXiv:2305.14890", route="distill")
class HardAugmentations(LogitDistillation):
    """Distil on the images themselves, and on changes of them that are trained to make teacher and student disagree.

    What the teacher does not mind, such as a shifted image, reaches the student so, without anybody saying what it is.
    No label is needed. A recipe's own ``sampler`` takes the place of the changes.

    Args:
        temperature: Softens both distributions.
        mix_clean: Weight of the images as they are; the changed ones have the rest.
        alpha: Weight of a label term on the images as they are, which the paper does without.
        sampler: What makes the changed images; its keys say how.
        dump_images: So many training images and what is made of them go to ``augmented/`` in the run folder after every
            epoch; 0 for none.
    """

    whole_step: ClassVar[bool] = True

    makes_inputs: ClassVar[bool] = True

    def __init__(
        self,
        *,
        temperature: Annotated[float, Gt(0), Ramped()] = 4.0,
        mix_clean: Annotated[float, Ge(0), Le(1), Ramped()] = 0.5,
        alpha: Annotated[float, Ge(0), Ramped()] = 0.0,
        sampler: Annotated[Any, Of("sampler")] = "hard",
        dump_images: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__()
        self.temperature, self.mix_clean, self.alpha = temperature, mix_clean, alpha
        self.sampler = Hard() if sampler == "hard" else sampler
        self.dump_images = dump_images
        self._shown: Batch | None = None
        self._folder: Path | None = None

    def survey(self, run: Run) -> None:
        """Remember which images are shown after every epoch."""
        if self.dump_images and run.accelerator.is_main_process:
            count = min(self.dump_images, len(run.splits.train))
            self._shown, self._folder = run.splits.train.fetch(range(count)), run.folder.path / "augmented"

    def turns(self) -> Sequence[Turn]:
        """The sampler's; then the student's, in steps where it has its turn."""
        *first, last = super().turns()
        return (*first, replace(last, when=self.sampler.teaches) if isinstance(self.sampler, Hard) else last)

    def compare(self, step: Step) -> Losses:
        """Both models on the images, and both on what is made of them."""
        assert self.sampler is not None
        losses = self.loss(step.forward("student"), step.forward("teacher"), step.batch)
        made = step.on(self.sampler.sample(step))
        hard = kl_divergence(
            made.forward("student").logits, made.forward("teacher").logits.detach(), temperature=self.temperature
        )
        return losses.weighted(transfer=self.mix_clean) | Losses(hard=hard).weighted(hard=1 - self.mix_clean)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``T² * KL(teacher / T, student / T)``, and ``alpha * CE`` where labels count."""
        transfer = kl_divergence(student.logits, teacher.logits.detach(), temperature=self.temperature)
        terms = Losses(transfer=transfer)
        return self.task(student, batch).weighted(task=self.alpha) | terms if self.alpha else terms

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """How far the learned changes spread in the end; they begin at ln 2 = 0.69, before they are squashed."""
        augmentors = self.sampler.augmentors if isinstance(self.sampler, Hard) else ()
        rows = [
            {"augmentor": type(one).__name__.lower(), "spread": float(one.spread.detach())}
            for one in augmentors
            if isinstance(one, Augmentor)
        ]
        return {"spreads": rows} if rows else {}

    def epoch_ended(self, epoch: int) -> None:
        """Write the images that are to be shown."""
        if self._shown is None or self._folder is None or not isinstance(self.sampler, Hard):
            return
        device = self.sampler.level.device
        shown = self._shown.to(device)
        with torch.no_grad():
            made = self.sampler.augmented(shown.with_(seeds=shown.ids + epoch), 1)
        _save(self._folder / f"epoch-{epoch:04d}.png", torch.stack([shown.inputs, made.inputs]).cpu())


def _save(path: Path, rows: Tensor) -> None:
    """Rows of images, ``[rows, columns, channels, height, width]``, as one picture."""
    try:
        from matplotlib.image import imsave
    except ImportError as error:
        raise InputError("method.dump_images: pictures need matplotlib: pip install 'tutelage[report]'") from error
    channels = rows[:, :, :3] if rows.shape[2] >= 3 else rows[:, :, :1].expand(-1, -1, 3, -1, -1)
    picture = channels.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1).clamp(0, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    imsave(path, picture.numpy())
