"""A memory of what both models made of every training sample, and what is told apart from it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import normalize

from tutelage.data.splits import Examples, ids_of, labels_of
from tutelage.recipe.errors import InputError


class MemoryBank(nn.Module):
    """A row of length 1 a sample, for each of the two models; part of what the method saves and resumes.

    Samples are known by identity: their positions in the data's pool, of which training has some. All processes write
    the same rows, so that their banks stay one.

    Args:
        examples: What is trained on.
        width: Numbers in a row.
    """

    ids: Tensor
    labels: Tensor
    student: Tensor
    teacher: Tensor

    def __init__(self, examples: Examples, width: int) -> None:
        super().__init__()
        ids = ids_of(examples)
        order = ids.argsort()
        reach = (3.0 / width) ** 0.5
        self.register_buffer("ids", ids[order])
        self.register_buffer("labels", labels_of(examples)[order])
        for side in ("student", "teacher"):
            self.register_buffer(side, torch.empty(len(ids), width).uniform_(-reach, reach))

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Tensor) -> Tensor:
        """``[batch]`` rows of samples.

        Raises:
            InputError: A sample is none of those that the bank was made for.
        """
        rows = torch.searchsorted(self.ids, ids).clamp(max=len(self) - 1)
        if not torch.equal(self.ids[rows], ids):
            absent = int(ids[self.ids[rows] != ids][0])
            raise InputError(
                f"the memory bank has no row for sample {absent}: it keeps those of the training split, so inputs must "
                "be the data's own (in_batch_negatives needs no bank)"
            )
        return rows

    def draw(self, rows: Tensor, count: int, *, other_classes: bool = False) -> Tensor:
        """``[batch, others]`` rows to tell these apart from, never a sample's own.

        Args:
            rows: ``[batch]``.
            count: How many; all others, each once, where it is at least their number, and otherwise with replacement.
            other_classes: Only of other classes, always with replacement; samples without a label are of none.

        Raises:
            InputError: There is nothing to draw.
        """
        total = len(self)
        if total < 2:
            raise InputError("the memory bank holds one sample, which cannot be told apart from others")
        count = min(count, total - 1)
        if count == total - 1 and not other_classes:
            drawn = torch.arange(count, device=rows.device).expand(len(rows), -1)
        else:
            drawn = torch.randint(total - 1, (len(rows), count), device=rows.device)
        drawn = drawn + (drawn >= rows[:, None])
        if not other_classes:
            return drawn
        return torch.where(self.labels[rows][:, None] < 0, drawn, self._of_others(rows, count))

    def _of_others(self, rows: Tensor, count: int) -> Tensor:
        # Sorted by class, those of other classes are what is left when one stretch is cut out.
        by_class = self.labels.argsort(stable=True)
        ordered = self.labels[by_class]
        own = self.labels[rows]
        start, end = torch.searchsorted(ordered, own), torch.searchsorted(ordered, own, right=True)
        length = (end - start).where(own >= 0, 0)
        left = len(self) - length
        if bool((left == 0).any()):
            raise InputError("all training samples are of one class, so there are no negatives of other classes")
        place = (torch.rand(len(rows), count, device=rows.device) * left[:, None]).long().clamp(max=left[:, None] - 1)
        return by_class[torch.where(place < start[:, None], place, place + length[:, None])]

    @torch.no_grad()
    def update(self, rows: Tensor, student: Tensor, teacher: Tensor, momentum: float) -> None:
        """Move rows towards what the models make of their samples now, and bring them to length 1 again.

        Args:
            rows: ``[batch]``.
            student: ``[batch, width]``.
            teacher: ``[batch, width]``.
            momentum: Share of the row that stays.
        """
        for rows_, *sides in _everywhere((rows, student, teacher)):
            for table, now in zip((self.student, self.teacher), sides, strict=True):
                moved = momentum * table[rows_] + (1 - momentum) * now.to(table.dtype)
                table[rows_] = normalize(moved, dim=-1)


def _everywhere(own: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    """What every process has, in the order of processes; the parts may differ in length."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [own]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, tuple(one.detach().cpu() for one in own))
    return [tuple(one.to(own[0].device) for one in part) for part in found]
