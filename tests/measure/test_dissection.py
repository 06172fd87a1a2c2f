"""Network dissection: overlaps of the whole set, thresholds, planted units."""

from __future__ import annotations

import pytest
import torch

from tutelage.data.concepts import Concepts
from tutelage.measure.dissection import dissect, spread, thresholds


def concepts(masks, names=("thing",), category="object"):
    return Concepts(torch.zeros(len(masks), 1, *masks.shape[1:]), {category: masks}, {category: names})


def test_overlap_is_intersection_over_union():
    mask, on = torch.zeros(1, 4, 4, dtype=torch.int64), torch.zeros(1, 1, 4, 4)
    mask[0, :2, 0:2] = 1
    on[0, 0, :2, 1:3] = 1.0
    found = dissect(on, concepts(mask), quantile=4 / 16)
    assert found.iou.item() == pytest.approx(2 / 6)


def test_a_planted_unit_is_found_and_a_constant_one_is_not():
    draw = torch.Generator().manual_seed(0)
    masks = torch.zeros(10, 8, 8, dtype=torch.int64)
    for i in range(10):
        masks[i, i % 5 : i % 5 + 3, 1:4] = 1 + i % 2
    names = ("a", "b")
    planted = torch.stack([(masks == 2).float(), torch.ones(10, 8, 8), torch.rand(10, 8, 8, generator=draw)], 1)
    share = float((masks == 2).float().mean())
    found = dissect(planted, concepts(masks, names), quantile=share)
    assert found.iou[0].tolist() == [0.0, 1.0]
    assert found.names[found.best[0]] == "b"
    assert found.iou[1].tolist() == [0.0, 0.0]
    assert found.detectors.tolist()[:2] == [True, False]
    scaled = dissect(5.0 * planted, concepts(masks, names), quantile=share)
    assert torch.equal(scaled.iou, found.iou)
    counts = dissect(planted[:, :2], concepts(masks, names), quantile=share).counts()
    assert counts == {"detectors": 1, "unique": 1, "detectors_object": 1}
    assert found.histogram().sum() == 3


@pytest.mark.parametrize("quantile", [0.005, 0.05, 0.3])
def test_a_quantile_keeps_its_share(quantile):
    maps = torch.randn(20, 3, 5, 7, generator=torch.Generator().manual_seed(1))
    for unit, limit in enumerate(thresholds(maps, quantile)):
        assert abs(int((maps[:, unit] > limit).sum()) - int(quantile * 700)) <= 1


def test_a_unit_that_is_mostly_silent_counts_only_where_it_speaks():
    maps = torch.zeros(10, 1, 4, 4)
    maps[0, 0, 0, 0] = 1.0
    assert thresholds(maps, 0.2) == [0.0]
    mask = torch.zeros(10, 4, 4, dtype=torch.int64)
    mask[0, 0, 0] = 1
    assert dissect(maps, concepts(mask), quantile=0.2).iou.item() == 1.0


def test_sums_over_the_set_not_means_over_images():
    masks, maps = torch.zeros(2, 4, 4, dtype=torch.int64), torch.zeros(2, 1, 4, 4)
    masks[0], maps[0, 0] = 1, 1.0
    masks[1, 0, 0], maps[1, 0, 0, 1:3] = 1, 1.0
    # 16 of 17 that are labelled; what is on in the second image meets no label there.
    found = dissect(maps, concepts(masks), quantile=18 / 32)
    assert found.iou.item() == pytest.approx(16 / 17)


def test_activation_counts_only_where_the_category_is_labelled():
    masks, maps = torch.zeros(2, 4, 4, dtype=torch.int64), torch.zeros(2, 1, 4, 4)
    masks[0, 0], maps[0, 0, 0] = 1, 1.0
    maps[1, 0, 2] = 1.0
    assert dissect(maps, concepts(masks), quantile=8 / 32).iou.item() == 1.0
    # With another concept of the category there, it does count.
    masks[1, 2] = 2
    assert dissect(maps, concepts(masks, ("a", "b")), quantile=8 / 32).iou.tolist() == [[0.5, 0.5]]


def test_maps_are_brought_to_the_masks_size():
    masks = torch.zeros(4, 8, 8, dtype=torch.int64)
    masks[:, :4] = 1
    maps = torch.zeros(4, 1, 2, 2)
    maps[:, :, 0] = 1.0
    assert dissect(maps, concepts(masks), quantile=0.5).iou.item() > 0.6


def test_highest_images():
    maps = torch.zeros(4, 1, 2, 2)
    maps[:, 0, 0, 0] = torch.tensor([1.0, 4.0, 2.0, 3.0])
    masks = torch.zeros(4, 2, 2, dtype=torch.int64)
    assert dissect(maps, concepts(masks), quantile=0.1).highest.tolist() == [[1, 3, 2, 0]]


def test_tokens_are_laid_out():
    tokens = torch.arange(2 * 9 * 3.0).view(2, 9, 3)
    laid = spread(tokens)
    assert laid.shape == (2, 3, 3, 3)
    assert torch.equal(laid[0, 1].flatten(), tokens[0, :, 1])
    assert torch.equal(spread(torch.cat([torch.zeros(2, 1, 3), tokens], 1)), laid)
    for wrong in (torch.zeros(2, 5), torch.zeros(2, 7, 3)):
        with pytest.raises(ValueError, match="no positions"):
            spread(wrong)


def test_mistakes():
    masks = torch.zeros(2, 4, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"maps must be \[2"):
        dissect(torch.zeros(3, 1, 4, 4), concepts(masks))
    with pytest.raises(ValueError, match="quantile"):
        dissect(torch.zeros(2, 1, 4, 4), concepts(masks), quantile=0.0)
