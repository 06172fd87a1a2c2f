"""Methods, models and callbacks of the engine's tests, installed as a plugin is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.splits import Splits
from tutelage.engine.callbacks import Callback
from tutelage.engine.method import Method, Result, Room, Step, Train, Turn
from tutelage.engine.run import Run
from tutelage.engine.sampler import Sampler
from tutelage.engine.terms import Losses
from tutelage.losses import cross_entropy
from tutelage.measure import Number, Scored
from tutelage.models.outputs import Outputs
from tutelage.recipe.registry import component, method


@component("augment", "trial-spoil")
class Spoil:
    """Puts a value that is not finite into one sample's input."""

    def __init__(self, *, sample: int, value: str = "nan") -> None:
        self.sample, self.value = sample, float(value)

    def __call__(self, batch: Batch) -> Batch:
        inputs = batch.inputs.clone()
        inputs[batch.ids == self.sample] = self.value
        return batch.with_(inputs=inputs)


class _OneStage(Method):
    slots: ClassVar[dict[str, str]] = {"student": "model", "data": "data"}

    def stages(self, run: Run) -> Iterator[Train]:
        yield Train("train", self, {"student": run.source("student")}, run.recipe.train)

    def results(self, run: Run) -> Sequence[Result]:
        student = run.models["student"]
        return (Result("student", lambda x: self.predict(student, x), "recipient", (student,)),)


@method("trial-exploding", paper="https://example.org", route="distill")
class Exploding(_OneStage):
    """Its loss, or its gradient alone, is not finite from one step on."""

    def __init__(self, *, at: int, gradient: bool = False) -> None:
        super().__init__()
        self.at, self.gradient = at, gradient

    def turns(self) -> Sequence[Turn]:
        return (Turn("learn", self.look, trains=("student",)),)

    def look(self, step: Step) -> Losses:
        logits = step.forward("student").logits
        task = cross_entropy(logits, step.batch.labels)
        wild = logits.mean() * 0.0
        if step.index >= self.at:
            # The root has an infinite slope at zero.
            head = step.participants["student"].module.head.bias
            wild = (head - head.detach()).abs().sqrt().sum() if self.gradient else wild + float("inf")
        return Losses(task=task, wild=wild)


@method("trial-projected", paper="https://example.org", route="distill")
class Projected(_OneStage):
    """Owns a layer, made while it sets up, through which the student predicts; and remembers what it did."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def setup(self, room: Room) -> None:
        room.tap("student", "embedding")
        width = room.look("student").taps["embedding"].shape[-1]
        self.projector = nn.Linear(width, room.info.classes)

    def turns(self) -> Sequence[Turn]:
        return (Turn("learn", self.look),)

    def look(self, step: Step) -> Losses:
        return Losses(task=cross_entropy(self.projector(step.forward("student").taps["embedding"]), step.batch.labels))

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return self.projector(model.blocks(model.flatten(inputs)))

    def after_step(self, step: Step) -> None:
        self.seen += 1


@method("trial-game", paper="https://example.org", route="distill")
class Game(_OneStage):
    """Two turns: a critic tells the student's predictions from the labels, and the student learns to fool it."""

    slots: ClassVar[dict[str, str]] = {"student": "model", "critic": "model", "data": "data"}

    def __init__(self, *, weight: float = 0.1) -> None:
        super().__init__()
        self.weight = weight

    def setup(self, room: Room) -> None:
        self.classes = room.info.classes
        self.log: list[str] = []

    def turns(self) -> Sequence[Turn]:
        return (
            Turn("critic", self.judge, trains=("critic",)),
            Turn("student", self.deceive, trains=("student",)),
        )

    def _pictures(self, batch: Batch, answer: Tensor) -> Tensor:
        # The critic sees the answer in the first pixels of the image.
        flat = batch.inputs.flatten(1)
        return torch.cat([answer, flat[:, self.classes :]], 1).view_as(batch.inputs)

    def judge(self, step: Step) -> Losses:
        # Not detached: what reaches the student here must not move it.
        answer = step.forward("student").logits.softmax(-1)
        true = nn.functional.one_hot(step.batch.labels, self.classes).float()
        critic = step.participants["critic"]
        inputs = torch.cat([self._pictures(step.batch, answer), self._pictures(step.batch, true)])
        told = critic.forward(inputs).logits
        target = torch.arange(2).repeat_interleave(len(step.batch))
        return Losses(judge=cross_entropy(told, target))

    def deceive(self, step: Step) -> Losses:
        logits = step.forward("student").logits
        told = step.participants["critic"].forward(self._pictures(step.batch, logits.softmax(-1))).logits
        fooled = cross_entropy(told, torch.ones(len(step.batch), dtype=torch.int64))
        return Losses(task=cross_entropy(logits, step.batch.labels), fooled=fooled).weighted(fooled=self.weight)

    def stages(self, run: Run) -> Iterator[Train]:
        models = {"student": run.source("student"), "critic": run.source("critic")}
        yield Train("train", self, models, run.recipe.train)


