"""Divergences from a teacher of which only some entries of each position are known: what a store or a server gives.

What is not known one by one is known together: all other entries are one, for teacher and student alike. A divergence
between what is left is at most the whole one, with equality where the others have their own shares right; it is zero
where the student agrees with all that is known. Sampled entries are another matter: they stand for the whole
distribution in the mean, so that cross-entropy with them has the gradient of the forward KL in the mean.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tutelage.losses._inplace import IMPOSSIBLE, gradient_share, kernel_of
from tutelage.losses._numeric import log_probabilities, raised
from tutelage.losses.tokens import Divergence


class SparseTargets(NamedTuple):
    """What is known of a teacher's next token, at the temperature that it was asked at.

    Args:
        ids: ``[..., k]`` int64 tokens, each once; −1 fills up, never in the first place.
        log_probs: ``[..., k]`` their log-probabilities; those of sampled ones are the logarithms of their shares.
        tail: ``[...]`` log-probability of all others together, −inf where there are none; ``None``: the entries are
            sampled, and their shares sum to 1.
    """

    ids: Tensor
    log_probs: Tensor
    tail: Tensor | None

    def rows(self, mask: Tensor | None) -> SparseTargets:
        """The same by position, ``[tokens, k]``, only of those that count."""
        width = self.ids.shape[-1]

        def flat(values: Tensor, *size: int) -> Tensor:
            return values.reshape(-1, *size) if mask is None else values[mask]

        tail = None if self.tail is None else flat(self.tail)
        return SparseTargets(flat(self.ids, width), flat(self.log_probs, width), tail)

    def between(self, rows: slice) -> SparseTargets:
        """Some rows of what `rows` gives."""
        return SparseTargets(self.ids[rows], self.log_probs[rows], None if self.tail is None else self.tail[rows])

    def check(self, positions: torch.Size, divergence: Divergence) -> None:
        """Refuse what does not fit.

        Raises:
            ValueError: The shapes differ, or the divergence needs more of the teacher than is known.
        """
        if self.ids.shape != self.log_probs.shape or self.ids.shape[:-1] != positions or not self.ids.shape[-1]:
            raise ValueError(
                f"sparse targets are {list(self.ids.shape)} ids and {list(self.log_probs.shape)} log-probabilities for "
                f"positions {list(positions)}; both must be one row of at least one entry a position"
            )
        if self.tail is not None and self.tail.shape != positions:
            raise ValueError(
                f"the tail is {list(self.tail.shape)}; it must be one number for each of {list(positions)}"
            )
        if divergence.name == "sorted":
            raise ValueError("sorted transport compares every entry, and only some are known; use another divergence")
        if self.tail is None and divergence.name != "forward-kl":
            raise ValueError(f"sampled entries estimate the forward KL without bias, and not {divergence.name}")

    def known(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, with the first in the place of what fills up, which makes writing there harmless; where; values."""
        filler = self.ids < 0
        log_probs = raised(self.log_probs).masked_fill(filler, float("-inf")).clamp(min=IMPOSSIBLE)
        return torch.where(filler, self.ids[..., :1], self.ids), filler, log_probs


def sparse_divergence(student_logits: Tensor, targets: SparseTargets, divergence: Divergence | None = None) -> Tensor:
    """A divergence from what is known of the teacher.

    Args:
        student_logits: ``[..., vocabulary]``.
        targets: What is known, at the divergence's temperature; detached.
        divergence: Any but ``sorted``; ``None``: forward KL. Its temperature tempers the student. Of sampled entries
            only forward KL, without the teacher's entropy, which samples do not tell: −Σ share · log q.

    Returns:
        ``[...]``; with a tail at least 0.

    Raises:
        ValueError: See `SparseTargets.check`.

    Source: of sampled entries arXiv:2503.16870, section 3.
    """
    divergence = Divergence() if divergence is None else divergence
    targets.check(student_logits.shape[:-1], divergence)
    log_q = log_probabilities(student_logits, divergence.temperature)
    ids, filler, log_p = targets.known()
    chosen = log_q.gather(-1, ids).masked_fill(filler, IMPOSSIBLE)
    if targets.tail is None:
        return -(log_p.exp() * chosen).sum(-1) * divergence.factor
    # Summed over the others rather than one less the known ones, whose sum may round to 1.
    rest = log_q.scatter(-1, ids, IMPOSSIBLE).logsumexp(-1, keepdim=True)
    tail = raised(targets.tail).unsqueeze(-1).clamp(min=IMPOSSIBLE)
    # Both are log-probabilities, which a softmax at temperature 1 leaves as they are.
    bare = divergence.untempered()
    return bare(torch.cat([chosen, rest], -1), torch.cat([log_p, tail], -1)) * divergence.factor


def sparse_rows(divergence: Divergence, student: Tensor, targets: SparseTargets, size: int) -> Tensor:
    """The bare divergence of some rows of tempered logits, which are then its gradient with respect to them.

    Args:
        divergence: As in `sparse_divergence`.
        student: ``[rows, vocabulary]`` logits, overwritten.
        targets: Of these rows.
        size: Entries of the vocabulary that are tokens.

    Returns:
        ``[rows]``.
    """
    own = student[:, :size]
    ids, filler, log_p = targets.known()
    log_p = log_p.to(student.dtype)
    chosen = own.gather(-1, ids)
    largest = own.amax(-1, keepdim=True)
    torch.softmax(own, -1, out=own)
    # The largest probability is one over the sum of exponentials.
    chosen.sub_(largest).add_(own.amax(-1, keepdim=True).log_()).masked_fill_(filler, IMPOSSIBLE)
    if targets.tail is None:
        share = log_p.exp().masked_fill_(filler, 0.0)
        value = (share * chosen).sum(-1).neg_()
        own.mul_(share.sum(-1, keepdim=True)).scatter_add_(-1, ids, share.neg_())
        return value
    own.scatter_(-1, ids, 0.0)
    others = own.sum(-1, keepdim=True)
    rest = others.log().clamp_(min=IMPOSSIBLE)
    tail = targets.tail.to(student.dtype).unsqueeze(-1).clamp(min=IMPOSSIBLE)
    slope, known = torch.cat([chosen, rest], -1), torch.cat([log_p, tail], -1)
    value = kernel_of(divergence)(divergence, slope, known, [torch.empty_like(slope) for _ in range(2)])
    slope.mul_(gradient_share(divergence))
    own.mul_(slope[:, -1:] / others.clamp(min=torch.finfo(own.dtype).tiny))
    own.scatter_(-1, ids, torch.where(filler, slope[:, :1], slope[:, :-1]))
    return value
