"""Complementary transfer: knowledge between any two trained models (arXiv:2310.17653, ICLR 2024)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tutelage.distill.base import Distillation, same_classes, untaught
from tutelage.engine.method import Finding, Method, Result, Room, Step, Train, Turn
from tutelage.engine.predicting import Predictions, predict
from tutelage.engine.terms import Losses
from tutelage.losses import best_temperature, cross_entropy, shared_target, teaching_shares, top_divergence
from tutelage.measure.complementary import flip_pairs, flipped_classes, transfer_by_classes, transferred
from tutelage.models.averaging import average_states, ema
from tutelage.models.freezing import stay_in_eval
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe
from tutelage.recipe.types import Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run

_OF_SEVERAL = ("unsupervised", "supervised")


@dataclass(frozen=True)
class _Stage:
    """A finished stage: whom it learned from, and where the student is right on the test split after it."""

    name: str
    teachers: tuple[str, ...]
    right: Tensor


@method("complementary-transfer", paper="arXiv:2310.17653", route="distill")
class ComplementaryTransfer(Method):
    """Learn from another model what it alone knows; a frozen copy of the student's start teaches it the rest.

    The student comes with weights; the teacher may be stronger, as good, or weaker. Each sample is taught by whoever is
    the more confident on it, or gives its label the larger probability: the teacher, or the student as it was at its
    start. Use a small learning rate.

    Args:
        partition: Who teaches a sample: the more confident (``unsupervised``, no labels), whoever gives its label more
            probability (``supervised``); baselines: the teacher only where it alone is right (``flip_st``), the start
            only where it alone is right (``flip_t``), the mean where neither is alone right (``flip_avg``), always the
            start (``self``), always the teacher (``teacher``: plain distillation).
        alpha: Weight of the transfer term; the label term has the rest.
        temperature: Softens both distributions in the transfer term, not in the comparison of confidences.
        top_k: Compare only the target's largest logits; null for all.
        calibrate: Give each source a temperature of its own, fitted on the validation split, before confidences are
            compared.
        slow_decay: Share of the slow weights that is kept at each of their moves; they are what is evaluated and handed
            on. Null for none.
        slow_every: Steps between their moves at batch size 256; of other sizes as many samples.
        slow_reset: Go on from the slow weights after each epoch.
        schedule: Of several teachers: all at once (``parallel``), one after the other (``sequential``), or each with a
            student of its own, whose weights are averaged (``soup``).
        freeze_bn: Keep the student's batch statistics as they are.
    """

    slots: ClassVar[dict[str, str]] = {
        "teacher": "model",
        "more_teachers": "model*?",
        "student": "model",
        "data": "data",
    }

    student_knows: ClassVar[bool] = True

    def __init__(
        self,
        *,
        partition: Literal[
            "unsupervised", "supervised", "flip_st", "flip_t", "flip_avg", "self", "teacher"
        ] = "unsupervised",
        alpha: Annotated[float, Ge(0), Le(1), Ramped()] = 1.0,
        temperature: Annotated[float, Gt(0), Ramped()] = 1.0,
        top_k: Annotated[int, Ge(1)] | None = None,
        calibrate: bool = False,
        slow_decay: Annotated[float, Ge(0), Le(1)] | None = None,
        slow_every: Annotated[int, Ge(1)] = 1,
        slow_reset: bool = False,
        schedule: Literal["parallel", "sequential", "soup"] = "parallel",
        freeze_bn: bool = False,
    ) -> None:
        super().__init__()
        self.partition, self.alpha, self.temperature, self.top_k = partition, alpha, temperature, top_k
        self.calibrate, self.schedule, self.freeze_bn = calibrate, schedule, freeze_bn
        self.slow_decay, self.slow_every, self.slow_reset = slow_decay, slow_every, slow_reset
        self.slow: nn.Module | None = None
        self._every = slow_every
        self._temperatures: dict[str, float] = {}
        self._student: list[nn.Module] = []
        self._start: nn.Module | None = None
        self._done: list[_Stage] = []

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """An untaught teacher or student, keys that would do nothing, and partitions that know one teacher."""
        problems = Distillation.check(recipe)
        spec = recipe.method

        def note(message: str, hint: str, *path: str) -> None:
            where = spec.place
            problems.append(Problem(message, path, where.file, where.line, where.column, hint))

        if spec.name != "complementary-transfer" or recipe.stages or recipe.also:
            hint = "Use `method: complementary-transfer` without `stages` and `also`."
            note("complementary-transfer stands alone: its target has parts of two models.", hint, "method")
            return problems
        problems.extend(untaught("student", recipe.slots.get("student"), "student", so="it has nothing to keep"))
        for place, teacher in enumerate(recipe.slots.get("more_teachers") or ()):
            problems.extend(untaught("teacher", teacher, "more_teachers", place))
        several = bool(recipe.slots.get("more_teachers"))
        if several and spec.args["schedule"] == "parallel" and spec.args["partition"] not in _OF_SEVERAL:
            hint = f"Take {' or '.join(_OF_SEVERAL)}, or `schedule: sequential`."
            note(f"'{spec.args['partition']}' divides between the start and one teacher.", hint, "method", "partition")
        if not several and spec.args["schedule"] != "parallel":
            note("a schedule does nothing with one teacher.", "Name `more_teachers`.", "method", "schedule")
        for key, usual in (("slow_every", 1), ("slow_reset", False)):
            if spec.args["slow_decay"] is None and spec.args[key] != usual:
                note(f"'{key}' does nothing without `slow_decay`.", "Set `slow_decay: 0.999`.", "method", key)
        if spec.args["calibrate"] and spec.args["partition"] not in _OF_SEVERAL:
            note("'calibrate' does nothing where confidences are not compared.", "", "method", "calibrate")
        return problems

    def setup(self, room: Room) -> None:
        """Refuse models of other classes; begin the slow weights.

        Raises:
            InputError: The class counts differ, or ``top_k`` is more than the classes.
        """
        classes = same_classes(room, *room.modules)
        if self.top_k is not None and self.top_k > classes:
            raise InputError(f"method.top_k: {self.top_k} is more than the {classes} classes")
        student = room.modules["student"]
        if self.freeze_bn:
            for part in student.modules():
                if isinstance(part, _BatchNorm):
                    stay_in_eval(part)
        self._student = [student]
        if self.slow_decay is not None:
            self.slow = copy.deepcopy(student).requires_grad_(False)
            for part in self.slow.modules():
                stay_in_eval(part)

    def turns(self) -> Sequence[Turn]:
        """The student moves."""
        return (Turn("transfer", self.compare, trains=("student",)),)

    def compare(self, step: Step) -> Losses:
        """``alpha * T² KL(target, student) + (1 - alpha) * CE``, and what share of samples a teacher teaches."""
        batch, student = step.batch, step.forward("student").logits
        names = [name for name in step.participants if name != "student"]
        sources = torch.stack([step.forward(name).logits for name in names]).detach()
        shares = self.shares(sources, batch.labels, names)
        target = shared_target(sources, shares)
        transfer = top_divergence(student, target, k=self.top_k, temperature=self.temperature)
        losses = Losses(transfer=transfer).weighted(transfer=self.alpha).noting(teacher_share=1 - shares[0])
        if self.alpha < 1:
            losses = losses | Losses(task=cross_entropy(student, batch.labels)).weighted(task=1 - self.alpha)
        return losses

    def shares(self, sources: Tensor, labels: Tensor, names: Sequence[str]) -> Tensor:
        """`teaching_shares` of ``[sources, batch, classes]`` logits, the student's start first."""
        scales = sources.new_tensor([self._temperatures.get(name, 1.0) for name in names])
        scaled = sources / scales[:, None, None]
        return teaching_shares(scaled[0], scaled[1:], labels, partition=self.partition)

    def after_step(self, step: Step) -> None:
        """Move the slow weights, where it is time."""
        if self.slow is not None and self.slow_decay is not None and (step.index + 1) % self._every == 0:
            self.slow.load_state_dict(ema(self.slow.state_dict(), self._student[0].state_dict(), self.slow_decay))

    def epoch_ended(self, epoch: int) -> None:
        """Go back to the slow weights, where that is wanted."""
        if self.slow is not None and self.slow_reset:
            self._student[0].load_state_dict(self.slow.state_dict())

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """The slow weights predict, where there are any."""
        slow = self.slow is not None and self._student and model is self._student[0]
        logits: Tensor = self.slow(inputs) if slow and self.slow is not None else model(inputs)
        return logits

    def stages(self, run: Run) -> Iterator[Train]:
        """One stage with all teachers, or one a teacher; each stage's student is judged by its start."""
        recipe, student = run.recipe, run.source("student")
        self._every = max(1, round(self.slow_every * 256 / recipe.train.batch_size))
        self._start, self._done = copy.deepcopy(student), []
        teachers = {"teacher": run.source("teacher"), **run.members("more_teachers")}
        if self.schedule == "parallel":
            yield self._stage(run, "transfer", student, teachers)
            self._finish(run, "transfer", student, teachers)
            return
        cooks: list[dict[str, Tensor]] = []
        for place, (name, teacher) in enumerate(teachers.items(), 1):
            stage, alone = f"transfer-{place}", {name: teacher}
            own = copy.deepcopy(self._start) if self.schedule == "soup" else student
            yield self._stage(run, stage, own, alone)
            self._finish(run, stage, own, alone)
            cooks.append(own.state_dict())
        if self.schedule == "soup":
            student.load_state_dict(average_states(cooks))
            self._done.append(_Stage("soup", tuple(teachers), self._right(run, student)))

    def _stage(self, run: Run, name: str, student: nn.Module, teachers: Mapping[str, nn.Module]) -> Train:
        models = {"initial": copy.deepcopy(student), **teachers, "student": student}
        if self.calibrate:
            self._temperatures = self._calibrated(run, models)
        return Train(name, self, models, run.recipe.train)

    def _finish(self, run: Run, name: str, student: nn.Module, teachers: Mapping[str, nn.Module]) -> None:
        if self.slow is not None:
            student.load_state_dict(self.slow.state_dict())
        self._done.append(_Stage(name, tuple(teachers), self._right(run, student)))

    @classmethod
    def epochs(cls, recipe: Recipe) -> int:
        """Those of all stages."""
        others = recipe.slots.get("more_teachers") or ()
        return recipe.train.epochs * (1 if recipe.method.args["schedule"] == "parallel" else 1 + len(others))

    def results(self, run: Run) -> Sequence[Result]:
        """The student."""
        student = run.models["student"]
        return (Result("student", student, "recipient", (student,)),)

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """On the test split: what each model alone knows, what of it was transferred, and who teaches which samples."""
        teachers = {"teacher": run.source("teacher"), **run.members("more_teachers")}
        assert self._start is not None
        said = {name: self._predicted(run, module) for name, module in {"student": self._start, **teachers}.items()}
        right = {name: one.logits.argmax(-1) == one.labels for name, one in said.items()}
        labels, before = said["student"].labels, right["student"]
        known = torch.stack([right[name] for name in teachers]).any(0)
        positive, after = known & ~before, self._done[-1].right
        classes, entropy = flipped_classes(positive, labels, run.splits.info.class_names)
        moved = transferred(known, before, after)
        moves = self._moves(right)
        return {
            **moved,
            "success_rate": sum(row["delta"] > 0 for row in moves) / len(moves),
            "flip_entropy": entropy,
            "flips": flip_pairs(right),
            "stages": moves,
            "routing": self._routing(said, right),
            "flipped_classes": classes[:10],
            "transfer_by_classes": transfer_by_classes(positive, after, labels),
        }

    def _moves(self, right: Mapping[str, Tensor]) -> list[dict[str, Any]]:
        """A row a stage: against the student's start, and against the stage before."""
        rows: list[dict[str, Any]] = []
        last = right["student"]
        for stage in self._done:
            known = torch.stack([right[name] for name in stage.teachers]).any(0)
            moved = {name: number.value for name, number in transferred(known, right["student"], stage.right).items()}
            since = transferred(known, last, stage.right)["delta"].value
            rows.append({"stage": stage.name, "transfer_rate": None, **moved, "delta_since_last_stage": since})
            if self.schedule == "sequential":
                last = stage.right
        return rows

    def _routing(self, said: Mapping[str, Predictions], right: Mapping[str, Tensor]) -> list[dict[str, object]]:
        """A row a teacher: its share of all samples, of those that it alone knows, and of those that the start does."""
        rows: list[dict[str, object]] = []
        names, own = list(said), right["student"]
        parallel = self.schedule == "parallel"
        for name in names[1:]:
            heard = names if parallel else ["student", name]
            logits = torch.stack([said[one].logits for one in heard])
            shares = self.shares(logits, said[name].labels, ["initial", *heard[1:]])[heard.index(name)]
            row: dict[str, object] = {"teacher": name, "share": float(shares.mean())}
            for kind, where in (("positive", right[name] & ~own), ("negative", own & ~right[name])):
                row[f"share_of_{kind}_flips"] = float(shares[where].mean()) if bool(where.any()) else None
            rows.append(row)
        return rows

    def _calibrated(self, run: Run, models: Mapping[str, nn.Module]) -> dict[str, float]:
        split = run.splits.validation
        if split is None:
            run.warnings.append(
                "calibrate: the data has no validation split, so temperatures were fitted on training samples, where "
                "models are surer of themselves than elsewhere."
            )
            split = run.splits.train
        out: dict[str, float] = {}
        for name, module in models.items():
            if name != "student":
                module.to(run.accelerator.device)
                logits, labels, _ = predict(module, (module,), split, run.accelerator.device)
                out[name] = best_temperature(logits, labels)
        return out

    def _predicted(self, run: Run, module: nn.Module) -> Predictions:
        module.to(run.accelerator.device)
        return predict(module, (module,), run.splits.test, run.accelerator.device)

    def _right(self, run: Run, module: nn.Module) -> Tensor:
        """``[n]`` bool: where a model is right on the test split."""
        said = self._predicted(run, module)
        return said.logits.argmax(-1) == said.labels
