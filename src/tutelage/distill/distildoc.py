"""DistilDoc: a panel of distillers for document images, judged by more than accuracy (arXiv:2406.08226, ICDAR 2024)."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, MinLen
from torch import Tensor, nn

from tutelage.data.seeds import shuffle
from tutelage.data.splits import Examples, Splits, Subset, labels_of
from tutelage.distill.base import Distillation, mistake, own_stages
from tutelage.distill.kd import KD
from tutelage.distill.parts.panel import NKD, LogitMSE, MiddleHint, ReviewKD, SimKD
from tutelage.distill.parts.trials import accuracy, begun, by_teacher, on_labels, predictions, sample
from tutelage.engine.method import Method, Result, Room, Train
from tutelage.measure import Predicted
from tutelage.measure.calibration import calibration_error
from tutelage.measure.quality import Brier
from tutelage.measure.selective import Ties, aurc, coverage_accuracy, error_detection
from tutelage.models.cost import weight_flops
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.registry import imported, method
from tutelage.recipe.spec import Recipe
from tutelage.recipe.types import Of, Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run

Distiller = Literal["ce", "kd", "mse", "nkd", "fitnet", "simkd_cls", "simkd_cnn", "simkd_dual", "reviewkd"]
_COVERAGES = tuple(share / 10 for share in range(10, 0, -1))


@method("distildoc", paper="arXiv:2406.08226", route="distill")
class DistilDoc(Method):
    """Run a panel of distillers from one start, and compare accuracy, calibration, selective risk and robustness.

    ``ce`` is the control on labels alone. SimKD answers with the teacher's classifier on projected features, so that
    its confidence is not that of the others: read its calibration error. ``data: documents`` has pages of documents;
    any images will do. Grids over teachers, students and starts are those of ``tutelage compare``.

    Args:
        panel: The distillers, each a student of its own.
        alpha: Weight of the label term of ``kd``; the transfer term has the rest.
        temperature: Of ``kd``.
        kd_alphas: Further values of ``alpha`` to try, with each temperature.
        kd_temperatures: Further temperatures to try, with each ``alpha``.
        gamma: Weight of the classes beside the label in ``nkd``.
        nkd_temperature: Of these.
        gammas: Further values of ``gamma`` to try.
        hint_weight: Weight of the hint of ``fitnet``.
        review_weight: Weight of the distances of ``reviewkd``.
        student_tap: The student's hint layer; null for the middle one.
        teacher_tap: The teacher's.
        per_class: Training samples of each class that students see; the teacher sees all. Null for all.
        ood: Other data of the same classes, on whose test splits everything is measured again.
        ece_bins: Bins of the calibration error; null for one fewer than samples, at most 100.
        ece_scheme: Bins of equal numbers (``mass``) or equal ``width``.
        ece_proxy: What a bin's confidence is: its ``upper`` edge or its ``mean``.
        aurc_ties: How the risk-coverage curve treats equal confidences.
        downstream: ``package.module:function`` that scores a classifier, itself a function from inputs to logits, on
            a further task, e.g. by ANLS.
        recipient: The distiller that the report is about; null for the one most accurate in validation, among those
            whose student answers by itself.
    """

    slots: ClassVar[dict[str, str]] = {"teacher": "model", "student": "model", "data": "data"}

    # The panel has its control.
    compared: ClassVar[bool] = False

    hard_labels: ClassVar[bool] = True

    def __init__(
        self,
        *,
        panel: Annotated[tuple[Distiller, ...], MinLen(1)] = (
            "ce",
            "kd",
            "mse",
            "nkd",
            "fitnet",
            "simkd_cls",
            "simkd_cnn",
        ),
        alpha: Annotated[float, Ge(0), Le(1), Ramped()] = 0.5,
        temperature: Annotated[float, Gt(0), Ramped()] = 2.5,
        kd_alphas: tuple[Annotated[float, Ge(0), Le(1)], ...] = (),
        kd_temperatures: tuple[Annotated[float, Gt(0)], ...] = (),
        gamma: Annotated[float, Ge(0)] = 1.5,
        nkd_temperature: Annotated[float, Gt(0)] = 1.0,
        gammas: tuple[Annotated[float, Ge(0)], ...] = (),
        hint_weight: Annotated[float, Ge(0)] = 1.0,
        review_weight: Annotated[float, Ge(0)] = 1.0,
        student_tap: str | None = None,
        teacher_tap: str | None = None,
        per_class: Annotated[int, Ge(1)] | None = None,
        ood: tuple[Annotated[Any, Of("data")], ...] = (),
        ece_bins: Annotated[int, Ge(1)] | None = None,
        ece_scheme: Literal["width", "mass"] = "mass",
        ece_proxy: Literal["mean", "upper"] = "upper",
        aurc_ties: Ties = "merged",
        downstream: str | None = None,
        recipient: Distiller | None = None,
    ) -> None:
        super().__init__()
        makers: Mapping[str, Distillation | None] = {
            "ce": None,
            "kd": KD(temperature=temperature, alpha=alpha),
            "mse": LogitMSE(),
            "nkd": NKD(gamma, nkd_temperature),
            "fitnet": MiddleHint(hint_weight, student_tap, teacher_tap),
            "simkd_cls": SimKD("cls"),
            "simkd_cnn": SimKD("cnn"),
            "simkd_dual": SimKD("dual"),
            "reviewkd": ReviewKD(review_weight),
        }
        self.variants: dict[str, Distillation | None] = {name: makers[name] for name in panel}
        if kd_alphas or kd_temperatures:
            for a, t in itertools.product(kd_alphas or (alpha,), kd_temperatures or (temperature,)):
                self.variants[f"kd-{a:g}-{t:g}"] = KD(temperature=t, alpha=a)
        for one in gammas:
            self.variants[f"nkd-{one:g}"] = NKD(one, nkd_temperature)
        self.per_class, self.ood = per_class, ood
        self.ece = {"bins": ece_bins, "scheme": ece_scheme, "proxy": ece_proxy}
        self.aurc_ties, self.downstream, self.recipient = aurc_ties, downstream, recipient
        self.trained: dict[str, tuple[Method, nn.Module]] = {}
        self._shifted: list[Splits] = []

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """An untaught teacher, a stage of something else, a recipient that takes no part, a scorer that is no name."""
        problems = [*Distillation.check(recipe), *own_stages(recipe, "distildoc")]
        if recipe.stages or recipe.method.name != "distildoc":
            return problems
        args = recipe.method.args
        if args["recipient"] is not None and args["recipient"] not in args["panel"]:
            text, hint = f"'{args['recipient']}' is not in the panel.", f"Take one of {', '.join(args['panel'])}."
            problems.append(mistake(recipe.method, text, hint, "method", "recipient"))
        if args["downstream"] is not None and ":" not in args["downstream"]:
            text = f"'{args['downstream']}' names no function."
            problems.append(mistake(recipe.method, text, "Write `package.module:function`.", "method", "downstream"))
        return problems

    def setup(self, room: Room) -> None:
        """Try every distiller on models that are thrown away, and load the other data, before anything is trained.

        Raises:
            InputError: A distiller does not fit the models, or other data have other classes or shapes.
        """
        for objective in self.variants.values():
            if objective is not None:
                copy.deepcopy(objective).setup(Room(room.modules, room.info, room.example, room.trainable))
        if self.downstream is not None:
            self._scorer()
        for splits in self._others(0):
            info = splits.info
            if (info.input_shape, info.classes) != (room.info.input_shape, room.info.classes):
                raise InputError(
                    f"method.ood: samples of shape {list(info.input_shape)} in {info.classes} classes; expected "
                    f"{list(room.info.input_shape)} in {room.info.classes}, as the data"
                )

    def _others(self, seed: int) -> list[Splits]:
        if not self._shifted:
            self._shifted = [one.load(seed) for one in self.ood]
        return self._shifted

    def _scorer(self) -> Any:
        module, _, attribute = str(self.downstream).partition(":")
        return imported(module, attribute, "method.downstream")

    def stages(self, run: Run) -> Iterator[Train]:
        """A student of each distiller, from the same start on the same batches."""
        teacher, examples = run.source("teacher"), self._few(run)
        for name, objective in self.variants.items():
            student = begun(run, run.recipe.slots["student"], "student", 0)
            if objective is None:
                stage = on_labels(run, name, student)
            else:
                stage = by_teacher(run, name, copy.deepcopy(objective), teacher, student)
            self.trained[name] = stage.method, student
            yield replace(stage, examples=examples)

    def _few(self, run: Run) -> Examples | None:
        """As many of each class as asked for, the same for every student."""
        if self.per_class is None:
            return None
        order = shuffle(len(run.splits.train), run.seed_of("distildoc", "few"))
        labels = labels_of(run.splits.train)[order]
        chosen = [order[(labels == label).nonzero().flatten()[: self.per_class]] for label in labels.unique()]
        return Subset(run.splits.train, torch.cat(chosen))

    @classmethod
    def epochs(cls, recipe: Recipe) -> int:
        """Those of all students."""
        args = recipe.method.args
        more = (len(args["kd_alphas"]) or 1) * (len(args["kd_temperatures"]) or 1)
        grid = more if args["kd_alphas"] or args["kd_temperatures"] else 0
        return (len(args["panel"]) + int(grid) + len(args["gammas"])) * recipe.train.epochs

    def _chosen(self, run: Run) -> str:
        if self.recipient is not None:
            return self.recipient
        own = [name for name in self.trained if not name.startswith("simkd")] or list(self.trained)
        taught = [name for name in own if name != "ce"] or own
        if run.splits.validation is None:
            return taught[0]
        scores = {n: accuracy(self._told(run, n, run.splits.validation)) for n in taught}
        return max(scores, key=lambda name: scores[name])

    def _told(self, run: Run, name: str, examples: Examples | None = None) -> Predicted:
        objective, student = self.trained[name]
        return predictions(run, name, lambda inputs: objective.predict(student, inputs), student, examples=examples)

    def results(self, run: Run) -> Sequence[Result]:
        """All students: the control, the others, and last the recipient."""
        best, found = self._chosen(run), []
        for name, (objective, student) in self.trained.items():

            def call(inputs: Tensor, objective: Method = objective, student: nn.Module = student) -> Tensor:
                return objective.predict(student, inputs)

            role: Literal["recipient", "baseline", "other"] = "baseline" if name == "ce" else "other"
            told = "student without transfer" if name == "ce" else name
            if name == best:
                role, told = "recipient", "student"
            found.append(Result(told, call, role, (student,), (name,)))
        warning = f"The recipient is the student of '{best}'."
        if best.startswith("simkd"):
            warning += " model/ holds the student alone; the projector and classifier that answer are in its stage."
        if warning not in run.warnings:
            run.warnings.append(warning)
        return sorted(found, key=lambda result: ("baseline", "other", "recipient").index(result.role))

    # ------------------------------------------------------------------ what was found

    def findings(self, run: Run) -> Mapping[str, Any]:
        """``panel`` on the test split, ``shifted`` on other data, ``coverage``, and ``downstream`` scores."""
        source = predictions(run, "teacher", run.source("teacher"))
        told = {"teacher": source, **{name: self._told(run, name) for name in self.trained}}
        inputs, _ = sample(run, 1)
        control = accuracy(told["ce"]) if "ce" in told else None
        rows = []
        for name, one in told.items():
            module = run.source("teacher") if name == "teacher" else self.trained[name][1]
            more = [] if name == "teacher" else list(self.trained[name][0].parameters())
            row = {"distiller": name, **self._judged(one)}
            row |= {"gain": None if control is None else row["accuracy"] - control}
            row |= {"gap": accuracy(source) - row["accuracy"]}
            row |= {"parameters": sum(p.numel() for p in (*module.parameters(), *more))}
            rows.append({**row, "flops": weight_flops(module, inputs)})
        found: dict[str, Any] = {"panel": rows}
        found["coverage"] = [
            {"coverage": share, **{name: _covered(one)[i] for name, one in told.items()}}
            for i, share in enumerate(_COVERAGES)
        ]
        if self.ood:
            found["shifted"] = self._shifted_rows(run, {name: accuracy(one) for name, one in told.items()})
        if self.downstream is not None:
            score = self._scorer()
            found["downstream"] = [
                {"distiller": name, "score": float(score(self._asked(run, name)))} for name in self.trained
            ]
        return found

    def _asked(self, run: Run, name: str) -> Any:
        objective, student = self.trained[name]
        student.eval()

        def call(inputs: Tensor) -> Tensor:
            with torch.no_grad():
                return objective.predict(student, inputs.to(run.accelerator.device))

        return call

    def _judged(self, one: Predicted) -> dict[str, Any]:
        confidence = one.probabilities.amax(1).numpy()
        correct = one.correct.numpy().astype(np.float64)
        detection = error_detection(confidence, correct)
        return {
            "accuracy": accuracy(one),
            "macro_f1": macro_f1(one),
            "nll": float(one.losses.mean()),
            "brier": float(Brier().per_sample(one).mean()),
            "ece": calibration_error(confidence, correct, **self.ece),  # type: ignore[arg-type]
            "ece_15_width": calibration_error(confidence, correct),
            "aurc": aurc(confidence, correct, ties=self.aurc_ties),
            "error_auroc": None if detection is None else detection.value,
        }

    def _shifted_rows(self, run: Run, before: Mapping[str, float]) -> list[dict[str, Any]]:
        rows = []
        for place, splits in enumerate(self._others(run.recipe.seed), 1):
            told = {name: self._told(run, name, splits.test) for name in self.trained}
            told = {"teacher": predictions(run, "teacher", run.source("teacher"), examples=splits.test), **told}
            own = {name: before[name] for name in self.trained}
            there = {name: accuracy(told[name]) for name in self.trained}
            for name, one in told.items():
                judged = self._judged(one)
                ranks = {"rank": _rank(own, name), "rank_shifted": _rank(there, name)}
                drop = before[name] - judged["accuracy"]
                rows.append({"data": place, "distiller": name, **judged, "drop": drop, **ranks})
        return rows


def macro_f1(one: Predicted) -> float:
    """Mean over the classes that occur of 2 true / (2 true + false positives + false negatives)."""
    scores = []
    for label in one.labels.unique():
        said, real = one.classes == label, one.labels == label
        scores.append(2 * float((said & real).sum()) / float(said.sum() + real.sum()))
    return sum(scores) / len(scores)


def _covered(one: Predicted) -> list[float]:
    return coverage_accuracy(one.probabilities.amax(1).numpy(), one.correct.numpy(), _COVERAGES)


def _rank(scores: Mapping[str, float], name: str) -> int | None:
    """1 for the best of the students; equal ones share the better rank."""
    return None if name not in scores else 1 + sum(other > scores[name] for other in scores.values())
