"""What the engine asks of a method: participants, turns, losses, and a few hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.loader import micro
from tutelage.data.splits import Examples
from tutelage.engine.predicting import predict, score
from tutelage.engine.storing import Keeping
from tutelage.engine.terms import Losses
from tutelage.models.outputs import Outputs
from tutelage.models.participant import Participant, observing
from tutelage.models.remembered import Remembered
from tutelage.models.stored import Stored
from tutelage.recipe.errors import Problem
from tutelage.recipe.spec import Recipe, Spec, TrainSection

if TYPE_CHECKING:
    from tutelage.engine.run import Run
    from tutelage.measure.scored import Scored


Finding = Any
"""A number, one with an interval (a `tutelage.measure.Number`), a text, or a table: mappings with the same keys."""


Answering = Participant | Remembered | Stored
"""A model of a stage: itself, or the answers that were kept of it."""


@dataclass(frozen=True)
class Step:
    """One optimiser step as a method sees it.

    Args:
        batch: This process's samples, or the part of them that is being accumulated.
        participants: The stage's models by name.
        index: Optimiser steps done before it, in its stage.
        epoch: Passes over the data done before it, in its stage.
        progress: Share of the stage's steps done before it, in [0, 1).
        training: False while a loss is only looked at.
        pools: A batch from each of the stage's pools, by name.
        repeat: How often the turn has moved in this step before.
    """

    batch: Batch
    participants: Mapping[str, Answering]
    index: int
    epoch: int
    progress: float
    training: bool = True
    pools: Mapping[str, Batch] = field(default_factory=dict)
    repeat: int = 0

    def forward(self, name: str) -> Outputs:
        """A participant's outputs for the batch; frozen participants run without a graph."""
        return self.participants[name](self.batch)

    def parts(self, count: int) -> list[Step]:
        """The same step in parts, for gradient accumulation."""
        if count == 1:
            return [self]
        pools = {name: micro(batch, count) for name, batch in self.pools.items()}
        return [
            replace(self, batch=part, pools={name: pieces[i % len(pieces)] for name, pieces in pools.items()})
            for i, part in enumerate(micro(self.batch, count))
        ]

    def on(self, batch: Batch) -> Step:
        """The same step on other samples."""
        return replace(self, batch=batch)


@dataclass(frozen=True)
class Turn:
    """One optimiser's move inside a step.

    Args:
        name: Names its losses in logs and its state in checkpoints.
        loss: What is minimised, from the step.
        trains: Participants that it updates; ``"method"`` stands for the modules that the method owns.
        owns: Of what the method owns, only the modules of these names; empty for all of it.
        scales: Factors on the learning rate, by participant.
        optimizer: Makes its optimiser from parameter groups, instead of the recipe's.
        times: How often it moves in a step; the loss is asked for each time.
        when: Whether it moves in a step at all; every process must say the same.
    """

    name: str
    loss: Callable[[Step], Losses]
    trains: tuple[str, ...] = ("student", "method")
    owns: tuple[str, ...] = ()
    scales: Mapping[str, float] = field(default_factory=dict)
    optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer] | None = None
    times: int = 1
    when: Callable[[Step], bool] | None = None


