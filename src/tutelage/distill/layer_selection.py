"""Layer selection: which teacher layer each student layer is matched to (arXiv:2502.04499)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.distill.base import LogitDistillation
from tutelage.distill.parts.features import Projector, as_map, as_tokens, map_grid, same_positions
from tutelage.distill.parts.layer_angles import Angles, Probe, angle_tables, angles_between, block_states, probe_states
from tutelage.engine.method import Room
from tutelage.engine.terms import Losses
from tutelage.losses import hidden_distance, kl_divergence, layer_map, select_layers
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped

if TYPE_CHECKING:
    from tutelage.engine.run import Run


@method("layer-selection", paper="arXiv:2502.04499", route="distill")
class LayerSelection(LogitDistillation):
    """Match hidden states beside labels and logits, by any of the study's strategies.

    State 0 is what enters the first block, state i + 1 what leaves block i. The study finds that the strategies hardly
    differ, while matching nothing is worse: run several, over several seeds, with everything else equal. Feature maps
    are compared position by position, the larger averaged down to the smaller; where only one of the models has tokens,
    they are laid out as maps. The report has the angles that the study explains its finding by.

    Args:
        strategy: ``forward``: teacher layers in order; ``reverse``: in reversed order; ``random``: in an order drawn
            once a run; ``all_to_one``: every student state to one teacher state; ``single``: one to one; ``none``.
        layer_map: Teacher block of each student block, instead of evenly spaced ones: the list that ``forward``,
            ``reverse`` and ``random`` put in order, and that copies are taken from.
        teacher_state: Teacher's state of ``all_to_one`` (null: the middle one) and ``single`` (null: the last one).
        student_state: Student's state of ``single``; null for the last one.
        hidden_weight: Weight of the hidden states' distance, averaged over pairs.
        kl_weight: Weight of the divergence of the outputs, at temperature 1.
        ce_weight: Weight of the label term.
        hidden_loss: ``mse``: squared distance summed over width; ``cosine``: one minus the cosine.
        per_batch: Divide the hidden states' distance by the number of samples once more, as the published code does.
        match_embeddings: Match state 0 too.
        student_init: ``copy``: start from the teacher's layers of the forward list, and what else has the same name
            and shape; ``copy_reversed``: from those layers in reversed order. The control without transfer does not
            get them, and a stage that goes on with an earlier one's student does not copy again.
        adapter: ``auto``: a linear map without bias where widths differ; ``none``: refuse such a pair.
        teacher_layers: Pattern of the teacher's blocks.
        student_layers: Pattern of the student's blocks.
    """

    def __init__(
        self,
        *,
        strategy: Literal["none", "forward", "reverse", "random", "all_to_one", "single"] = "forward",
        layer_map: list[Annotated[int, Ge(0)]] | None = None,
        teacher_state: Annotated[int, Ge(0)] | None = None,
        student_state: Annotated[int, Ge(0)] | None = None,
        hidden_weight: Annotated[float, Ge(0), Ramped()] = 3.0,
        kl_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        ce_weight: Annotated[float, Ge(0), Ramped()] = 1.0,
        hidden_loss: Literal["mse", "cosine"] = "mse",
        per_batch: bool = False,
        match_embeddings: bool = True,
        student_init: Literal["random", "copy", "copy_reversed"] = "random",
        adapter: Literal["auto", "none"] = "auto",
        teacher_layers: str = "blocks.*",
        student_layers: str = "blocks.*",
    ) -> None:
        super().__init__()
        self.strategy, self.layer_map = strategy, layer_map
        self.teacher_state, self.student_state = teacher_state, student_state
        self.hidden_weight, self.kl_weight, self.ce_weight = hidden_weight, kl_weight, ce_weight
        self.hidden_loss, self.per_batch, self.match_embeddings = hidden_loss, per_batch, match_embeddings
        self.student_init, self.adapter = student_init, adapter
        self.layers = {"teacher": teacher_layers, "student": student_layers}
        self.pairs: tuple[tuple[int, int], ...] = ()
        self.grids: dict[str, tuple[int, int] | None] = {}

    def setup(self, room: Room) -> None:
        """Find the blocks, choose the pairs, copy weights where asked, and build the adapters.

        Raises:
            InputError: A pattern matches nothing, the map does not fit, or widths differ without an adapter.
        """
        super().setup(room)
        self.states = {name: block_states(room.modules[name], glob) for name, glob in self.layers.items()}
        depth = {name: len(states) - 1 for name, states in self.states.items()}
        try:
            self.pairs = self._choose(depth["teacher"], depth["student"])
            # A later stage goes on with the student that the earlier one trained.
            if self.student_init != "random" and not room.continues:
                order = self._order(depth["teacher"], depth["student"])
                blocks = {name: states[1:] for name, states in self.states.items()}
                _copy(room.modules, blocks, order[::-1] if self.student_init == "copy_reversed" else order)
        except ValueError as error:
            raise InputError(f"method: {error}") from error
        for name in ("teacher", "student"):
            room.tap(name, *self.states[name])
        self.grids = self._grids(room)
        shown = {name: self._captures(room.look(name), name) for name in ("teacher", "student")}
        adapters = {}
        for ours, theirs in self.pairs:
            projector = Projector(shown["student"][ours], shown["teacher"][theirs], bias=False)
            if self.adapter == "none" and not isinstance(projector.map, nn.Identity):
                raise InputError(
                    f"method.adapter: student state {ours} and teacher state {theirs} have different widths; use 'auto'"
                )
            adapters[str(ours)] = projector
        self.adapters = nn.ModuleDict(adapters)

    def _order(self, teacher: int, student: int) -> tuple[int, ...]:
        """The forward list: the teacher block of each student block."""
        if self.layer_map is None:
            return layer_map(teacher, student)
        if len(self.layer_map) != student or max(self.layer_map) >= teacher:
            raise ValueError(
                f"layer_map {list(self.layer_map)} must name a teacher block, 0 to {teacher - 1}, for each of the "
                f"{student} student blocks"
            )
        return tuple(self.layer_map)

    def _choose(self, teacher: int, student: int) -> tuple[tuple[int, int], ...]:
        listed = self.strategy in ("forward", "reverse", "random")
        order = self._order(teacher, student) if listed or self.layer_map is not None else ()
        # Set-up runs under a seed of its own, so the order is drawn once a run, and is the same when it is resumed.
        generator = torch.Generator().manual_seed(torch.initial_seed())
        pairs = select_layers(
            self.strategy,
            # In place of the teacher's blocks, the places in the list are put in order.
            student if listed else teacher,
            student,
            generator,
            match_embeddings=self.match_embeddings,
            teacher_state=None if listed else self.teacher_state,
            student_state=self.student_state,
        )
        if not listed:
            return pairs
        return tuple((ours, order[place - 1] + 1 if place else 0) for ours, place in pairs)

    def _captures(self, outputs: Outputs, name: str) -> list[Tensor]:
        return [as_map(outputs.taps[state], self.grids.get(name)) for state in self.states[name]]

    def _grids(self, room: Room) -> dict[str, tuple[int, int] | None]:
        """Where tokens lie, if only one of the models has tokens."""
        last = {name: room.look(name).taps[states[-1]] for name, states in self.states.items()}
        if {one.ndim for one in last.values()} != {3, 4}:
            return {}
        return {name: map_grid(room, name, one, f"method.{name}_layers") for name, one in last.items()}

    def matched(self, student: Outputs, teacher: Outputs) -> list[tuple[Tensor, Tensor]]:
        """Pairs of hidden states ``[batch, tokens, width]``, the student's in the teacher's width."""
        ours, theirs = self._captures(student, "student"), self._captures(teacher, "teacher")
        return [self._pair(self.adapters[str(i)](ours[i]), theirs[j].detach()) for i, j in self.pairs]

    @staticmethod
    def _pair(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        first, second = same_positions(ours, theirs)
        return as_tokens(first), as_tokens(second)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``ce * CE + kl * KL + hidden * mean over pairs of the distance``."""
        terms = self.task(student, batch) | Losses(transfer=kl_divergence(student.logits, teacher.logits))
        terms = terms.weighted(task=self.ce_weight, transfer=self.kl_weight)
        if not self.pairs:
            return terms
        apart = [hidden_distance(a, b, kind=self.hidden_loss).mean(-1) for a, b in self.matched(student, teacher)]
        weight = self.hidden_weight / len(batch) if self.per_batch else self.hidden_weight
        return terms | Losses(hidden=torch.stack(apart).mean(0)).weighted(hidden=weight)

    def angles(self, student: Outputs, teacher: Outputs, mask: Tensor | None = None) -> Angles:
        """The angles from the matched student states, through their adapters, to pairs of matched teacher states.

        Args:
            student: With the method's taps.
            teacher: With the method's taps.
            mask: ``[batch, tokens]``, true for real tokens; ``None``: all are.
        """
        ours, theirs = self._captures(student, "student"), self._captures(teacher, "teacher")
        return angles_between(
            {i: self.adapters[str(i)](ours[i]) for i, _ in self.pairs},
            {j: theirs[j] for j in sorted({j for _, j in self.pairs})},
            mask,
        )

    def findings(self, run: Run) -> Mapping[str, Any]:
        """What the strategies have in common: angles and ways on test samples, before training and after."""
        if not self.pairs:
            return {}
        few = run.splits.test.fetch(range(min(256, len(run.splits.test)))).to(run.accelerator.device)
        teacher, probes = run.models["teacher"], {}
        for when, student in (("start", run.fresh("student")), ("end", run.models["student"])):
            room = Room(
                {"teacher": teacher, "student": student.to(few.inputs.device)}, run.splits.info, few, ("student",)
            )
            method = self
            if when == "start":
                # Set up anew for adapters, and copied weights, as they were; a random order stays what it was.
                method = copy.deepcopy(self)
                method.setup(room)
                method.to(few.inputs.device)
                method.pairs = self.pairs
            for name in ("teacher", "student"):
                room.tap(name, *method.states[name])
            probes[when] = method.probe(room.look("student"), room.look("teacher"))
        return angle_tables(probes["start"], probes["end"])

    @torch.no_grad()
    def probe(self, student: Outputs, teacher: Outputs) -> Probe:
        """Angles from every matched student state to all pairs of teacher states of its width, and matched ways."""
        ours, theirs = self._captures(student, "student"), self._captures(teacher, "teacher")
        seen = [(i, j, self.adapters[str(i)](ours[i])) for i, j in self.pairs]
        return probe_states(seen, dict(enumerate(theirs)))


def _copy(modules: Mapping[str, nn.Module], blocks: Mapping[str, Sequence[str]], order: Sequence[int]) -> None:
    """The teacher blocks of a list, and everything outside the blocks that has the same name and shape."""
    teacher, student = modules["teacher"], modules["student"]
    for path, block in zip(blocks["student"], order, strict=True):
        source = teacher.get_submodule(blocks["teacher"][block]).state_dict()
        target = student.get_submodule(path).state_dict()
        if source.keys() != target.keys() or any(source[k].shape != target[k].shape for k in source):
            raise ValueError(
                f"student_init: the student's '{path}' is not built like the teacher's blocks, so cannot copy one"
            )
        student.get_submodule(path).load_state_dict(source)
    inside = tuple(f"{path}." for path in blocks["student"])
    own, theirs = student.state_dict(), teacher.state_dict()
    for name, tensor in own.items():
        if not name.startswith(inside) and name in theirs and theirs[name].shape == tensor.shape:
            own[name] = theirs[name]
    student.load_state_dict(own)
