"""What an augmentation is worth for distillation, told by the teacher before any student is trained (arXiv:2012.02909).

The paper finds that the less the teacher's mean prediction varies from draw to draw under an augmentation, the lower is
the test loss of the students that it teaches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.data.loader import Augmentation, Loader, apply
from tutelage.data.seeds import derive, mix
from tutelage.data.splits import Examples
from tutelage.engine.method import Step
from tutelage.engine.sampler import Sampler
from tutelage.losses import draw_spread, entropy, pairwise_covariance, soft_cross_entropy
from tutelage.models.inert import evaluating
from tutelage.models.participant import Participant
from tutelage.recipe.errors import InputError

Augmented = Sequence[Augmentation] | Sampler


@dataclass(frozen=True)
class AugmentationScore:
    """What the teacher says of an augmentation.

    Args:
        name: Its name.
        spread: Standard deviation over draws of the teacher's mean probabilities, averaged over classes: the lower the
            better.
        entropy: Mean entropy of the teacher's probabilities on augmented samples, in nats.
        draws: How many draws that is taken over; only scores of equal settings can be compared.
    """

    name: str
    spread: float
    entropy: float
    draws: int


def score_augmentation(
    teacher: nn.Module,
    examples: Examples,
    augments: Mapping[str, Augmented],
    *,
    before: Sequence[Augmentation] = (),
    batch_size: int = 64,
    batches: int = 10,
    originals: bool = True,
    epochs: int = 10,
    seed: int = 0,
) -> list[AugmentationScore]:
    """Rank augmentations by the teacher alone, the most promising first.

    Args:
        teacher: The teacher; left as it was.
        examples: What students would be trained on.
        augments: By name: chains of augmentations, or a sampler such as ``cutmix-pick`` by the teacher's entropy. An
            empty chain is no augmentation.
        before: Augmentations that come first, as the data's own would.
        batch_size: Samples of a step.
        batches: Batches that make a draw; with ``originals`` half of them are originals.
        originals: Let each step's original batch count as well as the augmented one, as in training.
        epochs: Passes over the examples.
        seed: Of order and augmentations.

    Raises:
        InputError: There is nothing to rank, a draw covers all examples (it would score 0 whatever the augmentation),
            or there are fewer than two draws.
    """
    steps = _steps(len(examples), batch_size, batches, originals, epochs)
    if not augments:
        raise InputError("there is no augmentation to score; name at least one, such as 'cutmix'")
    example = examples.fetch(range(min(4, len(examples))))
    found = []
    with evaluating(teacher):
        participant = Participant("teacher", teacher, trainable=False, example=example.inputs)
        try:
            for name, augment in augments.items():
                drawn = _draws(
                    participant, examples, augment, before, batch_size, steps, originals, epochs=epochs, seed=seed
                )
                means, entropies = zip(*drawn, strict=True)
                spread = float(draw_spread(torch.stack(means)))
                found.append(AugmentationScore(name, spread, float(torch.stack(entropies).mean()), len(means)))
        finally:
            participant.close()
    return sorted(found, key=lambda one: one.spread)


def _steps(count: int, batch_size: int, batches: int, originals: bool, epochs: int) -> int:
    """Steps that make a draw."""
    if batches < 1 or (originals and batches % 2):
        raise InputError(f"batches: found {batches}, expected at least 1, and an even number where originals count")
    steps = batches // 2 if originals else batches
    if steps * batch_size >= count:
        raise InputError(
            f"a draw of {steps} steps of {batch_size} samples covers all {count} examples, so that every draw is the "
            "same: choose fewer batches or a smaller batch size"
        )
    if epochs * (count // batch_size) < 2 * steps:
        raise InputError(f"{epochs} epochs give fewer than two draws of {steps} steps: choose more epochs")
    return steps


def _draws(
    teacher: Participant,
    examples: Examples,
    augment: Augmented,
    before: Sequence[Augmentation],
    batch_size: int,
    steps: int,
    originals: bool,
    *,
    epochs: int,
    seed: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each draw, the mean probabilities ``[classes]`` and the mean entropy of the augmented samples."""
    device = next((p.device for p in teacher.module.parameters()), torch.device("cpu"))
    loader = Loader(examples, batch_size=batch_size, seed=seed, shuffle=True)
    logits: list[Tensor] = []
    made: list[Tensor] = []
    for epoch in range(epochs):
        for index, fetched in enumerate(loader.epoch(epoch)):
            # Draws of other sizes vary by another amount.
            if len(fetched) < batch_size:
                continue
            batch = apply(fetched.to(device), before)
            step = Step(batch, {"teacher": teacher}, index, epoch, 0.0, training=False)
            with torch.no_grad():
                if originals:
                    logits.append(step.forward("teacher").logits)
                made.append(step.on(_augmented(step, augment)).forward("teacher").logits)
            if len(made) == steps:
                every = torch.cat([*logits, *made]).float().softmax(-1)
                yield every.mean(0).cpu(), entropy(torch.cat(made)).mean().cpu()
                logits, made = [], []


def _augmented(step: Step, augment: Augmented) -> Batch:
    if not isinstance(augment, Sampler):
        # Seeds of a place of its own, so that what came before does not decide again.
        return apply(step.batch.with_(seeds=derive(step.batch.seeds, 0x5343)), augment)
    try:
        return augment.sample(step)
    except KeyError as error:
        raise InputError(
            f"the sampler {type(augment).__name__} asks for the {error}: only the teacher is here"
        ) from error


def transfer_covariance(
    teacher: nn.Module,
    student: nn.Module,
    examples: Batch,
    augment: Sequence[Augmentation],
    *,
    draws: int = 20,
    seed: int = 0,
) -> float:
    """The quantity itself that an augmentation must lower: how the samples' transfer losses vary together.

    Of every sample, the cross-entropy between teacher and student is taken in several draws of its augmented view;
    their covariances are summed over all pairs of samples and divided by the number of samples squared.

    Args:
        teacher: The teacher.
        student: A student, trained or not.
        examples: Some samples.
        augment: The augmentations.
        draws: Views of each sample, at least 2.
        seed: Of the views.
    """
    values = []
    with evaluating(teacher), evaluating(student), torch.no_grad():
        for draw in range(draws):
            view = apply(examples.with_(seeds=mix(seed, draw, examples.ids)), augment)
            target: Tensor = teacher(view.inputs)
            values.append(soft_cross_entropy(student(view.inputs), target.float().softmax(-1)))
    return float(pairwise_covariance(torch.stack(values)))


def rank_agreement(scores: Sequence[float], losses: Sequence[float]) -> dict[str, dict[str, Any]]:
    """How well scores of augmentations foretell the test losses of students: three correlations and their p-values.

    Args:
        scores: One for each augmentation.
        losses: Test losses of the students, in the same order.

    Returns:
        ``{"pearson": {"value", "p"}, "spearman": ..., "kendall": ...}``.

    Raises:
        InputError: There are fewer than three, or not as many of both.
    """
    if len(scores) != len(losses) or len(scores) < 3:
        raise InputError(f"{len(scores)} scores and {len(losses)} losses; expected as many of both, at least 3")
    from scipy import stats

    tests = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}
    out = {}
    for name, test in tests.items():
        result = test(scores, losses)
        out[name] = {"value": float(result.statistic), "p": float(result.pvalue)}
    return out
