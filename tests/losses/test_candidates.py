"""Scores in pieces: the same numbers and gradients as written out, at any size, and in less memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tutelage.losses import candidates
from tutelage.losses.candidates import affine_norms, distances, inner_products, unit_rows


def written_out(kind: str, query: Tensor, table: Tensor, index: Tensor | None) -> Tensor:
    rows = table[index] if index is not None else table[None].expand(len(query), -1, -1)
    if kind == "inner":
        return (query[:, None] * rows).sum(-1)
    if kind.startswith("affine"):
        width = query.shape[1] - table.shape[1]
        *factors, constant = query[:, None].split(width, -1)
        total = constant + sum(f * x for f, x in zip(factors, rows.split(width, -1), strict=True))
        return total.abs().sum(-1) if kind.endswith("1") else total.norm(dim=-1)
    apart = rows - query[:, None]
    each: dict[str, Callable[[], Tensor]] = {
        "l1": lambda: apart.abs().sum(-1),
        "l2": lambda: apart.norm(dim=-1),
        "modulus": lambda: torch.complex(*apart.chunk(2, -1)).abs().sum(-1),
        "half_sine": lambda: (apart / 2).sin().abs().sum(-1),
    }
    return each[kind]()


def in_pieces(kind: str, query: Tensor, table: Tensor, index: Tensor | None) -> Tensor:
    if kind == "inner":
        return inner_products(query, table, index)
    if kind.startswith("affine"):
        return affine_norms(query, table, index, norm=1 if kind.endswith("1") else 2)
    return distances(query, table, index, by=kind)  # type: ignore[arg-type]


KINDS = ("inner", "l1", "l2", "modulus", "half_sine", "affine one 1", "affine two 1", "affine two 2")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("piece", [1, 60, 100_000])
def test_they_are_those_written_out(kind: str, every: bool, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "_PIECE", piece)
    torch.manual_seed(0)
    batch, n, rows, width = 5, 7, 9, 6
    parts = {"affine one 1": (2, 1), "affine two 1": (3, 2), "affine two 2": (3, 2)}.get(kind, (1, 1))
    query = torch.randn(batch, parts[0] * width, dtype=torch.float64, requires_grad=True)
    table = torch.randn(rows, parts[1] * width, dtype=torch.float64, requires_grad=True)
    index = None if every else torch.randint(0, rows, (batch, n))
    mine, theirs = in_pieces(kind, query, table, index), written_out(kind, query, table, index)
    torch.testing.assert_close(mine, theirs)
    weight = torch.randn_like(theirs)
    for a, b in zip(
        torch.autograd.grad(mine, (query, table), weight),
        torch.autograd.grad(theirs, (query, table), weight),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", ["l2", "modulus", "affine two 2"])
def test_an_entity_where_the_query_is_has_no_slope_and_no_nan(kind: str) -> None:
    table = torch.ones(3, 8 if kind.startswith("affine") else 4, requires_grad=True)
    query = torch.ones(1, 4) if not kind.startswith("affine") else torch.zeros(1, 12)
    query.requires_grad_()
    in_pieces(kind, query, table, torch.tensor([[0, 2]])).sum().backward()
    assert table.grad is not None
    assert query.grad is not None
    assert torch.equal(table.grad, torch.zeros_like(table))
    assert not query.grad[:, :4].isnan().any()


def test_unit_rows_and_their_gradient() -> None:
    rows = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    plain = torch.nn.functional.normalize(rows, dim=-1)
    torch.testing.assert_close(unit_rows(rows), plain)
    weight = torch.randn_like(plain)
    found = torch.autograd.grad(unit_rows(rows), rows, weight)[0]
    torch.testing.assert_close(found, torch.autograd.grad(plain, rows, weight)[0])
    zero = torch.zeros(1, 3, requires_grad=True)
    unit_rows(zero).sum().backward()
    assert zero.grad is not None
    assert zero.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_the_whole_is_never_written_out() -> None:
    """A thousand queries with four hundred candidates each of width 64 would be 100 MB."""
    table, query = torch.randn(500, 64), torch.randn(1000, 64)
    index = torch.randint(0, 500, (1000, 400))
    for call in (lambda: distances(query, table, index, by="l1"), lambda: inner_products(query, table, index)):
        with torch.profiler.profile(profile_memory=True) as seen:
            call()
        most, now = 0, 0
        for event in seen.profiler.kineto_results.events():  # type: ignore[union-attr]
            if event.name() == "[memory]":
                now += event.nbytes()
                most = max(most, now)
        assert 0 < most < 8 << 20
