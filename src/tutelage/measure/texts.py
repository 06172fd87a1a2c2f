"""How well a language model foretells texts, how it agrees with its teacher, and what it writes."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.data.markov import MarkovTexts
from tutelage.data.splits import Examples, Indices
from tutelage.data.text_pool import decoded
from tutelage.data.tokens import Texts, TokenBatch, prompted
from tutelage.losses.divergences import kl_divergence
from tutelage.losses.positions import scored as places_of
from tutelage.measure.base import Measure
from tutelage.measure.bootstrap import mean_interval
from tutelage.measure.number import Number
from tutelage.measure.predicted import Predicted
from tutelage.measure.scored import Scored
from tutelage.models.causal_lm import CausalLM
from tutelage.models.generating import write
from tutelage.models.inert import evaluating
from tutelage.models.token_outputs import TokenOutputs
from tutelage.recipe.registry import component

_TEXTS, _TOKENS = 16, 256
_DRAWS = 1000


@dataclass(frozen=True, eq=False)
class Read:
    """A model's word about every token of a split that is to be learnt.

    Args:
        name: Whose it is.
        texts: ``[tokens]`` int64: which text each token is of, by its place in the split.
        ids: ``[texts]`` int64 identities of the texts.
        losses: ``[tokens]`` cross-entropy in nats.
        right: ``[tokens]`` bool: whether the token is the likeliest.
        confidence: ``[tokens]`` probability of the likeliest.
        agree: ``[tokens]`` bool: whether the likeliest is the teacher's; ``None`` without a teacher.
        kl: ``[tokens]`` KL from the teacher to the model.
        reverse_kl: ``[tokens]`` KL from the model to the teacher.
        model: The model.
        teacher: The teacher.
        examples: The split.
    """

    name: str
    texts: Tensor
    ids: Tensor
    losses: Tensor
    right: Tensor
    confidence: Tensor
    agree: Tensor | None
    kl: Tensor | None
    reverse_kl: Tensor | None
    model: CausalLM
    teacher: CausalLM | None
    examples: Examples

    def prompts(self, most: int) -> list[Tensor]:
        """Token ids of the first prompts of the split; none where its texts have no prompts."""
        texts = self.examples
        if not isinstance(texts, Texts):
            return []
        asked = [at for at in range(len(texts)) if int(texts.starts[at]) > 0][:most]
        return [texts.text(at)[: int(texts.starts[at])] for at in asked]

    def by_text(self, values: Tensor) -> Tensor:
        """``[texts]``: mean over each text's tokens."""
        total = torch.zeros(len(self.ids), dtype=torch.float64).index_add(0, self.texts, values.double())
        return total / torch.bincount(self.texts, minlength=len(self.ids)).clamp(min=1)


