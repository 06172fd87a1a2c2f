"""SAKT: attention sees the past alone, learns on learning curves, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from tutelage.api import Finished
from tutelage.models.sakt import Attending
from tutelage.recipe.errors import RecipeError

Make = Callable[..., dict[str, Any]]
Go = Callable[[Mapping[str, Any]], Finished]


def test_attention_is_the_plain_one() -> None:
    torch.manual_seed(0)
    part = Attending(6, 2, 0.0).eval()
    x, past = torch.randn(1, 4, 6), torch.randn(1, 4, 6)
    q, (k, v) = part.query(x), part.both(past).chunk(2, -1)
    rows = []
    for step in range(4):
        heads = []
        for head in range(2):
            own = slice(3 * head, 3 * head + 3)
            weights = torch.softmax(k[0, : step + 1, own] @ q[0, step, own] / 3**0.5, 0)
            heads.append(weights @ v[0, : step + 1, own])
        rows.append(torch.cat(heads))
    y = part.first(x + part.out(torch.stack(rows)[None]))
    torch.testing.assert_close(part(x, past), part.second(y + part.inner(y)), rtol=1e-4, atol=1e-5)


def test_a_run_learns(recipe: Make, go: Go) -> None:
    report = go(recipe("sakt", epochs=25, model={"model": "sakt", "width": 24, "heads": 2})).report
    assert report["arrived"]["gain"]["low"] > 0.0


def test_wrong_options_are_refused(recipe: Make, go: Go) -> None:
    with pytest.raises(RecipeError, match="heads"):
        go(recipe("sakt", model={"model": "sakt", "heads": 0}))
