"""Trainee-mentor: distilling into networks without skip connections (arXiv:2006.16589)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le
from torch import nn

from tutelage.distill.base import Distillation, mistake, own_stages
from tutelage.distill.kd import KD
from tutelage.distill.parts.trials import accuracy, begun, by_teacher, on_labels, predictions, sample
from tutelage.engine.method import Method, Result, Room, Step, Train
from tutelage.engine.terms import Losses
from tutelage.measure.landscape import loss_landscape, successive_gradients
from tutelage.measure.reuse import consecutive_cka, dropped_and_swapped
from tutelage.models.residuals import residual_blocks
from tutelage.recipe.errors import Problem
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe, Spec
from tutelage.recipe.types import Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run

Probe = Literal["landscape", "cka", "gradients", "blocks"]


class Guidance(KD):
    """Classic distillation in the first epochs, labels alone after them.

    Args:
        kd_epochs: How many; ``None`` for all.
        temperature: As of `KD`.
        alpha: As of `KD`.
    """

    def __init__(self, kd_epochs: int | None, temperature: float, alpha: float) -> None:
        super().__init__(temperature=temperature, alpha=alpha)
        self.kd_epochs = kd_epochs

    def compare(self, step: Step) -> Losses:
        """Once its time is over, the teacher is not even asked."""
        if self.kd_epochs is not None and step.epoch >= self.kd_epochs:
            return self.task(step.forward("student"), step.batch)
        return super().compare(step)


@method("trainee-mentor", paper="arXiv:2006.16589", route="distill")
class TraineeMentor(Method):
    """Teach a network without skip connections, and find out what the teacher gives it.

    The student is ``{model: plain, of: <a residual model>}``. Beside the taught one, the same network is trained on
    labels alone, and so is the residual one, whose accuracy is the baseline B of the paper: ``drop`` = B - plain on
    labels, ``recovered`` = (taught - plain on labels) / drop, ``surplus`` = taught - B. A teacher is inferior when it
    is less accurate than B. Very deep plain networks may fail to train at all, so repeat it over seeds.

    Args:
        temperature: Softens both distributions.
        alpha: Weight of the label term; the transfer term has the rest (the paper's alpha is that rest).
        kd_epochs: The teacher guides the first so many epochs, then labels alone; null for all epochs.
        handover: What comes after guidance: the same training goes on (``keep``); the rest of the epochs with a new
            optimizer and schedule (``reset``); or a whole training that starts from those weights (``restart``).
        guidance: Further values of ``kd_epochs`` to try.
        depths: Further values of the residual model's ``depth`` to try.
        residual_too: Also teach the residual network.
        probes: What to look at in the trained networks: the loss around them (``landscape``), how alike consecutive
            blocks are (``cka``), successive ``gradients``, and what dropping or swapping ``blocks`` costs.
        probe_samples: Test samples that probes look at.
        landscape_steps: Points along each direction of the landscape, odd.
    """

    slots: ClassVar[dict[str, str]] = {"teacher": "model", "mentor": "model?", "student": "model", "data": "data"}

    # Its own control takes part in what is found.
    compared: ClassVar[bool] = False

    def __init__(
        self,
        *,
        temperature: Annotated[float, Gt(0), Ramped()] = 4.0,
        alpha: Annotated[float, Ge(0), Le(1), Ramped()] = 0.1,
        kd_epochs: Annotated[int, Ge(0)] | None = None,
        handover: Literal["keep", "reset", "restart"] = "keep",
        guidance: tuple[Annotated[int, Ge(0)], ...] = (),
        depths: tuple[Annotated[int, Ge(1)], ...] = (),
        residual_too: bool = False,
        probes: tuple[Probe, ...] = ("landscape", "cka", "gradients", "blocks"),
        probe_samples: Annotated[int, Ge(2)] = 256,
        landscape_steps: Annotated[int, Ge(3)] = 11,
    ) -> None:
        super().__init__()
        self.objective = Guidance(kd_epochs, temperature, alpha)
        self.kd_epochs, self.handover, self.guidance = kd_epochs, handover, guidance
        self.depths, self.residual_too, self.probes = depths, residual_too, probes
        self.probe_samples, self.landscape_steps = probe_samples, landscape_steps
        self.trained: dict[tuple[int | None, str], nn.Module] = {}

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """An untaught teacher, a student with its skip connections, and keys that do not fit together."""
        problems = [*Distillation.check(recipe), *own_stages(recipe, "trainee-mentor")]
        if recipe.stages or recipe.method.name != "trainee-mentor":
            return problems

        def note(message: str, hint: str, *path: str, of: Spec = recipe.method) -> None:
            problems.append(mistake(of, message, hint, *path))

        student, args = recipe.slots.get("student"), recipe.method.args
        if isinstance(student, Spec):
            if student.name != "plain":
                hint = f"Write `student: {{model: plain, of: {{model: {student.name}}}}}` with a residual model."
                note("the student is to have no skip connections.", hint, "student", of=student)
            if student.extras.get("weights") is not None:
                note("the student starts anew.", "Leave `weights` out.", "student", "weights", of=student)
        if args["landscape_steps"] % 2 == 0:
            note("'landscape_steps' must be odd, so that the network itself is among the points.", "", "method")
        guided = args["kd_epochs"]
        if args["handover"] != "keep" and (guided is None or not 0 < guided < recipe.train.epochs):
            hint = f"Set `kd_epochs` to between 1 and {recipe.train.epochs - 1}."
            note(f"'handover: {args['handover']}' needs guidance that ends before the training.", hint, "method")
        return problems

    def setup(self, room: Room) -> None:
        """Try the comparison on models that are thrown away, before anything is trained."""
        copy.deepcopy(self.objective).setup(room)

    def stages(self, run: Run) -> Iterator[Train]:
        """For each depth: both networks on labels, the plain one taught by each teacher, and what else was asked."""
        teachers = {"teacher": run.source("teacher")}
        if isinstance(run.recipe.slots.get("mentor"), Spec):
            teachers["mentor"] = run.source("mentor")
        plain = run.recipe.slots["student"]
        for depth in (None, *self.depths):
            spec = plain if depth is None else plain.with_(of=plain.args["of"].with_(depth=depth))
            tail = "" if depth is None else f"-{depth}"
            yield on_labels(run, f"residual-labels{tail}", self._start(run, spec.args["of"], depth, "residual labels"))
            yield on_labels(run, f"plain-labels{tail}", self._start(run, spec, depth, "plain labels"))
            for name, teacher in teachers.items():
                student = self._start(run, spec, depth, f"plain {name}")
                if depth is None and name == "teacher":
                    run.models["student"] = student
                yield from self._taught(run, f"plain-{name}{tail}", teacher, student)
            if self.residual_too:
                student = self._start(run, spec.args["of"], depth, "residual teacher")
                yield by_teacher(run, f"residual-teacher{tail}", self._guided(None), teachers["teacher"], student)
            for epochs in self.guidance:
                student = self._start(run, spec, depth, f"plain teacher, {epochs} epochs")
                name = f"plain-teacher-for-{epochs}{tail}"
                yield by_teacher(run, name, self._guided(epochs), teachers["teacher"], student)

    def _start(self, run: Run, spec: Spec, depth: int | None, cell: str) -> nn.Module:
        """Every cell of a depth starts from the same weights; at the student's own, as in any other method."""
        student = begun(run, spec, "student", depth or 0)
        self.trained[depth, cell] = student
        return student

    def _guided(self, epochs: int | None) -> Guidance:
        objective = copy.deepcopy(self.objective)
        objective.kd_epochs = epochs
        return objective

    def _taught(self, run: Run, name: str, teacher: nn.Module, student: nn.Module) -> Iterator[Train]:
        if self.handover == "keep" or self.kd_epochs is None:
            yield by_teacher(run, name, copy.deepcopy(self.objective), teacher, student)
            return
        whole = run.recipe.train
        rest = whole.epochs if self.handover == "restart" else whole.epochs - self.kd_epochs
        first = replace(whole, epochs=self.kd_epochs)
        yield by_teacher(run, f"{name}-guided", self._guided(None), teacher, student, first)
        yield on_labels(run, name, student, replace(whole, epochs=rest))

    @classmethod
    def epochs(cls, recipe: Recipe) -> int:
        """Those of all networks."""
        args = recipe.method.args
        teachers = 1 + isinstance(recipe.slots.get("mentor"), Spec)
        cells = 2 + teachers + args["residual_too"] + len(args["guidance"])
        return (1 + len(args["depths"])) * int(cells) * recipe.train.epochs

    def results(self, run: Run) -> Sequence[Result]:
        """The networks of the student's own depth; the taught one last."""
        roles: Mapping[str, tuple[str, Any]] = {
            "residual labels": ("residual student on labels", "other"),
            "plain labels": ("student without transfer", "baseline"),
            "plain teacher": ("student", "recipient"),
        }
        found = []
        for (depth, cell), module in self.trained.items():
            if depth is None:
                name, role = roles.get(cell, (cell, "other"))
                stage = cell.replace(", ", "-for-").removesuffix(" epochs").replace(" ", "-")
                stages = (stage, f"{stage}-guided") if self.handover != "keep" else (stage,)
                found.append(Result(name, module, role, (module,), stages))
        return sorted(found, key=lambda result: ("baseline", "other", "recipient").index(result.role))

    # ------------------------------------------------------------------ what was found

    def findings(self, run: Run) -> Mapping[str, Any]:
        """``networks``, what each reached; ``depths``, what was recovered; and a table for each probe."""
        scores = {key: accuracy(predictions(run, key[1], module)) for key, module in self.trained.items()}
        rows = [self._row(run, depth, cell, scores[depth, cell]) for depth, cell in self.trained]
        found: dict[str, Any] = {
            "networks": rows,
            "depths": [row for depth in (None, *self.depths) for row in self._recovered(run, depth, scores)],
        }
        if self.guidance:
            full = {depth: scores[depth, "plain teacher"] for depth in (None, *self.depths)}
            enough = {
                depth: [e for e in sorted(self.guidance) if scores[depth, f"plain teacher, {e} epochs"] >= full[depth]]
                for depth in full
            }
            found["guidance_needed"] = [
                {"depth": self._depth(run, depth), "epochs": epochs[0] if epochs else None}
                for depth, epochs in enough.items()
            ]
        return {**found, **self._probed(run)}

    def _depth(self, run: Run, depth: int | None) -> int | str:
        own = run.recipe.slots["student"].args["of"].args.get("depth", "")
        return own if depth is None else depth

    def _row(self, run: Run, depth: int | None, cell: str, score: float) -> dict[str, Any]:
        module = self.trained[depth, cell]
        seen = accuracy(predictions(run, cell, module, examples=run.splits.train))
        network, _, training = cell.partition(" ")
        return {
            "depth": self._depth(run, depth),
            "network": network,
            "training": training,
            "accuracy": score,
            # No better than twice chance on what it was trained on.
            "failed": "yes" if seen < 2 / run.splits.info.classes else "no",
            "parameters": sum(p.numel() for p in module.parameters()),
        }

    def _recovered(
        self, run: Run, depth: int | None, scores: Mapping[tuple[int | None, str], float]
    ) -> Iterator[dict[str, Any]]:
        residual, plain = scores[depth, "residual labels"], scores[depth, "plain labels"]
        for name in ("teacher", "mentor"):
            if (depth, f"plain {name}") not in scores:
                continue
            taught = scores[depth, f"plain {name}"]
            mentor = accuracy(predictions(run, name, run.source(name)))
            drop = residual - plain
            yield {
                "depth": self._depth(run, depth),
                "teacher": name,
                "quality": "inferior" if mentor < residual else "superior" if mentor > residual else "equal",
                "drop": drop,
                "recovered": (taught - plain) / drop if drop > 0 else None,
                "surplus": taught - residual,
            }

    def _probed(self, run: Run) -> dict[str, Any]:
        inputs, labels = sample(run, self.probe_samples)
        mine = {cell: module for (depth, cell), module in self.trained.items() if depth is None}
        blocks = {cell: residual_blocks(module) for cell, module in mine.items()}
        found: dict[str, Any] = {}
        if "landscape" in self.probes:
            views = {c: loss_landscape(m, inputs, labels, steps=self.landscape_steps) for c, m in mine.items()}
            found["landscape"] = [
                {"network": c, "loss": v.centre, "sharpness": v.sharpness(), "dents": v.dents()}
                for c, v in views.items()
            ]
            positions = next(iter(views.values())).positions.tolist()
            found["landscape_line"] = [
                {"position": round(at, 4), **{c: float(v.line[i]) for c, v in views.items()}}
                for i, at in enumerate(positions)
            ]
        if "gradients" in self.probes:
            size = max(1, min(32, len(labels) // 2))
            batches = [(inputs[i : i + size], labels[i : i + size]) for i in range(0, len(labels) - size + 1, size)]
            each = {cell: successive_gradients(module, batches) for cell, module in mine.items()}
            found["gradients"] = [
                {"network": c, "norm": g.norm, "variance": g.variance, "cosine": g.cosine} for c, g in each.items()
            ]
        if "cka" in self.probes:
            alike = {cell: consecutive_cka(module, blocks[cell], inputs) for cell, module in mine.items()}
            found["consecutive_cka"] = [
                {"after_block": i, **{cell: values[i] for cell, values in alike.items()}}
                for i in range(min(len(values) for values in alike.values()))
            ]
        if "blocks" in self.probes:

            def score(module: nn.Module) -> float:
                return accuracy(predictions(run, "probed", module))

            found["blocks"] = [
                {"network": cell, "drop": None, "swap": None} | dropped_and_swapped(module, blocks[cell], inputs, score)
                for cell, module in mine.items()
            ]
        return found