class Room:
    """What a method sees while it sets up a stage: the models, and taps to place in them.

    Args:
        modules: The stage's models by name.
        info: Facts about the data.
        example: A few samples, to learn the shapes of what taps capture.
        trainable: Names of the models that are trained.
        continues: Whether an earlier stage has trained these models, so that starting them anew would undo it.
        examples: What is trained on, for those who keep something of each sample; ``None`` where nobody trains.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        info: DataInfo,
        example: Batch,
        trainable: Sequence[str],
        *,
        continues: bool = False,
        examples: Examples | None = None,
    ) -> None:
        self.modules = modules
        self.examples = examples
        self.continues = continues
        self.info = info
        self.example = example
        self.trainable = tuple(trainable)
        self._taps: dict[str, list[str]] = {name: [] for name in modules}
        self.differentiated: set[str] = set()

    def tap(self, name: str, *paths: str) -> None:
        """Ask for captures: a standard tap (``embedding``, ``features``), a dotted path or a glob."""
        self._taps[name].extend(path for path in paths if path not in self._taps[name])

    def differentiate(self, name: str) -> None:
        """Ask that a frozen model's forwards keep their graph, for gradients of its inputs and captures."""
        self.differentiated.add(name)

    def taps(self, name: str) -> tuple[str, ...]:
        """What was asked of a model so far."""
        return tuple(self._taps[name])

    def look(self, name: str) -> Outputs:
        """A model's outputs for the example, without a graph and without moving its statistics.

        Raises:
            InputError: A tap matches nothing; the text lists the nearest real ones.
        """
        with observing(name, self.modules[name], self.taps(name), example=self.example.inputs) as participant:
            return participant(self.example)


@dataclass(frozen=True)
class Result:
    """Something a finished method can be asked to predict with.

    Args:
        name: As the report calls it.
        predict: ``[batch, *input_shape]`` to ``[batch, classes]`` logits.
        role: ``recipient`` for the one that the report is about, ``other`` for the rest of what a method makes.
        modules: The models behind it, for its cost; the first is what the run hands on. None where what came out is
            no model: the method then keeps it itself.
        stages: The stages that made it, for its cost; ``None`` for all that the method did.
        spec: How its first model is built again, where that is not what the recipe's student says.
    """

    name: str
    predict: Callable[[Tensor], Tensor]
    role: Literal["recipient", "other", "source", "baseline"]
    modules: tuple[nn.Module, ...]
    stages: tuple[str, ...] | None = None
    spec: Spec | None = None


@dataclass(frozen=True)
class Train:
    """A stage of kind ``train``: the loop over the data.

    Args:
        name: Names its folder, logs and randomness.
        method: Whose turns and hooks are run.
        models: Participants by name; trained in place.
        settings: How to optimise.
        validated: The participant that validation looks at.
        stream: Names the order of the data and the augmentations; stages of equal stream and seed see the same.
        continues: The earlier stage whose optimiser state and step count go on, if any.
        remembered: Frozen participants that are asked about each sample once.
        stored: Frozen participants whose logits of each view are kept on disk.
        views: How many views of a sample there are; ``None``: each epoch shows new ones.
        cache: Content key under which the trained models are kept and found again, if any.
        examples: What it trains on; ``None`` for the data's training split.
        pools: Further examples by name: a batch of each comes with every step.
    """

    name: str
    method: Method
    models: Mapping[str, nn.Module]
    settings: TrainSection
    validated: str = "student"
    stream: str = "data"
    continues: str | None = None
    remembered: frozenset[str] = frozenset()
    stored: Mapping[str, Keeping] = field(default_factory=dict)
    views: int | None = None
    cache: str | None = None
    callbacks: Sequence[object] = field(default_factory=tuple)
    examples: Examples | None = None
    pools: Mapping[str, Examples] = field(default_factory=dict)


