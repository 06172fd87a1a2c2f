"""DisWOT: student architecture search for distillation without training (arXiv:2303.15678, CVPR 2023)."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt
from torch import nn

from tutelage.data.batch import Batch
from tutelage.data.seeds import shuffle
from tutelage.distill.base import Distillation, mistake, own_stages
from tutelage.distill.kd import KD
from tutelage.distill.parts.architecture_search import Choice, Space, at_random, evolve, spec_of, unfit_values
from tutelage.distill.parts.trials import accuracy, begun, by_teacher, on_labels, predictions
from tutelage.distill.parts.untrained_pairs import Candidate, Judge, similarities
from tutelage.engine.method import Method, Result, Room, Train
from tutelage.engine.terms import Losses
from tutelage.measure.proxies import PROXIES
from tutelage.measure.ranking import rank_agreement, summed_ranks
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.registry import method, registry
from tutelage.recipe.runfolder import atomic_write
from tutelage.recipe.spec import Recipe, Spec, plain
from tutelage.recipe.types import Of, Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run

SPACES: Mapping[str, Mapping[str, Sequence[Any]]] = {
    # The paper's S0: blocks of each stage.
    "resnet": {f"blocks.{stage}": (1, 3, 5, 7) for stage in range(3)},
    "convnet": {"width": (4, 8, 12, 16), "depth": (1, 2, 3), "convolutions": (1, 2, 3)},
    "vit": {"dim": (16, 32, 64), "depth": (1, 2, 4, 6), "expansion": (1, 2, 4)},
}
"""Where is searched unless a recipe says: by the student's model."""


