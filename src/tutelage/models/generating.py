"""Language models that write: batches of answers to prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.models.causal_lm import CausalLM
from tutelage.models.inert import evaluating


def write(
    model: CausalLM,
    prompts: Sequence[Tensor],
    *,
    most: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    batch_size: int = 64,
) -> list[Tensor]:
    """Answers to prompts, each up to and with the token that ends it, or as long as may be.

    Prompts of similar length are answered together, from a cache of keys and values; modes are as before afterwards.
    Draws come from torch's own generator, which the engine sets anew for each step.

    Args:
        model: Who writes.
        prompts: Token ids of each, ``[tokens]`` int64, at least one.
        most: Most tokens of an answer.
        temperature: Of what is drawn; 0 always takes the likeliest.
        top_p: Draw from the likeliest tokens that together have so much probability.
        batch_size: Prompts that are answered together.

    Returns:
        Token ids of each answer, ``[tokens]`` int64 on the CPU, in the order of the prompts.
    """
    tokenizer = model.tokenizer
    device = next(model.parameters()).device
    order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
    answers: dict[int, Tensor] = {}
    how: dict[str, Any] = {"do_sample": False} if temperature == 0 else {"do_sample": True, "temperature": temperature}
    if temperature > 0:
        how |= {"top_p": top_p, "top_k": 0}
    with evaluating(model), torch.no_grad():
        for start in range(0, len(order), batch_size):
            some = order[start : start + batch_size]
            width = max(len(prompts[at]) for at in some)
            # On the left, so that all answers begin in the same column.
            tokens = torch.full((len(some), width), tokenizer.pad, dtype=torch.int64)
            seen = torch.zeros_like(tokens)
            for row, at in enumerate(some):
                tokens[row, width - len(prompts[at]) :] = prompts[at]
                seen[row, width - len(prompts[at]) :] = 1
            written = model.model.generate(
                input_ids=tokens.to(device),
                attention_mask=seen.to(device),
                max_new_tokens=most,
                eos_token_id=list(tokenizer.stop) or None,
                pad_token_id=tokenizer.pad,
                use_cache=True,
                **how,
            )[:, width:].cpu()
            for row, at in enumerate(some):
                answers[at] = ended(written[row], tokenizer.stop)
    return [answers[at] for at in range(len(prompts))]


def ended(tokens: Tensor, stop: Sequence[int]) -> Tensor:
    """The tokens up to and with the first that ends a text; what comes after is filling, whatever it is."""
    if not stop:
        return tokens
    ends = torch.isin(tokens, torch.tensor(list(stop))).nonzero()
    return tokens[: int(ends[0]) + 1] if len(ends) else tokens
