"""The memory bank: rows by identity, what is drawn, how rows move."""

from __future__ import annotations

import pytest
import torch

from tutelage.data.splits import TensorExamples
from tutelage.distill.parts.memory_bank import MemoryBank
from tutelage.recipe.errors import InputError

# Positions in a pool, of which training has some, in no order.
IDS = torch.tensor([70, 12, 35, 90, 4])
LABELS = torch.tensor([1, 0, 1, 2, -1])
EXAMPLES = TensorExamples(torch.zeros(5, 1), LABELS, IDS)


def test_rows_are_found_by_identity():
    bank = MemoryBank(EXAMPLES, 8)
    rows = bank.rows(torch.tensor([35, 4, 90]))
    assert bank.ids[rows].tolist() == [35, 4, 90]
    assert bank.labels[rows].tolist() == [1, -1, 2]
    assert bank.student.abs().max() <= (3 / 8) ** 0.5
    for absent in (5, 91):
        with pytest.raises(InputError, match=f"no row for sample {absent}"):
            bank.rows(torch.tensor([35, absent]))


def test_all_others_are_drawn_once_where_there_are_no_more():
    bank = MemoryBank(EXAMPLES, 2)
    drawn = bank.draw(torch.arange(5), 100)
    for row in range(5):
        assert sorted(drawn[row].tolist()) == [other for other in range(5) if other != row]


def test_few_are_drawn_evenly_and_never_oneself():
    bank = MemoryBank(EXAMPLES, 2)
    torch.manual_seed(0)
    counts = torch.stack([bank.draw(torch.tensor([2]), 2)[0] for _ in range(2000)]).flatten().bincount(minlength=5)
    assert counts[2] == 0
    assert counts[[0, 1, 3, 4]].min() > 850


def test_others_of_other_classes():
    bank = MemoryBank(EXAMPLES, 2)
    rows = bank.rows(IDS)
    torch.manual_seed(0)
    drawn = torch.cat([bank.draw(rows, 3, other_classes=True) for _ in range(300)], 1)
    for place, (label, row) in enumerate(zip(LABELS.tolist(), rows.tolist(), strict=True)):
        expected = {r for r in range(5) if r != row and (label < 0 or bank.labels[r] != label)}
        assert set(drawn[place].tolist()) == expected


def test_rows_move_towards_what_is_seen_and_keep_their_length():
    bank = MemoryBank(EXAMPLES, 3)
    before = bank.student.clone()
    now = torch.nn.functional.normalize(torch.randn(2, 3), dim=1)
    bank.update(torch.tensor([3, 1]), now, now, 0.5)
    moved = 0.5 * before[[3, 1]] + 0.5 * now
    torch.testing.assert_close(bank.student[[3, 1]], moved / moved.norm(dim=1, keepdim=True))
    assert torch.equal(bank.student[[0, 2, 4]], before[[0, 2, 4]])
    bank.update(torch.tensor([0]), now[:1], now[1:], 0.0)
    torch.testing.assert_close(bank.teacher[0], now[1])


def test_nothing_to_tell_apart_is_refused():
    alone = MemoryBank(TensorExamples(torch.zeros(1, 1), torch.zeros(1).long()), 2)
    with pytest.raises(InputError, match="one sample"):
        alone.draw(torch.tensor([0]), 4)
    same = MemoryBank(TensorExamples(torch.zeros(3, 1), torch.zeros(3).long()), 2)
    with pytest.raises(InputError, match="all training samples are of one class"):
        same.draw(torch.tensor([0]), 2, other_classes=True)
