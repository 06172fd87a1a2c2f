"""Losses over tokens from hidden states and output matrices, without either model's logits ever existing in full.

The tokens are taken in chunks. The logits of one chunk are computed, turned in place into the loss and its analytic
gradient, and that is multiplied back onto hidden states and matrices before the next chunk takes the same memory.
Nothing is kept for the backward pass but the gradients themselves.

Values and gradients are those of the plain formula: `Divergence` and `cross_entropy` of `Head.logits()`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tutelage.losses._inplace import IMPOSSIBLE, Room, gradient_share, kernel_of, labelled
from tutelage.losses._numeric import raised
from tutelage.losses.sparse import SparseTargets, sparse_rows
from tutelage.losses.tokens import Divergence

# Rows are brought to their gradient a few at a time, so that what is read several times stays in the processor's cache.
_CACHED = 1 << 20


@dataclass(frozen=True)
class Head:
    """Hidden states and what makes logits of them: ``hidden @ weight.T + bias + scaling · hidden @ down.T @ up.T``.

    Args:
        hidden: ``[..., width]``: what the output projection is given.
        weight: ``[vocabulary, width]``; may be tied to the embedding.
        bias: ``[vocabulary]``, or none.
        down: ``[rank, width]``: first factor of a LoRA on the projection, or none.
        up: ``[vocabulary, rank]``: second factor.
        scaling: Of the LoRA.

    Raises:
        ValueError: Shapes do not fit.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None
    down: Tensor | None = None
    up: Tensor | None = None
    scaling: float = 1.0

    def __post_init__(self) -> None:
        vocabulary, width = self.weight.shape
        fits = self.hidden.shape[-1] == width and (self.bias is None or self.bias.shape == (vocabulary,))
        if (self.down is None) != (self.up is None):
            raise ValueError("a LoRA has two factors, down and up; only one of them is given")
        if self.down is not None and self.up is not None:
            fits &= self.down.shape[1] == width and self.up.shape == (vocabulary, self.down.shape[0])
        if not fits:
            shapes = {f.name: list(v.shape) for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}
            raise ValueError(f"the parts of an output projection do not fit each other: {shapes}")

    def logits(self) -> Tensor:
        """``[..., vocabulary]``: all logits, in float32 or better."""
        hidden = raised(self.hidden)
        logits = hidden @ raised(self.weight).T
        if self.bias is not None:
            logits = logits + raised(self.bias)
        if self.down is not None and self.up is not None:
            logits = logits + self.scaling * (hidden @ raised(self.down).T @ raised(self.up).T)
        return logits

    def rows(self, mask: Tensor | None) -> Head:
        """The same with ``[tokens, width]`` hidden states, only of those positions."""
        if mask is not None:
            return replace(self, hidden=self.hidden[mask])
        if self.hidden.dim() == 2:
            return self
        return replace(self, hidden=self.hidden.reshape(-1, self.hidden.shape[-1]))


class Projected(NamedTuple):
    """A loss from hidden states.

    Args:
        loss: Scalar, with a graph: what is minimised.
        divergence: ``[...]`` without a graph: the divergence at each position, 0 where it is masked; none without a
            teacher.
        cross_entropy: ``[...]`` without a graph, likewise; none without labels.
        tokens: How many positions count, for `Losses.over`.
    """

    loss: Tensor
    divergence: Tensor | None
    cross_entropy: Tensor | None
    tokens: int


