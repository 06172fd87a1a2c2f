"""ABD: anti-backdoor data-free distillation from poisoned teachers (arXiv:2306.02368, ICML 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tutelage.distill.attention_transfer import AttentionTransfer
from tutelage.distill.base import sequence
from tutelage.distill.parts.data_free import DataFree, module_of
from tutelage.distill.parts.out_of_distribution import OutOfDistribution
from tutelage.engine.method import Finding, Method, Result, Room, Step, Train, Turn
from tutelage.engine.optimizers import adam
from tutelage.engine.run import Run
from tutelage.engine.terms import Losses
from tutelage.losses import implicit_vector, kl_divergence, mask_mean, suspicion, tail_ratio
from tutelage.models.generator import ImageRing
from tutelage.models.inert import evaluating
from tutelage.models.outputs import Outputs
from tutelage.models.shuffling import Shuffles
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe
from tutelage.recipe.types import Of, Ramped

# Batches that a shuffle is not judged by: the generator has only begun.
_BEGINNING = 10
_TRIES = 8


@method("abd", paper="arXiv:2306.02368", route="distill")
class ABD(Method):
    """Distil without data from a teacher that may have a backdoor, and leave the backdoor behind.

    Shuffling vaccine: copies of the teacher whose late filters look at the wrong channels lose what they know of
    content and keep shortcuts of few channels, so the generator is kept from images that they still recognise.
    Self-retrospection: in a last stage, the student unlearns a perturbation that it would react to. Both go with any
    data-free method. Another seed draws another shuffle, which is another defence.

    Args:
        host: The data-free method that is defended; null for the zero-shot game of arXiv:1905.09768.
        inputs: Without a host, where images come from: a generator's, or ``patches`` of a photograph, with CutMix. With
            patches, suspicious images count against the student's loss instead of a generator's.
        sv_coef: Weight of the shuffling vaccine; 0 for none.
        n_shuffle_models: Shuffled copies, whose logits are averaged.
        n_shuffle_layers: How many of the last convolutions are shuffled; negative for the first ones.
        stop_shuffle_grad: Let no gradient through the shuffled copies into the images.
        select_batches: Judge shuffles by the generator's batches 11 to this one, made without vaccine; 0 to take the
            first shuffle as it is.
        tail_threshold: Share of outliers that a shuffle must show to be taken; after 8 tries there is no vaccine.
        sr: Whether there is a last stage of self-retrospection.
        sr_epochs: Its epochs.
        sr_lr: Learning rate of its own Adam.
        sr_rounds: Moves that look for a perturbation.
        sr_portion: Share of the batch that bears it in the outer objective; at least one sample.
        sr_probe: Whose reaction the perturbation increases.
        steps: Without a host: steps of an epoch.
        student_steps: Without a host: steps between two turns of the generator.
        generator_lr: Without a host: learning rate of the generator's Adam.
        latent: Without a host: width of a latent vector.
        generator_width: Without a host: channels of the generator's first map.
        pixel_range: Without a host: smallest and largest pixel that the teacher knows.
        at_pairs: Without a host: taps of student and teacher whose attention maps are matched too; empty for none.
        at_beta: Their weight.
    """

    slots: ClassVar[dict[str, str]] = {"teacher": "model", "student": "model", "data": "data"}
    compared: ClassVar[bool] = False

    decided: Tensor
    seen: Tensor
    tail: Tensor

    def __init__(
        self,
        *,
        host: Annotated[Any, Of("method")] = None,
        inputs: Literal["generated", "patches"] = "generated",
        sv_coef: Annotated[float, Ge(0), Ramped()] = 0.1,
        n_shuffle_models: Annotated[int, Ge(1)] = 3,
        n_shuffle_layers: int = 5,
        stop_shuffle_grad: bool = False,
        select_batches: Annotated[int, Ge(0)] = 0,
        tail_threshold: Annotated[float, Ge(0)] = 0.02,
        sr: bool = False,
        sr_epochs: Annotated[int, Ge(1)] = 5,
        sr_lr: Annotated[float, Gt(0)] = 5e-4,
        sr_rounds: Annotated[int, Ge(1)] = 10,
        sr_portion: Annotated[float, Gt(0), Le(1)] = 0.02,
        sr_probe: Literal["teacher", "student"] = "teacher",
        steps: Annotated[int, Ge(1)] = 1000,
        student_steps: Annotated[int, Ge(1)] = 10,
        generator_lr: Annotated[float, Gt(0)] = 1e-3,
        latent: Annotated[int, Ge(1)] = 100,
        generator_width: Annotated[int, Ge(1)] = 128,
        pixel_range: tuple[float, float] = (0.0, 1.0),
        at_pairs: list[tuple[str, str]] = [],  # noqa: B006 - read only
        at_beta: Annotated[float, Ge(0)] = 250.0,
    ) -> None:
        super().__init__()
        if host is not None and not isinstance(host, DataFree):
            raise InputError(
                f"method.host: {type(host).__name__} learns from data; expected a data-free method, such as "
                "'retain-acquire' or 'cae-dfkd', or null"
            )
        if 0 < select_batches <= _BEGINNING:
            raise InputError(
                f"method.select_batches: the first {_BEGINNING} batches are not looked at; expected 0, or more than "
                f"{_BEGINNING}, not {select_batches}"
            )
        patches = host is None and inputs == "patches"
        if patches and select_batches:
            raise InputError("method.select_batches: patches have no generator whose batches could be looked at; use 0")
        make = OutOfDistribution if patches else DataFree
        self.host: DataFree = host or make(
            steps=steps,
            student_steps=student_steps,
            generator_lr=generator_lr,
            latent=latent,
            generator_width=generator_width,
            pixel_range=pixel_range,
            beside=AttentionTransfer(pairs=at_pairs, beta=at_beta, task_weight=0.0) if at_pairs else None,
        )
        self.sv_coef, self.n_shuffle_models, self.n_shuffle_layers = sv_coef, n_shuffle_models, n_shuffle_layers
        self.stop_shuffle_grad, self.select_batches = stop_shuffle_grad, select_batches
        self.tail_threshold = tail_threshold
        self.sr, self.sr_epochs, self.sr_lr, self.sr_rounds = sr, sr_epochs, sr_lr, sr_rounds
        self.sr_portion, self.sr_probe = sr_portion, sr_probe
        self.retrospecting = False
        self.register_buffer("decided", torch.tensor(int(not select_batches)))
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("tail", torch.tensor(float("nan")))

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """As of its hosts."""
        return DataFree.check(recipe)

    def setup(self, room: Room) -> None:
        """Set the host up, and draw the shuffles.

        Raises:
            InputError: The teacher has no convolution to shuffle, or what the host refuses.
        """
        self.host.setup(room)
        room.differentiate("teacher")
        self.host.guards, self.defended = [], bool(self.sv_coef)
        if not self.defended:
            return
        self.shuffles = Shuffles(room.modules["teacher"], copies=self.n_shuffle_models, layers=self.n_shuffle_layers)
        if isinstance(self.host, OutOfDistribution):
            self.host.weigh = self.weigh
        else:
            self.host.guards = [self.vaccinate]
        if self.select_batches:
            shape = room.info.input_shape
            self.candidates = ImageRing(self.select_batches - _BEGINNING, self.host.generated, shape)

    # ------------------------------------------------------------------ shuffling vaccine

    def vaccinate(self, step: Step, teacher: Outputs) -> Losses:
        """``−sv_coef`` times the mean divergence of the copies from the teacher, where they name its class."""
        images = step.batch.inputs
        if not self.decided:
            self._collect(step, images.detach())
        if self.decided != 1:
            return Losses()
        network = module_of(step, "teacher")
        if self.stop_shuffle_grad:
            with torch.no_grad():
                shuffled = self.shuffles(network, images)
        else:
            shuffled = self.shuffles(network, images)
        apart, alike = suspicion(teacher.logits, shuffled)
        return Losses(vaccine=-mask_mean(apart, alike)).weighted(vaccine=self.sv_coef)

    def weigh(self, step: Step, teacher: Outputs, losses: Tensor) -> Tensor:
        """Mean loss of unsuspicious samples less ``sv_coef`` times that of suspicious ones.

        Args:
            step: The step, for its images and the teacher.
            teacher: What it says of them.
            losses: ``[batch]``.
        """
        with torch.no_grad():
            _, alike = suspicion(teacher.logits, self.shuffles(module_of(step, "teacher"), step.batch.inputs))
        return mask_mean(losses, ~alike) - self.sv_coef * mask_mean(losses, alike)

    @torch.no_grad()
    def _collect(self, step: Step, images: Tensor) -> None:
        """Keep a batch; once there are enough, look for a shuffle under which some samples stand out."""
        self.seen += 1
        if self.seen > _BEGINNING:
            self.candidates.push(images)
        if self.seen < self.select_batches:
            return
        network, kept = module_of(step, "teacher"), self.candidates.batches()
        logits = [network(batch) for batch in kept]
        self.decided.fill_(2)
        for _ in range(_TRIES):
            pairs = zip(kept, logits, strict=True)
            apart = [suspicion(own, self.shuffles(network, batch))[0] for batch, own in pairs]
            self.tail.copy_(tail_ratio(torch.cat(apart)))
            if self.tail > self.tail_threshold:
                self.decided.fill_(1)
                return
            self.shuffles.draw()

    # ------------------------------------------------------------------ self-retrospection

    def retrospect(self, step: Step) -> Losses:
        """The host's loss, and what a perturbation that the student should not react to does to it.

        ``retrospection`` is logged as the outer objective; its gradient is the hypergradient ∂h/∂θ + (∂Φ/∂θ)ᵀ v, since
        the perturbation is itself an answer to the student.
        """
        losses = self.host.transfer(step)
        assert self.host.shown is not None
        images, student = self.host.shown.detach(), module_of(step, "student")
        # Second derivatives of attention need its plain form; statistics stay as the host's loss leaves them.
        with evaluating(student), sdpa_kernel(SDPBackend.MATH):
            delta = self.perturbation(module_of(step, self.sr_probe), images).requires_grad_()

            def descend(point: Tensor) -> Tensor:
                with torch.enable_grad():
                    reaction = kl_divergence(student(images + point), student(images).detach()).mean()
                    inner = -reaction + 0.001 * point.square().sum()
                    (gradient,) = torch.autograd.grad(inner, point, create_graph=True)
                return point - 0.1 * gradient

            bearing = torch.zeros(len(images), 1, 1, 1, device=images.device)
            count = max(int(self.sr_portion * len(images)), 1)
            bearing[torch.randperm(len(images), device=images.device)[:count]] = 1.0
            outer = kl_divergence(student(images + bearing * delta), student(images)).mean()
            (pull,) = torch.autograd.grad(outer, delta, retain_graph=True)
            v = implicit_vector(descend, delta, pull, rounds=5)
            implied = (descend(delta) * v).sum()
        return losses | Losses(retrospection=outer + implied - implied.detach())

    def perturbation(self, network: nn.Module, images: Tensor) -> Tensor:
        """``[1, channels, height, width]``: the one change of all images that a network reacts to most.

        It begins at zero but for a trace of noise: at zero itself the divergence has no gradient.
        """
        delta = (1e-3 * torch.randn_like(images[:1])).requires_grad_()
        optimizer = torch.optim.Adam([delta], lr=0.1)
        with evaluating(network), torch.enable_grad():
            clean = network(images).detach()
            for _ in range(self.sr_rounds):
                reaction = kl_divergence(network(images + delta), clean).mean()
                (delta.grad,) = torch.autograd.grad(-reaction, delta)
                optimizer.step()
        return delta.detach()

    # ------------------------------------------------------------------ the host, from outside

    def turns(self) -> Sequence[Turn]:
        """The host's; in self-retrospection the student's has an optimiser of its own."""
        # Seen from here, the host is the one part that all that it trains belongs to.
        turns = [replace(turn, owns=("host",) if "method" in turn.trains else ()) for turn in self.host.turns()]
        if not self.retrospecting:
            return turns
        own = partial(adam, lr=self.sr_lr)
        return [
            replace(turn, name="retrospection", loss=self.retrospect, optimizer=own)
            if turn.name == "transfer"
            else turn
            for turn in turns
        ]

    def before_step(self, step: Step) -> None:
        """The host's."""
        self.host.before_step(step)

    def after_backward(self, step: Step, turn: Turn) -> None:
        """The host's; what only the generator's turns move has no gradient in the student's."""
        if turn.name not in ("transfer", "retrospection"):
            self.host.after_backward(step, turn)
            return
        # Averaged over processes it would be zero, and weight decay would act.
        for name in {name for one in self.host.turns() for name in one.owns}:
            for parameter in self.host.get_submodule(name).parameters():
                parameter.grad = None
        self.host.after_backward(step, replace(turn, name="transfer"))

    def after_step(self, step: Step) -> None:
        """The host's."""
        self.host.after_step(step)

    def epoch_ended(self, epoch: int) -> None:
        """The host's."""
        self.host.epoch_ended(epoch)

    def stages(self, run: Run) -> Iterator[Train]:
        """The host's, on what it looks at; then self-retrospection, which goes on with generator and student."""
        for stage in sequence(self, run, "transfer"):
            if stage.method is not self:
                yield stage
                continue
            if self.select_batches and stage.settings.accumulate > 1:
                raise InputError("method.select_batches: needs whole batches; use train.accumulate 1")
            self.retrospecting = False
            yield self.host.without_data(stage, run)
        if self.sr:
            self.retrospecting = True
            self.host.continued()
            settings = replace(stage.settings, epochs=self.sr_epochs)
            again = replace(stage, name="retrospection", method=self, settings=settings, continues=stage.name)
            yield self.host.without_data(again, run)

    def results(self, run: Run) -> Sequence[Result]:
        """The student."""
        return self.host.results(run)

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """The host's, and whether a shuffle was found where one was looked for."""
        found = dict(self.host.findings(run))
        if self.select_batches:
            words = ("still looked for when training ended", "on", f"off: none of {_TRIES} shuffles showed outliers")
            found["shuffling vaccine"] = words[int(self.decided)]
            found["share of outliers"] = float(self.tail)
        return found
