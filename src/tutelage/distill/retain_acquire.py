"""LRA: learning to retain while acquiring, without data (arXiv:2302.14290, CVPR 2023)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from tutelage.distill.parts.data_free import DataFree, module_of, over_epochs, plain
from tutelage.engine.method import Finding, Room, Step, Turn
from tutelage.engine.optimizers import adam
from tutelage.engine.run import Run
from tutelage.engine.terms import Losses
from tutelage.losses import clamped_jensen_shannon, class_balance, cross_entropy, kl_divergence, virtual_step
from tutelage.models.generator import Encoder, Generator, ImageRing
from tutelage.models.outputs import Outputs
from tutelage.recipe.registry import method
from tutelage.recipe.types import Of, Ramped


@method("retain-acquire", paper="arXiv:2302.14290", route="distill")
class RetainAcquire(DataFree):
    """Learn a moving generator's images so that the gradient also serves what was learnt before.

    A virtual step on new images (acquisition, meta-train) is followed by the loss on replayed ones at where it ends
    (retention, meta-test); both, and the plain loss on all of them, move the student. To first order this makes the
    two gradients agree. The virtual step works on copies of the student's statistics, which are thrown away. There is
    no validation data to choose an epoch by, so the findings say how much the epochs differ.

    Args:
        inner_lr: Size of the virtual step.
        inner_weight_decay: Weight decay inside the virtual step; the code's momentum starts from nothing and has no
            effect in one step.
        first_order: Leave out second derivatives.
        virtual_start: ``live``: the virtual step starts from the student's weights; ``released``: from a detached copy,
            as the released code does, so that retention never reaches the student and only replay is left.
        meta: Whether there is a virtual step at all; without it, old and new images are simply learnt together.
        memory: ``bank``: batches of old images; ``generative``: a variational autoencoder of them; ``none``: no replay.
        capacity: Batches that the bank holds.
        push_every: Epochs between two batches that are put in the bank.
        replay_size: Images of a batch in the bank and of a replay; null for an eighth of the batch.
        distance: How logits are compared: mean absolute or squared difference, or KL(teacher, student).
        one_hot: Weight of the cross-entropy with the teacher's own choice, in the generator's loss.
        balance: Weight of the batch's imbalance of classes there.
        activation: Weight of the size of the teacher's embedding there, negative.
        generator_lr: Learning rate of the generator's Adam; the autoencoder has a fortieth of it.
        generator_steps: Moves of the generator in a row.
        student_steps: Steps of the student between two turns of the generator.
        memory_steps: How many of them also move the autoencoder.
        steps: Steps of an epoch.
        latent: Width of a latent vector.
        memory_latent: Width of the autoencoder's latent vector.
        generator_width: Channels of the generator's first map.
        pixel_range: Smallest and largest pixel that the teacher knows.
        augment: Changes made to generated images before anyone looks at them.
    """

    def __init__(
        self,
        *,
        inner_lr: Annotated[float, Ge(0), Ramped()] = 0.9,
        inner_weight_decay: Annotated[float, Ge(0)] = 5e-4,
        first_order: bool = False,
        virtual_start: Literal["live", "released"] = "live",
        meta: bool = True,
        memory: Literal["bank", "generative", "none"] = "bank",
        capacity: Annotated[int, Ge(1)] = 10,
        push_every: Annotated[int, Ge(1)] = 5,
        replay_size: Annotated[int, Ge(1)] | None = None,
        distance: Literal["l1", "mse", "kl"] = "l1",
        one_hot: Annotated[float, Ge(0), Ramped()] = 1.0,
        balance: Annotated[float, Ge(0), Ramped()] = 5.0,
        activation: Annotated[float, Ge(0), Ramped()] = 0.1,
        generator_lr: Annotated[float, Gt(0)] = 0.02,
        generator_steps: Annotated[int, Ge(1)] = 1,
        student_steps: Annotated[int, Ge(1)] = 10,
        memory_steps: Annotated[int, Ge(0)] = 4,
        steps: Annotated[int, Ge(1)] = 720,
        latent: Annotated[int, Ge(1)] = 1000,
        memory_latent: Annotated[int, Ge(1)] = 256,
        generator_width: Annotated[int, Ge(1)] = 128,
        pixel_range: tuple[float, float] = (0.0, 1.0),
        augment: Annotated[list[Any], Of("augment")] = [],  # noqa: B006 - read only
    ) -> None:
        super().__init__(
            steps=steps,
            student_steps=student_steps,
            generator_lr=generator_lr,
            latent=latent,
            generator_width=generator_width,
            pixel_range=pixel_range,
            augment=augment,
        )
        self.inner_lr, self.inner_weight_decay, self.first_order = inner_lr, inner_weight_decay, first_order
        self.virtual_start, self.meta, self.memory, self.capacity = virtual_start, meta, memory, capacity
        self.push_every, self.replay_size, self.distance = push_every, replay_size, distance
        self.one_hot, self.balance, self.activation = one_hot, balance, activation
        self.generator_steps, self.memory_steps, self.memory_latent = generator_steps, memory_steps, memory_latent
        self._last: list[Tensor] = []

    @property
    def rows(self) -> int:
        """Images of a replay."""
        return self.replay_size or max(self.batch_size // 8, 1)

    def setup(self, room: Room) -> None:
        """Build generator and memory.

        Raises:
            InputError: Teacher and student name different classes, or the samples are no images.
        """
        super().setup(room)
        room.tap("teacher", "embedding")
        if self.memory == "bank":
            self.bank = ImageRing(self.capacity, self.rows, room.info.input_shape)
        elif self.memory == "generative":
            self.encoder = Encoder(self.memory_latent, room.info)
            self.decoder = Generator(
                self.memory_latent, room.info, width=self.generator_width, pixel_range=self.pixel_range
            )

    def turns(self) -> Sequence[Turn]:
        """The generator's, the student's, and the autoencoder's where there is one."""
        generator, transfer = super().turns()
        found = [
            Turn(
                "generator",
                self.generate,
                trains=("method",),
                owns=("generator",),
                optimizer=generator.optimizer,
                times=self.generator_steps,
                when=generator.when,
            ),
            transfer,
        ]
        if self.memory == "generative":
            remember = Turn(
                "memory",
                self.remember,
                trains=("method",),
                owns=("encoder", "decoder"),
                optimizer=partial(adam, lr=self.generator_lr / 40),
                when=lambda step: step.index % self.student_steps < self.memory_steps,
            )
            found.append(remember)
        return found

    # ------------------------------------------------------------------ generator

    def generator_loss(self, step: Step, student: Outputs, teacher: Outputs) -> Losses:
        """``one_hot * CE + balance * Σ p̄ log₁₀ p̄ + activation * (−mean |f|) + 1 − JS`` with JS in [0, 1]."""
        apart = clamped_jensen_shannon(student.logits, teacher.logits.detach()).mean()
        return Losses(
            one_hot=cross_entropy(teacher.logits, teacher.logits.argmax(-1)),
            balance=class_balance(teacher.logits),
            activation=-teacher.embedding.abs().mean(),
            adversarial=1.0 - apart.clamp(0, 1),
        ).weighted(one_hot=self.one_hot, balance=self.balance, activation=self.activation)

    # ------------------------------------------------------------------ student

    def apart(self, student: Tensor, teacher: Tensor) -> Tensor:
        """``[batch]``: the distance of logits ``[batch, classes]``."""
        if self.distance == "kl":
            return kl_divergence(student, teacher)
        difference = student - teacher
        return (difference.abs() if self.distance == "l1" else difference.square()).mean(-1)

    def transfer(self, step: Step) -> Losses:
        """The distance on new and replayed images, and that on the replayed ones after a virtual step."""
        new = self.on(step, self.new(len(step.batch))).batch.inputs
        self._last.append(new)
        old = self.replayed(step)
        images = new if old is None else torch.cat([new, self.on(step, old).batch.inputs])
        self.shown = images
        seen = step.on(plain(images))
        teacher = self.asked(seen).logits
        losses = Losses(transfer=self.apart(seen.forward("student").logits, teacher))
        if old is None or not self.meta:
            return losses
        return losses | Losses(retention=self.retention(step, images, teacher, len(new)))

    def retention(self, step: Step, images: Tensor, teacher: Tensor, count: int) -> Tensor:
        """``[replayed]``: the distance on what comes after the first ``count`` images, one virtual step on them ahead.

        Args:
            step: The step, for its student.
            images: ``[count + replayed, channels, height, width]``.
            teacher: ``[count + replayed, classes]``.
            count: How many are new.
        """
        student = module_of(step, "student")
        start: dict[str, Tensor] = {name: value for name, value in student.named_parameters() if value.requires_grad}
        if self.virtual_start == "released":
            start = {name: value.detach().requires_grad_() for name, value in start.items()}

        def distance(parameters: Mapping[str, Tensor], part: slice) -> Tensor:
            copies = {name: value.clone() for name, value in student.named_buffers()}
            # Fused attention has no second derivatives.
            with sdpa_kernel(SDPBackend.MATH):
                logits = functional_call(student, {**parameters, **copies}, (images[part],))
            return self.apart(logits, teacher[part])

        acquisition = distance(start, slice(count)).mean()
        moved = virtual_step(
            start,
            acquisition,
            lr=self.inner_lr,
            weight_decay=self.inner_weight_decay,
            first_order=self.first_order,
        )
        return distance(moved, slice(count, None))

    # ------------------------------------------------------------------ memory

    def replayed(self, step: Step) -> Tensor | None:
        """Old images, ``None`` while there are none; an autoencoder counts as empty in its first epoch."""
        if self.memory == "bank":
            return self.bank.one() if len(self.bank) else None
        if self.memory == "generative" and step.epoch > 0:
            return self.recall(step, self.rows)
        return None

    def recall(self, step: Step, count: int) -> Tensor:
        """Images of the decoder, each from a latent vector that one move of Adam made more typical of a class."""
        latent = torch.randn(count, self.memory_latent, device=next(self.decoder.parameters()).device)
        latent.requires_grad_()
        with torch.enable_grad():
            logits = step.on(plain(self.decoder(latent))).forward("teacher").logits
            loss = self.balance * class_balance(logits)
            loss = loss + self.one_hot * cross_entropy(logits, logits.argmax(-1)).mean()
            loss = loss + (latent.var(0, unbiased=False) - 1).square().mean() + latent.mean(0).square().mean()
            (latent.grad,) = torch.autograd.grad(loss, latent)
        torch.optim.Adam([latent], lr=self.generator_lr).step()
        with torch.no_grad():
            images: Tensor = self.decoder(latent)
        return images

    def remember(self, step: Step) -> Losses:
        """The autoencoder's loss on new images and its own: pixels, the teacher's logits, and KL to N(0, I)."""
        count = max(len(step.batch) // 2, 1)
        images = torch.cat([self.new(count), self.recall(step, self.rows)])
        mean, log_variance = self.encoder(images)
        again = self.decoder(mean + (0.5 * log_variance).exp() * torch.randn_like(mean))
        target = self.asked(step.on(plain(images))).logits
        logits = step.on(plain(again)).forward("teacher").logits
        spread = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)
        losses = Losses(
            images=functional.l1_loss(again, images), logits=functional.l1_loss(logits, target), spread=spread
        )
        return losses.weighted(spread=1e-5)

    def before_step(self, step: Step) -> None:
        """Only the last step's images may be kept."""
        self._last = []

    def epoch_ended(self, epoch: int) -> None:
        """Keep some of the last images, every ``push_every`` epochs."""
        if self.memory == "bank" and self._last and (epoch + 1) % self.push_every == 0:
            self.bank.push(torch.cat(self._last)[: self.rows])

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """How much validation accuracy moves from epoch to epoch: over the later half, and its largest fall."""
        rows = []
        for name, record in run.records.items():
            values = over_epochs(record["history"]) if name not in run.recipe.models else []
            later = values[len(values) // 2 :]
            if len(later) > 1:
                row = {
                    "stage": name,
                    "mean of the later half": statistics.fmean(later),
                    "its standard deviation": statistics.stdev(later),
                    "largest fall in one epoch": max(0.0, *(a - b for a, b in pairwise(values))),
                }
                rows.append(row)
        return {"accuracy over epochs": rows} if rows else {}
