"""What data sets of text share: a tokenizer, a longest text, and the division into parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt

from tutelage.data.seeds import shuffle
from tutelage.data.splits import Splits
from tutelage.data.text_rows import Made, OnLong, Template, texts, tokenized
from tutelage.data.tokenizing import learnt, load_tokenizer
from tutelage.data.tokens import TextInfo, Tokenizer
from tutelage.recipe.errors import InputError

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class TextPool:
    """Keys of data sets of text.

    Args:
        tokenizer: Whose tokens: a model's folder, a ``.gguf`` file, or the name of a package's model; null to learn
            byte pairs from the training text.
        vocabulary: Tokens of a tokenizer that is learnt.
        length: Most tokens of a text.
        on_long: What becomes of longer ones: ``truncate`` their end, ``skip`` them, or ``refuse`` the data.
        on_bad: ``refuse`` rows that cannot be used, and name them, or ``skip`` and count them.
        template: How prompts are written: ``chat`` as the tokenizer's chat template says, ``none`` as they are;
            ``auto``: chat where rows have messages.
        system: Text of the system's message, where a chat template is used.
        validation_fraction: Share of the training texts kept for validation.
        test_fraction: Share of all texts kept for testing, where no test file is given.
        split_seed: Seed of the division; null for the run's.
    """

    tokenizer: str | None = None
    vocabulary: Annotated[int, Ge(258)] = 2000
    length: Annotated[int, Ge(2)] = 256
    on_long: OnLong = "truncate"
    on_bad: str = "refuse"
    template: Template = "auto"
    system: str | None = None
    validation_fraction: Annotated[float, Ge(0), Lt(1)] = 0.05
    test_fraction: Annotated[float, Gt(0), Lt(1)] = 0.1
    split_seed: int | None = 0

    def divided(
        self, rows: Rows, seed: int, *, test: Rows | None = None, groups: Sequence[str] | None = None, name: str
    ) -> Splits:
        """Tokenise and divide rows.

        Args:
            rows: To train on; a share of them to test on where there is no ``test``.
            seed: The run's.
            test: To test on.
            groups: One name a row: rows of one group go to the same part.
            name: How the data is called.

        Raises:
            InputError: Rows cannot be used, or a part is empty.
        """
        own = seed if self.split_seed is None else self.split_seed
        parts = self._parts(len(rows), own, test is not None, groups)
        tokenizer = self._tokenizer([rows[at] for at in parts["train"]])
        made = self._made(rows, tokenizer, name)
        place = {row: at for at, row in enumerate(made.rows)}
        kept = {part: [place[row] for row in chosen if row in place] for part, chosen in parts.items()}
        warnings = list(self._said(made, name))
        held = {part: texts(made, chosen, tokenizer.pad) for part, chosen in kept.items()}
        if test is not None:
            more = self._made(test, tokenizer, f"{name}, test")
            warnings += self._said(more, f"{name}, test")
            more.rows = [row + len(rows) for row in more.rows]
            held["test"] = texts(more, range(len(more.tokens)), tokenizer.pad)
        for part in ("train", "test"):
            if not len(held[part]):
                raise InputError(f"{name}: no text is left to {'learn from' if part == 'train' else 'test on'}")
        content = hashlib.blake2b(json.dumps([list(r.items()) for r in rows], default=str).encode(), digest_size=16)
        content.update(f"{tokenizer.fingerprint}:{self}:{own}".encode())
        longest = max(int(one.lengths.max()) for one in held.values() if len(one))
        info = TextInfo((longest,), tokenizer.size, (), content.hexdigest(), tokenizer=tokenizer)
        validation = held["validation"]
        record = {
            "texts": {part: len(one) for part, one in held.items()},
            "tokens": {part: int(one.lengths.sum()) for part, one in held.items()},
            "tokenizer": tokenizer.fingerprint,
            "truncated": made.truncated,
            "left_out": len(made.problems),
        }
        return Splits(
            held["train"], validation if len(validation) else None, held["test"], info, warnings=warnings, record=record
        )

    def _parts(self, count: int, seed: int, tested: bool, groups: Sequence[str] | None) -> dict[str, list[int]]:
        names = sorted(set(groups)) if groups is not None else [str(i) for i in range(count)]
        member = {name: at for at, name in enumerate(names)}
        order = [0] * len(names)
        for turn, at in enumerate(shuffle(len(names), seed).tolist()):
            order[at] = turn
        tests = 0 if tested else max(1, round(self.test_fraction * len(names)))
        validations = round(self.validation_fraction * (len(names) - tests))
        parts: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
        for row in range(count):
            turn = order[member[groups[row]] if groups is not None else row]
            part = "test" if turn < tests else "validation" if turn < tests + validations else "train"
            parts[part].append(row)
        return parts

    def _tokenizer(self, rows: Rows) -> Tokenizer:
        if self.tokenizer is not None:
            return load_tokenizer(self.tokenizer)

        def spoken() -> list[str]:
            return [str(v) for row in rows for v in row.values() if isinstance(v, str)] + [
                str(m.get("content", "")) for row in rows for m in row.get("messages") or ()
            ]

        return learnt(spoken, self.vocabulary)

    def _made(self, rows: Rows, tokenizer: Tokenizer, name: str) -> Made:
        made = tokenized(
            rows,
            tokenizer,
            length=self.length,
            on_long=self.on_long,
            template=self.template,
            system=self.system,
            where=name,
        )
        bad = [p for p in made.problems if "more than" not in p]
        if bad and self.on_bad == "refuse":
            shown = "; ".join(bad[:10])
            raise InputError(f"{name}: {len(bad)} rows cannot be used: {shown}. `on_bad: skip` leaves them out")
        return made

    def _said(self, made: Made, name: str) -> list[str]:
        found = []
        if made.truncated:
            found.append(f"{name}: {made.truncated} texts were cut at {self.length} tokens.")
        if made.problems:
            found.append(f"{name}: {len(made.problems)} rows were left out: {'; '.join(made.problems[:10])}.")
        return found


def decoded(tokenizer: Tokenizer, ids: torch.Tensor) -> str:
    """Text of token ids, without those that only end or fill up."""
    text: str = tokenizer.own.decode(ids.tolist(), skip_special_tokens=True)
    return text
