"""A world of sequences whose true distributions are known: the bench that language-model methods are held against."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import Tensor

from tutelage.data.splits import Splits
from tutelage.data.tokenizing import needed
from tutelage.data.tokens import TextInfo, Texts, Tokenizer
from tutelage.recipe.registry import component


class MarkovTexts(Texts):
    """Sequences of a chain of order two, which can say what was likely.

    Args:
        chain: ``[tokens, tokens, tokens]`` float64: probability of the next token after two.
        rows: ``[count, length]`` int64 sequences.
        prompt: How many tokens are given.
        first: Identity of the first.
    """

    def __init__(self, chain: Tensor, rows: Tensor, prompt: int, first: int) -> None:
        count, length = rows.shape
        super().__init__(
            rows.flatten().int(),
            torch.arange(1, count + 1) * length,
            torch.full((count,), prompt),
            torch.arange(first, first + count),
            pad=0,
        )
        self.chain, self.rows, self.prompt, self.first = chain, rows, prompt, first

    def truth(self, before: Tensor) -> Tensor:
        """``[n, tokens]``: what comes next after each pair ``[n, 2]`` of tokens."""
        return self.chain[before[:, 0], before[:, 1]]

    def select(self, positions: Tensor) -> Texts:
        """Only these, which keep their identities."""
        chosen = MarkovTexts(self.chain, self.rows[positions], self.prompt, 0)
        chosen.ids = self.ids[positions]
        return chosen


@component("data", "markov")
@dataclass(frozen=True, kw_only=True)
class Markov:
    """Sequences of a random chain of order two over a few symbols: small, endless, and its entropy is known.

    Rows of the chain are draws of a Dirichlet distribution; symbol 0 only begins a sequence.

    Args:
        tokens: Symbols, the first included.
        concentration: Of the Dirichlet distribution: the smaller, the surer is what comes next.
        length: Symbols of a sequence after the first.
        prompt: Symbols at the beginning that are given, the first included.
        train: Sequences to learn from.
        validation: Sequences for validation.
        test: Sequences to test on.
        chain_seed: Seed of the chain, and of the sequences.
    """

    tokens: Annotated[int, Ge(3)] = 16
    concentration: Annotated[float, Gt(0)] = 0.15
    length: Annotated[int, Ge(3)] = 24
    prompt: Annotated[int, Ge(2)] = 7
    train: Annotated[int, Ge(1)] = 1000
    validation: Annotated[int, Ge(0)] = 100
    test: Annotated[int, Ge(1)] = 300
    chain_seed: int = 0

    def load(self, seed: int) -> Splits:
        """Draw the chain and its sequences.

        Args:
            seed: The run's seed; unused, so that all runs are of one world.
        """
        tokens = self.tokens
        draws = np.random.default_rng(self.chain_seed)
        chain = np.zeros((tokens, tokens, tokens))
        chain[:, :, 1:] = draws.dirichlet([self.concentration] * (tokens - 1), size=(tokens, tokens))
        counts = {"train": self.train, "validation": self.validation, "test": self.test}
        sums = chain.cumsum(-1)
        rows = np.zeros((sum(counts.values()), self.length + 1), dtype=np.int64)
        for place in range(1, self.length + 1):
            before = rows[:, place - 2] if place > 1 else np.zeros(len(rows), dtype=np.int64)
            # A sum may fall short of 1 by rounding; there is no symbol after the last.
            level = draws.random(len(rows)) * sums[before, rows[:, place - 1], -1]
            rows[:, place] = (sums[before, rows[:, place - 1]] <= level[:, None]).sum(1).clip(1, tokens - 1)
        held, first = {}, 0
        for part, count in counts.items():
            own = torch.from_numpy(rows[first : first + count])
            held[part] = MarkovTexts(torch.from_numpy(chain), own, self.prompt, first)
            first += count
        fingerprint = hashlib.blake2b(f"markov:{self}".encode(), digest_size=16).hexdigest()
        info = TextInfo((self.length + 1,), tokens, (), fingerprint, tokenizer=symbols(tokens))
        validation = held["validation"] if self.validation else None
        return Splits(held["train"], validation, held["test"], info, record={"texts": counts})


def symbols(count: int) -> Tokenizer:
    """A tokenizer whose tokens are numbers; none of them ends a text."""
    tokenizers, transformers = needed("tokenizers"), needed("transformers")
    model = tokenizers.models.WordLevel({str(at): at for at in range(count)}, unk_token="0")
    own = tokenizers.Tokenizer(model)
    own.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=own, pad_token="0")
    return Tokenizer(fast, 0, (), count, f"symbols-{count}")