class Method(nn.Module):
    """One way of carrying knowledge.

    A method is a module so that what it owns (projectors, banks) is trained, moved, saved and resumed like any model.
    Its constructor's keyword-only arguments are its recipe keys.
    """

    slots: ClassVar[dict[str, str]] = {}

    learner: ClassVar[str] = "student"
    """The slot whose model is trained, saved and reported."""

    starts: ClassVar[dict[str, str]] = {}
    """What a starter recipe names in its slots, and as its ``measure``, where the usual ones would not fit."""

    measured: ClassVar[str] = "classes"
    """What is measured of its models: measures whose ``subject`` is another cannot be asked for."""

    quality: ClassVar[str] = "accuracy"
    """The quality that says what arrived."""

    compared: ClassVar[bool] = True
    """Whether the student's twin that learns from labels alone is something to compare with."""

    student_knows: ClassVar[bool] = False
    """Whether the student must come with knowledge of its own, so that a starter recipe gives it weights."""

    sources: ClassVar[tuple[str, ...] | None] = None
    """Slots of the models that teach, whom the report shows beside the student; ``None`` for all but the student."""

    sampled: ClassVar[bool] = False
    """Whether a recipe's ``sampler`` can give the batches that its models are compared on."""

    hard_labels: ClassVar[bool] = False
    """Whether it needs class indices, so that labels may not be mixed."""

    makes_inputs: ClassVar[bool] = False
    """Whether it shows models inputs that are not the data's, of which no answers can have been kept."""

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """Mistakes that only this method can see in a recipe whose parts are all valid."""
        return []

    @classmethod
    def epochs(cls, recipe: Recipe) -> int:
        """Passes over the data that the method makes with the student: what `check` estimates from."""
        return sum(stage.train.epochs for stage in recipe.stages) or recipe.train.epochs

    @classmethod
    def alone(cls, slot: str) -> Method:
        """What trains a slot's model from the data alone: sources that are trained on the spot, and the control."""
        from tutelage.engine.supervised import LabelTraining

        return LabelTraining(slot)

    def survey(self, run: Run) -> None:
        """Before a stage of it is set up: learn what takes a pass over all training samples; the sources are ready."""

    def setup(self, room: Room) -> None:
        """Place taps and build modules that depend on the models; called once a stage, before anything moves."""

    def prepare(self, room: Room) -> None:
        """What the engine calls: `setup`, and that of the parts which a recipe put into the method."""
        self.setup(room)

    def turns(self) -> Sequence[Turn]:
        """The moves of a step, in order."""
        raise NotImplementedError(f"{type(self).__name__} declares no turns")

    def stages(self, run: Run) -> Iterator[Train]:
        """The work in order; what a stage trains is trained when the generator goes on."""
        raise NotImplementedError(f"{type(self).__name__} declares no stages")

    def before(self, run: Run) -> Result | None:
        """The recipient as it was, where that is no weights which the recipe names; once the stages are done."""
        return None

    def results(self, run: Run) -> Sequence[Result]:
        """What came out, once the stages are done."""
        raise NotImplementedError(f"{type(self).__name__} declares no results")

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """What it measured itself, by name, for the report; called once the stages are done."""
        return {}

    def keep(self, run: Run, folder: Path) -> None:
        """Write what belongs beside the model into its folder; called once it is saved, by the first process."""

    def pictures(self, run: Run) -> Sequence[Mapping[str, Any]]:
        """Pictures of its own for the report, as data: see `tutelage.report.drawings`; once the stages are done."""
        return ()

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """``[batch, classes]`` logits of a trained participant; methods that change its head override this."""
        logits: Tensor = model(inputs)
        return logits

    def validate(self, model: nn.Module, examples: Examples, device: torch.device) -> Mapping[str, float]:
        """Numbers by name that decisions in the middle of training are made on, of a model as it is now."""
        return score(predict(lambda inputs: self.predict(model, inputs), (model,), examples, device))

    def scored(self, run: Run, result: Result) -> Scored | None:
        """What a model does on the reported split, where it is no list of logits for classes; ``None`` where it is."""
        return None

    def before_step(self, step: Step) -> None:
        """Before any turn of a step."""

    def after_backward(self, step: Step, turn: Turn) -> None:
        """Gradients of the whole step are there and nothing has moved: edit them here."""

    def after_step(self, step: Step) -> None:
        """All turns have moved: fix-ups such as moving averages."""

    def epoch_ended(self, epoch: int) -> None:
        """After an epoch's last step."""

    def validated(self, scores: Mapping[str, float]) -> None:
        """After the look at the validation split that ends an epoch; not called where there is none."""
