"""Every divergence between next tokens with its gradient, written over the logits it is of.

Each function takes some rows of logits, the student's and the teacher's, and returns the bare divergence of each row.
The student's rows are then its gradient with respect to them; the teacher's are spent. The gradient of any function
of the probabilities q has the form q (c − Σ q c), with c its derivative by q, which is what `_centred` makes of c.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tutelage.losses.tokens import Divergence

# Stands for a probability that rounds to 0: no ratio of two is then undefined, and no sum changes.
_LEAST = 1e-30
# Stands for the logit of an impossible entry, whose probability is 0: a difference of two stays a number.
IMPOSSIBLE = -1e4


class Room:
    """Memory for some rows that is used again and again.

    Args:
        like: ``[rows, vocabulary]``, of which more is wanted.
        count: How often.
    """

    def __init__(self, like: Tensor, count: int) -> None:
        self._parts = [torch.empty_like(like) for _ in range(count)]

    def rows(self, count: int) -> list[Tensor]:
        """The first rows of each."""
        return [part[:count] for part in self._parts]


Kernel = Callable[[Divergence, Tensor, Tensor, list[Tensor]], Tensor]


def _dot(left: Tensor, right: Tensor) -> Tensor:
    total: Tensor = torch.linalg.vecdot(left, right)
    return total


def _probabilities(logits: Tensor, out: Tensor) -> Tensor:
    return torch.softmax(logits, -1, out=out).clamp_min_(_LEAST)


def _centred(out: Tensor, q: Tensor, c: Tensor, mean: Tensor | None = None) -> None:
    """``out`` = q (c − Σ q c), given Σ q c where it is known; ``c`` may be ``out``."""
    mean = _dot(q, c) if mean is None else mean
    torch.sub(c, mean.unsqueeze(-1), out=out).mul_(q)


def _forward(_: Divergence, student: Tensor, teacher: Tensor, room: list[Tensor]) -> Tensor:
    torch.log_softmax(student, -1, out=student)
    torch.log_softmax(teacher, -1, out=teacher)
    p = torch.exp(teacher, out=room[0])
    value = _dot(p, teacher.sub_(student))
    student.exp_().sub_(p)
    return value


def _reverse(_: Divergence, student: Tensor, teacher: Tensor, room: list[Tensor]) -> Tensor:
    torch.log_softmax(student, -1, out=student)
    torch.log_softmax(teacher, -1, out=teacher)
    q = torch.exp(student, out=room[0])
    value = _dot(q, student.sub_(teacher))
    _centred(student, q, student, value)
    return value


def _symmetric(divergence: Divergence, student: Tensor, teacher: Tensor, room: list[Tensor]) -> Tensor:
    share = divergence.share
    torch.log_softmax(student, -1, out=student)
    torch.log_softmax(teacher, -1, out=teacher)
    q = torch.exp(student, out=room[0])
    p = torch.exp(teacher, out=room[1])
    gap = student.sub_(teacher)
    forward, reverse = _dot(p, gap).neg_(), _dot(q, gap)
    gap.sub_(reverse.unsqueeze(-1)).mul_(share).add_(1 - share).mul_(q).sub_(p, alpha=1 - share)
    return forward.mul_(1 - share).add_(reverse, alpha=share)


def _jensen_shannon(divergence: Divergence, student: Tensor, teacher: Tensor, room: list[Tensor]) -> Tensor:
    beta = divergence.beta
    q, p = _probabilities(student, room[0]), _probabilities(teacher, teacher)
    middle = torch.lerp(q, p, beta, out=room[1])
    ratio = torch.div(q, middle, out=student).log_()
    value = _dot(q, ratio)
    _centred(student, q, ratio, value)
    # The share of the student is left to whoever scales the gradient, see `gradient_share`.
    toward = _dot(p, torch.div(p, middle, out=middle).log_())
    return value.mul(1 - beta).add_(toward, alpha=beta)


def _skew(divergence: Divergence, student: Tensor, teacher: Tensor, room: list[Tensor]) -> Tensor:
    alpha = divergence.alpha
    q, p = _probabilities(student, room[0]), _probabilities(teacher, teacher)
    ratio = torch.div(p, torch.lerp(q, p, alpha, out=student), out=student)
    value = _dot(p, torch.log(ratio, out=room[1]))
    _centred(student, q, ratio.mul_(alpha - 1))
    return value


def _skew_reverse(divergence: Divergence, student: Tensor, teacher: Tensor, room: list[Tensor]) -> Tensor:
    alpha = divergence.alpha
    q, p = _probabilities(student, room[0]), _probabilities(teacher, teacher)
    ratio = torch.div(q, torch.lerp(p, q, alpha, out=student), out=student)
    log_ratio = torch.log(ratio, out=room[1])
    value = _dot(q, log_ratio)
    _centred(student, q, torch.sub(log_ratio, ratio, alpha=alpha, out=student))
    return value


def _total_variation(_: Divergence, student: Tensor, teacher: Tensor, room: list[Tensor]) -> Tensor:
    q, p = torch.softmax(student, -1, out=room[0]), torch.softmax(teacher, -1, out=teacher)
    gap = torch.sub(q, p, out=student)
    value = torch.abs(gap, out=teacher).sum(-1).mul_(0.5)
    _centred(student, q, gap.sign_().mul_(0.5))
    return value


def _sorted(divergence: Divergence, student: Tensor, teacher: Tensor, room: list[Tensor]) -> Tensor:
    q, p = torch.softmax(student, -1, out=room[0]), torch.softmax(teacher, -1, out=teacher)
    k = divergence.top_k
    if k is None or k >= q.shape[-1]:
        ours, places = q.sort(-1, descending=True)
        theirs, rest = p.sort(-1, descending=True).values, None
    else:
        ours, places = q.topk(k, -1)
        theirs = p.topk(k, -1).values
        rest = (1 - ours.sum(-1)).clamp_(min=0) - (1 - theirs.sum(-1)).clamp_(min=0)
    gap = ours.sub_(theirs)
    value = gap.abs().sum(-1)
    slope = student.zero_()
    if rest is not None:
        value += rest.abs()
        slope.copy_(rest.sign().unsqueeze(-1).expand_as(slope))
    slope.scatter_(-1, places, gap.sign_())
    _centred(student, q, slope)
    return value


def kernel_of(divergence: Divergence) -> Kernel:
    """What computes a divergence; the ends of a mixture are the plain divergences."""
    forward, reverse = divergence.directions
    if divergence.name != "symmetric-kl" and (forward or reverse):
        return _forward if forward else _reverse
    return {
        "symmetric-kl": _symmetric,
        "jsd": _jensen_shannon,
        "skew-kl": _skew,
        "skew-reverse-kl": _skew_reverse,
        "total-variation": _total_variation,
        "sorted": _sorted,
    }[divergence.name]


def gradient_share(divergence: Divergence) -> float:
    """What the gradient that a kernel leaves is still to be multiplied by."""
    return 1 - divergence.beta if kernel_of(divergence) is _jensen_shannon else 1.0


def labelled(student: Tensor, labels: Tensor, smoothing: float, out: Tensor) -> Tensor:
    """Cross-entropy with labels, its gradient written to ``out``, which may be the logits themselves.

    Args:
        student: ``[rows, vocabulary]`` logits.
        labels: ``[rows]`` int64.
        smoothing: Share of the target that is spread evenly.
        out: ``[rows, vocabulary]``.

    Returns:
        ``[rows]``.
    """
    place = labels.unsqueeze(-1)
    chosen = student.gather(-1, place).squeeze(-1)
    if smoothing:
        chosen = chosen.mul_(1 - smoothing).add_(student.mean(-1), alpha=smoothing)
    largest = student.amax(-1)
    torch.softmax(student, -1, out=out)
    # The largest probability is one over the sum of exponentials.
    value = largest.sub_(out.amax(-1).log_()).sub_(chosen)
    if smoothing:
        out.sub_(smoothing / out.shape[-1])
    out.scatter_add_(-1, place, torch.full_like(place, smoothing - 1, dtype=out.dtype))
    return value
