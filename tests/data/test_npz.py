"""NumPy archives."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tutelage.data.npz import Npz
from tutelage.data.splits import TensorExamples
from tutelage.recipe.errors import InputError

X = np.arange(120, dtype=np.float32).reshape(40, 3)
Y = np.arange(40) % 2


def save(tmp_path: Path, **arrays) -> str:
    np.savez(tmp_path / "a.npz", **arrays)
    return str(tmp_path / "a.npz")


def test_one_pool_is_divided(tmp_path: Path) -> None:
    splits = Npz(path=save(tmp_path, x=X, y=Y)).load(0)
    assert splits.record["sizes"] == {"train": 28, "validation": 4, "test": 8}
    batch = splits.test.fetch(range(8))
    assert torch.equal(batch.inputs, torch.from_numpy(X)[batch.ids])
    assert torch.equal(batch.labels, torch.from_numpy(Y)[batch.ids])


def test_given_parts_are_kept_and_words_are_labels(tmp_path: Path) -> None:
    words = np.array(["no", "yes"])[Y]
    path = save(tmp_path, x_train=X, y_train=words, x_test=X[:4] + 1000, y_test=words[:4])
    splits = Npz(path=path, normalize="data").load(0)
    assert splits.info.class_names == ("no", "yes")
    assert splits.record["sizes"] == {"train": 36, "validation": 4, "test": 4}
    assert isinstance(splits.test, TensorExamples)
    assert splits.test.ids.tolist() == [40, 41, 42, 43]
    torch.testing.assert_close(splits.train.fetch(range(36)).inputs.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    more = save(tmp_path, x_train=X, y_train=Y, x_test=X + 1000, y_test=Y, x_validation=X[:6] - 999, y_validation=Y[:6])
    assert Npz(path=more).load(0).record["sizes"] == {"train": 40, "validation": 6, "test": 40}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((40, 5, 4), (1, 5, 4)), ((40, 5, 4, 3), (3, 5, 4)), ((40, 3, 5, 4), (3, 5, 4)), ((40, 5, 4, 1), (1, 5, 4))],
)
def test_images_get_their_channels_first_and_bytes_are_scaled(tmp_path: Path, shape, expected) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    splits = Npz(path=save(tmp_path, x=pixels, y=Y)).load(0)
    assert splits.info.input_shape == expected
    inputs = splits.train.fetch(range(28)).inputs
    assert 0.9 < float(inputs.max()) <= 1.0
    assert float(inputs.sum()) == pytest.approx(pixels[splits.train.ids].astype(float).sum() / 255, rel=1e-4)


def test_values_that_are_not_finite_are_named_refused_or_left_out(tmp_path: Path) -> None:
    bad = X.copy()
    bad[3, 1], bad[8, 0] = np.nan, np.inf
    labels = Y.astype(float)
    labels[20] = 0.5
    path = save(tmp_path, x=bad, y=labels)
    with pytest.raises(
        InputError, match=r"3 of 40 .*x\[3\]: a value is not finite; x\[8\].*x\[20\]: label 0.5 is no class"
    ):
        Npz(path=path).load(0)
    splits = Npz(path=path, on_bad="skip").load(0)
    assert sum(splits.record["sizes"].values()) == 37
    assert "3 of 40 samples were left out" in splits.warnings[0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X, "labels": Y}, "no array 'y'"),
        ({"x_trian": X, "y_train": Y, "x_test": X, "y_test": Y}, "no array 'x_train'.*Did you mean 'x_trian'"),
        ({"x_train": X, "y_train": Y}, "no array 'x_test'"),
        ({"x": X, "y": Y[:-1]}, r"'x' has 40 samples and 'y' has shape \(39,\)"),
        ({"x": X, "y": np.zeros(40, int)}, "one class only, '0'"),
        ({"x": X[:, 0], "y": Y}, r"shape \(40,\)"),
        ({"x": np.zeros((40, 5, 4, 4)), "y": Y}, "1 or 3 channels"),
        ({"x": np.array(["a"] * 40)[:, None], "y": Y}, "expected numbers"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y}, "must agree"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1}, "y_test has the class '2', which y_train lacks"),
        ({"x": X[:0], "y": Y[:0]}, "no class"),
    ],
)
def test_bad_archives_are_refused(tmp_path: Path, arrays, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Npz(path=save(tmp_path, **arrays)).load(0)


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


def test_objects_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path, x=np.array([Trap()] * 4, dtype=object), y=Y[:4])
    with pytest.raises(InputError, match="not an archive of numeric arrays"):
        Npz(path=path).load(0)
    (tmp_path / "p.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="not an archive of numeric arrays"):
        Npz(path=str(tmp_path / "p.npz")).load(0)
    assert not (tmp_path / "sprung").exists()


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    save(tmp_path, x=X, y=Y)
    with pytest.raises(InputError, match=r"there is no file .*Did you mean 'a\.npz'"):
        Npz(path=str(tmp_path / "b.npz")).load(0)
    np.save(tmp_path / "s.npy", X)
    with pytest.raises(InputError, match="single array"):
        Npz(path=str(tmp_path / "s.npy")).load(0)