def projected_loss(
    student: Head,
    teacher: Head | SparseTargets | None = None,
    *,
    divergence: Divergence | None = None,
    labels: Tensor | None = None,
    label_smoothing: float = 0.0,
    soft: float = 1.0,
    hard: float = 1.0,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    vocabulary: int | None = None,
    chunk_bytes: int = 64 << 20,
) -> Projected:
    """Mean over tokens of soft · divergence from a teacher + hard · cross-entropy with labels.

    The gradient goes to the student's hidden states, weight, bias and LoRA, wherever they want one. It can be asked for
    once, and not differentiated again. Beside the gradients it takes memory for one chunk of each model's logits.

    Args:
        student: What is trained.
        teacher: What it is to resemble; detached. Its vocabulary may be padded to another size. Or what is known of it,
            as in `sparse_divergence`.
        divergence: How that is measured; ``None``: forward KL.
        labels: ``[...]`` int64 tokens; those at masked positions are not read.
        label_smoothing: In [0, 1), of the cross-entropy, over all entries that count.
        soft: Weight of the divergence.
        hard: Weight of the cross-entropy.
        mask: ``[...]`` bool: positions that count; ``None``: all. Nothing is computed for the others.
        weights: ``[...]``, or none: a weight for each position. The mean divides by the number of positions anyway.
        vocabulary: Entries from there on are no tokens, see `Divergence`.
        chunk_bytes: Most that the logits of one chunk of tokens take, for each model; at least one token is taken.

    Raises:
        ValueError: Shapes do not fit, there is nothing to minimise, or a setting is out of range.
    """
    shape = student.hidden.shape[:-1]
    if teacher is None and labels is None:
        raise ValueError("a loss needs a teacher, labels, or both")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
    for name, part in (
        ("teacher's hidden states", teacher.hidden[..., 0] if isinstance(teacher, Head) else None),
        ("labels", labels),
        ("mask", mask),
        ("weights", weights),
    ):
        if part is not None and part.shape != shape:
            raise ValueError(f"the {name} are of positions {list(part.shape)} and the student's of {list(shape)}")
    if mask is not None and mask.is_floating_point():
        raise ValueError(f"a mask is bool or whole 0/1, got {mask.dtype}; use weights")
    mask = None if mask is None else mask.bool()
    own = student.rows(mask)
    divergence = Divergence() if divergence is None else divergence
    targets = teacher if isinstance(teacher, SparseTargets) else None
    other = teacher.rows(mask) if isinstance(teacher, Head) else None
    if targets is not None:
        targets.check(shape, divergence)
        targets = targets.rows(mask)
    if other is not None:
        divergence.check_sizes(own.weight.shape[0], other.weight.shape[0], vocabulary)
    elif vocabulary is not None and not 1 <= vocabulary <= own.weight.shape[0]:
        raise ValueError(f"a vocabulary of {vocabulary} tokens does not fit the student's {own.weight.shape[0]}")

    def flat(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.reshape(-1) if mask is None else values[mask]

    count = own.hidden.shape[0]
    task = _Task(
        other, targets, divergence, flat(labels), label_smoothing, soft, hard, flat(weights), vocabulary, chunk_bytes,
        wanted=torch.is_grad_enabled(),
    )  # fmt: skip
    loss, distance, entropy = _Projected.apply(  # type: ignore[no-untyped-call]
        task, own, own.hidden, own.weight, own.bias, own.down, own.up
    )

    def back(values: Tensor) -> Tensor:
        if mask is None:
            return values.view(shape)
        return values.new_zeros(shape).masked_scatter_(mask, values)

    return Projected(
        loss, None if teacher is None else back(distance), None if labels is None else back(entropy), count
    )


@dataclass(frozen=True)
class _Task:
    """What is computed, apart from the student."""

    teacher: Head | None
    targets: SparseTargets | None
    divergence: Divergence
    labels: Tensor | None
    smoothing: float
    soft: float
    hard: float
    weights: Tensor | None
    vocabulary: int | None
    chunk_bytes: int
    wanted: bool


class _Matrices:
    """One model's projection in the precision that is computed in, cut to the vocabulary."""

    def __init__(self, head: Head, vocabulary: int | None, dtype: torch.dtype) -> None:
        def part(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.to(dtype)

        cut = slice(vocabulary)
        self.hidden, self.dtype, self.scaling = head.hidden, dtype, head.scaling
        self.weight = head.weight[cut].to(dtype)
        bias = None if head.bias is None else head.bias[cut].to(dtype)
        self.bias = None if bias is None else bias.clamp(min=IMPOSSIBLE)
        self.down, self.up = part(head.down), None if head.up is None else part(head.up[cut])
        self.size = self.weight.shape[0]

    def rows(self, rows: slice, factor: float) -> Tensor:
        """Hidden states of some tokens, times a factor."""
        hidden = self.hidden[rows].to(self.dtype)
        return hidden if factor == 1 else hidden * factor

    def project(self, hidden: Tensor, factor: float, out: Tensor) -> Tensor | None:
        """Write the logits of hidden states times ``factor``; returns what the LoRA's ``up`` was given."""
        own = out[:, : self.size]
        torch.mm(hidden, self.weight.T, out=own)
        if self.bias is not None:
            own.add_(self.bias, alpha=factor)
        if own.shape[1] < out.shape[1]:
            out[:, self.size :] = IMPOSSIBLE
        if self.down is None or self.up is None:
            return None
        inner = (hidden @ self.down.T).mul_(self.scaling)
        own.addmm_(inner, self.up.T)
        return inner


class _Projected(torch.autograd.Function):
    """The loss, and in the same pass its gradients."""

    @staticmethod
    def forward(ctx: Any, task: _Task, student: Head, *parts: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        # The parts are those of the student, passed one by one for autograd to see.
        needs = [wanted and task.wanted for wanted in ctx.needs_input_grad[2:]]
        kind = student.hidden.device.type
        if torch.is_autocast_enabled(kind):
            with torch.autocast(kind, enabled=False):
                loss, distance, entropy, grads = _computed(task, student, needs)
        else:
            loss, distance, entropy, grads = _computed(task, student, needs)
        ctx.grads = grads
        ctx.mark_non_differentiable(distance, entropy)
        return loss, distance, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Any, ...]:
        if ctx.grads is None:
            raise RuntimeError("the gradients of a projected loss are given away once; compute the loss again")
        # Given away, so that they become the parameters' gradients without a copy.
        grads, ctx.grads = ctx.grads, None
        if not (upstream.device.type == "cpu" and upstream.item() == 1):
            for grad in grads:
                if grad is not None:
                    grad.mul_(upstream)
        return None, None, *grads


def _computed(task: _Task, student: Head, needs: list[bool]) -> tuple[Tensor, Tensor, Tensor, list[Tensor | None]]:
    hidden, labels = student.hidden, task.labels
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    ours = _Matrices(student, task.vocabulary, dtype)
    theirs = None if task.teacher is None else _Matrices(task.teacher, task.vocabulary, dtype)
    count, size = hidden.shape[0], max(ours.size, theirs.size if theirs else 0)
    weights = None if task.weights is None else task.weights.to(dtype)
    parts = (student.hidden, student.weight, student.bias, student.down, student.up)
    grads = [
        torch.empty_like(part, dtype=dtype) if need and part is not None else None
        for part, need in zip(parts, needs, strict=True)
    ]
    _clear(grads, ours.size if count else 0)
    distance, entropy = (hidden.new_zeros(count, dtype=dtype) for _ in range(2))
    divergence, temperature = task.divergence, task.divergence.temperature
    # Where labels are scored beside a tempered divergence, the student's logits are needed as they are.
    distilled = theirs is not None or task.targets is not None
    mixed = distilled and labels is not None
    factor = 1.0 if not distilled or (mixed and temperature != 1) else 1 / temperature
    tempered = 1 / temperature if mixed and temperature != 1 else 1.0
    soft = task.soft * divergence.factor * (1.0 if theirs is None else gradient_share(divergence)) / temperature
    slope = 1.0 if mixed else soft / factor if distilled else task.hard
    kernel = kernel_of(divergence)
    step = _step(count, size, task.chunk_bytes, dtype)
    room = _Buffers(hidden, min(step, count), size, dtype, teacher=theirs is not None, mixed=mixed)
    for start in range(0, count, step):
        rows = slice(start, min(start + step, count))
        length = rows.stop - rows.start
        scaled = ours.rows(rows, factor)
        logits = room.student[:length]
        inner = ours.project(scaled, factor, logits)
        if theirs is not None:
            theirs.project(theirs.rows(rows, 1 / temperature), 1 / temperature, room.teacher[:length])
        for begin in range(0, length, room.group):
            few = slice(begin, min(begin + room.group, length))
            at = slice(rows.start + few.start, rows.start + few.stop)
            own = logits[few]
            spare = room.spare.rows(few.stop - few.start)
            if labels is not None and not mixed:
                entropy[at] = labelled(own, labels[at], task.smoothing, own)
            if labels is not None and mixed:
                tokens = slice(ours.size)
                entropy[at] = labelled(own[:, tokens], labels[at], task.smoothing, spare[2][:, tokens])
                own.mul_(tempered)
            if theirs is not None:
                distance[at] = kernel(divergence, own, room.teacher[few], spare)
            elif task.targets is not None:
                distance[at] = sparse_rows(divergence, own, task.targets.between(at), ours.size)
            if mixed:
                own.mul_(soft).add_(spare[2], alpha=task.hard)
        each = None if weights is None else weights[rows, None]
        _accumulate(grads, ours, logits[:, : ours.size], scaled, inner, each, slope / count, rows, factor)
    distance *= divergence.factor
    values = task.hard * entropy if not distilled else task.soft * distance
    values = values.add_(entropy, alpha=task.hard) if mixed else values
    loss = (values if weights is None else values * weights).sum() / max(count, 1)
    given = [None if g is None or p is None else g.to(p.dtype) for g, p in zip(grads, parts, strict=True)]
    return loss, distance, entropy, given


def _clear(grads: list[Tensor | None], size: int) -> None:
    """Zero what no chunk will write: entries that are no tokens, or all where no token counts."""
    for place, grad in enumerate(grads):
        if grad is not None and (size == 0 or place in (1, 2, 4)):
            grad[size:].zero_()


def _step(count: int, size: int, chunk_bytes: int, dtype: torch.dtype) -> int:
    """Tokens of a chunk: as many as the memory allows, in chunks of nearly one size."""
    most = max(chunk_bytes // (size * dtype.itemsize), 1)
    chunks = max(-(-count // most), 1)
    return max(-(-count // chunks), 1)


class _Buffers:
    """The logits of a chunk, and room to work on some rows of it."""

    def __init__(self, like: Tensor, rows: int, size: int, dtype: torch.dtype, *, teacher: bool, mixed: bool) -> None:
        self.student = like.new_empty(rows, size, dtype=dtype)
        self.teacher = like.new_empty(rows if teacher else 0, size, dtype=dtype)
        few = max(_CACHED // (size * dtype.itemsize), 1)
        self.group = max(min(few, rows) if like.device.type == "cpu" else rows, 1)
        self.spare = Room(self.student[: self.group], 3 if mixed else 2 if teacher else 0)


def _accumulate(
    grads: list[Tensor | None],
    ours: _Matrices,
    slope: Tensor,
    hidden: Tensor,
    inner: Tensor | None,
    weights: Tensor | None,
    share: float,
    rows: slice,
    factor: float,
) -> None:
    """Add a chunk's part to the gradients, or write the first one's. Weights go onto the narrow side of each product.

    ``hidden`` and ``inner`` are already multiplied by ``factor``, which every path to the logits passes; ``share`` is
    what the whole gradient is multiplied by.
    """
    to_hidden, to_weight, to_bias, to_down, to_up = grads
    beta = 1 if rows.start else 0

    def weighed(values: Tensor) -> Tensor:
        return values if weights is None else values * weights

    if to_weight is not None:
        to_weight[: ours.size].addmm_(slope.T, weighed(hidden), beta=beta, alpha=share)
    if to_bias is not None:
        ones = slope.new_ones(slope.shape[0]) if weights is None else weights[:, 0]
        to_bias[: ours.size].addmv_(slope.T, ones, beta=beta, alpha=share * factor)
    if to_up is not None and inner is not None:
        to_up[: ours.size].addmm_(slope.T, weighed(inner), beta=beta, alpha=share)
    through = None
    if ours.up is not None and (to_down is not None or to_hidden is not None):
        through = weighed((slope @ ours.up).mul_(share * ours.scaling))
    if to_down is not None and through is not None:
        to_down.addmm_(through.T, hidden, beta=beta)
    if to_hidden is not None:
        part = to_hidden[rows].addmm_(slope, ours.weight, beta=0, alpha=share * factor)
        if weights is not None:
            part.mul_(weights)
        if through is not None and ours.down is not None:
            part.addmm_(through, ours.down, alpha=factor)
