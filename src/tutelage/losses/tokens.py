"""How far a student's next token is from a teacher's: every divergence that language models are distilled by.

As in `tutelage.losses.divergences`: over the last axis, summed over the vocabulary and never divided by it, one
number a position, in nats, float32 or better inside. Which positions count is the business of
`tutelage.losses.positions`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from tutelage.losses._numeric import log_probabilities, relative_entropy, same_shape
from tutelage.losses.divergences import jensen_shannon, kl_divergence, total_variation
from tutelage.losses.masks import pad_logits

DivergenceName = Literal[
    "forward-kl", "reverse-kl", "symmetric-kl", "jsd", "skew-kl", "skew-reverse-kl", "total-variation", "sorted"
]
Detached = Literal["teacher", "student", "neither"]


def symmetric_kl(
    student_logits: Tensor, teacher_logits: Tensor, *, share: float = 0.5, temperature: float = 1.0, scale: bool = True
) -> Tensor:
    """Both directions at once: (1 − share) · KL(p ‖ q) + share · KL(q ‖ p).

    Args:
        student_logits: ``[..., vocabulary]``, giving q.
        teacher_logits: ``[..., vocabulary]``, giving p.
        share: Weight of the reverse direction, in [0, 1].
        temperature: Above 0, for both sides.
        scale: Multiply by temperature².

    Returns:
        ``[...]``, at least 0.

    Raises:
        ValueError: The shapes differ, or temperature or share are out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share}")
    same_shape(student_logits, teacher_logits, "logits")
    student = log_probabilities(student_logits, temperature)
    teacher = log_probabilities(teacher_logits, temperature)
    # An end leaves the other direction out, which may be infinite.
    divergence = (1 - share) * relative_entropy(teacher, student) if share < 1 else 0.0
    divergence = divergence + share * relative_entropy(student, teacher) if share > 0 else divergence
    assert isinstance(divergence, Tensor)
    return divergence * temperature**2 if scale else divergence


def skew_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    alpha: float = 0.1,
    direction: Literal["forward", "reverse"] = "forward",
    temperature: float = 1.0,
    scale: bool = True,
) -> Tensor:
    """KL to a mixture that a share of the first distribution is mixed into, so that it is bounded.

    Forward: KL(p ‖ α p + (1 − α) q). Reverse: KL(q ‖ α q + (1 − α) p). The entropy of the first distribution is
        included, so equal logits give 0.

    Args:
        student_logits: ``[..., vocabulary]``, giving q.
        teacher_logits: ``[..., vocabulary]``, giving p.
        alpha: Share of the distribution that diverges, in [0, 1); 0 is the plain divergence.
        direction: Which distribution diverges: the teacher's forward, the student's reverse.
        temperature: Above 0, for both sides.
        scale: Multiply by temperature².

    Returns:
        ``[...]``, at least 0 and, before scaling, at most −ln α.

    Raises:
        ValueError: The shapes differ, or temperature, alpha or direction are out of range.

    Source: arXiv:2402.03898, equations 4 and 5.
    """
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha must lie in [0, 1), got {alpha}")
    if alpha == 0:
        return kl_divergence(student_logits, teacher_logits, temperature=temperature, direction=direction, scale=scale)
    same_shape(student_logits, teacher_logits, "logits")
    student = log_probabilities(student_logits, temperature)
    teacher = log_probabilities(teacher_logits, temperature)
    if direction == "forward":
        first, second = teacher, student
    elif direction == "reverse":
        first, second = student, teacher
    else:
        raise ValueError(f"direction must be 'forward' or 'reverse', got {direction!r}")
    # Not logaddexp: its gradient is NaN where both sides are impossible.
    mixture = alpha * first.exp() + (1 - alpha) * second.exp()
    divergence = relative_entropy(first, mixture.masked_fill(mixture == 0, 1.0).log())
    return divergence * temperature**2 if scale else divergence


