"""What is kept of a model's next-token distributions: the likely tokens, some drawn ones, or the hidden states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

import numpy
import torch
from torch import Tensor

from tutelage.data import bit_coding
from tutelage.data.bit_coding import Array
from tutelage.data.seeds import mix, uniform
from tutelage.losses import SparseTargets
from tutelage.recipe.errors import InputError, RunError

Sections = list[Array]
# The mass of all that is not kept, on a scale where small and large ones alike err by less than a thousandth.
_TAIL_STEP = 16 / 32768
_DRAW = 0x44524157
_COUNT_ORDER = 4


@dataclass(frozen=True)
class Kept:
    """Some tokens of each position's distribution, position after position.

    Args:
        counts: ``[positions]`` int64: how many are kept.
        tokens: ``[sum of counts]`` int64, rising within a position.
        probabilities: ``[sum of counts]`` float32.
        tail: ``[positions]`` float32: probability of all others together.
    """

    counts: Tensor
    tokens: Tensor
    probabilities: Tensor
    tail: Tensor

    def targets(self, *, sampled: bool = False) -> SparseTargets:
        """What is known of each position, for `sparse_divergence`: ``[positions, most of counts]``.

        Args:
            sampled: The tokens were drawn, so that there is no tail.
        """
        place = torch.from_numpy(bit_coding.within(self.counts.numpy()))
        rows = torch.repeat_interleave(torch.arange(len(self.counts)), self.counts)
        width = int(self.counts.max()) if len(self.counts) else 1
        ids = torch.full((len(self.counts), width), -1)
        log_probs = torch.full(ids.shape, -math.inf)
        ids[rows, place], log_probs[rows, place] = self.tokens, self.probabilities.log()
        return SparseTargets(ids, log_probs, None if sampled else self.tail.log())

    def log_probabilities(self, vocabulary: int, background: Tensor | None = None) -> Tensor:
        """``[positions, vocabulary]``: log-probabilities of all tokens, which are logits too.

        Args:
            vocabulary: How many tokens there are.
            background: ``[vocabulary]`` log-weights by which those that were not kept share the tail; ``None``: evenly.
        """
        rows = torch.repeat_interleave(torch.arange(len(self.counts)), self.counts)
        dense = torch.zeros(vocabulary) if background is None else background.float()
        dense = dense.expand(len(self.counts), vocabulary).clone()
        dense[rows, self.tokens] = -math.inf
        dense += (self.tail.log() - dense.logsumexp(-1)).nan_to_num(nan=-math.inf, posinf=-math.inf)[:, None]
        dense[rows, self.tokens] = self.probabilities.log()
        return dense


def divergence_of(logits: Tensor, stored: Tensor, temperature: float = 1.0) -> Tensor:
    """KL from a model's distribution to what a store makes of it.

    Args:
        logits: ``[positions, vocabulary]`` of the model.
        stored: ``[positions, vocabulary]`` logits that are read from the store.
        temperature: At which the store was written.

    Returns:
        ``[positions]`` nats.
    """
    ours = torch.log_softmax(logits.float() / temperature, -1)
    theirs = torch.log_softmax(stored.float(), -1)
    p = ours.exp()
    return (p * (ours - theirs).masked_fill(p == 0, 0.0)).sum(-1)


def finite(values: Tensor) -> Tensor:
    """The values as float32 on the CPU.

    Raises:
        RunError: One is not a number.
    """
    values = values.detach().float().cpu()
    if bool(values.isnan().any()):
        raise RunError("the model to be stored gives numbers that are none (NaN)")
    return values


@dataclass(frozen=True)
class Likely:
    """The most likely tokens of each position and the probability of all others together.

    Probabilities are kept as their square roots, rounded, so that each adds about as much to the divergence.

    Args:
        vocabulary: How many tokens the model knows.
        temperature: The softmax's, above 0.
        top_k: Most tokens of a position; ``None``: no limit.
        top_p: The smallest set of this probability is kept, in (0, 1]; ``None``: no such limit.
        least: Tokens below this probability are not kept; 0: no such limit.
        step: Of a probability's square root, in (0, 0.25].
        background: ``[vocabulary]`` log-weights by which the tokens that are not kept share what is left; ``None``:
            evenly. See `background_of`.

    Raises:
        InputError: A setting is out of range.
    """

    vocabulary: int
    temperature: float = 1.0
    top_k: int | None = 64
    top_p: float | None = None
    least: float = 1e-4
    step: float = 1 / 256
    background: Tensor | None = field(default=None, repr=False, compare=False)
    name: ClassVar[str] = "likely"
    sections: ClassVar[int] = 7

    def __post_init__(self) -> None:
        if self.top_k is not None and not 1 <= self.top_k <= self.vocabulary:
            raise InputError(f"top_k {self.top_k} is not in 1..{self.vocabulary}, the model's tokens")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top_p {self.top_p} is not in (0, 1]")
        if not (self.temperature > 0 and 0 <= self.least < 1 and 0 < self.step <= 0.25):
            raise InputError("a store needs temperature above 0, least in [0, 1) and step in (0, 0.25]")

    @property
    def settings(self) -> dict[str, Any]:
        """What a store says that it holds."""
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "background"}
        return {"kind": self.name, **numbers}

    @property
    def arrays(self) -> dict[str, Array]:
        """What a store keeps once for all positions."""
        return {} if self.background is None else {"background": self.background.half().numpy()}

    def targets(self, kept: Kept) -> SparseTargets:
        """What is known of each position, for `sparse_divergence` at the store's temperature."""
        return kept.targets()

    def logits(self, kept: Kept) -> Tensor:
        """``[positions, vocabulary]``: logits of what was kept, already divided by the temperature."""
        return kept.log_probabilities(self.vocabulary, self.background)

    def keep(self, logits: Tensor, seeds: Tensor | None = None) -> Kept:
        """The tokens that are kept of ``[positions, vocabulary]`` logits; the likeliest always is. Nothing is drawn."""
        p = torch.softmax(finite(logits) / self.temperature, -1)
        best = p.argmax(-1, keepdim=True)
        bound = p.new_full((len(p), 1), max(self.least, 1e-30))
        if self.top_p is not None or self.top_k is not None:
            size = self.vocabulary if self.top_k is None else self.top_k
            top = p.topk(size, -1).values
            if self.top_p is not None:
                before = top.double().cumsum(-1) - top
                last = (before < self.top_p).sum(-1, keepdim=True) - 1
                bound = torch.maximum(bound, top.gather(-1, last.clamp(min=0)))
            bound = torch.maximum(bound, top[:, -1:])
        chosen = (p >= bound).scatter(-1, best, True)
        if self.top_k is not None and bool((chosen.sum(-1) > self.top_k).any()):
            # Of equal ones the first, as a sort would have it.
            rank = p.sort(dim=-1, descending=True, stable=True).indices[:, : self.top_k]
            chosen &= torch.zeros_like(chosen).scatter(-1, rank, True)
        _, tokens = chosen.nonzero(as_tuple=True)
        kept = p[chosen]
        tail = p.masked_fill(chosen, 0.0).sum(-1)
        return Kept(chosen.sum(-1), tokens, kept, tail)

    def pack(self, kept: Kept, lengths: Array) -> list[Sections]:
        """The bytes of each sample.

        Args:
            kept: Of all positions, the samples' one after the other.
            lengths: ``[samples]`` positions of each.
        """
        counts = kept.counts.numpy()
        of = bit_coding.sums(counts, lengths)
        levels = numpy.rint(numpy.sqrt(kept.probabilities.numpy().astype(numpy.float64)) / self.step)
        floor = self._floor
        numbers = (levels.astype(numpy.int64) - floor).clip(min=0)
        tail = kept.tail.double().clamp(1e-7, 1 - 1e-7).logit().numpy() / _TAIL_STEP
        tails = (numpy.rint(tail).clip(-32767, 32767) + 32767).astype("<u2").view(numpy.uint8)
        parts = [
            *bit_coding.code_numbers(counts, lengths, _COUNT_ORDER),
            *bit_coding.code_ids(kept.tokens.numpy(), counts, lengths, self.vocabulary),
            *bit_coding.code_numbers(numbers, of, self._order),
            numpy.split(tails, 2 * numpy.cumsum(lengths)[:-1]),
        ]
        return [list(sections) for sections in zip(*parts, strict=True)]

    def unpack(self, records: Sequence[Sections], lengths: Array) -> Kept:
        """What `pack` was given, as exactly as it was kept.

        Raises:
            ValueError: The bytes are no such records.
        """
        of = [list(part) for part in zip(*records, strict=True)]
        counts = bit_coding.decode_numbers(of[0], of[1], lengths, _COUNT_ORDER)
        tokens = bit_coding.decode_ids(of[2], of[3], counts, lengths, self.vocabulary)
        each = bit_coding.sums(counts, lengths)
        levels = bit_coding.decode_numbers(of[4], of[5], each, self._order) + self._floor
        scaled = (numpy.concatenate(of[6]).view("<u2").astype(numpy.float32) - 32767) * _TAIL_STEP
        tail = numpy.where(counts < self.vocabulary, 1 / (1 + numpy.exp(-scaled)), 0).astype(numpy.float32)
        # An odd square root was rounded from either side; what it stands for is settled by all adding up to one.
        roots = levels * numpy.float32(self.step)
        p = (roots * roots).astype(numpy.float32)
        rows = numpy.repeat(numpy.arange(len(counts)), counts)
        total = numpy.bincount(rows, p, len(counts)).clip(min=1e-30)
        p *= ((1 - tail) / total).astype(numpy.float32)[rows]
        return Kept(torch.from_numpy(counts), torch.from_numpy(tokens), torch.from_numpy(p), torch.from_numpy(tail))

    @property
    def _floor(self) -> int:
        return max(round(math.sqrt(self.least) / self.step), 1)

    @property
    def _order(self) -> int:
        # Square roots of probabilities thin out as they grow; the next octave begins twice as far on.
        return max(self._floor.bit_length() - 1, 0)


