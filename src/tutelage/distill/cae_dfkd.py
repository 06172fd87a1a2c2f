"""CAE-DFKD: category-aware embeddings for transferable data-free distillation (arXiv:2504.21478)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tutelage.data.batch import DataInfo
from tutelage.data.splits import Examples, Splits
from tutelage.distill.parts.data_free import DataFree, plain
from tutelage.engine.method import Finding, Room, Step, Turn
from tutelage.engine.run import Run
from tutelage.engine.terms import Losses
from tutelage.losses import agreed_divergence, category_contrast, cross_entropy, kl_divergence, statistics_distance
from tutelage.measure.probe import linear_probe
from tutelage.models.categories import CategoryEmbeddings, balanced, category_table
from tutelage.models.generator import Generator, ImageRing
from tutelage.models.inert import evaluating
from tutelage.models.outputs import Outputs
from tutelage.models.participant import Participant
from tutelage.models.paths import modules_of
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import method
from tutelage.recipe.types import Of, Ramped


@method("cae-dfkd", paper="arXiv:2504.21478", route="distill")
class CAEDFKD(DataFree):
    """Make images from noised class embeddings, and contrast categories, so that the student is a backbone too.

    Each epoch begins with rounds of a short-lived generator, whose best batches go to a pool; then the student learns
    from the pool. While the generator warms up, the student does not move. The loop and its constants are those of
    NAYER (arXiv:2310.00258); the noise's defaults and the form of the contrast are a reconstruction, for there is no
    code.

    Args:
        embeddings: Rows of the class table: ``text`` of the class names (the paper's), ``random`` orthonormal ones, or
            ``onehot``.
        encoder: For text: local folder of a transformers text model, or a ``.safetensors`` file ``[classes, width]``.
        prompt: Text around a class name, which stands for ``{}``.
        embedding_width: Width of random embeddings.
        noise_sources: Where the noise around an embedding comes from; one is drawn for every sample.
        magnitudes: Size of each source, in multiples of the table's mean standard deviation of a row.
        cncl_weight: Weight of the contrast of categories.
        cncl_tau: Its temperature.
        cncl_width: Width of the projection that is contrasted, and dropped afterwards.
        kd_temperature: Softens both distributions.
        oh: Weight of the teacher's cross-entropy with the wanted class, in the generator's loss.
        bn: Weight of the distance to the statistics that the teacher's batch normalisations remember.
        adv: Weight of the disagreement of teacher and student, where they name the same class; 0 during warm-up.
        host: ``rounds``: as above; ``interleaved``: the generator moves every ``student_steps`` steps, and the student
            learns new images instead of a pool's.
        g_steps: Moves of the generator in a round (or in a turn).
        g_life: Epochs after which the generator begins anew.
        g_lr: Learning rate of its Adam, which forgets its averages after every round.
        rounds: Rounds of an epoch.
        warmup_rounds: Rounds of an epoch of warm-up.
        warmup: Epochs of warm-up.
        synthesis_batch: Images that the generator makes for its own loss.
        pool_size: Images in the pool; the oldest leave.
        student_steps: With ``interleaved``, steps between two turns of the generator.
        steps: Steps of an epoch.
        hidden: Width of the generator's first layer.
        generator_width: Channels of its first map.
        pixel_range: Smallest and largest pixel that the teacher knows.
        augment: Changes made to generated images before anyone looks at them; the paper crops and flips.
        probe: Data for a linear probe of the frozen student and teacher, such as other classes of the same images.
    """

    def __init__(
        self,
        *,
        embeddings: Literal["random", "onehot", "text"] = "random",
        encoder: str | None = None,
        prompt: str = "a photo of a {}",
        embedding_width: Annotated[int, Ge(1)] = 512,
        noise_sources: list[Literal["gaussian", "uniform"]] = ["gaussian", "uniform"],  # noqa: B006 - read only
        magnitudes: list[Annotated[float, Ge(0)]] = [0.1, 0.5],  # noqa: B006 - read only
        cncl_weight: Annotated[float, Ge(0), Ramped()] = 0.5,
        cncl_tau: Annotated[float, Gt(0), Ramped()] = 0.5,
        cncl_width: Annotated[int, Ge(1)] = 128,
        kd_temperature: Annotated[float, Gt(0), Ramped()] = 20.0,
        oh: Annotated[float, Ge(0), Ramped()] = 0.5,
        bn: Annotated[float, Ge(0), Ramped()] = 10.0,
        adv: Annotated[float, Ge(0), Ramped()] = 1.33,
        host: Literal["rounds", "interleaved"] = "rounds",
        g_steps: Annotated[int, Ge(1)] = 40,
        g_life: Annotated[int, Ge(1)] = 10,
        g_lr: Annotated[float, Gt(0)] = 4e-3,
        rounds: Annotated[int, Ge(1)] = 2,
        warmup_rounds: Annotated[int, Ge(1)] = 10,
        warmup: Annotated[int, Ge(0)] = 20,
        synthesis_batch: Annotated[int, Ge(2)] = 400,
        pool_size: Annotated[int, Ge(1)] = 10_000,
        student_steps: Annotated[int, Ge(1)] = 10,
        steps: Annotated[int, Ge(1)] = 400,
        hidden: Annotated[int, Ge(1)] | None = 256,
        generator_width: Annotated[int, Ge(1)] = 128,
        pixel_range: tuple[float, float] = (0.0, 1.0),
        augment: Annotated[list[Any], Of("augment")] = [],  # noqa: B006 - read only
        probe: Annotated[Any, Of("data")] = None,
    ) -> None:
        super().__init__(
            steps=steps,
            student_steps=student_steps,
            generator_lr=g_lr,
            generator_width=generator_width,
            pixel_range=pixel_range,
            augment=augment,
        )
        self.embeddings, self.encoder, self.prompt, self.embedding_width = embeddings, encoder, prompt, embedding_width
        self.noise_sources, self.magnitudes = noise_sources, magnitudes
        self.cncl_weight, self.cncl_tau, self.cncl_width = cncl_weight, cncl_tau, cncl_width
        self.kd_temperature, self.oh, self.bn, self.adv, self.host = kd_temperature, oh, bn, adv, host
        self.g_steps, self.g_life, self.rounds, self.warmup_rounds = g_steps, g_life, rounds, warmup_rounds
        self.warmup = warmup if host == "rounds" else 0
        self.synthesis_batch, self.pool_size, self.hidden = synthesis_batch, pool_size, hidden
        self.probe = probe
        self._moves, self._best = 0, math.inf
        self._kept: Tensor | None = None

    @property
    def generated(self) -> int:
        """Images of a batch that the generator makes for its own loss."""
        return self.synthesis_batch

    # ------------------------------------------------------------------ setting up

    def setup(self, room: Room) -> None:
        """Build the class table, generator, pool and projection, and tap what the teacher's normalisations see.

        Raises:
            InputError: The teacher has no batch normalisation though ``bn`` is above 0, the encoder does not fit, or
                what `DataFree` refuses.
        """
        names = room.info.class_names or tuple(map(str, range(room.info.classes)))
        table = category_table(
            self.embeddings, names, width=self.embedding_width, encoder=self.encoder, prompt=self.prompt
        )
        self.categories = CategoryEmbeddings(table, self.noise_sources, self.magnitudes)
        self.classes = len(names)
        super().setup(room)
        self.normalizations = {
            f"{path}:input": part
            for path, part in modules_of(room.modules["teacher"]).items()
            if isinstance(part, _BatchNorm) and part.running_mean is not None
        }
        if self.bn and not self.normalizations:
            raise InputError(
                "method.bn: the teacher has no batch normalisation whose statistics could be matched; use a teacher "
                "that has, such as 'convnet', or set bn to 0"
            )
        room.tap("teacher", *self.normalizations)
        room.tap("student", "embedding")
        width = room.look("student").embedding.shape[-1]
        self.projector = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, self.cncl_width))
        kept = max(self.pool_size // self.synthesis_batch, 1)
        if self.host == "rounds":
            self.pool = ImageRing(kept, self.synthesis_batch, room.info.input_shape)

    def make_generator(self, info: DataInfo) -> Generator:
        """A generator of class embeddings, normalised first."""
        return Generator(
            self.categories.width,
            info,
            width=self.generator_width,
            hidden=self.hidden,
            normalize_latent=True,
            pixel_range=self.pixel_range,
        )

    def turns(self) -> Sequence[Turn]:
        """Rounds of the generator in the first step of an epoch, then the student in every step after the warm-up."""
        generator, transfer = super().turns()
        optimizer = partial(RestartedAdam, lr=self.generator_lr, every=self.g_steps)
        generator = replace(generator, optimizer=optimizer, times=self.g_steps)
        transfer = replace(transfer, when=lambda step: step.epoch >= self.warmup)
        if self.host == "interleaved":
            return generator, transfer
        warm = replace(
            generator,
            name="warm-up",
            times=self.g_steps * self.warmup_rounds,
            when=lambda step: self._first(step) and step.epoch < self.warmup,
        )
        generator = replace(
            generator,
            times=self.g_steps * self.rounds,
            when=lambda step: self._first(step) and step.epoch >= self.warmup,
        )
        return warm, generator, transfer

    def _first(self, step: Step) -> bool:
        return step.index % self.steps == 0

    # ------------------------------------------------------------------ generator

    def before_step(self, step: Step) -> None:
        """A generator that has lived long enough begins anew."""
        self._moves, self._best, self._kept = 0, math.inf, None
        if self._first(step) and step.epoch % self.g_life == 0:
            self.generator.start_anew()

    def images(self, count: int) -> Tensor:
        """``[count, channels, height, width]`` of classes in equal parts."""
        return self.of(balanced(count, self.classes, self.categories.table.device))

    def of(self, labels: Tensor) -> Tensor:
        """Images of these classes."""
        made: Tensor = self.generator(self.categories(labels))
        return made

    def generate(self, step: Step) -> Losses:
        """The generator's loss on a batch of its own size; the best batch of the round is kept."""
        labels = balanced(self.synthesis_batch, self.classes, self.categories.table.device)
        images = self.of(labels)
        losses = self.judge(self.on(step, images, labels))
        value = float(losses.total().detach())
        if self.host == "rounds" and value < self._best:
            self._best, self._kept = value, images.detach()
        return losses

    def generator_loss(self, step: Step, student: Outputs, teacher: Outputs) -> Losses:
        """``oh * CE + bn * Σ statistics' distance − adv * mean of m KL``."""
        losses = Losses(one_hot=cross_entropy(teacher.logits, step.batch.labels)).weighted(one_hot=self.oh)
        if self.bn:
            apart = [self._apart(teacher.taps[tap], part) for tap, part in self.normalizations.items()]
            losses = losses | Losses(statistics=torch.stack(apart).sum()).weighted(statistics=self.bn)
        if self.adv and step.epoch >= self.warmup:
            adversarial = -agreed_divergence(student.logits, teacher.logits)
            losses = losses | Losses(adversarial=adversarial).weighted(adversarial=self.adv)
        return losses

    @staticmethod
    def _apart(features: Tensor, layer: _BatchNorm) -> Tensor:
        assert layer.running_mean is not None
        assert layer.running_var is not None
        return statistics_distance(features, layer.running_mean, layer.running_var)

    def after_backward(self, step: Step, turn: Turn) -> None:
        """At the end of a round, its best batch goes to the pool."""
        if turn.name == "transfer" or self.host != "rounds":
            return
        self._moves += 1
        if self._moves % self.g_steps == 0 and self._kept is not None:
            self.pool.push(self._kept)
            self._best, self._kept = math.inf, None

    # ------------------------------------------------------------------ student

    def transfer(self, step: Step) -> Losses:
        """``T² KL`` on the pool's images, and the contrast of pairs of the generator's."""
        count = len(step.batch)
        known = self.pool.some(count) if self.host == "rounds" else self.new(count)
        if not self.cncl_weight:
            seen = self.on(step, known)
            self.shown = seen.batch.inputs
            return self.student_loss(seen.forward("student"), self.asked(seen))
        labels = balanced(count, self.classes, known.device)
        with torch.no_grad():
            pairs = self.of(labels.repeat(2))
        # One forward for both, as a student in several processes must have.
        seen = self.on(step, torch.cat([known, pairs]))
        student = seen.forward("student")
        self.shown = seen.batch.inputs[:count]
        teacher = self.asked(step.on(plain(self.shown)))
        anchors, positives = self.projector(student.embedding[count:]).chunk(2)
        contrast = category_contrast(anchors, positives, labels, temperature=self.cncl_tau)
        losses = self.student_loss(Outputs(student.logits[:count]), teacher) | Losses(contrast=contrast)
        return losses.weighted(contrast=self.cncl_weight)

    def student_loss(self, student: Outputs, teacher: Outputs) -> Losses:
        """``T² KL(teacher / T, student / T)``."""
        return Losses(transfer=kl_divergence(student.logits, teacher.logits, temperature=self.kd_temperature))

    def continued(self) -> None:
        """There is no second warm-up."""
        self.warmup = 0

    # ------------------------------------------------------------------ what it is worth elsewhere

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """Linear probes of student and teacher, and of the pixels, where the recipe asks for them."""
        if self.probe is None:
            return {}
        splits: Splits = self.probe.load(run.recipe.seed)
        if splits.info.input_shape != run.splits.info.input_shape:
            raise InputError(
                f"method.probe: its samples have the shape {list(splits.info.input_shape)}, but the models were made "
                f"for {list(run.splits.info.input_shape)}"
            )
        parts = [_all(part) for part in (splits.train, splits.test)]
        rows = []
        for name in ("student", "teacher", "pixels"):
            train, test = [
                (images if name == "pixels" else embedded(run.models[name], images), labels) for images, labels in parts
            ]
            rows.append({"features of": name, "accuracy of a linear probe": linear_probe(*train, *test)})
        return {"transfer": rows}


class RestartedAdam(torch.optim.Adam):
    """Adam that forgets its averages after every so many moves, as one made anew for each round.

    Args:
        params: Parameter groups.
        lr: Learning rate.
        every: Moves between two beginnings.
    """

    def __init__(self, params: Any, *, lr: float, every: int) -> None:
        super().__init__(params, lr=lr, betas=(0.5, 0.999))
        self.every = every

    def step(self, closure: Any = None) -> Any:
        """Move, perhaps after a new beginning."""
        for state in self.state.values():
            if state and int(state["step"]) >= self.every:
                state.clear()
        return super().step(closure)


def embedded(model: nn.Module, images: Tensor, batch_size: int = 512) -> Tensor:
    """``[count, width]``: what enters a model's classifier, in evaluation mode."""
    device = next(model.parameters()).device
    with evaluating(model), torch.no_grad():
        participant = Participant("probed", model, trainable=False, taps=["embedding"], example=images[:2].to(device))
        try:
            return torch.cat([participant.forward(p.to(device)).embedding.cpu() for p in images.split(batch_size)])
        finally:
            participant.close()


def _all(examples: Examples) -> tuple[Tensor, Tensor]:
    batch = examples.fetch(range(len(examples)))
    return batch.inputs, batch.labels