def sorted_distance(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    teacher_temperature: float | None = None,
    top_k: int | None = None,
) -> Tensor:
    """Σ |sort(p) − sort(q)|, both in falling order: optimal transport where every move costs the same.

    Blind to which token is which, so the vocabularies may be any two; the shorter list is continued with probability 0.

    Args:
        student_logits: ``[..., student vocabulary]``.
        teacher_logits: ``[..., teacher vocabulary]``.
        temperature: Above 0, of the student, and of the teacher where it has none of its own.
        teacher_temperature: Above 0, of the teacher.
        top_k: Compare only so many of the largest, and all others as one; ``None``: all.

    Returns:
        ``[...]``, in [0, 2]; no temperature² factor, so that the value stays one of probabilities.

    Raises:
        ValueError: The positions differ, or temperature or top_k are out of range.

    Source: arXiv:2402.12030, equation 5.
    """
    if student_logits.shape[:-1] != teacher_logits.shape[:-1]:
        shapes = f"the student's logits are {list(student_logits.shape)} and the teacher's {list(teacher_logits.shape)}"
        raise ValueError(f"{shapes}; all but the vocabulary must be equal")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    student = _ranked(student_logits, temperature, top_k)
    teacher = _ranked(teacher_logits, temperature if teacher_temperature is None else teacher_temperature, top_k)
    size = max(student.shape[-1], teacher.shape[-1])
    student, teacher = (torch.nn.functional.pad(one, (0, size - one.shape[-1])) for one in (student, teacher))
    return (student - teacher).abs().sum(-1)


def _ranked(logits: Tensor, temperature: float, top_k: int | None) -> Tensor:
    """Probabilities in falling order; with ``top_k`` exactly so many, padded, and the rest's sum behind them."""
    probabilities = log_probabilities(logits, temperature).exp()
    if top_k is None:
        return probabilities.sort(-1, descending=True).values
    kept = min(top_k, probabilities.shape[-1])
    top = probabilities.topk(kept, -1).values
    rest = (1 - top.sum(-1, keepdim=True)).clamp(min=0)
    return torch.cat([torch.nn.functional.pad(top, (0, top_k - kept)), rest], -1)


