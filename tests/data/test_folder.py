"""Folders of images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tutelage.data.folder import Folder
from tutelage.recipe.errors import InputError, RunError

pytest.importorskip("datasets")
Image = pytest.importorskip("PIL.Image")


def test_classes_are_folders(photos, everything) -> None:
    root = photos({"cat": 20, "dog": 20, "bird/old": 10, "bird/new": 10})
    (root / ".hidden").mkdir()
    (root / "cat" / ".DS_Store").write_bytes(b"x")
    splits = Folder(path=str(root), normalize="none").load(0)
    assert splits.info.class_names == ("bird", "cat", "dog")
    assert splits.record["sizes"] == {"train": 42, "validation": 6, "test": 12}
    rows = everything(splits)
    assert len(rows) == 60
    assert torch.bincount(torch.tensor([label for _, label in rows.values()])).tolist() == [20, 20, 20]
    for inputs, label in rows.values():
        channels = torch.tensor(inputs).view(3, 36).mean(1)
        # The folders were painted in turn: cat red, dog green, bird/old blue, bird/new red.
        assert int(channels.argmax()) in {0: (0, 2), 1: (0,), 2: (1,)}[label]


@pytest.mark.parametrize("validation", ["val", "validation", None])
def test_parts_are_folders_of_folders(photos, validation: str | None) -> None:
    layout = {"train/cat": 10, "train/dog": 10, "test/cat": 3, "test/dog": 3}
    if validation:
        layout |= {f"{validation}/cat": 2, f"{validation}/dog": 2}
    sizes = Folder(path=str(photos(layout))).load(0).record["sizes"]
    assert sizes == {"train": 20 if validation else 18, "validation": 4 if validation else 2, "test": 6}


def test_on_disk_equals_in_memory(photos) -> None:
    root = photos({"cat": 10, "dog": 10})
    memory, disk = (Folder(path=str(root), in_memory=kept, size=4).load(0) for kept in (True, False))
    assert memory.info == disk.info
    torch.testing.assert_close(memory.train.fetch([3, 1]).inputs, disk.train.fetch([3, 1]).inputs)


def test_the_fingerprint_is_of_the_content_not_of_the_place(photos) -> None:
    marks = [
        Folder(path=str(photos({"cat": 9, "dog": 9}, root=root))).load(0).info.fingerprint for root in ("here", "there")
    ]
    assert marks[0] == marks[1]


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "1", "I;16", "CMYK"])
def test_every_mode_of_image_is_converted(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    for kind, value in (("dark", 10), ("light", 200)):
        (tmp_path / kind).mkdir()
        for i in range(6):
            image = (
                Image.new("I;16", (4, 4), (value + i) * 256) if mode == "I;16" else Image.new("L", (4, 4), value + i)
            )
            if mode not in ("I;16", "L"):
                image = image.convert("RGB").convert(mode)
            image.save(tmp_path / kind / f"{i}.{suffix}")
    for channels in (1, 3):
        splits = Folder(path=str(tmp_path), channels=channels, normalize="none").load(0)
        assert splits.info.input_shape == (channels, 4, 4)
        batch = splits.train.fetch(range(len(splits.train)))
        means = batch.inputs.mean((1, 2, 3))
        assert means[batch.labels == 0].max() < 0.2
        assert means[batch.labels == 1].min() > 0.7


def test_bad_files_are_named_refused_or_left_out(photos, picture, encoded, everything) -> None:
    root = photos({"cat": 10, "dog": 10})
    (root / "cat" / "notes.txt").write_text("not an image")
    (root / "dog" / "broken.png").write_bytes(encoded(picture(0, 0))[:50])
    (root / "dog" / "empty.jpg").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"3 of 23 .*cat/notes\.txt: not an image by its name; dog/broken\.png: .*; dog/empty\.jpg"
    ):
        Folder(path=str(root)).load(0)
    splits = Folder(path=str(root), on_bad="skip").load(0)
    assert len(everything(splits)) == 20
    assert splits.warnings[0].startswith("3 of 23 samples were left out: cat/notes.txt")


def test_sizes_that_disagree_ask_for_one(photos, tmp_path: Path, picture, encoded) -> None:
    root = photos({"cat": 10, "dog": 10})
    (root / "dog" / "big.png").write_bytes(encoded(picture(1, 99, (8, 9))))
    with pytest.raises(InputError, match=r"cat/0\.png is 6x6, dog/big\.png is 8x9; resize them with data\.size=6"):
        Folder(path=str(root)).load(0)
    assert Folder(path=str(root), size=6).load(0).info.input_shape == (3, 6, 6)


def test_missing_and_empty_folders(photos, tmp_path: Path) -> None:
    photos({"cat": 4})
    with pytest.raises(InputError, match=r"there is no folder .*Did you mean 'photos'"):
        Folder(path=str(tmp_path / "photo")).load(0)
    with pytest.raises(InputError, match="one class only, 'cat'"):
        Folder(path=str(tmp_path / "photos")).load(0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images in folders of classes"):
        Folder(path=str(tmp_path / "empty")).load(0)


def test_a_folder_beside_train_is_not_guessed(photos) -> None:
    with pytest.raises(InputError, match="both 'train' and 'tset'"):
        Folder(path=str(photos({"train/cat": 4, "train/dog": 4, "tset/cat": 1}))).load(0)


def test_a_class_that_only_the_test_folder_has(photos) -> None:
    with pytest.raises(InputError, match=r"test data has the class 'cats'.*Did you mean 'cat'"):
        Folder(path=str(photos({"train/cat": 4, "train/dog": 4, "test/cats": 2}))).load(0)


@pytest.mark.parametrize("size", [0, [3], [4, -1]])
def test_a_size_is_one_or_two_lengths(photos, size) -> None:
    with pytest.raises(InputError, match=r"data\.size"):
        Folder(path=str(photos({"cat": 4, "dog": 4})), size=size).load(0)


def test_an_image_that_vanishes_later_stops_the_run_with_its_name(photos) -> None:
    root = photos({"cat": 10, "dog": 10})
    train = Folder(path=str(root), in_memory=False).load(0).train
    for file in root.rglob("*.png"):
        file.unlink()
    with pytest.raises(RunError, match="changed since they were inspected"):
        train.fetch([0])
