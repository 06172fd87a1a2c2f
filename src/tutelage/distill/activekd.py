"""ActiveKD: active learning through distillation, with labels bought in probability space (arXiv:2506.00910)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from tutelage.data.querying import STRATEGIES, Answers, probability_cover
from tutelage.data.seeds import integers, mix
from tutelage.data.shaping import Unlabelled, hide
from tutelage.data.splits import Examples, Joined, labels_of, select
from tutelage.distill.base import LogitDistillation
from tutelage.distill.parts.few_shot_teacher import few_shot
from tutelage.engine.method import Finding, Result, Room, Step, Train
from tutelage.engine.terms import Losses
from tutelage.losses import cross_entropy, kl_divergence
from tutelage.models.dual_head import give_second_classifier
from tutelage.models.outputs import Outputs
from tutelage.models.participant import Participant
from tutelage.models.remembered import Seen, see
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.loading import load_train
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe
from tutelage.recipe.types import Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run


@method("activekd", paper="arXiv:2506.00910", route="distill")
class ActiveKD(LogitDistillation):
    """Buy labels in rounds for the samples that a student chooses, and distil a teacher on all others too.

    Each round trains a student anew, with one head for the labels and one for the teacher; then it chooses what to ask
    about next. ``pcoreset`` covers the space of predicted distributions: what a teacher says comes in clusters there,
    and rare kinds of prediction are worth a label. The pool is the training split; the labels of what was not asked
    about are never read. With ``data.labelled`` it is asked about what that left without labels.

    Args:
        strategy: ``pcoreset``, or for comparison ``random``, ``uncertainty`` (largest entropy), ``coreset`` (cover of
            embeddings), ``badge`` (cover of last-layer gradients) or ``class-balanced``.
        rounds: How often labels are bought; there is one training more.
        queries_per_round: Labels bought in a round; ``null`` for as many as there are classes.
        init_shots: Labels of each class to begin with.
        alpha: Share of the teacher's head in the student's prediction.
        beta: Temperature of the teacher's head in the student's prediction.
        temperature: Softens teacher and student in the transfer term.
        label_weight: Weight of the label term; the rest has 1 - label_weight.
        reinit: Start every round's student anew; otherwise it goes on.
        replacement: Draw a round's labelled samples with replacement, in full batches, as many as ``train.epochs``
            passes have; otherwise make these passes, in batches that may be smaller.
        teacher: The teacher as it is (``zero_shot``), or its classifier fitted anew to each round's labels (``clap``).
        clap_epochs: Passes over the labels in that fit.
        clap_lr: Its learning rate.
        centres: What ``pcoreset`` starts from for the labelled samples: the ``predictions``, or their ``labels``.
        space: Whose probabilities strategies look at: the ``student``'s or the ``teacher``'s.
    """

    compared: ClassVar[bool] = False
    hard_labels: ClassVar[bool] = True
    sampled: ClassVar[bool] = False

    def __init__(
        self,
        *,
        strategy: Literal["pcoreset", "random", "uncertainty", "coreset", "badge", "class-balanced"] = "pcoreset",
        rounds: Annotated[int, Ge(0)] = 15,
        queries_per_round: Annotated[int, Ge(1)] | None = None,
        init_shots: Annotated[int, Ge(1)] = 1,
        alpha: Annotated[float, Ge(0), Le(1)] = 0.5,
        beta: Annotated[float, Gt(0)] = 1.0,
        temperature: Annotated[float, Gt(0), Ramped()] = 2.0,
        label_weight: Annotated[float, Ge(0), Le(1), Ramped()] = 0.5,
        reinit: bool = True,
        replacement: bool = True,
        teacher: Literal["zero_shot", "clap"] = "zero_shot",
        clap_epochs: Annotated[int, Ge(1)] = 300,
        clap_lr: Annotated[float, Gt(0)] = 0.01,
        centres: Literal["predictions", "labels"] = "predictions",
        space: Literal["student", "teacher"] = "student",
    ) -> None:
        super().__init__()
        self.strategy, self.rounds, self.queries, self.init_shots = strategy, rounds, queries_per_round, init_shots
        self.alpha, self.beta, self.temperature, self.label_weight = alpha, beta, temperature, label_weight
        self.reinit, self.replacement, self.teacher = reinit, replacement, teacher
        self.clap_epochs, self.clap_lr, self.centres, self.space = clap_epochs, clap_lr, centres, space
        self._head = ""
        self._rounds: list[dict[str, Any]] = []

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """An untaught teacher, stages beside its own, terms of others, and a start that is said twice."""
        problems = super().check(recipe)

        def note(message: str, hint: str, *path: str) -> None:
            where = recipe.method.place
            problems.append(Problem(message, path, where.file, where.line, where.column, hint))

        if recipe.stages:
            note("activekd makes its own stages, one for each round.", "Leave `stages` out.", "stages")
        if recipe.also:
            note("activekd has a loss of two heads, and takes no further terms.", "Leave `also` out.", "also")
        if recipe.method.name != "activekd":
            return problems
        args = recipe.method.args
        if args["init_shots"] != 1 and recipe.data.extras.get("labelled") is not None:
            hint = "Leave out one of the two."
            note("'init_shots' and data.labelled both say how many labels there are to begin with.", hint, "method")
        if args["centres"] == "labels" and args["strategy"] != "pcoreset":
            note("'centres' does nothing without `strategy: pcoreset`.", "Leave it out.", "method", "centres")
        return problems

    @classmethod
    def epochs(cls, recipe: Recipe) -> int:
        """Those of all rounds, at most."""
        rounds: int = recipe.method.args["rounds"]
        return (rounds + 1) * recipe.train.epochs

    # ------------------------------------------------------------------ one round's training

    def setup(self, room: Room) -> None:
        """Give the student its second head, and look at both.

        Raises:
            InputError: The models' classes differ, or the student has no linear classifier.
        """
        super().setup(room)
        self._head = give_second_classifier(
            room.modules["student"], alpha=self.alpha, beta=self.beta, example=room.example.inputs
        )
        room.tap("student", f"{self._head}.task", f"{self._head}.transfer")

    def heads(self, student: Outputs) -> tuple[Tensor, Tensor]:
        """``[batch, classes]`` logits of the head that labels teach, and of the one that the teacher teaches."""
        return student.taps[f"{self._head}.task"], student.taps[f"{self._head}.transfer"]

    def compare(self, step: Step) -> Losses:
        """``label_weight * CE(task head) + (1 - label_weight) * T² KL(transfer head)`` there and on the pool."""
        task, transfer = self.heads(step.forward("student"))
        teacher = step.forward("teacher").logits
        terms = Losses(
            task=cross_entropy(task, step.batch.labels),
            transfer=kl_divergence(transfer, teacher, temperature=self.temperature),
        ).weighted(task=self.label_weight, transfer=1 - self.label_weight)
        if "unlabelled" not in step.pools:
            return terms
        others = step.on(step.pools["unlabelled"])
        teacher = others.forward("teacher").logits
        _, transfer = self.heads(others.forward("student"))
        pool = kl_divergence(transfer, teacher, temperature=self.temperature).mean()
        return terms | Losses(unlabelled=pool).weighted(unlabelled=1 - self.label_weight)

    # ------------------------------------------------------------------ rounds

    def stages(self, run: Run) -> Iterator[Train]:
        """A training for each round, and before it, with ``clap``, one of the teacher's classifier.

        Raises:
            InputError: The pool is smaller than what is to be bought.
        """
        classes, seed, teacher = run.splits.info.classes, run.recipe.seed, run.source("teacher")
        labelled, pool = self._start(run)
        count = classes if self.queries is None else self.queries
        if self.rounds * count > len(pool):
            raise InputError(
                f"activekd buys {self.rounds} * {count} labels, but the pool has {len(pool)} samples without one: "
                f"choose fewer rounds, at most {len(pool) // count}"
            )
        left = torch.arange(len(pool))
        self._rounds, student = [], run.fresh("student")
        for k in range(self.rounds + 1):
            if self.reinit and k:
                student = run.fresh("student", generation=k)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(run.seed_of("activekd", "heads", k if self.reinit else 0))
                self._head = give_second_classifier(
                    student, alpha=self.alpha, beta=self.beta, example=run.example().inputs
                )
            run.models["student"] = student
            if self.teacher == "clap":
                batch = labelled.fetch(range(len(labelled))).to(run.accelerator.device)
                source = run.source("teacher").to(run.accelerator.device)
                teacher, prototypes = few_shot(source, batch.inputs, batch.labels, classes, self.clap_lr)
                schedule = {"name": "cosine", "warmup": 0.1}
                settings = load_train({"epochs": self.clap_epochs, "batch_size": 256, "schedule": schedule})
                yield Train(
                    f"teacher-{k}", prototypes, {"teacher": teacher}, settings, validated="teacher", examples=labelled
                )
            pools = {"unlabelled": pool.select(left)} if len(left) else {}
            models = {"teacher": teacher, "student": student}
            examples, epochs = self._passes(labelled, run, k)
            settings = replace(run.recipe.train, epochs=epochs)
            yield Train(f"round-{k}", self, models, settings, examples=examples, pools=pools)
            wanted = count if k < self.rounds else 0
            picks = self._choose(run, student, teacher, labelled, pool.select(left), wanted, mix_seed(seed, k))
            labelled = Joined(labelled, pool.answer(left[picks])) if wanted else labelled
            left = left[~torch.isin(torch.arange(len(left)), picks)]

    def _start(self, run: Run) -> tuple[Examples, Unlabelled]:
        """What has labels to begin with, and the pool beside it."""
        given = run.splits.unlabelled
        if isinstance(given, Unlabelled):
            return run.splits.train, given
        classes = run.splits.info.classes
        labelled, pool = hide(run.splits.train, self.init_shots * classes, classes, run.recipe.seed)
        return labelled, pool if pool is not None else Unlabelled(select(labelled, torch.arange(0)))

    def _passes(self, labelled: Examples, run: Run, k: int) -> tuple[Examples, int]:
        """What a round trains on, and how many passes over it."""
        train = run.recipe.train
        size = max(train.batch_size, len(labelled))
        if not self.replacement:
            return labelled, train.epochs
        drawn = integers(mix(run.seed_of("activekd", "drawn"), k, torch.arange(size)), 0, len(labelled), 0)
        return select(labelled, drawn), max(1, math.ceil(train.epochs * len(labelled) / size))

    def _choose(
        self,
        run: Run,
        student: nn.Module,
        teacher: nn.Module,
        labelled: Examples,
        pool: Unlabelled,
        count: int,
        seed: int,
    ) -> Tensor:
        """``[count]`` int64 positions in the pool, and a row of what this round came to."""
        device = run.accelerator.device
        labels, told = labels_of(labelled), _seen(student, run.splits.test, device)
        known_before = self._rounds[0]["teacher"] if self._rounds and self.teacher == "zero_shot" else None
        row: dict[str, Any] = {
            "labels": len(labelled),
            "accuracy": _accuracy(told),
            "teacher": _accuracy(_seen(teacher, run.splits.test, device)) if known_before is None else known_before,
            "class_entropy": float(torch.distributions.Categorical(torch.bincount(labels).double()).entropy()),
            "radius": None,
        }
        self._rounds.append(row)
        if not len(pool):
            return torch.arange(0)
        ours = [_seen(student, part, device).outputs for part in (labelled, pool)]
        spoken = ours if self.space == "student" else [_seen(teacher, p, device).outputs for p in (labelled, pool)]
        known, asked = (outputs.logits.float().softmax(-1).cpu() for outputs in spoken)
        # How far the pool reaches from what has labels: the distance that the next cover would begin with.
        row["radius"] = float(probability_cover(asked, known, 1).radii[0])
        if self.centres == "labels":
            known = torch.nn.functional.one_hot(labels, known.shape[1]).to(known)
        answers = Answers(
            asked,
            ours[1].embedding.flatten(1).cpu(),
            known,
            ours[0].embedding.flatten(1).cpu(),
            labels,
            seed,
        )
        return STRATEGIES[self.strategy](answers, count)

    # ------------------------------------------------------------------ what came out

    def results(self, run: Run) -> Sequence[Result]:
        """The last round's student."""
        student = run.models["student"]
        return (Result("student", student, "recipient", (student,)),)

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """Each round, by what its labels cost; and the area under that curve, as a mean of accuracies."""
        accuracies = [row["accuracy"] for row in self._rounds]
        return {"rounds": [dict(row) for row in self._rounds], "mean_accuracy": sum(accuracies) / len(accuracies)}


def mix_seed(seed: int, k: int) -> int:
    """A seed for a round of a run."""
    return int(mix(seed, k, torch.arange(1))[0])


def _seen(model: nn.Module, examples: Examples, device: torch.device) -> Seen:
    """Logits and embeddings in evaluation mode, of the samples as they are."""
    example = examples.fetch(range(min(2, len(examples)))).inputs.to(device)
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    participant = Participant("model", model.to(device), trainable=False, taps=("embedding",), example=example)
    try:
        return see(participant, examples, device)
    finally:
        participant.close()
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)


def _accuracy(seen: Seen) -> float:
    return float((seen.outputs.logits.argmax(-1) == seen.labels).float().mean())
