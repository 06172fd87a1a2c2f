"""ANLS: answers that are compared by edit distance, forgiving slips of reading (arXiv:1905.13648)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def edit_distance(first: str, second: str) -> int:
    """Levenshtein's: fewest characters put in, left out or replaced to make one of the other."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]


def answer_similarity(answer: str, references: Sequence[str], *, limit: float = 0.5) -> float:
    """One less the normalised distance to the nearest reference; 0 where that distance is ``limit`` or more.

    Case and spaces at the ends do not count.

    Args:
        answer: What was answered.
        references: What would be right.
        limit: In (0, 1].

    Raises:
        ValueError: There is no reference.
    """
    if not references:
        raise ValueError("an answer needs at least one reference to compare it with")
    best = 0.0
    for reference in references:
        a, b = answer.strip().lower(), reference.strip().lower()
        apart = edit_distance(a, b) / max(len(a), len(b), 1)
        best = max(best, 1 - apart if apart < limit else 0.0)
    return best


def anls(
    answers: Sequence[str], references: Sequence[Sequence[str]], kinds: Sequence[str] | None = None
) -> Mapping[str, float]:
    """The mean similarity of answers, under ``all``, and of each kind of question.

    Args:
        answers: One a question.
        references: The right answers of each.
        kinds: The kind of each question.

    Raises:
        ValueError: The lengths differ, or there is no question.
    """
    if not answers or len(answers) != len(references) or (kinds is not None and len(kinds) != len(answers)):
        raise ValueError(
            f"{len(answers)} answers and {len(references)} lists of references; expected as many, and some"
        )
    each = [answer_similarity(a, r) for a, r in zip(answers, references, strict=True)]
    groups: dict[str, list[float]] = {"all": each}
    for kind, value in zip(kinds or (), each, strict=False):
        groups.setdefault(kind, []).append(value)
    return {kind: sum(values) / len(values) for kind, values in groups.items()}
