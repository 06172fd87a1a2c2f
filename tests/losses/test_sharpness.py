from __future__ import annotations

import pytest
import torch

from tutelage import losses


def test_the_sharpness_of_the_worked_example():
    teacher, student = torch.tensor([4.0, 1.0, 0.0]), torch.tensor([1.0, 0.5, 0.0])
    assert losses.sharpness(teacher).item() == pytest.approx(4.065884, abs=1e-6)
    assert losses.sharpness(student).item() == pytest.approx(1.680270, abs=1e-6)
    assert (losses.sharpness(teacher) - losses.sharpness(student)).item() == pytest.approx(2.385614, abs=1e-6)


def test_sharpness_of_tokens_and_of_half_precision():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(losses.sharpness(logits), logits.exp().sum(-1).log())
    assert losses.sharpness(logits.bfloat16()).dtype == torch.float32


def test_a_wrong_row_changes_places_and_a_right_one_stays():
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.0, 0.0, -1.0]], requires_grad=True)
    right = losses.corrected(logits, torch.tensor([1, 0, 2]))
    assert right.tolist() == [[1.0, 3.0, 2.0], [3.0, 1.0, 2.0], [-1.0, 0.0, 0.0]]
    assert torch.equal(right.sort(-1).values, logits.detach().sort(-1).values)
    assert not right.requires_grad


@pytest.mark.parametrize("labels", [torch.tensor([0.0, 1.0]), torch.tensor([0]), torch.zeros(2, 3)])
def test_labels_that_are_no_indices_are_refused(labels):
    with pytest.raises(ValueError, match="2 class indices"):
        losses.corrected(torch.zeros(2, 3), labels)