class Similarity(KD):
    """Classic distillation, with the two similarities as further terms on the trained teacher where asked.

    Args:
        temperature: As of `KD`.
        alpha: As of `KD`.
        relation_weight: Weight of the distance between relations of samples.
        semantic_weight: Weight of the distance between class semantics.
    """

    def __init__(self, temperature: float, alpha: float, relation_weight: float, semantic_weight: float) -> None:
        super().__init__(temperature=temperature, alpha=alpha)
        self.relation_weight, self.semantic_weight = relation_weight, semantic_weight

    def setup(self, room: Room) -> None:
        """Tap what is compared."""
        super().setup(room)
        if self.relation_weight or self.semantic_weight:
            for name in ("teacher", "student"):
                room.tap(name, "features", "embedding")

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``KD + relation * distance + semantic * distance``."""
        terms = super().loss(student, teacher, batch)
        if not self.relation_weight and not self.semantic_weight:
            return terms
        more = Losses(**{name: -score for name, score in similarities(student, teacher, batch).items()})
        return terms | more.weighted(relation=self.relation_weight, semantic=self.semantic_weight)


@method("diswot", paper="arXiv:2303.15678", route="distill")
class DisWOT(Method):
    """Choose the student by how alike it is to the teacher while both are untrained, then distil into it.

    Candidates differ from the recipe's student in the arguments of ``space``. Each is scored on the same batches, by
    one forward pass and no training, against one teacher at random initialisation. The report's recipient is the best;
    its control is the same network on labels, and the recipe's own student is distilled into beside it. Scores of
    untrained networks can order them wrongly: ``verify`` trains some to see, beside the baselines of the field.

    Args:
        space: Values by argument of the student's model; ``blocks.0`` is the first entry of a list. Null for
            what is known of ``resnet``, ``convnet`` and ``vit``.
        score: What candidates are compared in.
        relation_weight: Weight of the relation score in the sum.
        semantic_weight: Weight of the semantic score in the sum.
        aggregate: Add the two scores, or their ranks, for they differ in size.
        proxy: Another distillation method whose loss between the untrained pair, negated, is the score instead.
        n_seeds: Initialisations that scores are averaged over.
        n_batches: Batches that scores are averaged over.
        score_batch: Samples of such a batch.
        teacher_init: The teacher that candidates are compared with: untrained, as in the paper, or trained.
        max_parameters: Budget.
        max_flops: Budget, of weights, for one sample.
        max_latency: Budget in seconds for one sample; a search under it depends on the machine.
        search: By ageing evolution, at random, or all of the space.
        population: Candidates that evolution begins with and keeps.
        tournament: Candidates that a parent is chosen from.
        top: How many of the best of these may be the parent; as many are reported.
        iterations: Candidates made in all.
        seconds: Time after which the search ends; null for no limit.
        objective: The distillation that trains the winner; classic, with the next four keys, unless given.
        temperature: Of classic distillation.
        alpha: Weight of its label term; the transfer term has the rest.
        distil_relation: Weight of the relation distance as a further term of it.
        distil_semantic: Weight of the semantic distance as a further term of it.
        verify: How many of the candidates seen are also distilled into, to hold scores against what came out.
        verify_labels: Also train these on labels alone.
    """

    slots: ClassVar[dict[str, str]] = {"teacher": "model", "student": "model", "data": "data"}

    # The control is the winner on labels, not the recipe's student.
    compared: ClassVar[bool] = False

    hard_labels: ClassVar[bool] = True

    def __init__(
        self,
        *,
        space: dict[str, list[Any]] | None = None,
        score: Literal["both", "relation", "semantic"] = "both",
        relation_weight: Annotated[float, Ge(0)] = 1.0,
        semantic_weight: Annotated[float, Ge(0)] = 1.0,
        aggregate: Literal["sum", "ranks"] = "sum",
        proxy: Annotated[Any, Of("method")] = None,
        n_seeds: Annotated[int, Ge(1)] = 1,
        n_batches: Annotated[int, Ge(1)] = 1,
        score_batch: Annotated[int, Ge(2)] = 64,
        teacher_init: Literal["random", "trained"] = "random",
        max_parameters: Annotated[int, Ge(1)] | None = None,
        max_flops: Annotated[int, Ge(1)] | None = None,
        max_latency: Annotated[float, Gt(0)] | None = None,
        search: Literal["evolution", "random", "exhaustive"] = "evolution",
        population: Annotated[int, Ge(1)] = 36,
        tournament: Annotated[int, Ge(1)] = 8,
        top: Annotated[int, Ge(1)] = 5,
        iterations: Annotated[int, Ge(1)] = 1000,
        seconds: Annotated[float, Gt(0)] | None = None,
        objective: Annotated[Any, Of("method")] = None,
        temperature: Annotated[float, Gt(0), Ramped()] = 4.0,
        alpha: Annotated[float, Ge(0), Ramped()] = 0.1,
        distil_relation: Annotated[float, Ge(0)] = 0.0,
        distil_semantic: Annotated[float, Ge(0)] = 0.0,
        verify: Annotated[int, Ge(0)] = 0,
        verify_labels: bool = False,
    ) -> None:
        super().__init__()
        self.space, self.score, self.aggregate, self.proxy = space, score, aggregate, proxy
        self.weights = {"relation": relation_weight, "semantic": semantic_weight}
        self.n_seeds, self.n_batches, self.score_batch = n_seeds, n_batches, score_batch
        self.teacher_init, self.search = teacher_init, search
        self.budget = {"parameters": max_parameters, "flops": max_flops, "latency": max_latency}
        self.population, self.tournament, self.top = population, tournament, top
        self.iterations, self.seconds = iterations, seconds
        own = Similarity(temperature, alpha, distil_relation, distil_semantic)
        self.objective: Distillation = own if objective is None else objective
        self.verify, self.verify_labels = verify, verify_labels
        self.found: list[Candidate] = []
        self.trained: dict[str, nn.Module] = {}

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """An untaught teacher, a space that the student's model does not have, objectives that compare nothing."""
        problems = [*Distillation.check(recipe), *own_stages(recipe, "diswot")]
        if recipe.stages or recipe.method.name != "diswot":
            return problems

        def note(message: str, hint: str, *path: str, of: Spec = recipe.method) -> None:
            problems.append(mistake(of, message, hint, *path))

        student, args = recipe.slots.get("student"), recipe.method.args
        for key in ("objective", "proxy"):
            other = args[key]
            if isinstance(other, Spec) and not issubclass(registry().load("method", other.name), Distillation):
                hint = "Take a distillation method such as 'kd' or 'rkd'."
                note(f"'{other.name}' compares no teacher with a student.", hint, "method", key, of=other)
        if args["search"] == "exhaustive" and args["seconds"] is not None:
            note("'seconds' does nothing when all of the space is searched.", "", "method", "seconds")
        if isinstance(student, Spec):
            if student.extras.get("weights") is not None:
                note("a candidate starts anew.", "Leave `weights` out.", "student", "weights", of=student)
            if args["space"] is None and student.name not in SPACES:
                hint = f"Write `space: {{<argument>: [<values>]}}`; it is known for {', '.join(SPACES)}."
                note(f"there is no space for '{student.name}'.", hint, "method", "space")
            problems.extend(unfit_values(student, args["space"] or SPACES.get(student.name, {}), recipe.method))
        return problems

    def setup(self, room: Room) -> None:
        """Try the objective on the recipe's student, before anything is trained."""
        copy.deepcopy(self.objective).setup(room)

    # ------------------------------------------------------------------ the search

    def stages(self, run: Run) -> Iterator[Train]:
        """Search; then distil into the winner, train it on labels, and distil into the recipe's own student."""
        given = run.recipe.slots["student"]
        self.found = self._searched(run, Space(given, self.space or SPACES.get(given.name, {})))
        best = spec_of(given, self.found[0].values)
        teacher = run.source("teacher")
        run.models["student"] = self._start(run, "transfer", best)
        yield by_teacher(run, "transfer", copy.deepcopy(self.objective), teacher, run.models["student"])
        yield on_labels(run, "winner-labels", self._start(run, "winner-labels", best))
        own = self._start(run, "given-student", given)
        yield by_teacher(run, "given-student", copy.deepcopy(self.objective), teacher, own)
        for i in self._verified(run):
            spec = spec_of(given, self.found[i].values)
            student = self._start(run, f"candidate-{i}", spec)
            yield by_teacher(run, f"candidate-{i}", copy.deepcopy(self.objective), teacher, student)
            if self.verify_labels:
                yield on_labels(run, f"candidate-{i}-labels", self._start(run, f"candidate-{i}-labels", spec))

    def _start(self, run: Run, name: str, spec: Spec) -> nn.Module:
        self.trained[name] = begun(run, spec, "student", 0)
        return self.trained[name]

    def _verified(self, run: Run) -> list[int]:
        chance = random.Random(run.seed_of("diswot", "verify"))
        return sorted(chance.sample(range(len(self.found)), min(self.verify, len(self.found))))

    def _searched(self, run: Run, space: Space) -> list[Candidate]:
        """The candidates seen, the best first; a search that was done is found again, for it may depend on time."""
        kept = run.folder.path / "search.json"
        # One process searches, for all must train the same winner.
        if run.accelerator.is_main_process and not kept.is_file():
            found = self._search(run, space)
            atomic_write(kept, json.dumps([vars(one) for one in found]))
        run.accelerator.wait_for_everyone()
        return [Candidate(**one) for one in json.loads(kept.read_text(encoding="utf-8"))]

    def _search(self, run: Run, space: Space) -> list[Candidate]:
        batches = self._batches(run)
        seen: dict[Choice, Candidate] = {}
        judge = Judge(
            run,
            batches,
            seeds=self.n_seeds,
            trained=self.teacher_init == "trained",
            timed=self.budget["latency"] is not None,
            proxy=self.proxy,
        )

        def affordable(choice: Choice) -> bool:
            if choice not in seen:
                values = plain(space.values(choice))
                seen[choice] = Candidate(values, judge.cost(space.spec(choice)))
            cost = seen[choice].cost
            return all(limit is None or cost[name] <= limit for name, limit in self.budget.items())

        def fitness(choices: Sequence[Choice]) -> Sequence[float]:
            for choice in choices:
                if not seen[choice].scores:
                    seen[choice].scores = judge.scores(space.spec(choice))
            return self._fitness([seen[choice] for choice in choices])

        seed = run.seed_of("diswot", "search")
        if self.search == "evolution":
            sizes = {"population": self.population, "tournament": self.tournament, "top": self.top}
            limits = {"iterations": self.iterations, "seconds": self.seconds, "seed": seed}
            choices = evolve(space, affordable, fitness, **sizes, **limits)  # type: ignore[arg-type]
        elif self.search == "random":
            choices = at_random(space, affordable, iterations=self.iterations, seconds=self.seconds, seed=seed)
        else:
            choices = [choice for choice in space.every() if affordable(choice)]
        if not choices:
            least = {name: min(one.cost[name] for one in seen.values()) for name in self.budget if self.budget[name]}
            raise InputError(f"method: no candidate is within the budget; the least that one takes is {least}")
        overall = fitness(choices)
        order = sorted(range(len(choices)), key=lambda i: -overall[i])
        found = [seen[choices[i]] for i in order]
        for i, one in zip(order, found, strict=True):
            one.scores["overall"] = overall[i]
        return found

    def _fitness(self, candidates: Sequence[Candidate]) -> list[float]:
        names = [n for n in ("relation", "semantic") if self.score in (n, "both")]
        if self.proxy is not None:
            names = ["proxy"]
        columns = [[self.weights.get(n, 1.0) * one.scores[n] for one in candidates] for n in names]
        return summed_ranks(columns) if self.aggregate == "ranks" else [sum(row) for row in zip(*columns, strict=True)]

    def _batches(self, run: Run) -> list[Batch]:
        train = run.splits.train
        order = shuffle(len(train), run.seed_of("diswot", "batches"))
        size = min(self.score_batch, len(train))
        starts = [(i * size) % max(1, len(train) - size + 1) for i in range(self.n_batches)]
        batches = [train.fetch(order[start : start + size]).to(run.accelerator.device) for start in starts]
        if any(len(batch.labels.unique()) < 2 for batch in batches):
            raise InputError("method.score_batch: a batch holds one class only, so that there is nothing to tell apart")
        return batches

    # ------------------------------------------------------------------ what came out

    @classmethod
    def epochs(cls, recipe: Recipe) -> int:
        """Those of all students."""
        args = recipe.method.args
        return int(3 + args["verify"] * (1 + args["verify_labels"])) * recipe.train.epochs

    def results(self, run: Run) -> Sequence[Result]:
        """The winner on labels, the recipe's student, and last the winner."""
        best = spec_of(run.recipe.slots["student"], self.found[0].values)
        winner, control, own = (self.trained[name] for name in ("transfer", "winner-labels", "given-student"))
        return (
            Result("student without transfer", control, "baseline", (control,), ("winner-labels",)),
            Result("given student", own, "other", (own,), ("given-student",)),
            Result("student", winner, "recipient", (winner,), ("transfer",), best),
        )

    def findings(self, run: Run) -> Mapping[str, Any]:
        """The best candidates; and how scores order those that were trained, beside the baselines of the field."""
        found: dict[str, Any] = {
            "candidates": [self._row(one) for one in self.found[: self.top]],
            "candidates_seen": len(self.found),
        }
        chosen = self._verified(run)
        if len(chosen) < 2:
            return found
        scores: dict[str, list[float]] = {}
        truth, given, batch = [], run.recipe.slots["student"], self._batches(run)[0]
        for i in chosen:
            truth.append(accuracy(predictions(run, "candidate", self.trained[f"candidate-{i}"])))
            start = begun(run, spec_of(given, self.found[i].values), "diswot", 0)
            known = self.found[i].scores
            known = known | {name: proxy(start, batch.inputs, batch.labels) for name, proxy in PROXIES.items()}
            if self.verify_labels:
                known["labels"] = accuracy(predictions(run, "candidate", self.trained[f"candidate-{i}-labels"]))
            for name, value in known.items():
                scores.setdefault(name, []).append(value)
        found["verified"] = [
            {**self._row(self.found[i]), "accuracy": value} for i, value in zip(chosen, truth, strict=True)
        ]
        found["rank_agreement"] = [{"score": name, **rank_agreement(each, truth)} for name, each in scores.items()]
        return found

    @staticmethod
    def _row(one: Candidate) -> dict[str, Any]:
        values = {key: v if isinstance(v, int | float | str) else str(v) for key, v in one.values.items()}
        return {**values, **one.scores, **{k: v for k, v in one.cost.items() if k != "latency" or v}}
