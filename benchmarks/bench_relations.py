"""Losses between samples and between patches against loops over pairs: the same numbers, a fraction of the time."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import measuring
import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from tutelage.losses import angle_relation, distance_relation, graph_divergence

# A ratio of ours to a loop's: at least twenty times as fast.
LIMIT = 1 / 20
BATCH, WIDTH = 128, 64


def distances(points: Tensor) -> Tensor:
    """RKD's distances over their mean, pair by pair."""
    count = len(points)
    rows = [[(points[i] - points[j]).norm() for j in range(count)] for i in range(count)]
    table = torch.stack([torch.stack(row) for row in rows])
    return table / table[table > 0].mean()


def distances_by_pairs(student: Tensor, teacher: Tensor) -> Tensor:
    return huber_loss(distances(student), distances(teacher))


def angles(points: Tensor) -> Tensor:
    """RKD's angles, corner by corner: unit vectors from it, pair by pair."""
    table = []
    for i in range(len(points)):
        away = torch.stack([torch.nn.functional.normalize(points[j] - points[i], dim=0) for j in range(len(points))])
        table.append(torch.stack([torch.stack([a @ b for b in away]) for a in away]))
    return torch.stack(table)


def angles_by_triplets(student: Tensor, teacher: Tensor) -> Tensor:
    return huber_loss(angles(student), angles(teacher))


def graph(tokens: Tensor, neighbours: int = 8) -> Tensor:
    """Edges to the nearest, one node and one neighbour after the other."""
    count = len(tokens)
    rows = []
    for i in range(count):
        apart = torch.stack([(tokens[i] - tokens[j]).square().sum() for j in range(count)])
        order = sorted((j for j in range(count) if j != i), key=lambda j, apart=apart: float(apart[j]))  # type: ignore[misc]
        row = torch.zeros(count)
        for j in order[:neighbours]:
            row[j] = torch.exp(-apart[j] / 2)
        rows.append(row)
    return torch.stack(rows)


def graphs_by_nodes(student: Tensor, teacher: Tensor) -> Tensor:
    ours, theirs = graph(student).log_softmax(-1), graph(teacher).log_softmax(-1)
    return (theirs.exp() * (theirs - ours)).sum(-1).mean()


def graphs(student: Tensor, teacher: Tensor) -> Tensor:
    return graph_divergence(student, teacher, neighbours=8, sigma=1.0).mean()


def timed(loss: Callable[[Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor, calls: int) -> float:
    """Seconds of one forward and backward pass."""
    start = time.perf_counter()
    for _ in range(calls):
        leaf = student.clone().requires_grad_()
        loss(leaf, teacher).backward()
    return (time.perf_counter() - start) / calls


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    within = True
    # Corners of triplets are cubed: a loop over 128 of them would take a quarter of an hour.
    for name, ours, loop, count in (
        ("relation-distances", distance_relation, distances_by_pairs, BATCH),
        ("relation-angles", angle_relation, angles_by_triplets, BATCH // 8),
        ("token-graph", graphs, graphs_by_nodes, BATCH),
    ):
        student, teacher = (torch.randn(count, WIDTH) / WIDTH**0.5 for _ in range(2))
        difference = abs(float(ours(student, teacher)) - float(loop(student, teacher)))
        if difference > 1e-4:
            print(f"{name}: the two sides differ by {difference}, so their times cannot be compared", file=sys.stderr)
            return 1
        sides = {
            "ours": lambda ours=ours, s=student, t=teacher: timed(ours, s, t, 20),
            "peer": lambda loop=loop, s=student, t=teacher: timed(loop, s, t, 1),
        }
        found = measuring.alternate(sides, options.repeats)
        about = f"forward and backward over {count} vectors of width {WIDTH}; peer: a loop over pairs, equal results"
        within &= measuring.compared(name, found["ours"], found["peer"], LIMIT, about=about)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
