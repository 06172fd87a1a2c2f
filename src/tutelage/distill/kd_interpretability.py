"""KD and interpretability: what units of taught networks see, by network dissection (arXiv:2305.15734, ICML 2023)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.data.concepts import Concepts, drawn_concepts, read_concepts
from tutelage.data.splits import TensorExamples
from tutelage.distill.base import Distillation, mistake, own_stages
from tutelage.distill.kd import KD
from tutelage.distill.parts.trials import accuracy, begun, by_teacher, on_labels, predictions, sample
from tutelage.engine.method import Method, Result, Room, Step, Train
from tutelage.engine.supervised import LabelTraining
from tutelage.engine.terms import Losses
from tutelage.losses import permute_dark_knowledge, soft_cross_entropy
from tutelage.measure.class_similarity import class_profiles, profile_agreement, soft_label_facts
from tutelage.measure.dissection import Dissection, dissect, spread
from tutelage.measure.saliency import band_scores, edge_alignment, input_gradients, kept_pixels
from tutelage.models.inert import evaluating
from tutelage.models.outputs import Outputs
from tutelage.models.taps import Taps
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.registry import method, registry
from tutelage.recipe.spec import Recipe, Spec
from tutelage.recipe.types import Of

if TYPE_CHECKING:
    from tutelage.engine.run import Run

Control = Literal["smoothing", "permuted", "untrained"]
Look = Literal["dissection", "similarity", "bands", "edges", "diffroar"]


class Smoothed(LabelTraining):
    """Labels that are smoothed: as soft as a teacher's, without saying which classes are alike.

    Args:
        smoothing: What is taken from the label and spread over all classes.
    """

    def __init__(self, smoothing: float) -> None:
        super().__init__("student")
        self.smoothing = smoothing

    def task(self, step: Step) -> Losses:
        """Cross-entropy with ``(1 - smoothing) * onehot + smoothing / classes``."""
        logits = step.forward("student").logits
        hard = torch.nn.functional.one_hot(step.batch.labels, logits.shape[-1])
        target = (1 - self.smoothing) * hard + self.smoothing / logits.shape[-1]
        return Losses(task=soft_cross_entropy(logits, target.to(logits.dtype)))


class Permuted(KD):
    """Classic distillation from a teacher whose probabilities of all classes but the first are shuffled.

    Its targets are as soft as the teacher's, and say nothing of which classes are alike.
    """

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """`KD.loss` on the shuffled teacher; a sample's permutation never changes."""
        soft = (teacher.logits.float() / self.temperature).softmax(-1)
        mixed = permute_dark_knowledge(soft, batch.ids).clamp(min=1e-30).log() * self.temperature
        return super().loss(student, Outputs(mixed), batch)