@dataclass(frozen=True)
class Drawn:
    """Tokens drawn from each position's distribution, and how often: in expectation the distribution itself.

    A loss that is linear in the distribution, as the forward KL's gradient is, is then unbiased, which it is not with
    the likeliest tokens alone. Draws are a function of (seed, sample, position).

    Args:
        vocabulary: How many tokens the model knows.
        temperature: The softmax's, above 0.
        draws: Draws at each position; 50 come to about 12 tokens in ordinary text.

    Raises:
        InputError: A setting is out of range.

    Source: Sparse Logit Sampling, arXiv:2503.16870.
    """

    vocabulary: int
    temperature: float = 1.0
    draws: int = 50
    name: ClassVar[str] = "drawn"
    sections: ClassVar[int] = 6

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and 1 <= self.draws <= 1 << 20):
            raise InputError("a store needs a temperature above 0 and draws in 1..1048576")

    @property
    def settings(self) -> dict[str, Any]:
        """What a store says that it holds."""
        return {"kind": self.name, **asdict(self)}

    @property
    def arrays(self) -> dict[str, Array]:
        """What a store keeps once for all positions: nothing."""
        return {}

    def targets(self, kept: Kept) -> SparseTargets:
        """Each position's draws, for `sparse_divergence`."""
        return kept.targets(sampled=True)

    def logits(self, kept: Kept) -> Tensor:
        """``[positions, vocabulary]``: logits of what was drawn, −inf elsewhere."""
        return kept.log_probabilities(self.vocabulary)

    def keep(self, logits: Tensor, seeds: Tensor | None = None) -> Kept:
        """Draws from ``[positions, vocabulary]`` logits, by ``[positions]`` seeds, see `position_seeds`.

        Raises:
            ValueError: There are no seeds.
        """
        if seeds is None:
            raise ValueError("draws need a seed for each position")
        p = torch.softmax(finite(logits).double() / self.temperature, -1)
        edges = p.cumsum(-1)
        # Twice 24 bits, so that an improbable token is not ruled out.
        at = uniform(seeds, _DRAW, (self.draws,)).double() + uniform(seeds, _DRAW + 1, (self.draws,)) * 2.0**-24
        places = torch.searchsorted(edges, at * edges[:, -1:], right=True).clamp(max=self.vocabulary - 1)
        keys = places + self.vocabulary * torch.arange(len(p))[:, None]
        unique, times = keys.flatten().unique(return_counts=True)
        counts = torch.bincount(unique // self.vocabulary, minlength=len(p))
        return Kept(counts, unique % self.vocabulary, times.float() / self.draws, torch.zeros(len(p)))

    def pack(self, kept: Kept, lengths: Array) -> list[Sections]:
        """The bytes of each sample, see `Likely.pack`."""
        counts = kept.counts.numpy()
        times = numpy.rint(kept.probabilities.numpy() * self.draws).astype(numpy.int64)
        parts = [
            *bit_coding.code_numbers(counts, lengths, _COUNT_ORDER - 1),
            *bit_coding.code_ids(kept.tokens.numpy(), counts, lengths, self.vocabulary),
            *bit_coding.code_numbers(times - 1, bit_coding.sums(counts, lengths), 0),
        ]
        return [list(sections) for sections in zip(*parts, strict=True)]

    def unpack(self, records: Sequence[Sections], lengths: Array) -> Kept:
        """What `pack` was given, exactly.

        Raises:
            ValueError: The bytes are no such records.
        """
        of = [list(part) for part in zip(*records, strict=True)]
        counts = bit_coding.decode_numbers(of[0], of[1], lengths, _COUNT_ORDER - 1)
        tokens = bit_coding.decode_ids(of[2], of[3], counts, lengths, self.vocabulary)
        times = bit_coding.decode_numbers(of[4], of[5], bit_coding.sums(counts, lengths), 0) + 1
        p = torch.from_numpy(times).float() / self.draws
        return Kept(torch.from_numpy(counts), torch.from_numpy(tokens), p, torch.zeros(len(counts)))


def position_seeds(seed: int, ids: Tensor, lengths: Array) -> Tensor:
    """``[positions]`` int64: a seed for each position of some samples, whatever batch they are in.

    Args:
        seed: The store's.
        ids: ``[samples]`` int64 identities.
        lengths: ``[samples]`` positions of each.
    """
    own = mix(seed, 0, ids).repeat_interleave(torch.from_numpy(numpy.asarray(lengths)))
    return mix(0, 0, own + torch.from_numpy(bit_coding.within(numpy.asarray(lengths))))


def background_of(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``[vocabulary]``: log-weights of a model's improbable tokens, from some ``[positions, vocabulary]`` logits."""
    return torch.log_softmax(finite(logits) / temperature, -1).mean(0).clamp(min=-60)
