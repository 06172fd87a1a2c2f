"""Scores of queries against candidate rows of a table, gathered, compared and differentiated in pieces.

A query ``[batch, width]`` is compared with rows of a table ``[rows, width]``: with those that ``index`` ``[batch, n]``
names, or with all of them. Written out, that is a tensor ``[batch, n, width]``, which a plain graph of operations
keeps several times over. Here it exists in pieces that fit into a processor's cache and is made again for the
gradient, which is derived by hand: memory does not grow with the number of candidates, and time falls severalfold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

Comparison = Literal["l1", "l2", "modulus", "half_sine"]

# Numbers in a piece: half a megabyte of float32, which stays in the second-level cache.
_PIECE = 131_072


def inner_products(query: Tensor, table: Tensor, index: Tensor | None = None) -> Tensor:
    """``<query, row>`` for each candidate.

    Args:
        query: ``[batch, width]``.
        table: ``[rows, width]``.
        index: ``[batch, n]`` int64 rows; ``None`` for all.

    Returns:
        ``[batch, n]``, or ``[batch, rows]``.
    """
    if index is None:
        return query @ table.T
    found: Tensor = _Inner.apply(query, table, index)  # type: ignore[no-untyped-call]
    return found


def distances(query: Tensor, table: Tensor, index: Tensor | None = None, *, by: Comparison = "l2") -> Tensor:
    """How far each candidate is from the query.

    Args:
        query: ``[batch, width]``.
        table: ``[rows, width]``.
        index: ``[batch, n]`` int64 rows; ``None`` for all.
        by: ``l1`` or ``l2`` norm of the difference; ``modulus``: the sum of absolute values of its complex numbers,
            whose real parts are the first half; ``half_sine``: the sum of ``|sin(difference / 2)|``.

    Returns:
        ``[batch, n]``, or ``[batch, rows]``.
    """
    if index is None and by in ("l1", "l2"):
        return torch.cdist(query, table, p=1.0 if by == "l1" else 2.0)
    found: Tensor = _Distance.apply(query, table, index, by)  # type: ignore[no-untyped-call]
    return found


def affine_norms(query: Tensor, table: Tensor, index: Tensor | None = None, *, norm: Literal[1, 2] = 1) -> Tensor:
    """``‖a∘x + b∘y + c‖`` for each candidate, whose row is ``x`` and then ``y``; or ``‖a∘x + c‖`` of a row ``x``.

    Args:
        query: ``[batch, (parts + 1) * width]``: ``a``, ``b`` and ``c``, one after the other.
        table: ``[rows, parts * width]``.
        index: ``[batch, n]`` int64 rows; ``None`` for all.
        norm: Sum of absolute values, or the Euclidean norm.

    Returns:
        ``[batch, n]``, or ``[batch, rows]``.
    """
    found: Tensor = _Affine.apply(query, table, index, norm)  # type: ignore[no-untyped-call]
    return found


def unit_rows(rows: Tensor) -> Tensor:
    """Rows ``[..., width]`` divided by their Euclidean norms; a zero stays one and takes no gradient."""
    found: Tensor = _Unit.apply(rows)  # type: ignore[no-untyped-call]
    return found


class _Unit(torch.autograd.Function):
    """``x / ‖x‖`` with the gradient ``(g − y (y·g)) / ‖x‖``, which takes a third of what the parts' own take."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
        inverse = torch.where(length > 0, 1.0 / length, 0.0)
        unit = rows * inverse
        ctx.save_for_backward(unit, inverse)
        return unit

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (unit, inverse), grad = ctx.saved_tensors, grads[0]
        along = torch.linalg.vecdot(unit, grad)[..., None]
        return torch.addcmul(grad, unit, along, value=-1.0).mul_(inverse)


