"""Domains: where samples come from, and which of them training must not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.data.dividing import Division, stratified
from tutelage.recipe.errors import InputError, nearest


@dataclass(frozen=True, eq=False)
class Domains:
    """The domain of every sample of a data set.

    Args:
        names: The domains' names.
        by_id: ``[samples]`` int64: the place in ``names`` of the sample with each id.
        held_out: Places of the domains that only testing may see.
    """

    names: tuple[str, ...]
    by_id: Tensor
    held_out: tuple[int, ...] = ()

    def of(self, ids: Tensor) -> Tensor:
        """``[batch]`` int64: the domains of the samples with these ids."""
        return self.by_id.to(ids.device)[ids]

    def record(self) -> dict[str, Any]:
        """Samples of each domain, and which are held out, for the run's manifest."""
        counts = torch.bincount(self.by_id, minlength=len(self.names)).tolist()
        return {
            "domains": dict(zip(self.names, counts, strict=True)),
            "hold_out": [self.names[place] for place in self.held_out],
        }

    def refuse_held_out(self, ids: Tensor, use: str) -> None:
        """Stop a held-out domain from deciding anything.

        Args:
            ids: ``[count]`` int64 ids of what is looked at.
            use: What it would decide, e.g. ``callbacks: 'swad'``.

        Raises:
            InputError: Some of them are of a held-out domain.
        """
        seen = sorted(set(self.of(ids).unique().tolist()) & set(self.held_out))
        if seen:
            raise InputError(
                f"{use} would be chosen by samples of the held-out domain '{self.names[seen[0]]}', and the result on "
                "it would say nothing of unseen domains: validate on the other domains"
            )


def held_out(names: Sequence[str], wanted: Sequence[str | int] | str | int | None) -> tuple[int, ...]:
    """Places of the domains that a recipe's ``hold_out`` names, by name or by place.

    Raises:
        InputError: There is no such domain, or none would be left to train on.
    """
    given = [] if wanted is None else [wanted] if isinstance(wanted, str | int) else list(wanted)
    places = set()
    for one in given:
        if isinstance(one, int) and 0 <= one < len(names):
            places.add(one)
        elif str(one) in names:
            places.add(list(names).index(str(one)))
        else:
            raise InputError(f"data.hold_out: there is no domain '{one}'. {nearest(str(one), list(names))}")
    if len(places) == len(names):
        raise InputError("data.hold_out names all domains, so that none is left to train on")
    return tuple(sorted(places))


def divide_by_domain(
    labels: Tensor, domains: Domains, *, validation: float, test: float, seed: int, names: Sequence[str]
) -> Division:
    """Divide positions so that testing gets all of the held-out domains and nothing else.

    Classes of each domain are spread evenly over the parts, or only the classes where some domain has too few samples
    of one to be divided. Where no domain is held out, ``test`` of each is tested on.

    Args:
        labels: ``[count]`` int64.
        domains: Of the same samples, whose ids are their positions.
        validation: Fraction for validation.
        test: Fraction for testing, where no domain is held out.
        seed: Seed of the division.
        names: Class names.

    Raises:
        InputError: A class is in held-out domains only.
    """
    cells, whose = labels * len(domains.names) + domains.by_id, [f"{n} of {d}" for n in names for d in domains.names]
    if int(cells.unique(return_counts=True)[1].min()) < 3:
        cells, whose = labels, list(names)
    if not domains.held_out:
        return stratified(cells, validation=validation, test=test, seed=seed, names=whose)
    tested = torch.isin(domains.by_id, torch.tensor(domains.held_out))
    rest = (~tested).nonzero().flatten()
    lost = sorted(set(labels.unique().tolist()) - set(labels[rest].unique().tolist()))
    if lost:
        raise InputError(f"data.hold_out leaves no sample of class '{names[lost[0]]}' to train on")
    inner = stratified(cells[rest], validation=validation, test=0.0, seed=seed, names=whose)
    return Division(rest[inner.train], rest[inner.validation], tested.nonzero().flatten(), inner.warnings)