@dataclass(frozen=True)
class Divergence:
    """One of the divergences with its settings: of logits as it stands, of hidden states in `projected_divergence`.

    With p the teacher's and q the student's distribution: ``forward-kl`` KL(p ‖ q); ``reverse-kl`` KL(q ‖ p);
    ``symmetric-kl`` both, see `symmetric_kl`; ``jsd`` the generalised Jensen-Shannon divergence, see `jensen_shannon`;
    ``skew-kl`` and ``skew-reverse-kl``, see `skew_kl`; ``total-variation`` ½ Σ |p − q|; ``sorted``, see
    `sorted_distance`.

    Args:
        name: Which.
        temperature: Above 0, for both sides.
        beta: Of ``jsd``: the teacher's share of the mixture, in [0, 1]; the ends are the forward and the reverse KL.
        alpha: Of the skewed ones: share of the distribution that diverges, in [0, 1).
        share: Of ``symmetric-kl``: weight of the reverse direction, in [0, 1].
        top_k: Of ``sorted``: compare only so many of the largest.
        scale: Multiply by temperature² where it is a divergence in nats.

    Raises:
        ValueError: A setting is out of range.
    """

    name: DivergenceName = "forward-kl"
    temperature: float = 1.0
    beta: float = 0.5
    alpha: float = 0.1
    share: float = 0.5
    top_k: int | None = None
    scale: bool = True

    def __post_init__(self) -> None:
        if self.name not in get_args(DivergenceName):
            raise ValueError(f"a divergence is one of {', '.join(get_args(DivergenceName))}, got {self.name!r}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if not (0 <= self.beta <= 1 and 0 <= self.share <= 1 and 0 <= self.alpha < 1):
            raise ValueError(
                "beta and share must lie in [0, 1] and alpha in [0, 1), "
                f"got beta {self.beta}, share {self.share}, alpha {self.alpha}"
            )

    @property
    def factor(self) -> float:
        """What the bare divergence is multiplied by."""
        return self.temperature**2 if self.scale and self.name not in ("total-variation", "sorted") else 1.0

    def untempered(self) -> Divergence:
        """The same at temperature 1, without a factor."""
        return replace(self, temperature=1.0)

    def __call__(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        *,
        vocabulary: int | None = None,
        detach: Detached = "teacher",
    ) -> Tensor:
        """The divergence at every position.

        Args:
            student_logits: ``[..., student vocabulary]``.
            teacher_logits: ``[..., teacher vocabulary]`` of the same tokenizer, but for ``sorted``.
            vocabulary: How many tokens the tokenizer has: entries from there on are made impossible on both sides.
                ``None``: all entries count, and the narrower vocabulary is widened by impossible ones.
            detach: Which side no gradient reaches.

        Returns:
            ``[...]``, at least 0.

        Raises:
            ValueError: The positions differ, or the widening would make the divergence infinite.
        """
        if detach == "teacher":
            teacher_logits = teacher_logits.detach()
        elif detach == "student":
            student_logits = student_logits.detach()
        elif detach != "neither":
            raise ValueError(f"detach must be 'teacher', 'student' or 'neither', got {detach!r}")
        if self.name == "sorted":
            if vocabulary is not None:
                student_logits, teacher_logits = student_logits[..., :vocabulary], teacher_logits[..., :vocabulary]
            return sorted_distance(student_logits, teacher_logits, temperature=self.temperature, top_k=self.top_k)
        student_logits, teacher_logits = self.widened(student_logits, teacher_logits, vocabulary)
        return self._plain(student_logits, teacher_logits)

    def widened(self, student: Tensor, teacher: Tensor, vocabulary: int | None) -> tuple[Tensor, Tensor]:
        """Both sides' logits with one vocabulary."""
        self.check_sizes(student.shape[-1], teacher.shape[-1], vocabulary)
        if vocabulary is not None:
            return student[..., :vocabulary], teacher[..., :vocabulary]
        size = max(student.shape[-1], teacher.shape[-1])
        return pad_logits(student, size), pad_logits(teacher, size)

    def check_sizes(self, student: int, teacher: int, vocabulary: int | None) -> None:
        """Refuse vocabularies that give nothing to minimise.

        Raises:
            ValueError: Says which entries have no counterpart.
        """
        if vocabulary is not None:
            if not 1 <= vocabulary <= min(student, teacher):
                raise ValueError(
                    f"a vocabulary of {vocabulary} tokens does not fit the models' {student} and {teacher}"
                )
            return
        forward, reverse = self.directions
        if (forward and teacher > student) or (reverse and student > teacher):
            wide, size = ("teacher", teacher) if teacher > student else ("student", student)
            raise ValueError(
                f"{self.name} is infinite where the {wide} allows entries {min(student, teacher)} to {size - 1}, which "
                "the other does not have: give the number of tokens of the tokenizer as vocabulary"
            )

    @property
    def directions(self) -> tuple[bool, bool]:
        """Whether a bare KL(p ‖ q), and a bare KL(q ‖ p), takes part."""
        name = self.name
        skewed = self.alpha > 0
        return (
            name == "forward-kl"
            or (name == "symmetric-kl" and self.share < 1)
            or (name == "jsd" and self.beta == 0)
            or (name == "skew-kl" and not skewed),
            name == "reverse-kl"
            or (name == "symmetric-kl" and self.share > 0)
            or (name == "jsd" and self.beta == 1)
            or (name == "skew-reverse-kl" and not skewed),
        )

    def _plain(self, student: Tensor, teacher: Tensor) -> Tensor:
        temperature, scale = self.temperature, self.scale
        if self.name == "forward-kl":
            return kl_divergence(student, teacher, temperature=temperature, scale=scale)
        if self.name == "reverse-kl":
            return kl_divergence(student, teacher, temperature=temperature, direction="reverse", scale=scale)
        if self.name == "symmetric-kl":
            return symmetric_kl(student, teacher, share=self.share, temperature=temperature, scale=scale)
        if self.name == "jsd":
            return jensen_shannon(student, teacher, beta=self.beta, temperature=temperature, scale=scale)
        if self.name == "total-variation":
            return total_variation(student, teacher, temperature=temperature)
        direction: Literal["forward", "reverse"] = "forward" if self.name == "skew-kl" else "reverse"
        return skew_kl(student, teacher, alpha=self.alpha, direction=direction, temperature=temperature, scale=scale)
