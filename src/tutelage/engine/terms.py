"""The terms of a turn's loss, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor


class Losses(Mapping[str, Tensor]):
    """Named loss terms; their weighted sum is the turn's loss, and each is logged by its name.

    A term is a scalar, or one value per sample ``[batch]``, which is averaged over the batch. Keeping samples apart
    until here lets weights act per sample.

    Args:
        **terms: Terms by name, e.g. ``task`` and ``transfer``.
    """

    def __init__(self, **terms: Tensor) -> None:
        self._terms = terms
        self._weights: dict[str, float] = {}
        self._notes: dict[str, Tensor] = {}
        self._means: dict[str, Tensor] | None = None
        self.count: int | None = None

    def _with(self, terms: Mapping[str, Tensor], weights: Mapping[str, float], notes: Mapping[str, Tensor]) -> Losses:
        out = Losses(**terms)
        out._weights, out._notes = dict(weights), dict(notes)
        out.count = self.count
        return out

    def over(self, count: int) -> Losses:
        """The same terms, said to be means over this many things, e.g. tokens, instead of over the samples.

        The engine then divides by all that an optimiser step has of them, in every part and process. Terms must be
        scalars. A part that has none (0) weighs nothing.
        """
        out = self._with(self._terms, self._weights, self._notes)
        out.count = count
        return out

    def weighted(self, **weights: float) -> Losses:
        """The same terms with these weights in the sum; terms that are not named keep theirs (1 at first).

        Raises:
            KeyError: A weight names no term.
        """
        unknown = set(weights) - set(self._terms)
        if unknown:
            raise KeyError(f"no loss term named {', '.join(sorted(unknown))}; the terms are {', '.join(self._terms)}")
        return self._with(self._terms, {**self._weights, **weights}, self._notes)

    def noting(self, **values: Tensor) -> Losses:
        """The same terms, and beside them numbers that are logged by name but not minimised.

        Args:
            **values: Scalars or ``[batch]``, finite: a number that is not is taken for a fault of the training.

        Raises:
            KeyError: A name is a term's, or noted already.
        """
        noted = self._with({}, {}, {name: value.detach() for name, value in values.items()})
        return self | noted

    def without(self, *names: str) -> Losses:
        """The same terms and weights, less these."""
        return self._with(
            {k: v for k, v in self._terms.items() if k not in names},
            {k: v for k, v in self._weights.items() if k not in names},
            self._notes,
        )

    def prefixed(self, prefix: str) -> Losses:
        """The same terms under ``prefix.name``."""
        return self._with(
            {f"{prefix}.{k}": v for k, v in self._terms.items()},
            {f"{prefix}.{k}": v for k, v in self._weights.items()},
            {f"{prefix}.{k}": v for k, v in self._notes.items()},
        )

    def __or__(self, other: Losses) -> Losses:
        """Both sets of terms; a name in both is an error, for one of the two would be lost."""
        clash = {*self, *self._notes} & {*other, *other._notes}
        if clash:
            raise KeyError(f"loss terms named twice: {', '.join(sorted(clash))}")
        both = self._with(
            {**self._terms, **other._terms}, {**self._weights, **other._weights}, {**self._notes, **other._notes}
        )
        both.count = self.count if self.count is not None else other.count
        return both

    def weight(self, name: str) -> float:
        """Weight of a term in the sum."""
        return self._weights.get(name, 1.0)

    def means(self) -> dict[str, Tensor]:
        """Each term and note as a scalar, unweighted: what is logged."""
        if self._means is None:
            every = {**self._terms, **self._notes}
            self._means = {name: term.mean() if term.ndim else term for name, term in every.items()}
        return self._means

    def total(self) -> Tensor:
        """The weighted sum of the terms' means: what is minimised."""
        if not self._terms:
            raise ValueError("a turn's loss needs at least one term")
        means = ((name, self.means()[name]) for name in self._terms)
        parts = [mean if self.weight(name) == 1.0 else self.weight(name) * mean for name, mean in means]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def __getitem__(self, name: str) -> Tensor:
        return self._terms[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._terms)

    def __len__(self) -> int:
        return len(self._terms)
