"""e²KD: explanation-enhanced knowledge distillation (arXiv:2402.03119, ECCV 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.splits import Examples
from tutelage.distill.base import LogitDistillation, sequence
from tutelage.distill.parts.explainers import Explainer
from tutelage.distill.parts.frozen_maps import FrozenMaps, freeze_maps, kept_maps
from tutelage.engine.cache import content_of
from tutelage.engine.method import Room, Step, Train
from tutelage.engine.terms import Losses
from tutelage.losses import explanation_distance, kl_divergence, one_against_rest, resized
from tutelage.models.inert import evaluating
from tutelage.models.outputs import Outputs
from tutelage.models.participant import Participant
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.registry import method, registry
from tutelage.recipe.spec import Recipe
from tutelage.recipe.types import Of, Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run


@method("e2kd", paper="arXiv:2402.03119", route="distill")
class E2KD(LogitDistillation):
    """Give the student the teacher's reasons beside its answers: their maps for the teacher's class point the same way.

    The student learns through the gradients in its own map, which takes a second backward pass. No labels are used
    unless asked for.

    Args:
        explainer: How a class is explained: ``gradcam``, ``input-gradient``, ``bcos``, or your own.
        lambda_exp: Weight of the maps' distance; 0 never makes a map.
        kd_weight: Weight of the divergence of the outputs.
        temperature: Of the outputs.
        ce_weight: Weight of the label term.
        label_loss: ``ce``, or ``bce``: every class on its own, with one over the number of classes as the target of the
            others, as B-cos networks are trained.
        explain_class: Whose class is explained in both models.
        every_n_batches: Explain in every so many steps only.
        resize: Bring both maps to the image's size, or the larger to the smaller.
        frozen_maps: Ask the teacher once, on images that are not augmented: true to keep that in memory, or a
            ``.safetensors`` file in which the first run keeps it for others. Augmentations move maps with their images.
    """

    def __init__(
        self,
        *,
        explainer: Annotated[Any, Of("explainer")] = "gradcam",
        lambda_exp: Annotated[float, Ge(0), Ramped()] = 1.0,
        kd_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        temperature: Annotated[float, Gt(0), Ramped()] = 1.0,
        ce_weight: Annotated[float, Ge(0), Ramped()] = 0.0,
        label_loss: Literal["ce", "bce"] = "ce",
        explain_class: Literal["teacher_top1", "label", "student_top1"] = "teacher_top1",
        every_n_batches: Annotated[int, Ge(1)] = 1,
        resize: Literal["image", "smaller"] = "image",
        frozen_maps: bool | str = False,
    ) -> None:
        super().__init__()
        named = isinstance(explainer, str)
        self.explainer: Explainer = registry().load("explainer", explainer)() if named else explainer
        self.lambda_exp, self.kd_weight, self.temperature = lambda_exp, kd_weight, temperature
        self.ce_weight, self.label_loss, self.explain_class = ce_weight, label_loss, explain_class
        self.every_n_batches, self.resize, self.frozen_maps = every_n_batches, resize, frozen_maps
        self.frozen: FrozenMaps | None = None
        self._guided = True

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """Frozen maps know neither the student's class nor images that are made while training."""
        problems, args, where = super().check(recipe), recipe.method.args, recipe.method.place
        if recipe.method.foreign or not args.get("frozen_maps"):
            return problems
        spot = (("method", "frozen_maps"), where.file, where.line, where.column)
        if args.get("explain_class") == "student_top1":
            said = "frozen maps are made before there is a student whose class could be explained."
            problems.append(Problem(said, *spot, "Use `explain_class: teacher_top1`, or `frozen_maps: false`."))
        if recipe.sampler is not None:
            said = f"frozen maps are of the data's own images, and the sampler '{recipe.sampler.name}' makes others."
            problems.append(Problem(said, *spot, "Leave out the sampler, or use `frozen_maps: false`."))
        return problems

    def setup(self, room: Room) -> None:
        """Place what explaining both models takes.

        Raises:
            InputError: The explainer does not fit a model, or the classes differ.
        """
        super().setup(room)
        for name in ("teacher", "student"):
            self.explainer.setup(room, name)
        if not self.frozen_maps:
            room.differentiate("teacher")

    @contextmanager
    def viewing(self, step: Step) -> Iterator[Step]:
        """Inputs through which gradients can be taken, and attention that can be differentiated twice."""
        self._guided = self.lambda_exp != 0 and step.index % self.every_n_batches == 0
        if not self._guided:
            yield step
            return
        inputs = step.batch.inputs
        if not inputs.requires_grad:
            inputs = inputs.detach().requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):
            yield step.on(step.batch.with_(inputs=inputs))

    def compare(self, step: Step) -> Losses:
        """As ever; a teacher whose maps are frozen is not asked."""
        if self.frozen is None:
            return super().compare(step)
        with self.viewing(step) as seen:
            logits, _ = self.frozen.look(seen.batch)
            losses: Losses = self(seen.forward("student"), Outputs(logits), seen.batch)
            return losses

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``kd * T² KL + exp * (1 - cosine of maps) + ce * CE``."""
        maps, logits = None, teacher.logits.detach()
        if self.frozen_maps:
            if self.frozen is None:
                raise InputError("method.frozen_maps: only the recipe's own method can freeze maps, not one of `also`")
            logits, maps = self.frozen.look(batch)
        transfer = kl_divergence(student.logits, logits, temperature=self.temperature)
        terms = Losses(transfer=transfer).weighted(transfer=self.kd_weight)
        if self._guided and self.lambda_exp != 0:
            classes = self._classes(student.logits, logits, batch)
            target = self.map_of("teacher", teacher, batch, classes) if maps is None else maps
            ours = self.map_of("student", student, batch, classes, graph=True)
            apart = explanation_distance(*self._alike(ours, target, batch))
            terms = terms | Losses(explanation=apart).weighted(explanation=self.lambda_exp)
        if self.ce_weight == 0:
            return terms
        return self._labels(student, batch).weighted(task=self.ce_weight) | terms

    def map_of(self, name: str, outputs: Outputs, batch: Batch, classes: Tensor, *, graph: bool = False) -> Tensor:
        """A model's maps ``[batch, channels, height, width]`` for ``[batch]`` classes; detached unless ``graph``."""
        # A sum, for no sample's logit depends on another's input.
        score = outputs.logits.gather(1, classes[:, None]).sum()
        maps = self.explainer.explain(name, outputs, batch.inputs, score, graph=graph)
        return maps if graph else maps.detach()

    def _labels(self, student: Outputs, batch: Batch) -> Losses:
        if self.label_loss == "ce":
            return self.task(student, batch)
        return Losses(task=one_against_rest(student.logits, batch.labels))

    def _classes(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        if self.explain_class == "label":
            return batch.labels.argmax(1) if batch.labels.is_floating_point() else batch.labels
        return (teacher if self.explain_class == "teacher_top1" else student.detach()).argmax(1)

    def _alike(self, ours: Tensor, theirs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        if ours.ndim != 4 or theirs.ndim != 4:
            return ours, theirs
        size = tuple(batch.inputs.shape[2:])
        if self.resize == "smaller":
            size = (min(ours.shape[2], theirs.shape[2]), min(ours.shape[3], theirs.shape[3]))
        return resized(ours, size), resized(theirs, size)

    # ------------------------------------------------------------------ frozen maps

    def stages(self, run: Run) -> Iterator[Train]:
        """Freeze the teacher's maps where asked; then as ever."""
        if self.frozen_maps:
            self.frozen = self._freeze(run)
        yield from sequence(self, run, "transfer")

    def _freeze(self, run: Run) -> FrozenMaps:
        teacher, device = run.source("teacher").to(run.accelerator.device), run.accelerator.device

        def make() -> tuple[Tensor, Tensor, Tensor]:
            with _asked(self, {"teacher": teacher}, run.example(), run.splits.info) as people:
                return freeze_maps(lambda batch: self._told(people, batch), run.splits.train, device)

        if self.frozen_maps is True:
            kept = make()
        else:
            said = {k: v for k, v in vars(self.explainer).items() if isinstance(v, str | int | float | bool)}
            about = {
                "teacher": content_of(teacher),
                "data": run.splits.info.fingerprint,
                "explanation": f"{type(self.explainer).__name__} {said} of {self.explain_class}",
            }
            kept = kept_maps(Path(str(self.frozen_maps)).expanduser(), about, make)
        return FrozenMaps(*kept, augment=run.augment).to(device)

    def _told(self, people: Mapping[str, Participant], batch: Batch) -> tuple[Tensor, Tensor]:
        batch = batch.with_(inputs=batch.inputs.detach().requires_grad_())
        with sdpa_kernel(SDPBackend.MATH):
            outputs = people["teacher"](batch)
            classes = self._classes(outputs.logits, outputs.logits, batch)
            return outputs.logits, self.map_of("teacher", outputs, batch, classes)

    # ------------------------------------------------------------------ what came of it

    def findings(self, run: Run) -> Mapping[str, Any]:
        """How alike the two models' explanations are on the test split, for the teacher's class."""
        alike = self.similarity(run.models["teacher"], run.models["student"], run.splits.test, run.splits.info)
        return {"mean cosine of explanations": alike}

    def similarity(self, teacher: nn.Module, student: nn.Module, examples: Examples, info: DataInfo) -> float:
        """Mean cosine of the models' maps for the teacher's class, in [-1, 1]; both models are left as they were."""
        device = next(iter(student.parameters())).device
        cosines = []
        models = {"teacher": teacher, "student": student}
        with _asked(self, models, examples.fetch(range(min(4, len(examples)))).to(device), info) as people:
            for start in range(0, len(examples), 256):
                batch = examples.fetch(range(start, min(start + 256, len(examples)))).to(device)
                batch = batch.with_(inputs=batch.inputs.requires_grad_())
                theirs, ours = people["teacher"](batch), people["student"](batch)
                classes = theirs.logits.argmax(1)
                pair = (self.map_of("student", ours, batch, classes), self.map_of("teacher", theirs, batch, classes))
                cosines.append(1 - explanation_distance(*self._alike(*pair, batch)))
        return float(torch.cat(cosines).mean())


@contextmanager
def _asked(
    method: E2KD, models: Mapping[str, nn.Module], example: Batch, info: DataInfo
) -> Iterator[Mapping[str, Participant]]:
    """The models as frozen participants whose forwards keep their graph, for as long as the block lasts."""
    room, people = Room(models, info, example, ()), {}
    with ExitStack() as stack:
        for name, module in models.items():
            stack.enter_context(evaluating(module))
            method.explainer.setup(room, name)
            people[name] = Participant(
                name, module, trainable=False, gradients=True, taps=room.taps(name), example=example.inputs
            )
            stack.callback(people[name].close)
        yield people
