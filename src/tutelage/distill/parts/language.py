"""What the methods for language models share: texts, divergences of next tokens, and what is measured of a student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.data.splits import Examples
from tutelage.data.tokens import TokenBatch
from tutelage.distill.base import Distillation, mistake
from tutelage.engine.method import Method, Result, Room, Step, Turn
from tutelage.engine.terms import Losses
from tutelage.losses.positions import scored as places_of
from tutelage.losses.projected import Head, projected_loss
from tutelage.losses.tokens import Divergence, DivergenceName
from tutelage.measure.scored import Scored
from tutelage.models.causal_lm import CausalLM
from tutelage.models.outputs import Outputs
from tutelage.models.token_outputs import TokenOutputs
from tutelage.recipe.errors import InputError, Problem
from tutelage.recipe.registry import registry
from tutelage.recipe.spec import Recipe, Spec

if TYPE_CHECKING:
    from tutelage.engine.run import Run

_TEXTS = 16


def heads(batch: Batch, *outputs: Outputs) -> tuple[list[Head], Tensor]:
    """Of each model the states at positions that count, and its output matrix; and the ``[valid]`` tokens scored there.

    Nobody makes logits of them: the losses take them in pieces.
    """
    assert isinstance(batch, TokenBatch)
    places, tokens = places_of(batch.inputs, batch.mask)
    found = []
    for one in outputs:
        assert isinstance(one, TokenOutputs)
        found.append(Head(one.hidden.flatten(0, 1)[places], one.weight, one.bias))
    return found, tokens


class TextTraining(Method):
    """Minimise the cross-entropy of one participant's next tokens.

    Args:
        participant: Its name.
    """

    def __init__(self, participant: str) -> None:
        super().__init__()
        self.participant = participant

    def turns(self) -> Sequence[Turn]:
        """One."""
        return (Turn("train", self.task, trains=(self.participant,)),)

    def task(self, step: Step) -> Losses:
        """Mean over the tokens that are to be learnt."""
        (own,), tokens = heads(step.batch, step.forward(self.participant))
        return Losses(task=projected_loss(own, labels=tokens).loss).over(len(tokens))

    def validate(self, model: nn.Module, examples: Examples, device: torch.device) -> Mapping[str, float]:
        """Mean cross-entropy of a token, and the share of tokens that are likeliest."""
        return look(model, examples, device)


def look(model: nn.Module, examples: Examples, device: torch.device) -> dict[str, float]:
    """Mean cross-entropy of a token, and the share of tokens that are likeliest."""
    from tutelage.measure.texts import read

    found = read(model, None, examples, device)
    return {"loss": float(found.losses.mean()), "accuracy": float(found.right.float().mean())}


def written_anew(recipe: Recipe, anew: bool) -> list[Problem]:
    """The problem of a teacher that remembers answers while the student, or somebody, writes others."""
    teacher = recipe.slots.get("teacher")
    if not anew or not isinstance(teacher, Spec) or not teacher.extras.get("cache"):
        return []
    text = "what the teacher made of each text is kept, but it is asked about texts that are written anew."
    return [mistake(teacher, text, "Leave out `cache`, or let nobody write.", "teacher", "cache")]


class LanguageDistillation(Distillation):
    """A student's next tokens are brought close to a teacher's, on texts that the data or a sampler gives.

    Args:
        divergence: Between the two distributions of a token, see `Divergence`.
        beta: Of ``jsd``.
        alpha: Of the skewed divergences.
        temperature: Of both sides of the divergence.
        task_weight: Weight of the cross-entropy with the data's own tokens, beside one minus it for the divergence.
    """

    measured: ClassVar[str] = "tokens"
    quality: ClassVar[str] = "nll"

    def __init__(
        self,
        *,
        divergence: DivergenceName = "forward-kl",
        beta: float = 0.5,
        alpha: float = 0.1,
        temperature: float = 1.0,
        task_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.divergence = Divergence(divergence, temperature=temperature, beta=beta, alpha=alpha)
        self.task_weight = task_weight
        self._given = True

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """A teacher that was never taught, and models that read no text."""
        problems, known = super().check(recipe), registry()
        for name, spec in recipe.models.items():
            if not spec.foreign and not issubclass(known.load("model", spec.name), CausalLM):
                hint = "Take causal-lm, small-lm or pruned-lm."
                problems.append(mistake(spec, f"the {name} '{spec.name}' is no language model.", hint, name))
        return problems

    @classmethod
    def alone(cls, slot: str) -> Method:
        """Cross-entropy with the data's own tokens."""
        return TextTraining(slot)

    def setup(self, room: Room) -> None:
        """Refuse models that read other tokens than each other.

        Raises:
            InputError: A model is no language model, or the tokenizers differ.
        """
        models = {name: room.modules[name] for name in ("teacher", "student")}
        for name, one in models.items():
            if not isinstance(one, CausalLM):
                raise InputError(f"the {name} is no language model; take causal-lm, small-lm or pruned-lm")
        teacher, student = (one.tokenizer for one in models.values() if isinstance(one, CausalLM))
        if teacher.fingerprint != student.fingerprint:
            raise InputError("teacher and student read tokens of different tokenizers; this method needs one for both")
        self.vocabulary = student.size

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """The divergence at every token that counts, and the cross-entropy where it has weight."""
        (ours, theirs), tokens = heads(batch, student, teacher)
        transfer = projected_loss(ours, theirs, divergence=self.divergence, vocabulary=self.vocabulary)
        terms = Losses(transfer=transfer.loss).weighted(transfer=1 - self.task_weight)
        # What the student wrote itself is no answer to learn.
        if self.task_weight > 0 and self._given:
            task = projected_loss(ours, labels=tokens, vocabulary=self.vocabulary)
            terms = Losses(task=task.loss).weighted(task=self.task_weight) | terms
        return terms.over(len(tokens))

    def compare(self, step: Step) -> Losses:
        """As any distillation; and it is remembered whether the texts are the data's own."""
        given = step.batch
        if self.sampler is not None:
            step = step.on(self.sampler.sample(step))
        self._given = step.batch is given
        with self.viewing(step) as seen:
            teacher = seen.forward("teacher")
            losses: Losses = self(seen.forward("student"), teacher, seen.batch)
            return losses

    def validate(self, model: nn.Module, examples: Examples, device: torch.device) -> Mapping[str, float]:
        """Mean cross-entropy of a token, and the share of tokens that are likeliest."""
        return look(model, examples, device)

    def scored(self, run: Run, result: Result) -> Scored:
        """How well a model foretells the test texts, and how it agrees with the teacher there."""
        from tutelage.measure.texts import TextMeasure, read, scores

        model = result.modules[0]
        teacher = None if result.role == "source" else run.source("teacher")
        device = run.accelerator.device
        found = read(model, teacher, run.splits.test, device, name=result.name)
        asked = [spec.build() for spec in run.recipe.measure]
        numbers: dict[str, dict[str, object]] = {}
        for one in asked:
            if isinstance(one, TextMeasure):
                numbers.setdefault(one.group, {}).update(one.of(found))
        return scores(found, numbers)  # type: ignore[arg-type]
