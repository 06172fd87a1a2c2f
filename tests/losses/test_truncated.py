"""Truncated logits: what is kept is kept to the bit, and each fill is the number that its rule says."""

from __future__ import annotations

import math

import pytest
import torch

from tutelage.losses import complete, truncate

LOGITS = torch.randn(7, 12, generator=torch.Generator().manual_seed(0)) * 3


def kept(k: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return truncate(LOGITS, k)


def test_the_largest_and_the_mass_of_the_others() -> None:
    values, indices, tail = kept()
    for row, found, places, rest in zip(LOGITS, values, indices, tail, strict=True):
        order = sorted(range(12), key=lambda c: -row[c])
        assert places.tolist() == order[:4]
        assert found.tolist() == [row[c] for c in order[:4]]
        assert rest.item() == pytest.approx(math.log(sum(math.exp(row[c]) for c in order[4:])), abs=1e-5)


def test_all_of_them_come_back_to_the_bit() -> None:
    values, indices, tail = truncate(LOGITS, 12)
    assert bool((tail == -math.inf).all())
    assert torch.equal(complete(values, indices, 12, tail=tail), LOGITS)


def test_the_tail_keeps_the_probabilities_of_what_was_kept() -> None:
    values, indices, tail = kept()
    found = complete(values, indices, 12, tail=tail)
    assert torch.equal(found.gather(1, indices), values)
    assert torch.allclose(found.softmax(1).gather(1, indices), LOGITS.softmax(1).gather(1, indices), atol=1e-6)
    assert torch.allclose(found.logsumexp(1), LOGITS.logsumexp(1), atol=1e-5)


@pytest.mark.parametrize("scale", ["softmax", "sigmoid"])
@pytest.mark.parametrize("fill", ["zero", "last_mean", "uniform", "half", "random"])
def test_each_fill_is_its_number(fill: str, scale: str) -> None:
    values, indices, tail = kept()
    noise = torch.rand(7, 12, generator=torch.Generator().manual_seed(1))
    found = complete(values, indices, 12, tail=tail, fill=fill, scale=scale, noise=noise).double()  # type: ignore[arg-type]
    for row in range(7):
        whole = LOGITS[row].double().exp().sum()
        probability = found[row].exp() / whole if scale == "softmax" else found[row].sigmoid()
        own = LOGITS[row].double().exp() / whole if scale == "softmax" else LOGITS[row].double().sigmoid()
        smallest = own[indices[row]].min()
        for c in range(12):
            expected = {
                "zero": 0.0,
                "last_mean": smallest / 8,
                "uniform": 1 / 12,
                "half": smallest / 2,
                "random": smallest * noise[row, c],
            }[fill]
            expected = own[c] if c in indices[row] else expected
            assert probability[c].item() == pytest.approx(float(expected), abs=1e-6)


def test_half_precision_is_raised() -> None:
    values, indices, tail = truncate(LOGITS.half(), 3)
    assert complete(values.half(), indices, 12, tail=tail.half()).dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fill": "tail", "scale": "sigmoid"}, "softmax scale"),
        ({"fill": "tail", "tail": None}, "needs the tail"),
        ({"fill": "random"}, "noise of shape"),
        ({"fill": "mean"}, "fill must be"),
        ({"indices": torch.zeros(7, 3, dtype=torch.int64)}, r"indices \[7, 3\]"),
        ({"classes": 3}, "at most the 3 classes"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, said: str) -> None:
    values, indices, tail = kept()
    with pytest.raises(ValueError, match=said):
        complete(**{"values": values, "indices": indices, "classes": 12, "tail": tail, **change})


@pytest.mark.parametrize("k", [0, 13])
def test_a_k_that_the_classes_do_not_have(k: int) -> None:
    with pytest.raises(ValueError, match=r"k must lie in \[1, 12\]"):
        truncate(LOGITS, k)