@component("callback", "trial-watch")
class Watch(Callback):
    """Notes for every step what a test wants to look at, in a list of the class."""

    noted: ClassVar[list[dict[str, Any]]] = []

    def stepped(self, trainer: Any, step: Step) -> None:
        self.noted.append(
            {
                "stage": trainer.stage.name,
                "step": step.index,
                "ids": step.batch.ids.tolist(),
                "seeds": step.batch.seeds.tolist(),
                "rates": [group["lr"] for group in trainer.movers[0].optimizer.param_groups],
                "temperature": getattr(trainer.method, "temperature", None),
                "inputs": step.batch.inputs.clone(),
            }
        )


@component("callback", "trial-scores")
class Scores(Callback):
    """Replaces what validation says, for the callbacks after it, so that a test decides which epoch is best.

    Args:
        losses: One for each epoch; a negative one stands for what is no number.
    """

    def __init__(self, *, losses: list[float]) -> None:
        self.losses = [loss if loss >= 0 else float("nan") for loss in losses]

    def validated(self, trainer: Any, epoch: int, scores: Mapping[str, float]) -> None:
        assert isinstance(scores, dict)
        scores.update(loss=self.losses[epoch], accuracy=1.0 - self.losses[epoch])
        Snapshots.kept.append({k: v.clone() for k, v in trainer.subject.state_dict().items()})


class Snapshots:
    """Weights at the ends of epochs."""

    kept: ClassVar[list[dict[str, Tensor]]] = []


@component("model", "trial-norm")
class NormNet(nn.Module):
    """A frozen part with batch normalisation, and a head."""

    standard_taps: ClassVar[dict[str, str]] = {"embedding": "head:input", "features": "body", "classifier": "head"}

    def __init__(self, data: DataInfo, /) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.head = nn.Linear(16, data.classes)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(inputs))
        return logits


@component("sampler", "trial-twice")
class Twice(Sampler):
    """Every sample of the batch twice."""

    seen: ClassVar[list[tuple[int, int]]] = []

    def sample(self, step: Step) -> Batch:
        one = step.batch
        both = Batch(*(torch.cat([field, field]) for field in (one.inputs, one.labels, one.ids, one.seeds)))
        self.seen.append((len(one), len(both)))
        return both


@dataclass(frozen=True)
class Lengths(Batch):
    """Sequences, and how many of their values count."""

    lengths: Tensor

    @property
    def arguments(self) -> tuple[Tensor, ...]:
        return self.inputs, self.lengths


@dataclass(frozen=True)
class SequenceInfo(DataInfo):
    @property
    def classified(self) -> bool:
        return False


