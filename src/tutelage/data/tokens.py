"""Sequences of tokens: what flows through a step of a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.splits import Indices
from tutelage.recipe.errors import InputError

IGNORED = -100
"""Label of a position that is not to be learnt."""


class Tokenizer(NamedTuple):
    """A tokenizer and the tokens that mean something to the loop.

    Args:
        own: The tokenizer of transformers.
        pad: Id of what fills a batch up; never scored, and may be that of the end.
        stop: Ids that end a text.
        size: How many tokens there are.
        fingerprint: Hash of its vocabulary and its template.
    """

    own: Any
    pad: int
    stop: tuple[int, ...]
    size: int
    fingerprint: str


@dataclass(frozen=True)
class TextInfo(DataInfo):
    """Facts about text: ``classes`` is the number of tokens, ``input_shape`` the longest sequence.

    Args:
        tokenizer: What made tokens of it.
    """

    tokenizer: Tokenizer | None = field(default=None, compare=False)

    @property
    def classified(self) -> bool:
        """A text has no class."""
        return False

    def blank(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """``[count, length]`` int64 of one token."""
        return torch.zeros(count, *self.input_shape, dtype=torch.int64, device=device)


@dataclass(frozen=True)
class TokenBatch(Batch):
    """Texts of one step, filled up on the right to the longest.

    ``inputs`` are token ids ``[batch, tokens]`` int64; ``labels`` the same where a token is to be learnt, and `IGNORED`
    elsewhere: at prompts and at what fills up. What a model says at position i is about token i + 1.

    Args:
        starts: ``[batch]`` int64: where each answer begins; 0 for text without a prompt.
        lengths: ``[batch]`` int64: tokens of each text.
    """

    starts: Tensor
    lengths: Tensor

    @property
    def mask(self) -> Tensor:
        """``[batch, tokens]`` bool: which tokens are to be learnt."""
        return self.labels != IGNORED

    @classmethod
    def join(cls, batches: Sequence[Self]) -> Self:
        """The texts of several batches, filled up to the longest."""
        width = max(batch.inputs.shape[1] for batch in batches)

        def wide(rows: Tensor, fill: int) -> Tensor:
            return torch.nn.functional.pad(rows, (0, width - rows.shape[1]), value=fill)

        even = [b.with_(inputs=wide(b.inputs, 0), labels=wide(b.labels, IGNORED)) for b in batches]
        return cls(*(torch.cat(one) for one in zip(*(batch.fields for batch in even), strict=True)))


def prompted(prompts: Sequence[Tensor], answers: Sequence[Tensor], like: Batch, pad: int) -> TokenBatch:
    """Prompts with answers that somebody wrote to them, as a batch of the same samples.

    Args:
        prompts: Token ids of each.
        answers: Token ids of each, the end included where it was reached.
        like: Gives identities and seeds.
        pad: What fills up.
    """
    starts = torch.tensor([len(p) for p in prompts])
    lengths = starts + torch.tensor([len(a) for a in answers])
    width = max(int(lengths.max()), 2)
    inputs = torch.full((len(prompts), width), pad, dtype=torch.int64)
    labels = torch.full_like(inputs, IGNORED)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        end = len(prompt) + len(answer)
        inputs[row, : len(prompt)], inputs[row, len(prompt) : end] = prompt, answer
        labels[row, max(len(prompt), 1) : end] = inputs[row, max(len(prompt), 1) : end]
    device = like.inputs.device
    return TokenBatch(inputs.to(device), labels.to(device), like.ids, like.seeds, starts.to(device), lengths.to(device))


class Texts:
    """Tokenised texts in memory, one after the other.

    Args:
        tokens: ``[total]`` token ids.
        ends: ``[count]`` int64: where each text ends.
        starts: ``[count]`` int64: place of each answer's first token within its text.
        ids: ``[count]`` int64 stable identities.
        pad: What fills a batch up.

    Attributes:
        lengths: ``[count]`` int64 tokens of each.

    Raises:
        InputError: A text is empty, or has nothing to learn.
    """

    def __init__(self, tokens: Tensor, ends: Tensor, starts: Tensor, ids: Tensor, pad: int) -> None:
        self.tokens, self.ends, self.starts, self.ids, self.pad = tokens, ends, starts, ids, pad
        self.lengths = ends.diff(prepend=torch.zeros(1, dtype=torch.int64))
        if len(ends) and bool((self.lengths <= starts.clamp(min=1)).any()):
            raise InputError("a text has no token that is to be learnt")

    def __len__(self) -> int:
        return len(self.ids)

    def text(self, position: int) -> Tensor:
        """Token ids of one text."""
        end = int(self.ends[position])
        return self.tokens[end - int(self.lengths[position]) : end].long()

    def fetch(self, indices: Indices) -> TokenBatch:
        """The texts at these positions."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        lengths, starts = self.lengths[index], self.starts[index]
        place = torch.arange(int(lengths.max()))
        inside = place < lengths[:, None]
        at = (self.ends[index] - lengths)[:, None] + place
        inputs = self.tokens[at.clamp(max=len(self.tokens) - 1)].long().masked_fill(~inside, self.pad)
        learnt = inside & (place >= starts.clamp(min=1)[:, None])
        labels = inputs.masked_fill(~learnt, IGNORED)
        return TokenBatch(inputs, labels, self.ids[index], torch.zeros(len(index), dtype=torch.int64), starts, lengths)

    def select(self, positions: Tensor) -> Texts:
        """Only these texts, with their ids."""
        positions = torch.as_tensor(positions, dtype=torch.int64)
        parts = [self.text(int(at)) for at in positions]
        ends = self.lengths[positions].cumsum(0)
        return Texts(
            torch.cat(parts).to(self.tokens.dtype), ends, self.starts[positions], self.ids[positions], self.pad
        )
