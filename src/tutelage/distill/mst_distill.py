"""MST-Distill: a mixture of specialized teachers for cross-modal distillation (arXiv:2507.07015, ACM MM 2025)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from tutelage.distill.base import mistake, own_stages
from tutelage.distill.parts.specialists import BestMasks, Specialist, layers_of
from tutelage.engine.method import Method, Result, Room, Step, Train, Turn
from tutelage.engine.terms import Losses
from tutelage.losses import cross_entropy, kl_divergence, load_balance, routed_divergence
from tutelage.models.inert import evaluating
from tutelage.models.rewriting import FeatureMask
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe
from tutelage.recipe.types import Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run

TEACHERS = ("teacher", "auxiliary")


class CoTraining(Method):
    """Stage 1: all three models learn from the labels and from each other; every pair pulls on both sides.

    Args:
        temperature: Of their divergences.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def turns(self) -> Sequence[Turn]:
        """One move of all."""
        return (Turn("co-training", self.together, trains=(*TEACHERS, "student")),)

    def together(self, step: Step) -> Losses:
        """``task``: cross-entropies of all; ``mutual``: divergences of all six ordered pairs, nothing detached."""
        said = {name: step.forward(name).logits for name in (*TEACHERS, "student")}
        task = [cross_entropy(logits, step.batch.labels) for logits in said.values()]
        mutual = [
            kl_divergence(said[one], said[other], temperature=self.temperature)
            for one in said
            for other in said
            if one != other
        ]
        return Losses(task=torch.stack(task).sum(0), mutual=torch.stack(mutual).sum(0))


class MaskTraining(Method):
    """Stage 2: masks in frozen teachers bring what they say closer to the frozen student, one masked layer at a time.

    Args:
        layers: Layers of each teacher, see `MSTDistill`.
        temperature: Of the divergence.
        heads: See `FeatureMask`.
        factor: See `FeatureMask`.
    """

    def __init__(self, layers: Mapping[str, Sequence[str]], *, temperature: float, heads: int, factor: int) -> None:
        super().__init__()
        self.layers, self.temperature, self.heads, self.factor = dict(layers), temperature, heads, factor
        self.specialists: list[Specialist] = []

    def setup(self, room: Room) -> None:
        """Find the layers and build a mask for each.

        Raises:
            InputError: A layer is missing, or what passes it cannot be masked.
        """
        self.specialists.clear()
        for name in TEACHERS:
            for place, example in layers_of(room, name, self.layers[name]).items():
                mask = FeatureMask(example, heads=self.heads, factor=self.factor).to(example.device)
                self.add_module(f"mask{len(self.specialists)}", mask)
                self.specialists.append(Specialist(name, place, mask))
            room.differentiate(name)

    def turns(self) -> Sequence[Turn]:
        """A move of each mask, with an optimiser of its own."""
        # Before the layers are known there is one turn, which says who is trained: only what the method owns.
        return [
            Turn(f"mask{i}", partial(self.specialise, i), trains=("method",), owns=(f"mask{i}",))
            for i in range(max(len(self.specialists), 1))
        ]

    def specialise(self, index: int, step: Step) -> Losses:
        """``divergence`` of a masked teacher from the student, who is the target."""
        said, student = self.specialists[index].logits(step), step.forward("student").logits.detach()
        return Losses(divergence=kl_divergence(said, student, temperature=self.temperature))


class Routing(Method):
    """Stage 3: a gate picks for each sample which specialised teachers the student learns from.

    Args:
        specialists: The teachers.
        owner: The method, whose numbers are used.
    """

    def __init__(self, specialists: Sequence[Specialist], owner: MSTDistill) -> None:
        super().__init__()
        self.specialists, self.k = list(specialists), owner.k
        self.temperature, self.balance, self.gate_weighted = owner.temperature, owner.balance, owner.gate_weighted
        self.w_task, self.w_kl, self.w_lb = owner.w_task, owner.w_kl, owner.w_lb
        self.masks = nn.ModuleList(one.mask for one in specialists).requires_grad_(False).eval()

    def setup(self, room: Room) -> None:
        """Build the gate: two linear maps without anything between them."""
        classes, teachers = room.look("student").logits.shape[-1], len(self.specialists)
        self.gate = nn.Sequential(nn.Linear(classes, 2 * classes), nn.Linear(2 * classes, teachers))

    def turns(self) -> Sequence[Turn]:
        """The student and the gate move together."""
        return (Turn("transfer", self.routed),)

    def gates(self, student: Tensor) -> Tensor:
        """``[batch, teachers]`` probabilities, from the student's logits."""
        gates: Tensor = self.gate(student).softmax(-1)
        return gates

    def routed(self, step: Step) -> Losses:
        """``w_task * CE + w_kl * divergence from the chosen + w_lb * balance``; the gate's input is not detached."""
        # Batch statistics of masks are those of their own training, whatever mode the method is put into.
        self.masks.eval()
        student = step.forward("student").logits
        said = torch.stack([one.logits(step) for one in self.specialists], 1)
        gates = self.gates(student)
        transfer = routed_divergence(
            student, said, gates, k=self.k, temperature=self.temperature, weighted=self.gate_weighted
        )
        terms = Losses(
            task=cross_entropy(student, step.batch.labels),
            transfer=transfer,
            balance=load_balance(gates, kind=self.balance),
        )
        return terms.weighted(task=self.w_task, transfer=self.w_kl, balance=self.w_lb)