class _Inner(torch.autograd.Function):
    """Inner products with gathered rows; both gradients are weighted sums of rows, which have a kernel of their own."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, table: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(query, table, index)
        out = query.new_empty(index.shape)
        for rows in _pieces(len(index), index.shape[1] * query.shape[1]):
            torch.bmm(_rows(table, index[rows]), query[rows, :, None], out=out[rows, :, None])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (query, table, index), grad = ctx.saved_tensors, grads[0].contiguous()
        of_query = _weighted_rows(table, index, grad) if ctx.needs_input_grad[0] else None
        return of_query, _spread(grad, query, index, table) if ctx.needs_input_grad[1] else None, None


class _Distance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, table: Tensor, index: Tensor | None, by: Comparison) -> Tensor:
        out = query.new_empty(len(query), len(table) if index is None else index.shape[1])
        for rows, columns in _tiles(len(query), len(table) if index is None else index.shape[1], query.shape[1], index):
            out[rows, columns] = _measure(_difference(query, table, index, rows, columns), by)
        ctx.save_for_backward(query, table, index, out if by == "l2" else None)
        ctx.by = by
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (query, table, index, out), grad = ctx.saved_tensors, grads[0]
        if ctx.by == "l2" and index is not None:
            # d‖x − q‖ = w (x − q) with w = grad / ‖x − q‖: sums of rows again, and nothing to gather.
            weight = grad / out.clamp(min=torch.finfo(out.dtype).tiny)
            of_query = weight.sum(1, keepdim=True) * query - _weighted_rows(table, index, weight)
            return of_query, _spread(weight, query, index, table, pull=True), None, None
        of_query, of_table = torch.zeros_like(query), torch.zeros_like(table)
        for rows, columns in _tiles(len(grad), grad.shape[1], query.shape[1], index):
            slope = _slope(_difference(query, table, index, rows, columns), ctx.by)
            slope.mul_(grad[rows, columns, None])
            of_query[rows] -= slope.sum(1)
            _add_rows(of_table, slope, index, rows, columns)
        return of_query, of_table, None, None


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, table: Tensor, index: Tensor | None, norm: int) -> Tensor:
        ctx.save_for_backward(query, table, index)
        ctx.norm = norm
        out = query.new_empty(len(query), len(table) if index is None else index.shape[1])
        for rows, columns in _tiles(len(out), out.shape[1], table.shape[1], index):
            value, _ = _combined(query, table, index, rows, columns)
            out[rows, columns] = value.abs_().sum(-1) if norm == 1 else value.norm(dim=-1)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (query, table, index), grad = ctx.saved_tensors, grads[0]
        of_query, of_table = torch.zeros_like(query), torch.zeros_like(table)
        width = query.shape[1] - table.shape[1]
        factors = query.split(width, dim=1)[:-1]
        for rows, columns in _tiles(len(grad), grad.shape[1], table.shape[1], index):
            value, found = _combined(query, table, index, rows, columns)
            slope = value.sign_() if ctx.norm == 1 else torch.nn.functional.normalize(value, dim=-1)
            slope.mul_(grad[rows, columns, None])
            of_query[rows] += torch.cat([*((slope * x).sum(1) for x in found.split(width, dim=-1)), slope.sum(1)], 1)
            moved = [slope * factor[rows, None] for factor in factors]
            _add_rows(of_table, torch.cat(moved, -1) if len(moved) > 1 else moved[0], index, rows, columns)
        return of_query, of_table, None, None


# ---------------------------------------------------------------------- pieces


def _pieces(count: int, size: int) -> Iterator[slice]:
    step = max(1, _PIECE // max(size, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _tiles(count: int, candidates: int, width: int, index: Tensor | None) -> Iterator[tuple[slice, slice]]:
    """Rows and candidates of one piece; candidates that are named are cut too where a query has very many."""
    across = max(1, min(candidates, _PIECE // max(width, 1)))
    for rows in _pieces(count, across * width):
        for start in range(0, candidates, across):
            yield rows, slice(start, min(start + across, candidates))


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """``[*index, width]``; one gather of a flat index is far faster than one of a matrix."""
    return table.index_select(0, index.reshape(-1)).view(*index.shape, table.shape[1])


def _difference(query: Tensor, table: Tensor, index: Tensor | None, rows: slice, columns: slice) -> Tensor:
    if index is None:
        return table[columns] - query[rows, None]
    return _rows(table, index[rows, columns]).sub_(query[rows, None])


def _combined(query: Tensor, table: Tensor, index: Tensor | None, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
    found = table[columns][None] if index is None else _rows(table, index[rows, columns])
    width = query.shape[1] - table.shape[1]
    *factors, constant = query[rows, None].split(width, dim=-1)
    value = constant
    for factor, part in zip(factors, found.split(width, dim=-1), strict=True):
        value = torch.addcmul(value, factor, part)
    return value, found


def _measure(difference: Tensor, by: Comparison) -> Tensor:
    if by == "l1":
        return difference.abs_().sum(-1)
    if by == "l2":
        length: Tensor = torch.linalg.vector_norm(difference, dim=-1)
        return length
    if by == "half_sine":
        return difference.mul_(0.5).sin_().abs_().sum(-1)
    real, imaginary = difference.chunk(2, dim=-1)
    return torch.hypot(real, imaginary).sum(-1)


def _slope(difference: Tensor, by: Comparison) -> Tensor:
    """Derivative of the distance by the candidate's row."""
    if by == "l1":
        return difference.sign_()
    if by == "l2":
        return torch.nn.functional.normalize(difference, dim=-1)
    if by == "half_sine":
        half = difference.mul_(0.5)
        return half.sin().sign_().mul_(half.cos_()).mul_(0.5)
    real, imaginary = difference.chunk(2, dim=-1)
    size = torch.hypot(real, imaginary).clamp_(min=torch.finfo(difference.dtype).tiny)
    return difference.div_(torch.cat([size, size], -1))


def _add_rows(total: Tensor, moved: Tensor, index: Tensor | None, rows: slice, columns: slice) -> None:
    if index is None:
        total[columns] += moved.sum(0)
    else:
        total.index_add_(0, index[rows, columns].reshape(-1), moved.reshape(-1, total.shape[1]))


def _weighted_rows(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """``[batch, width]``: for each query the sum of its candidates' rows, weighted; rows are read, never copied."""
    offsets = torch.arange(0, index.numel(), index.shape[1], device=index.device)
    return torch.nn.functional.embedding_bag(
        index.reshape(-1), table, offsets, mode="sum", per_sample_weights=weight.reshape(-1)
    )


def _spread(weight: Tensor, query: Tensor, index: Tensor, table: Tensor, *, pull: bool = False) -> Tensor:
    """``[rows, width]``: for each row of the table the weighted sum of the queries that it was a candidate of.

    With ``pull``, that of the row less the query instead: the gradient of a distance.
    """
    out = torch.zeros_like(table)
    if not index.numel():
        return out
    flat, order = index.reshape(-1).sort()
    touched, counts = torch.unique_consecutive(flat, return_counts=True)
    weights = weight.reshape(-1)[order]
    # Candidates in order of their row: a bag for each row, which sums queries, and these are few enough to stay cached.
    asked = torch.div(order, index.shape[1], rounding_mode="floor")
    sums = torch.nn.functional.embedding_bag(
        asked, query, counts.cumsum(0) - counts, mode="sum", per_sample_weights=weights
    )
    if pull:
        total = torch.zeros(len(table), dtype=weights.dtype, device=weights.device).index_add_(0, flat, weights)
        sums = total[touched, None] * table.index_select(0, touched) - sums
    return out.index_copy_(0, touched, sums)
