from __future__ import annotations

import pytest
import torch
from torch import nn

from tutelage.measure.saliency import band_scores, edge_alignment, input_gradients, kept_pixels


def test_gradients_of_a_linear_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    inputs, labels = torch.randn(5, 2, 2, 2), torch.tensor([0, 1, 2, 0, 1])
    found = input_gradients(model, inputs, labels, batch_size=2)
    apart = torch.nn.functional.one_hot(labels, 3) - model(inputs).softmax(1)
    by_hand = (apart @ model[1].weight).view(5, 2, 2, 2).sum(1)
    torch.testing.assert_close(found, by_hand.detach())
    assert model[1].weight.grad is None


def test_bands_by_hand():
    heat = torch.tensor([[[0.9, 0.4], [0.0, 0.0]]])
    assert band_scores(2 * heat, heat)["band_accuracy"] == 1.0
    found = band_scores(torch.tensor([[[1.0, 0.1], [0.5, -0.9]]]), heat)
    assert found == {"band_accuracy": 0.25, "precision": 0.5, "recall": 0.5, "false_positives": 0.5}
    with pytest.raises(ValueError, match="of one shape"):
        band_scores(torch.zeros(1, 2, 2), torch.zeros(1, 2, 3))


def test_edges():
    image = torch.zeros(1, 1, 6, 6)
    image[..., 3:] = 1.0
    on_edge, beside = torch.zeros(1, 6, 6), torch.zeros(1, 6, 6)
    on_edge[..., 2:4], beside[..., 0] = -1.0, 1.0
    assert edge_alignment(on_edge, image) == pytest.approx(1.0, abs=1e-6)
    assert edge_alignment(beside, image) == pytest.approx(0.0, abs=1e-6)


def test_pixels_that_are_left():
    image = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    saliency = torch.tensor([[[0.1, -0.9], [0.3, 0.2]]])
    assert kept_pixels(image, saliency, 0.25, largest=True).flatten().tolist() == [3, 2, 3, 3]
    assert kept_pixels(image, saliency, 0.5, largest=False).flatten().tolist() == [1, 3, 3, 6]
