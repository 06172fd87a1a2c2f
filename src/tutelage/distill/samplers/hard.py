"""Inputs on which teacher and student disagree, made by augmentations that learn to find them (arXiv:2305.14890)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.data.loader import Augmentation, apply
from tutelage.data.seeds import derive
from tutelage.engine.method import Room, Step, Turn
from tutelage.engine.optimizers import adam
from tutelage.engine.sampler import Sampler, tried
from tutelage.engine.terms import Losses
from tutelage.losses import kl_divergence
from tutelage.models.augmentors import Affine, Augmentor
from tutelage.recipe.building import completed
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component
from tutelage.recipe.types import Of


@component("sampler", "hard")
class Hard(Sampler):
    """Change images so that teacher and student disagree on them, while the teacher answers as it does to the original.

    The augmentations have a turn of their own before the student's, with an optimiser of their own. In it both models
    are fixed, and gradients flow through them to the image. The student then learns from what was made, detached.

    Args:
        augmentor: What changes an image, in this order: ``affine``, ``translate``, ``color``, ``latent``, or a module
            of your own that takes and gives a batch; empty for ``affine``.
        before: Random augmentations that come before what is learned.
        clean: Hand the originals on as well, for a method that compares on one batch: half is theirs.
        invariance_weight: Weight of the teacher answering as to the original.
        disagreement_weight: Weight of the disagreement.
        disagreement_cap: Disagreement that is enough, in nats (or squared distance): beyond it nothing is gained.
        distance: Between outputs: ``kl`` of probabilities at temperature 1, or ``mse`` of outputs, for regression.
        lr: Learning rate of the augmentations' Adam.
        schedule: ``alternate``: both move in every step; ``thresholds``: the augmentations move until the disagreement,
            averaged over steps, reaches ``l_max``, then the student until it falls below ``l_min``, and again.
        l_min: Where the augmentations take over.
        l_max: Where the student takes over; above ``l_min``.

    Raises:
        InputError: ``l_max`` is not above ``l_min``.
    """

    level: Tensor
    finding: Tensor

    def __init__(
        self,
        *,
        augmentor: Annotated[tuple[Any, ...], Of("augmentor")] = (),
        before: Annotated[tuple[Any, ...], Of("augment")] = (),
        clean: bool = False,
        invariance_weight: Annotated[float, Ge(0)] = 1.0,
        disagreement_weight: Annotated[float, Ge(0)] = 1.0,
        disagreement_cap: Annotated[float, Gt(0)] = 5.0,
        distance: Literal["kl", "mse"] = "kl",
        lr: Annotated[float, Gt(0)] = 0.03,
        schedule: Literal["alternate", "thresholds"] = "alternate",
        l_min: Annotated[float, Ge(0)] = 0.2,
        l_max: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        super().__init__()
        if l_max <= l_min:
            raise InputError(f"sampler.l_max: found {l_max}, expected more than l_min, which is {l_min}")
        self._asked, self.before, self.clean = tuple(augmentor), tuple(before), clean
        self.invariance_weight, self.disagreement_weight = invariance_weight, disagreement_weight
        self.disagreement_cap, self.distance, self.lr = disagreement_cap, distance, lr
        self.schedule, self.l_min, self.l_max = schedule, l_min, l_max
        self.augmentors = nn.ModuleList()
        self._first: list[Augmentation] = []
        # The disagreement averaged over steps, and whether it is the augmentations' turn to raise it.
        self.register_buffer("level", torch.zeros(()))
        self.register_buffer("finding", torch.ones((), dtype=torch.bool))

    def setup(self, room: Room) -> None:
        """Build the augmentations, unless an earlier stage did; let gradients through the teacher.

        Raises:
            InputError: The inputs are no images, or an augmentation has nothing to learn.
        """
        room.differentiate("teacher")
        self._first = [completed(one, room.info) for one in self.before]
        if len(self.augmentors):
            return
        asked = [completed(one, room.info) for one in self._asked]
        for one in asked or [Affine(room.info)]:
            if not isinstance(one, nn.Module) or not any(p.requires_grad for p in one.parameters()):
                raise InputError(
                    f"sampler.augmentor: a {type(one).__name__} has nothing to learn; expected a module with parameters"
                )
            self.augmentors.append(one)

    def turns(self) -> Sequence[Turn]:
        """The augmentations' move."""
        return (
            Turn(
                "augmentor",
                self.learn,
                trains=("method",),
                owns=("sampler",),
                optimizer=partial(adam, lr=self.lr),
                when=None if self.schedule == "alternate" else self.finds,
            ),
        )

    def finds(self, step: Step) -> bool:
        """Whether it is the augmentations' turn."""
        return bool(self.finding)

    def teaches(self, step: Step) -> bool:
        """Whether it is the student's turn."""
        return self.schedule == "alternate" or not bool(self.finding)

    def augmented(self, batch: Batch, place: int) -> Batch:
        """The batch, changed; what is drawn differs from place to place, and the batch's own seeds stay.

        Args:
            batch: ``[batch, channels, height, width]`` inputs.
            place: Names the occasion.
        """
        changed = apply(batch, self._first)
        for number, augmentor in enumerate(self.augmentors):
            seeds = derive(batch.seeds, 2 * number + place)
            changed = augmentor(changed.with_(seeds=seeds))
        return changed.with_(seeds=batch.seeds)

    def learn(self, step: Step) -> Losses:
        """What the augmentations minimise: ``invariance * D(f_t(x), f_t(x'))``, less the disagreement on x'."""
        hard = step.on(self.augmented(step.batch, 0))
        before = step.forward("teacher").logits.detach()
        after = hard.forward("teacher").logits
        kept, apart = self._apart(after, before), self._apart(tried(hard).logits, after)
        self._observe(apart)
        terms = Losses(invariance=kept, disagreement=apart.clamp(max=self.disagreement_cap))
        terms = terms.weighted(invariance=self.invariance_weight, disagreement=-self.disagreement_weight)
        spreads = [one.spread for one in self.augmentors if isinstance(one, Augmentor)]
        return terms.noting(spread=torch.stack(spreads).mean()) if spreads else terms

    def sample(self, step: Step) -> Batch:
        """The changed images, after the originals where these are asked for."""
        with torch.no_grad():
            hard = self.augmented(step.batch, 1)
            if self.schedule == "thresholds":
                on = step.on(hard)
                self._observe(self._apart(tried(on).logits, on.forward("teacher").logits))
        if not self.clean:
            return hard
        return Batch.join([step.batch, hard])

    def _apart(self, student: Tensor, teacher: Tensor) -> Tensor:
        """``[batch]``."""
        if self.distance == "kl":
            return kl_divergence(student, teacher)
        return (student.float() - teacher.float()).square().flatten(1).mean(1)

    def _observe(self, apart: Tensor) -> None:
        if self.schedule == "alternate":
            return
        mean = apart.detach().mean()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(mean)
            mean = mean / torch.distributed.get_world_size()
        self.level.copy_(0.9 * self.level + 0.1 * mean)
        reached = self.level >= self.l_max if bool(self.finding) else self.level >= self.l_min
        self.finding.copy_(~reached)
