"""One way to a generalised JSD with both output projections, forward and backward: CPU seconds and extra memory, as
JSON.

Imports torch and the one library that is measured, so that either side's environment can run it.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

BETA = 0.5
Step = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def ours() -> Step:
    from tutelage.losses import Divergence, Head, projected_loss

    def loss(student: Tensor, own: Tensor, teacher: Tensor, other: Tensor) -> Tensor:
        return projected_loss(Head(student, own), Head(teacher, other), divergence=Divergence("jsd", beta=BETA)).loss

    return loss


def plain() -> Step:
    from tutelage.losses import Divergence, Head

    def loss(student: Tensor, own: Tensor, teacher: Tensor, other: Tensor) -> Tensor:
        with torch.no_grad():
            logits = Head(teacher, other).logits()
        return Divergence("jsd", beta=BETA)(Head(student, own).logits(), logits).mean()

    return loss


def trl_dense() -> Step:
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    def loss(student: Tensor, own: Tensor, teacher: Tensor, other: Tensor) -> Tensor:
        with torch.no_grad():
            logits = teacher @ other.T
        # As its trainer asks for it: with labels, of which none is ignored here.
        labels = torch.zeros(len(student), dtype=torch.int64)
        return GKDTrainer.generalized_jsd_loss(student @ own.T, logits, labels=labels, beta=BETA)

    return loss


def trl_tiled() -> Step:
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    def loss(student: Tensor, own: Tensor, teacher: Tensor, other: Tensor) -> Tensor:
        return ChunkedDivergenceFunction.apply(student, own, None, teacher, other, None, BETA)[0].mean()

    return loss


def liger(tokens: int) -> Step:
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    # Not compiled: that needs a compiler on the user's machine, and the other sides have none either.
    module = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=BETA, compiled=False, chunk_size=tokens
    )

    def loss(student: Tensor, own: Tensor, teacher: Tensor, other: Tensor) -> Tensor:
        return module(student, own, teacher, other, torch.zeros(len(student), dtype=torch.int64))

    return loss


SIDES: dict[str, Callable[[], Step]] = {
    "ours": ours,
    "plain": plain,
    "trl-dense": trl_dense,
    "trl-tiled": trl_tiled,
    "liger": lambda: liger(1024),
    "liger-128": lambda: liger(128),
}


def resident(field: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at most since it was reset."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def main(name: str, *sizes: str) -> None:
    torch.set_num_threads(1)
    tokens, vocabulary, narrow, wide, times = map(int, sizes)
    torch.manual_seed(0)
    student, teacher = torch.randn(tokens, narrow, requires_grad=True), torch.randn(tokens, wide)
    own = (2 * torch.randn(vocabulary, narrow) / narrow**0.5).requires_grad_()
    other = 2 * torch.randn(vocabulary, wide) / wide**0.5
    loss = SIDES[name]()
    small = [torch.randn(4, 8, requires_grad=True), torch.randn(16, 8, requires_grad=True)]
    loss(*small, torch.randn(4, 8), torch.randn(16, 8)).backward()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    value = loss(student, own, teacher, other)
    value.backward()
    extra = resident("VmHWM") - before
    assert student.grad is not None
    assert own.grad is not None
    found = {"loss": value.item(), "gradient": [student.grad.norm().item(), own.grad.norm().item()]}
    seconds = []
    for _ in range(times):
        student.grad = own.grad = None
        begin = time.process_time()
        loss(student, own, teacher, other).backward()
        seconds.append(time.process_time() - begin)
    json.dump({"cpu": statistics.median(seconds), "extra": extra, **found}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