@method("mst-distill", paper="arXiv:2507.07015", route="distill")
class MSTDistill(Method):
    """Teach a student of one modality by masked versions of a multimodal teacher and of one of the other modality.

    First all three learn together; then masks on layers of the two frozen teachers make specialised ones, whose
    outputs the student can reach; then a gate chooses for every sample whom the student learns from. Say by
    ``channels`` which modality a model sees. What is measured: whom the samples of each class are routed to, and what
    each specialised teacher knows.

    Args:
        teacher_layers: Taps of the multimodal teacher that get a mask; empty for its last two blocks.
        auxiliary_layers: Taps of the other teacher, likewise.
        mask_heads: Attention heads of a mask.
        hidden_dim_factor: How much narrower a mask's tokens are than the layer; a layer of d features needs about
            d³ / factor weights.
        k: How many specialised teachers a sample learns from.
        temperature: Of all divergences.
        w_task: Weight of the labels in the last stage.
        w_kl: Weight of the chosen teachers' divergence.
        w_lb: Weight of the gate's balance.
        balance: What unbalanced gates cost: ``kl`` from uniform, or the ``cv`` of their sums.
        gate_weighted: Multiply each divergence by its gate, so that the gate learns from it too; the released code
            does not.
        cotrain_epochs: Passes of the first stage; 0 leaves the teachers as they are.
        mask_epochs: Passes of the second stage. The third has those of ``train``.
    """

    slots: ClassVar[dict[str, str]] = {"teacher": "model", "auxiliary": "model", "student": "model", "data": "data"}

    def __init__(
        self,
        *,
        teacher_layers: tuple[str, ...] = (),
        auxiliary_layers: tuple[str, ...] = (),
        mask_heads: Annotated[int, Ge(1)] = 3,
        hidden_dim_factor: Annotated[int, Ge(1)] = 2,
        k: Annotated[int, Ge(1)] = 1,
        temperature: Annotated[float, Gt(0)] = 4.0,
        w_task: Annotated[float, Ge(0), Ramped()] = 1.0,
        w_kl: Annotated[float, Ge(0), Ramped()] = 1.0,
        w_lb: Annotated[float, Ge(0), Ramped()] = 1.0,
        balance: Literal["kl", "cv"] = "kl",
        gate_weighted: bool = False,
        cotrain_epochs: Annotated[int, Ge(0)] = 1,
        mask_epochs: Annotated[int, Ge(1)] = 1,
    ) -> None:
        super().__init__()
        self.layers = {"teacher": teacher_layers, "auxiliary": auxiliary_layers}
        self.mask_heads, self.hidden_dim_factor, self.k = mask_heads, hidden_dim_factor, k
        self.temperature, self.w_task, self.w_kl, self.w_lb = temperature, w_task, w_kl, w_lb
        self.balance, self.gate_weighted = balance, gate_weighted
        self.cotrain_epochs, self.mask_epochs = cotrain_epochs, mask_epochs
        self._routing: Routing | None = None

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """Teachers whose features cannot be rewritten, and a sequence of stages beside its own."""
        problems = own_stages(recipe, "mst-distill")
        if recipe.stages or recipe.method.name != "mst-distill":
            return problems
        for name in TEACHERS:
            spec = recipe.models.get(name)
            for key in ("cache", "store"):
                if spec is not None and spec.extras.get(key):
                    message = f"masks rewrite the {name}'s features, which it must be run for."
                    problems.append(mistake(spec, message, "Leave it out.", name, key))
        if recipe.train.compile:
            message = "masks are put into models that run, which compiled ones do not notice."
            problems.append(mistake(recipe.method, message, "Set `compile: false`.", "train", "compile"))
        if recipe.also:
            problems.append(mistake(recipe.method, "mst-distill has no term that others can join.", "", "also"))
        return problems

    def setup(self, room: Room) -> None:
        """Try masks and gate on models as they are, before anything is trained.

        Raises:
            InputError: The class counts differ, a layer is missing, or there are fewer masks than ``k``.
        """
        counts = {name: room.look(name).logits.shape[-1] for name in (*TEACHERS, "student")}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"the {name} {count}" for name, count in counts.items())
            raise InputError(f"mst-distill compares logits class by class, but the models name other classes: {said}")
        masks = self._masks()
        masks.setup(Room(room.modules, room.info, room.example, ()))
        if not max(2, self.k) <= len(masks.specialists):
            raise InputError(
                f"method.k: {self.k} of {len(masks.specialists)} specialised teachers cannot be chosen; "
                "name more layers, or a smaller k"
            )

    def _masks(self) -> MaskTraining:
        return MaskTraining(
            self.layers, temperature=self.temperature, heads=self.mask_heads, factor=self.hidden_dim_factor
        )

    def stages(self, run: Run) -> Iterator[Train]:
        """``co-training``, ``masks``, ``transfer``."""
        models = {name: run.source(name) for name in (*TEACHERS, "student")}
        train = run.recipe.train
        if self.cotrain_epochs:
            together = replace(train, epochs=self.cotrain_epochs)
            yield Train("co-training", CoTraining(self.temperature), models, together)
        masks = self._masks()
        best = BestMasks(masks.specialists, self.temperature)
        alone = replace(train, epochs=self.mask_epochs, groups=())
        yield Train("masks", masks, models, alone, callbacks=[best])
        self._routing = Routing(masks.specialists, self)
        yield Train("transfer", self._routing, models, train)

    @classmethod
    def epochs(cls, recipe: Recipe) -> int:
        """Those in which the student moves."""
        return int(recipe.method.args["cotrain_epochs"]) + recipe.train.epochs

    def results(self, run: Run) -> Sequence[Result]:
        """The student."""
        student = run.models["student"]
        return (Result("student", student, "recipient", (student,)),)

    # ------------------------------------------------------------------ what was found

    def findings(self, run: Run) -> Mapping[str, Any]:
        """``specialists``: what each knows and how many samples it got; ``routing``: of each class. On test samples."""
        assert self._routing is not None
        routing, classes = self._routing, run.splits.info.classes
        count = len(routing.specialists)
        chosen, totals, seen = torch.zeros(classes, count), torch.zeros(count, 4), 0
        for start in range(0, len(run.splits.test), 256):
            batch = run.splits.test.fetch(range(start, min(start + 256, len(run.splits.test))))
            batch = batch.to(run.accelerator.device)
            student = self._said(run.models["student"], batch.inputs)
            with torch.no_grad():
                picked = routing.gates(student).topk(routing.k, -1).indices
            for place, one in enumerate(routing.specialists):
                here = torch.bincount(batch.labels[(picked == place).any(-1)], minlength=classes)
                chosen[:, place] += here.cpu()
                totals[place] += self._about(one, run.models[one.teacher], batch.inputs, batch.labels, student)
            seen += len(batch)
        names = [one.name for one in routing.specialists]
        keys = ("cross_entropy", "accuracy", "from_student", "from_student_unmasked")
        specialists = [
            {"teacher": name, "share": chosen[:, i].sum().item() / seen}
            | {key: total / seen for key, total in zip(keys, totals[i].tolist(), strict=True)}
            for i, name in enumerate(names)
        ]
        table = [
            {"class": label, **{name: int(chosen[c, i]) for i, name in enumerate(names)}}
            for c, label in enumerate(run.splits.info.class_names)
        ]
        return {"specialists": specialists, "routing": table}

    @staticmethod
    def _said(module: nn.Module, inputs: Tensor) -> Tensor:
        with torch.no_grad(), evaluating(module):
            logits: Tensor = module(inputs)
        return logits

    def _about(self, one: Specialist, teacher: nn.Module, inputs: Tensor, labels: Tensor, student: Tensor) -> Tensor:
        """``[4]`` sums over samples, as in `findings`."""
        said, plain = one.predict(teacher, inputs), self._said(teacher, inputs)
        each = (
            cross_entropy(said, labels),
            (said.argmax(-1) == labels).float(),
            kl_divergence(said, student, temperature=self.temperature),
            kl_divergence(plain, student, temperature=self.temperature),
        )
        return torch.stack([values.sum() for values in each]).cpu()
