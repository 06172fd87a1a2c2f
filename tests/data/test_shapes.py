"""Drawn figures, their masks, and concepts from a folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tutelage.data.concepts import Concepts, drawn_concepts, read_concepts
from tutelage.data.shapes import KINDS, Shapes, draw
from tutelage.recipe.errors import InputError


def test_figures_are_where_the_mask_says():
    drawn = draw(80, 24, noise=0.0)
    assert torch.equal(drawn.labels.bincount(), torch.full((8,), 10))
    # Without noise, the background is one value and nothing of a figure has it.
    background = drawn.images[:, 0] == 0.25
    assert torch.equal(~background, drawn.figure)
    assert not drawn.figure[:, 0, :].all(1).any()
    plain = drawn.images[:, 0][drawn.figure & (drawn.labels % 2 == 0)[:, None, None]]
    striped = drawn.images[:, 0][drawn.figure & (drawn.labels % 2 == 1)[:, None, None]]
    assert plain.unique().numel() == 1
    assert striped.unique().numel() == 2


def test_masks_number_kinds_and_textures():
    drawn = draw(16, 24)
    mask, names = drawn.masks()["object"]
    assert names == KINDS
    assert all(set(mask[i].unique().tolist()) == {0, int(drawn.labels[i]) // 2 + 1} for i in range(16))
    square = draw(8, 24).figure[0]
    rows, columns = square.any(1).nonzero().flatten(), square.any(0).nonzero().flatten()
    assert square.sum() == len(rows) * len(columns)


def test_heat_is_the_figure_in_its_box():
    drawn = draw(16, 24)
    heat = drawn.heat()
    assert torch.equal(heat > 0.6, drawn.figure)
    assert sorted(heat.unique().tolist()) == pytest.approx([0.0, 0.4, 0.9])
    cross = heat[int((drawn.labels == 4).nonzero()[0])]
    box = (cross > 0).nonzero()
    height, width = (box.amax(0) - box.amin(0) + 1).tolist()
    assert (cross > 0).sum() == height * width


def test_the_same_numbers_draw_the_same_images():
    assert torch.equal(draw(8, 16, seed=3).images, draw(8, 16, seed=3).images)
    assert not torch.equal(draw(8, 16, seed=3).images, draw(8, 16, seed=4).images)
    splits = Shapes(count=160).load(0)
    assert splits.info.input_shape == (1, 24, 24)
    assert splits.info.class_names[:3] == ("plain square", "striped square", "plain disc")
    assert torch.equal(Shapes(count=160).load(7).train.inputs, splits.train.inputs)


def test_concepts_take_a_data_sets_shape():
    concepts, heat = drawn_concepts((3, 20, 32), 8)
    assert concepts.images.shape == (8, 3, 20, 32)
    assert heat.shape == concepts.masks["object"].shape == (8, 20, 32)
    with pytest.raises(InputError, match="at least 12 pixels"):
        drawn_concepts((1, 8, 8), 8)


def test_a_folder_of_masks(tmp_path):
    from PIL import Image

    (tmp_path / "images").mkdir()
    (tmp_path / "masks" / "part").mkdir(parents=True)
    (tmp_path / "concepts.json").write_text(json.dumps({"part": ["wing", "wheel"]}))
    for i in range(3):
        Image.fromarray(np.full((6, 6), 40 * i, np.uint8)).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(np.full((12, 12), i % 3, np.uint8)).save(tmp_path / "masks" / "part" / f"{i}.png")
    found = read_concepts(tmp_path, (1, 6, 6))
    assert found.names == {"part": ("wing", "wheel")}
    assert found.masks["part"].shape == (3, 12, 12)
    assert found.masks["part"][2].unique().tolist() == [2]
    assert len(read_concepts(tmp_path, (1, 6, 6), 2).images) == 2
    (tmp_path / "masks" / "part" / "1.png").unlink()
    with pytest.raises(InputError, match=r"'1.png' has no mask"):
        read_concepts(tmp_path, (1, 6, 6))
    (tmp_path / "concepts.json").unlink()
    with pytest.raises(InputError, match=r"concepts.json cannot be read"):
        read_concepts(tmp_path, (1, 6, 6))


def test_concepts_that_do_not_fit():
    images = torch.zeros(2, 1, 4, 4)
    with pytest.raises(ValueError, match="beyond its 1 names"):
        Concepts(images, {"a": torch.full((2, 4, 4), 2)}, {"a": ("x",)})
    with pytest.raises(ValueError, match=r"must all be \[2, height, width\]"):
        Concepts(images, {"a": torch.zeros(3, 4, 4, dtype=torch.int64)}, {"a": ("x",)})
    with pytest.raises(ValueError, match="need names"):
        Concepts(images, {"a": torch.zeros(2, 4, 4, dtype=torch.int64)}, {"b": ("x",)})