@method("kd-interpretability", paper="arXiv:2305.15734", route="distill")
class KDInterpretability(Method):
    """Distil, and count how many units of a layer became detectors of a concept: in teacher, student and controls.

    The question is whether soft labels make units more interpretable, and whether that is because they say which
    classes are alike: smoothed labels and permuted teachers do not. Compare counts at like accuracy, over seeds.

    Args:
        objective: The distillation; classic, with the next two keys, unless given.
        temperature: Of classic distillation.
        alpha: Weight of its label term; the transfer term has the rest.
        temperatures: Further temperatures of classic distillation to teach a student at.
        controls: Beside the student on labels: on smoothed labels, from a permuted teacher, and not trained at all.
        smoothing: How much is taken from smoothed labels.
        layer: The student's layer, a tap.
        teacher_layer: The teacher's; as ``layer`` unless given.
        concepts: A folder of images and masks; drawn figures unless given.
        concept_images: Images of concepts.
        quantile: Share of a unit's activations that count as on.
        iou: Overlap from which a unit is a detector.
        measures: What to look at: the ``dissection`` of the layer, class ``similarity``, saliency in five ``bands``
            against drawn figures, its alignment with ``edges``, and ``diffroar``, which trains four more networks.
        diffroar_share: Share of the most, and of the least, salient pixels that these are trained on.
        superclasses: Classes that belong together, to see how much of soft labels lies inside.
    """

    slots: ClassVar[dict[str, str]] = {"teacher": "model", "student": "model", "data": "data"}

    # The control is one of those that are looked at.
    compared: ClassVar[bool] = False

    hard_labels: ClassVar[bool] = True

    def __init__(
        self,
        *,
        objective: Annotated[Any, Of("method")] = None,
        temperature: Annotated[float, Gt(0)] = 4.0,
        alpha: Annotated[float, Ge(0), Le(1)] = 0.5,
        temperatures: tuple[Annotated[float, Gt(0)], ...] = (),
        controls: tuple[Control, ...] = ("smoothing", "untrained"),
        smoothing: Annotated[float, Ge(0), Lt(1)] = 0.1,
        layer: str = "features",
        teacher_layer: str | None = None,
        concepts: str | None = None,
        concept_images: Annotated[int, Ge(8)] = 400,
        quantile: Annotated[float, Gt(0), Lt(1)] = 0.005,
        iou: Annotated[float, Gt(0), Le(1)] = 0.05,
        measures: tuple[Look, ...] = ("dissection", "similarity", "bands", "edges"),
        diffroar_share: Annotated[float, Gt(0), Lt(1)] = 0.1,
        superclasses: list[list[Annotated[int, Ge(0)]]] | None = None,
    ) -> None:
        super().__init__()
        self.objective: Distillation = KD(temperature=temperature, alpha=alpha) if objective is None else objective
        self.permuted = Permuted(temperature=temperature, alpha=alpha)
        self.temperature, self.temperatures = temperature, temperatures
        self.controls, self.smoothing = controls, smoothing
        self.layer, self.teacher_layer = layer, teacher_layer or layer
        self.concepts, self.concept_images, self.quantile, self.iou = concepts, concept_images, quantile, iou
        self.measures, self.diffroar_share, self.superclasses = measures, diffroar_share, superclasses
        self.trained: dict[str, nn.Module] = {}
        self.retrained: dict[tuple[str, bool], tuple[nn.Module, TensorExamples]] = {}

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """An untaught teacher, a stage of something else, an objective that compares nothing, scaled pixels."""
        problems = [*Distillation.check(recipe), *own_stages(recipe, "kd-interpretability")]
        if recipe.stages or recipe.method.name != "kd-interpretability":
            return problems
        other = recipe.method.args["objective"]
        if isinstance(other, Spec) and not issubclass(registry().load("method", other.name), Distillation):
            hint = "Take a distillation method such as 'kd' or 'crd'."
            text = f"'{other.name}' compares no teacher with a student."
            problems.append(mistake(other, text, hint, "method", "objective"))
        if recipe.data.args.get("normalize", "none") != "none":
            hint = "Use `normalize: none`."
            problems.append(mistake(recipe.data, "concepts are images in [0, 1].", hint, "data", "normalize"))
        return problems

    def setup(self, room: Room) -> None:
        """Try the comparison, the layers and the concepts, before anything is trained.

        Raises:
            InputError: A layer is missing or has no positions, or the concepts cannot be read.
        """
        copy.deepcopy(self.objective).setup(room)
        if "dissection" in self.measures:
            for name, tap in (("teacher", self.teacher_layer), ("student", self.layer)):
                room.tap(name, tap)
                found = room.look(name).taps
                if tap not in found:
                    raise InputError(
                        f"method.layer: '{tap}' is several places of the {name}; name one of {list(found)}"
                    )
                try:
                    spread(found[tap])
                except ValueError as error:
                    raise InputError(f"method.layer: the {name}'s '{tap}': {error}") from error
        if self.concepts is not None:
            read_concepts(self.concepts, room.info.input_shape, 1)
        elif set(self.measures) & {"dissection", "bands"}:
            drawn_concepts(room.info.input_shape, 8)

    def stages(self, run: Run) -> Iterator[Train]:
        """The student taught, on labels, and as each control; then on what saliency leaves of the images."""
        teacher = run.source("teacher")
        run.models["student"] = self._start(run, "student")
        yield by_teacher(run, "transfer", copy.deepcopy(self.objective), teacher, run.models["student"])
        yield on_labels(run, "labels", self._start(run, "labels"))
        if "smoothing" in self.controls:
            student = self._start(run, "smoothing")
            yield Train("smoothing", Smoothed(self.smoothing), {"student": student}, run.recipe.train)
        if "permuted" in self.controls:
            yield by_teacher(run, "permuted", copy.deepcopy(self.permuted), teacher, self._start(run, "permuted"))
        for temperature in self.temperatures:
            name = f"temperature-{temperature:g}"
            objective = KD(temperature=temperature, alpha=self.permuted.alpha)
            yield by_teacher(run, name, objective, teacher, self._start(run, name))
        if "untrained" in self.controls:
            self._start(run, "untrained")
        if "diffroar" in self.measures:
            yield from self._diffroar(run)

    def _start(self, run: Run, name: str) -> nn.Module:
        self.trained[name] = begun(run, run.recipe.slots["student"], "student", 0)
        return self.trained[name]

    def _diffroar(self, run: Run) -> Iterator[Train]:
        """For student and control: new networks on the most, and on the least, salient pixels alone."""
        for name in ("student", "labels"):
            for largest in (True, False):
                parts = [self._masked(run, self.trained[name], largest, train=train) for train in (True, False)]
                student = begun(run, run.recipe.slots["student"], "student", 0)
                self.retrained[name, largest] = student, parts[1]
                stage = on_labels(run, f"{name}-{'most' if largest else 'least'}-salient", student)
                yield replace(stage, examples=parts[0])

    def _masked(self, run: Run, module: nn.Module, largest: bool, *, train: bool) -> TensorExamples:
        split = run.splits.train if train else run.splits.test
        whole = split.fetch(torch.arange(len(split)))
        inputs, labels = whole.inputs.to(run.accelerator.device), whole.labels.to(run.accelerator.device)
        left = kept_pixels(inputs, input_gradients(module, inputs, labels), self.diffroar_share, largest=largest)
        return TensorExamples(left.detach().cpu(), whole.labels, whole.ids)

    @classmethod
    def epochs(cls, recipe: Recipe) -> int:
        """Those of all students."""
        args = recipe.method.args
        extra = len(args["temperatures"]) + sum(c != "untrained" for c in args["controls"])
        return int(2 + extra + 4 * ("diffroar" in args["measures"])) * recipe.train.epochs

    def results(self, run: Run) -> Sequence[Result]:
        """The control on labels, the others, and last the taught student."""
        control, student = self.trained["labels"], self.trained["student"]
        others = [
            Result(f"student ({name})", module, "other", (module,), (name,))
            for name, module in self.trained.items()
            if name not in ("labels", "student")
        ]
        return (
            Result("student without transfer", control, "baseline", (control,), ("labels",)),
            *others,
            Result("student", student, "recipient", (student,), ("transfer",)),
        )

    # ------------------------------------------------------------------ what was found

    def findings(self, run: Run) -> Mapping[str, Any]:
        """A table for each measure, a row for each network."""
        models = {"teacher": run.source("teacher"), **self.trained}
        found: dict[str, Any] = {}
        if "dissection" in self.measures:
            found |= self._dissected(run, models)
        if "similarity" in self.measures:
            found |= self._similar(run, models)
        if set(self.measures) & {"bands", "edges"}:
            found["saliency"] = [{"network": name, **self._salient(run, module)} for name, module in models.items()]
        if "diffroar" in self.measures:
            found["diffroar"] = [self._rows_of_roar(run, name) for name in ("student", "labels")]
        return found

    def _labelled(self, run: Run) -> Concepts:
        shape = run.splits.info.input_shape
        if self.concepts is not None:
            return read_concepts(self.concepts, shape, self.concept_images)
        return drawn_concepts(shape, self.concept_images)[0]

    def _dissected(self, run: Run, models: Mapping[str, nn.Module]) -> dict[str, Any]:
        labelled = self._labelled(run)
        each: dict[str, Dissection] = {}
        for name, module in models.items():
            maps = captured_maps(module, self.teacher_layer if name == "teacher" else self.layer, labelled.images)
            each[name] = dissect(maps, labelled, quantile=self.quantile, least=self.iou)
        scores = {name: accuracy(predictions(run, name, module)) for name, module in models.items()}
        bins = {name: one.histogram().tolist() for name, one in each.items()}
        mine = each["student"]
        return {
            "dissection": [
                {"network": name, "accuracy": scores[name], "units": len(one.iou), **one.counts()}
                for name, one in each.items()
            ],
            "iou_histogram": [
                {"from": round(0.05 * i, 2), **{name: counts[i] for name, counts in bins.items()}} for i in range(10)
            ],
            "student_units": [
                {
                    "unit": unit,
                    "concept": mine.names[best],
                    "category": mine.categories[best],
                    "iou": float(mine.iou[unit, best]),
                    "detector": "yes" if mine.detectors[unit] else "no",
                    "images": " ".join(map(str, mine.highest[unit].tolist())),
                }
                for unit, best in enumerate(mine.best.tolist())
            ],
        }

    def _similar(self, run: Run, models: Mapping[str, nn.Module]) -> dict[str, Any]:
        told = {name: predictions(run, name, module) for name, module in models.items()}
        source = told["teacher"]
        theirs = class_profiles(source.logits, source.labels, temperature=self.temperature)
        temperatures = dict.fromkeys([1.0, self.temperature, *self.temperatures, 100.0])
        return {
            "class_similarity": [
                {
                    "network": name,
                    **profile_agreement(class_profiles(p.logits, p.labels, temperature=self.temperature), theirs),
                }
                for name, p in told.items()
            ],
            "soft_labels": [
                {
                    "temperature": temperature,
                    **soft_label_facts(
                        source.logits, source.labels, temperature=temperature, superclasses=self.superclasses
                    ),
                }
                for temperature in temperatures
            ],
        }

    def _salient(self, run: Run, module: nn.Module) -> dict[str, Any]:
        row: dict[str, Any] = {}
        if "bands" in self.measures:
            drawn, heat = drawn_concepts(run.splits.info.input_shape, self.concept_images)
            images = drawn.images.to(run.accelerator.device)
            # What the network itself says, for figures need not be among its classes.
            with evaluating(module), torch.no_grad():
                said = module(images).argmax(-1)
            row |= band_scores(input_gradients(module, images, said), heat.to(images.device))
        if "edges" in self.measures:
            inputs, labels = sample(run, self.concept_images)
            row["edge_alignment"] = edge_alignment(input_gradients(module, inputs, labels), inputs)
        return row

    def _rows_of_roar(self, run: Run, name: str) -> dict[str, Any]:
        reached = [
            accuracy(predictions(run, name, module, examples=examples))
            for module, examples in (self.retrained[name, largest] for largest in (True, False))
        ]
        return {"network": name, "most": reached[0], "least": reached[1], "diffroar": reached[0] - reached[1]}


def captured_maps(module: nn.Module, layer: str, images: Tensor, *, batch_size: int = 256) -> Tensor:
    """``[count, units, height, width]`` on the CPU: what a layer makes of images, in evaluation mode.

    Args:
        module: The model.
        layer: A tap.
        images: ``[count, *input_shape]``.
        batch_size: Images of one pass.
    """
    device = next((p.device for p in module.parameters()), images.device)
    taps = Taps(module, [layer], example=images[:1].to(device))
    try:
        with evaluating(module), torch.no_grad():
            parts = []
            for some in images.split(batch_size):
                module(some.to(device))
                parts.append(spread(taps.collect()[layer]).cpu())
    finally:
        taps.remove()
    return torch.cat(parts)
