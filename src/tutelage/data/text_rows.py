"""From rows of text to sequences of tokens: templates, what is to be learnt of them, what is too long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from tutelage.data.tokens import Texts, Tokenizer
from tutelage.recipe.errors import InputError

OnLong = Literal["truncate", "skip", "refuse"]
Template = Literal["auto", "chat", "none"]


@dataclass
class Made:
    """Rows as tokens, and what became of those that could not be used as they are.

    Args:
        tokens: Token ids of each row that is used.
        starts: Place of each answer's first token.
        rows: Which row each is.
        problems: What was wrong with rows, in words with their number.
        truncated: Rows that were cut.
    """

    tokens: list[list[int]]
    starts: list[int]
    rows: list[int]
    problems: list[str]
    truncated: int = 0


def tokenized(
    rows: Sequence[Mapping[str, Any]],
    tokenizer: Tokenizer,
    *,
    length: int,
    on_long: OnLong = "truncate",
    template: Template = "auto",
    system: str | None = None,
    where: str = "data",
) -> Made:
    """Make tokens of rows with ``messages``, ``prompt`` and ``completion``, or ``text``.

    Of messages the last answer is to be learnt, of a prompt its completion, and of plain text all of it. Every text
    ends with the token that ends it, which is to be learnt too.

    Args:
        rows: The rows.
        tokenizer: What makes tokens.
        length: Most tokens of a row.
        on_long: What becomes of longer ones: their end is cut, they are left out, or the data is refused.
        template: ``chat`` writes prompts as the tokenizer's chat template says, ``none`` as they are; ``auto``: chat
            where the row has messages and the tokenizer a template.
        system: Text of the system's message, with a chat template.
        where: How errors call the data.

    Raises:
        InputError: A row is too long and may not be, or a template is asked for and missing.
    """
    made = Made([], [], [], [])
    if template == "chat" and tokenizer.own.chat_template is None:
        raise InputError(f"{where}: the tokenizer has no chat template; use `template: none`")
    for place, row in enumerate(rows):
        try:
            prompt, answer = _parts(row, tokenizer, template, system)
        except InputError as error:
            made.problems.append(f"row {place + 1}: {error}")
            continue
        if len(answer) <= len(tokenizer.stop[:1]):
            made.problems.append(f"row {place + 1}: the text to be learnt is empty")
            continue
        tokens = prompt + answer
        if len(tokens) > length:
            if on_long == "refuse":
                raise InputError(
                    f"{where}: row {place + 1} has {len(tokens)} tokens, more than {length}; raise `length` "
                    "or set `on_long` to truncate or skip"
                )
            if on_long == "skip" or len(prompt) >= length:
                made.problems.append(f"row {place + 1}: {len(tokens)} tokens, more than {length}")
                continue
            made.truncated += 1
            tokens = tokens[:length]
        made.tokens.append(tokens)
        made.starts.append(len(prompt))
        made.rows.append(place)
    return made


def _parts(
    row: Mapping[str, Any], tokenizer: Tokenizer, template: Template, system: str | None
) -> tuple[list[int], list[int]]:
    """Token ids of a prompt and of its answer."""
    own, end = tokenizer.own, list(tokenizer.stop[:1])
    messages = row.get("messages")
    if messages is None and "prompt" in row and "completion" in row:
        prompt, answer = _string(row, "prompt"), _string(row, "completion")
        if template != "chat":
            return _ids(own, prompt), _ids(own, answer) + end if answer.strip() else []
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    if messages is None:
        text = _string(row, "text")
        return [], _ids(own, text) + end if text.strip() else []
    if not isinstance(messages, Sequence) or not messages or any("content" not in m for m in messages):
        raise InputError("expected `messages` to be a list of {role, content}")
    *before, last = messages
    if last.get("role") != "assistant":
        raise InputError("the last message is not the assistant's, so there is nothing to learn")
    if system is not None and before and before[0].get("role") != "system":
        before = [{"role": "system", "content": system}, *before]
    if own.chat_template is None:
        prompt = "".join(f"{m['content']}\n" for m in before)
    else:
        prompt = own.apply_chat_template(before, tokenize=False, add_generation_prompt=True)
    answer = str(last["content"])
    return _ids(own, prompt), _ids(own, answer) + end if answer.strip() else []


def _string(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise InputError(f"expected text in `{key}`, found {type(value).__name__}")
    return value


def _ids(own: Any, text: str) -> list[int]:
    return [int(i) for i in own(text, add_special_tokens=False)["input_ids"]]


def texts(made: Made, rows: Sequence[int], pad: int) -> Texts:
    """Some of the rows, by their place among those used; ids are the rows' numbers."""
    lengths = torch.tensor([len(made.tokens[at]) for at in rows], dtype=torch.int64)
    flat = [token for at in rows for token in made.tokens[at]]
    return Texts(
        torch.tensor(flat, dtype=torch.int32),
        lengths.cumsum(0),
        torch.tensor([made.starts[at] for at in rows], dtype=torch.int64),
        torch.tensor([made.rows[at] for at in rows], dtype=torch.int64),
        pad,
    )