class Sequences:
    """Values of a line through the origin, of which the first ``lengths`` count and the others are wrong."""

    def __init__(self, count: int, first: int) -> None:
        self.ids = torch.arange(first, first + count)

    def __len__(self) -> int:
        return len(self.ids)

    def fetch(self, indices: Any) -> Lengths:
        ids = self.ids[torch.as_tensor(indices)]
        inputs = torch.stack([torch.sin(ids + k) for k in range(1, 5)], 1)
        lengths = ids % 5
        valid = torch.arange(4) < lengths[:, None]
        return Lengths(inputs, torch.where(valid, 3 * inputs, 99.0), ids, torch.zeros_like(ids), lengths)


@component("data", "trial-sequences")
class SequenceData:
    """Data without classes."""

    def load(self, seed: int) -> Splits:
        info = SequenceInfo((4,), 0, (), "trial")
        return Splits(Sequences(30, 0), Sequences(10, 100), Sequences(20, 200), info)


@dataclass(frozen=True)
class Slopes(Outputs):
    slope: Tensor | None = None


@component("model", "trial-slope")
class Slope(nn.Module):
    """Multiplies by a number; says which."""

    def __init__(self, info: DataInfo, *, start: float = 1.0) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([start]))

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Slopes:
        return Slopes(inputs * self.slope, slope=self.slope)


class _Valid(Method):
    """Mean squared error of the values that count."""

    measured: ClassVar[str] = "lines"
    quality: ClassVar[str] = "error"
    learner: ClassVar[str] = "model"
    slots: ClassVar[dict[str, str]] = {"teacher": "model", "model": "model", "data": "data"}

    def error(self, batch: Lengths, output: Outputs) -> Tensor:
        assert isinstance(output, Slopes)
        return (output.logits - batch.labels).square() * (torch.arange(4) < batch.lengths[:, None])

    def turns(self) -> Sequence[Turn]:
        return (Turn("fit", self.fit, trains=(self.learner,)),)

    def fit(self, step: Step) -> Losses:
        assert isinstance(step.batch, Lengths)
        count = int(step.batch.lengths.sum())
        return Losses(error=self.error(step.batch, step.forward(self.learner)).sum() / max(count, 1)).over(count)

    @classmethod
    def alone(cls, slot: str) -> Method:
        return Fitting(slot)

    def validate(self, model: nn.Module, examples: Any, device: torch.device) -> dict[str, float]:
        batch = examples.fetch(range(len(examples)))
        with torch.no_grad():
            return {"error": float(self.error(batch, model(*batch.arguments)).mean())}

    def scored(self, run: Run, result: Result) -> Scored:
        batch = run.splits.test.fetch(range(len(run.splits.test)))
        with torch.no_grad():
            error = self.error(batch, result.modules[0](*batch.arguments)).sum(1)
        share = {"share": Number(0.5)}
        return Scored(
            result.name,
            batch.ids,
            {"quality": {"error": error}},
            {"retention": share},
            lower_is_better=frozenset({"error"}),
            right=error < 1.0,
        )


class Fitting(_Valid):
    """Of one model."""

    def __init__(self, slot: str) -> None:
        super().__init__()
        self.slot = slot

    def turns(self) -> Sequence[Turn]:
        return (Turn("fit", lambda step: self.near(step), trains=(self.slot,)),)

    def near(self, step: Step) -> Losses:
        assert isinstance(step.batch, Lengths)
        count = int(step.batch.lengths.sum())
        return Losses(error=self.error(step.batch, step.forward(self.slot)).sum() / max(count, 1)).over(count)


@method("trial-lines", paper="https://example.org", route="distill")
class Lines(_Valid):
    """A line learnt from values, and from a teacher's."""

    def stages(self, run: Run) -> Iterator[Train]:
        models = {"teacher": run.source("teacher"), "model": run.source("model")}
        yield Train("lines", self, models, run.recipe.train, validated="model")

    def results(self, run: Run) -> Sequence[Result]:
        model = run.models["model"]
        return (Result("model", lambda x: model(x).logits, "recipient", (model,)),)
