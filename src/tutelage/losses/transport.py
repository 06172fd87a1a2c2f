"""Optimal transport between two sets of features: plans, and what they cost.

Plans are found without gradients: the optimal cost's gradient is the plan times that of the cost (the envelope
theorem), so nothing is gained by going back through a solver. A plan does not know which row belongs to which column:
permuting either side changes nothing. float32 or better inside, also under autocast.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from tutelage.losses._numeric import flat, product, raised, unit


def cosine_cost(student: Tensor, teacher: Tensor) -> Tensor:
    """1 − cosine of every student row with every teacher row.

    Args:
        student: ``[rows, ...]``.
        teacher: ``[columns, ...]`` of the same width.

    Returns:
        ``[rows, columns]``, in [0, 2]; 1 where either is zero.

    Raises:
        ValueError: The widths differ.
    """
    ours, theirs = flat(student), flat(teacher)
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(
            f"costs need one width, got {list(student.shape)} and {list(teacher.shape)}; project both to the same first"
        )
    return 1 - product(unit(ours), unit(theirs).T)


def sinkhorn_plan(cost: Tensor, *, epsilon: float = 0.05, iterations: int = 20) -> Tensor:
    """Entropic optimal transport with equal weights, by Sinkhorn's iterations on logarithms.

    Args:
        cost: ``[rows, columns]``, finite; detached.
        epsilon: Strength of the entropy, above 0, in the cost's own unit. Towards 0 the plan becomes an optimal one,
            which takes more iterations; towards infinity everything goes everywhere.
        iterations: How often rows, then columns are brought to their weights; columns are exact, rows nearly so.

    Returns:
        ``[rows, columns]``, sums to 1.

    Raises:
        ValueError: The cost is no matrix, or epsilon or iterations are out of range.

    Source: Cuturi, Sinkhorn Distances, NeurIPS 2013; on logarithms as in Peyré and Cuturi, arXiv:1803.00567, 4.4.
    """
    rows, columns = _shape(cost)
    _positive("epsilon", epsilon)
    _positive("iterations", iterations)
    with torch.no_grad():
        kernel = -raised(cost.detach()) / epsilon
        row = kernel.new_zeros(rows, 1)
        column = kernel.new_zeros(1, columns)
        for _ in range(iterations):
            row = -math.log(rows) - torch.logsumexp(kernel + column, 1, keepdim=True)
            column = -math.log(columns) - torch.logsumexp(kernel + row, 0, keepdim=True)
        return (kernel + row + column).exp()


def proximal_plan(cost: Tensor, *, beta: float = 0.5, iterations: int = 50) -> Tensor:
    """Optimal transport with equal weights by the proximal point method (IPOT), with one inner step.

    Unlike Sinkhorn's, it converges to an optimal plan of the cost itself for any β.

    Args:
        cost: ``[rows, columns]``, finite; detached.
        beta: Inverse step, above 0.
        iterations: Proximal steps.

    Returns:
        ``[rows, columns]``, sums to 1.

    Raises:
        ValueError: The cost is no matrix, or beta or iterations are out of range.

    Source: arXiv:1802.04307, algorithm 1.
    """
    rows, columns = _shape(cost)
    _positive("beta", beta)
    _positive("iterations", iterations)
    with torch.no_grad():
        kernel = -raised(cost.detach()) / beta
        plan = torch.zeros_like(kernel)
        column = kernel.new_full((1, columns), -math.log(columns))
        for _ in range(iterations):
            near = kernel + plan
            row = -math.log(rows) - torch.logsumexp(near + column, 1, keepdim=True)
            column = -math.log(columns) - torch.logsumexp(near + row, 0, keepdim=True)
            plan = near + row + column
        return plan.exp()


def exact_plan(cost: Tensor) -> Tensor:
    """An optimal plan of as many rows as columns with equal weights: the best assignment, divided by their number.

    Args:
        cost: ``[rows, rows]``, finite; detached. It is solved on the CPU.

    Returns:
        ``[rows, rows]``, one entry above 0 in each row and column.

    Raises:
        ValueError: The cost is not square.
    """
    rows, columns = _shape(cost)
    if rows != columns:
        raise ValueError(f"an assignment needs as many rows as columns, got {list(cost.shape)}; use a Sinkhorn plan")
    from scipy.optimize import linear_sum_assignment

    values = raised(cost.detach())
    chosen, to = linear_sum_assignment(values.double().cpu().numpy())
    plan = torch.zeros_like(values)
    plan[torch.as_tensor(chosen), torch.as_tensor(to)] = 1 / rows
    return plan


def transport_cost(
    cost: Tensor,
    *,
    solver: Literal["sinkhorn", "ipot", "exact"] = "sinkhorn",
    epsilon: float = 0.05,
    iterations: int = 20,
) -> Tensor:
    """Σ plan · cost, with the gradient through the cost alone.

    Args:
        cost: ``[rows, columns]``.
        solver: Where the plan comes from: ``sinkhorn``, ``ipot`` (with β = 0.5) or ``exact``.
        epsilon: Of ``sinkhorn``.
        iterations: Of ``sinkhorn`` and ``ipot``.

    Returns:
        Scalar; the entropy is not part of it. In the cost's own unit, whatever the number of rows.

    Raises:
        ValueError: The solver is unknown, or see the plans.
    """
    if solver == "sinkhorn":
        plan = sinkhorn_plan(cost, epsilon=epsilon, iterations=iterations)
    elif solver == "ipot":
        plan = proximal_plan(cost, iterations=iterations)
    elif solver == "exact":
        plan = exact_plan(cost)
    else:
        raise ValueError(f"solver must be 'sinkhorn', 'ipot' or 'exact', got {solver!r}")
    return (plan * raised(cost)).sum()


def _shape(cost: Tensor) -> tuple[int, int]:
    if cost.dim() != 2 or not cost.numel():
        raise ValueError(f"a cost is [rows, columns] with at least one of each, got {list(cost.shape)}")
    return cost.shape[0], cost.shape[1]


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value}")