def read(
    model: nn.Module, teacher: nn.Module | None, examples: Examples, device: torch.device, *, name: str = "model"
) -> Read:
    """Let a model, and beside it its teacher, foretell every token of a split.

    Args:
        model: A language model.
        teacher: Another, of the same tokens; ``None``: nobody to agree with.
        examples: The split.
        device: Where they are to run.
        name: What the model is called.
    """
    assert isinstance(model, CausalLM)
    assert teacher is None or isinstance(teacher, CausalLM)
    size = model.tokenizer.size
    names = ("texts", "losses", "right", "confidence", "agree", "kl", "rkl")
    kept: dict[str, list[Tensor]] = {name: [] for name in names}
    ids = torch.empty(len(examples), dtype=torch.int64)
    lengths = getattr(examples, "lengths", None)
    order = torch.arange(len(examples)) if lengths is None else lengths.argsort(stable=True)
    both = [model] if teacher is None else [model, teacher]
    with torch.no_grad():
        for one in both:
            one.to(device)
        for start in range(0, len(order), _TEXTS):
            at = order[start : start + _TEXTS]
            batch = examples.fetch(at).to(device)
            assert isinstance(batch, TokenBatch)
            ids[at] = batch.ids.cpu()
            places, tokens = places_of(batch.inputs, batch.mask)
            said = []
            for one in both:
                with evaluating(one):
                    said.append(one(*batch.arguments))
            kept["texts"].append(at[(places // batch.inputs.shape[1]).cpu()])
            for piece, true in zip(places.split(_TOKENS), tokens.split(_TOKENS), strict=True):
                logits = [outputs.at(piece)[:, :size] for outputs in said if isinstance(outputs, TokenOutputs)]
                _note(kept, logits, true)
    joined = {key: torch.cat(parts) if parts else None for key, parts in kept.items()}
    # In the order of the texts, whatever was read first.
    back = joined["texts"].argsort(stable=True)  # type: ignore[union-attr]
    found = {key: None if value is None else value[back] for key, value in joined.items()}
    texts, losses, right, confidence = (found[key] for key in ("texts", "losses", "right", "confidence"))
    assert texts is not None
    assert losses is not None
    assert right is not None
    assert confidence is not None
    return Read(
        name,
        texts,
        ids,
        losses,
        right,
        confidence,
        found["agree"],
        found["kl"],
        found["rkl"],
        model,
        teacher,
        examples,
    )


def _note(kept: dict[str, list[Tensor]], logits: list[Tensor], true: Tensor) -> None:
    mine = logits[0].float()
    logs = mine.log_softmax(-1)
    best = logs.max(-1)
    kept["losses"].append(-logs.gather(1, true[:, None])[:, 0].cpu())
    kept["right"].append((best.indices == true).cpu())
    kept["confidence"].append(best.values.exp().cpu())
    if len(logits) > 1:
        theirs = logits[1].float()
        kept["agree"].append((theirs.argmax(-1) == best.indices).cpu())
        kept["kl"].append(kl_divergence(mine, theirs).cpu())
        kept["rkl"].append(kl_divergence(mine, theirs, direction="reverse").cpu())


class TextMeasure(Measure):
    """A measure of a language model on a split of texts."""

    subject: ClassVar[str] = "tokens"

    def __call__(self, subject: Predicted, source: Predicted | None = None) -> dict[str, Number]:
        """Nothing: there are no predicted classes.

        Raises:
            TypeError: Always.
        """
        raise TypeError(f"{type(self).__name__} measures texts; use `of`")

    @abstractmethod
    def of(self, found: Read) -> dict[str, Number]:
        """Numbers by name, of a model that has read the split."""


@component("measure", "perplexity")
class Perplexity(TextMeasure):
    """exp of the mean cross-entropy of a token, at least 1; its interval draws whole texts."""

    group: ClassVar[str] = "quality"

    def of(self, found: Read) -> dict[str, Number]:
        """``perplexity``."""
        total = torch.zeros(len(found.ids), dtype=torch.float64).index_add(0, found.texts, found.losses.double())
        count = torch.bincount(found.texts, minlength=len(found.ids)).double()
        value = float((total.sum() / count.sum()).exp())
        draws = np.random.default_rng(0).integers(len(total), size=(_DRAWS, len(total)))
        ratio = np.exp(total.numpy()[draws].sum(1) / count.numpy()[draws].sum(1))
        low, high = np.quantile(ratio, [0.025, 0.975])
        return {"perplexity": Number(value, float(low), float(high), len(total))}


@component("measure", "token-calibration")
class TokenCalibration(TextMeasure):
    """Expected calibration error of the likeliest token, in [0, 1].

    Args:
        bins: Bins of equal width.
    """

    group: ClassVar[str] = "calibration"

    def __init__(self, *, bins: Annotated[int, Ge(1)] = 15) -> None:
        self.bins = bins

    def of(self, found: Read) -> dict[str, Number]:
        """``ece``."""
        place = (found.confidence * self.bins).long().clamp(max=self.bins - 1)
        gap = torch.zeros(self.bins, dtype=torch.float64)
        gap.index_add_(0, place, found.right.double() - found.confidence.double())
        return {"ece": Number(float(gap.abs().sum()) / len(place), n=len(place))}


@component("measure", "rouge-l")
class RougeL(TextMeasure):
    """Longest common subsequence (Lin 2004, F-measure) of what the model writes and what its teacher writes, greedily.

    Args:
        prompts: How many test prompts are answered.
        tokens: Most tokens of an answer.
    """

    group: ClassVar[str] = "fidelity"

    def __init__(self, *, prompts: Annotated[int, Ge(1)] = 32, tokens: Annotated[int, Ge(1)] = 32) -> None:
        self.prompts, self.tokens = prompts, tokens

    def of(self, found: Read) -> dict[str, Number]:
        """``rouge_l`` with the teacher's answers; nothing without a teacher or prompts.

        Raises:
            InputError: The package rouge-score is missing.
        """
        prompts = found.prompts(self.prompts)
        if found.teacher is None or not prompts:
            return {}
        try:
            from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]
        except ImportError as error:
            from tutelage.recipe.errors import InputError

            raise InputError("rouge-l needs a further package: pip install rouge-score") from error
        mine, theirs = (
            [decoded(one.tokenizer, a) for a in write(one, prompts, most=self.tokens, temperature=0)]
            for one in (found.model, found.teacher)
        )
        scorer = RougeScorer(["rougeL"])
        values = [scorer.score(b, a)["rougeL"].fmeasure for a, b in zip(mine, theirs, strict=True)]
        return {"rouge_l": mean_interval(np.array(values))}


@component("measure", "on-policy-divergence")
class OnPolicyDivergence(TextMeasure):
    """How far the model is from its teacher where it goes itself: on answers that it writes to test prompts.

    Args:
        prompts: How many test prompts are answered.
        tokens: Most tokens of an answer.
    """

    group: ClassVar[str] = "fidelity"

    def __init__(self, *, prompts: Annotated[int, Ge(1)] = 64, tokens: Annotated[int, Ge(1)] = 32) -> None:
        self.prompts, self.tokens = prompts, tokens

    def of(self, found: Read) -> dict[str, Number]:
        """``own_kl`` (teacher to model) and ``own_reverse_kl`` (model to teacher), means over the answers."""
        prompts = found.prompts(self.prompts)
        if found.teacher is None or not prompts:
            return {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            answers = write(found.model, prompts, most=self.tokens)
        own = Answers(prompts, answers, found.model.tokenizer.pad)
        again = read(found.model, found.teacher, own, next(found.model.parameters()).device)
        assert again.kl is not None
        assert again.reverse_kl is not None
        values = {"own_kl": again.kl, "own_reverse_kl": again.reverse_kl}
        return {name: mean_interval(again.by_text(value).numpy()) for name, value in values.items()}


class Answers:
    """Prompts with answers, as a split.

    Args:
        prompts: Token ids of each.
        answers: Token ids of each.
        pad: What fills up.
    """

    def __init__(self, prompts: Sequence[Tensor], answers: Sequence[Tensor], pad: int) -> None:
        self.prompts, self.answers, self.pad = prompts, answers, pad
        self.lengths = torch.tensor([len(p) + len(a) for p, a in zip(prompts, answers, strict=True)])

    def __len__(self) -> int:
        return len(self.prompts)

    def fetch(self, indices: Indices) -> TokenBatch:
        """Those at these places, filled up."""
        at = torch.as_tensor(indices, dtype=torch.int64)
        like = Batch(at, at, at, torch.zeros_like(at))
        return prompted([self.prompts[i] for i in at], [self.answers[i] for i in at], like, self.pad)


@component("measure", "true-divergence")
class TrueDivergence(TextMeasure):
    """KL from what is true to the model, where the data says what is: sequences of `markov`."""

    group: ClassVar[str] = "quality"

    def of(self, found: Read) -> dict[str, Number]:
        """``true_kl``, the mean over sequences; nothing for data that does not know."""
        examples = found.examples
        if not isinstance(examples, MarkovTexts):
            return {}
        values = []
        with torch.no_grad(), evaluating(found.model):
            for start in range(0, len(examples), _TEXTS):
                batch = examples.fetch(range(start, min(start + _TEXTS, len(examples))))
                sample, place = batch.mask[:, 1:].nonzero(as_tuple=True)
                outputs = found.model(batch.inputs.to(next(found.model.parameters()).device))
                logs = outputs.logits[sample, place].double().log_softmax(-1).cpu()
                truth = examples.truth(torch.stack([batch.inputs[sample, place - 1], batch.inputs[sample, place]], 1))
                apart = (torch.special.xlogy(truth, truth) - truth * logs).sum(-1)
                values.append(apart.reshape(len(batch), -1).mean(1))
        return {"true_kl": mean_interval(torch.cat(values).numpy())}


@component("measure", "writing-speed")
class WritingSpeed(TextMeasure):
    """Tokens a second that the model writes, one text at a time.

    Args:
        tokens: How many are written.
    """

    group: ClassVar[str] = "cost"

    def __init__(self, *, tokens: Annotated[int, Ge(1)] = 32) -> None:
        self.tokens = tokens

    def of(self, found: Read) -> dict[str, Number]:
        """``tokens_per_second``."""
        prompt = [torch.zeros(4, dtype=torch.int64)]
        write(found.model, prompt, most=2, temperature=1.0)
        began, count = time.perf_counter(), 0
        while count < self.tokens:
            count += len(write(found.model, prompt, most=self.tokens - count, temperature=1.0)[0])
        return {"tokens_per_second": Number(count / (time.perf_counter() - began))}


def scores(found: Read, numbers: Mapping[str, Mapping[str, Number]]) -> Scored:
    """What is always reported of a language model, and what a recipe asked for besides.

    Args:
        found: The model's word about the split.
        numbers: Further numbers by group and name.
    """
    samples: dict[str, dict[str, Tensor]] = {
        "quality": {"nll": found.by_text(found.losses), "token_accuracy": found.by_text(found.right)}
    }
    for name, values in (("agreement", found.agree), ("kl", found.kl), ("reverse_kl", found.reverse_kl)):
        if values is not None:
            samples.setdefault("fidelity", {})[name] = found.by_text(values)
    return Scored(found.name, found.ids, samples, numbers, lower_is_better=frozenset({"nll"}))
