"""What methods share that trace knowledge: training on windows of answers, and measuring by predicted answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from tutelage.data.answers import AnswerBatch, AnswerWindows, TraceInfo
from tutelage.data.splits import Examples, Splits
from tutelage.engine.method import Finding, Method, Result, Step, Train, Turn
from tutelage.engine.terms import Losses
from tutelage.losses.tracing import answer_loss
from tutelage.measure.answers import by_concept, predictions
from tutelage.measure.scored import Scored
from tutelage.measure.tracing import Tracing
from tutelage.models.concept_mean import ConceptMean
from tutelage.models.inert import evaluating
from tutelage.models.outputs import Outputs
from tutelage.models.tracer import Tracer
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.spec import Recipe, Spec

if TYPE_CHECKING:
    from tutelage.engine.run import Run


class KnowledgeTracing(Method):
    """A model of learners is trained to predict their answers, and compared with the average of each concept.

    The control is how often a concept is answered rightly by all: a model that has learnt nothing of single learners.
    """

    slots: ClassVar[dict[str, str]] = {"model": "model", "data": "data"}
    learner: ClassVar[str] = "model"
    measured: ClassVar[str] = "answers"
    quality: ClassVar[str] = "auc"
    compared: ClassVar[bool] = False

    wanted: ClassVar[str] = ""
    """The model that it trains, by name; any that traces where none is named."""

    @classmethod
    def alone(cls, slot: str) -> Method:
        """The same training, of any model that traces."""
        plain = KnowledgeTracing()
        plain._slot = slot
        return plain

    def __init__(self) -> None:
        super().__init__()
        self._slot = self.learner

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """Another model than the method's own."""
        spec = recipe.slots.get(cls.learner)
        if not isinstance(spec, Spec) or spec.foreign or not cls.wanted or spec.name == cls.wanted:
            return []
        where = spec.place
        text = f"'{recipe.method.name}' trains the model '{cls.wanted}', not '{spec.name}'."
        hint = f"Use `model: {{model: {cls.wanted}}}`, or `method: {spec.name}`."
        return [Problem(text, (cls.learner,), where.file, where.line, where.column, hint)]

    # ------------------------------------------------------------------ training

    def turns(self) -> Sequence[Turn]:
        """One."""
        return (Turn("trace", self.fit, trains=(self._slot,)),)

    def fit(self, step: Step) -> Losses:
        """The loss over the step's answers; the engine divides by all that count in the whole step."""
        batch = step.batch
        assert isinstance(batch, AnswerBatch)
        return self.loss(step.forward(self._slot), batch).over(int(batch.scored.sum()))

    def loss(self, outputs: Outputs, batch: AnswerBatch) -> Losses:
        """Named terms, each a mean over the answers that count; ``task`` is how likely they were not."""
        return Losses(task=answer_loss(outputs.logits, batch.labels, batch.scored))

    # ------------------------------------------------------------------ work and results

    def stages(self, run: Run) -> Iterator[Train]:
        """One: the model on the windows."""
        log_of(run.splits)
        yield Train("trace", self, {self.learner: run.source(self.learner)}, run.recipe.train, validated=self.learner)

    def results(self, run: Run) -> Sequence[Result]:
        """The model, and the average of each concept."""
        found = [self.result(run.recipe.models[self.learner].name, run.models[self.learner], "recipient")]
        if run.recipe.baseline:
            mean = ConceptMean(log_of(run.splits))
            mean.count(windows_of(run.splits.train))
            found.append(Result("concept average", mean, "baseline", (mean,), ()))
        return found

    def result(self, name: str, model: nn.Module, role: str) -> Result:
        """Something that predicts answers."""
        assert role in ("recipient", "other")
        return Result(name, model, "recipient" if role == "recipient" else "other", (model,))

    def validate(self, model: nn.Module, examples: Examples, device: torch.device) -> Mapping[str, float]:
        """AUC, accuracy and NLL (as ``loss``) of the validation answers."""
        assert isinstance(model, Tracer)
        with evaluating(model):
            found = predictions(model, windows_of(examples), device)
        area = float(found.auc().mean()) if found.both else 0.5
        return {"auc": area, "accuracy": float(found.accuracy().mean()), "loss": float(found.nll().mean())}

    def scored(self, run: Run, result: Result) -> Scored:
        """Predictions of the test answers, as the recipe's ``tracing`` measure says, or as usual."""
        model = result.modules[0]
        assert isinstance(model, Tracer)
        with evaluating(model):
            return _asked(run).scored(result.name, model, windows_of(run.splits.test), run.accelerator.device)

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """Predictions apart by concept, the most frequent ones."""
        model = run.models[self.learner]
        assert isinstance(model, Tracer)
        with evaluating(model):
            found = _asked(run).answered(model, windows_of(run.splits.test), run.accelerator.device)
        return {"concepts": by_concept(found, log_of(run.splits).concept_names)[:20]}

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """``[batch, steps]`` logits."""
        logits: Tensor = model(inputs).logits
        return logits


class Fitted(KnowledgeTracing):
    """A model that is fitted at once, without steps: the recipe's ``train`` section is of no use to it."""

    def turns(self) -> Sequence[Turn]:
        """None: nothing is learnt by gradients."""
        return ()

    def stages(self, run: Run) -> Iterator[Train]:
        """None: the model is fitted before any could begin; a run that was killed fits it again, to the same end."""
        log_of(run.splits)
        run.listener.note("fitting to all training answers at once")
        self.fit_all(run.source(self.learner), windows_of(run.splits.train), run.recipe.seed)
        yield from ()

    def fit_all(self, model: nn.Module, train: AnswerWindows, seed: int) -> None:
        """Fit the model, in place."""
        raise NotImplementedError(f"{type(self).__name__} fits nothing")


def _asked(run: Run) -> Tracing:
    asked: Tracing = next((spec.build() for spec in run.recipe.measure if spec.name == "tracing"), Tracing())
    return asked


def log_of(splits: Splits) -> TraceInfo:
    """The facts of a data set of answers.

    Raises:
        InputError: It is none.
    """
    if not isinstance(splits.info, TraceInfo):
        raise InputError(
            "data: this method learns from learners' answers: use 'answers' with your file, or simulated "
            "ones such as 'learning-curves'"
        )
    return splits.info


def windows_of(examples: Examples) -> AnswerWindows:
    """Windows of answers; a choice among them stays one."""
    if isinstance(examples, AnswerWindows):
        return examples
    raise InputError("data: this method learns from windows of answers, which cannot be reshaped")
