from __future__ import annotations

import pytest
import torch

from tutelage import losses


def test_only_valid_positions_count_even_beside_nan():
    values = torch.tensor([[1.0, 3.0, float("nan")], [5.0, float("inf"), 7.0]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert losses.mask_mean(values, mask).item() == 3.0
    assert losses.mask_mean(values, mask.bool(), count=9).item() == 1.0
    assert losses.mask_mean(values, mask, count=torch.tensor(18)).item() == 0.5


def test_no_mask_counts_everything():
    values = torch.arange(6.0).view(2, 3)
    assert losses.mask_mean(values, None).item() == 2.5
    assert losses.mask_mean(values, None, count=3).item() == 5.0
    assert losses.mask_mean(torch.zeros(0, 3), None).item() == 0.0


def test_padding_keeps_probabilities_and_passes_gradients():
    logits = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    padded = losses.pad_logits(logits, 8)
    torch.testing.assert_close(padded.softmax(-1)[:, :5], logits.softmax(-1))
    assert (padded.softmax(-1)[:, 5:] == 0).all()
    padded[:, :5].sum().backward()
    assert (logits.grad == 1).all()
    assert losses.pad_logits(logits, 5) is logits


def test_entries_beyond_the_tokenizer_lose_their_probability():
    teacher, student = torch.zeros(1, 8), torch.zeros(1, 6)
    teacher, student = losses.pad_logits(teacher, 8, valid=5), losses.pad_logits(student, 8, valid=5)
    assert teacher.softmax(-1)[0].tolist() == pytest.approx([0.2] * 5 + [0.0] * 3)
    assert losses.kl_divergence(student, teacher).item() == 0.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: losses.pad_logits(torch.zeros(2, 5), 4),
        lambda: losses.pad_logits(torch.zeros(2, 5), 6, valid=0),
        lambda: losses.mask_mean(torch.zeros(2, 3), torch.ones(2, 1, dtype=torch.bool)),
        lambda: losses.mask_mean(torch.zeros(2, 3), torch.full((2, 3), 0.5)),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError):
        call()
