"""Tables: CSV and Parquet, features and images, divided here or by the user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tutelage.data.arrow import ArrowExamples
from tutelage.data.loader import Loader
from tutelage.data.splits import TensorExamples
from tutelage.data.table import Table
from tutelage.recipe.errors import InputError

pa = pytest.importorskip("pyarrow")
pytest.importorskip("datasets")
pq = pytest.importorskip("pyarrow.parquet")

CIFAR = Path(__file__).resolve().parents[2].parent / "shared/data/cifar10"


def test_a_csv_becomes_features_and_sorted_classes(flowers, everything) -> None:
    splits = Table(path=str(flowers()), label="kind", normalize="none").load(0)
    assert splits.info.class_names == ("aster", "iris", "rose")
    assert splits.info.input_shape == (2,)
    assert splits.record["columns"] == ["length", "width"]
    assert splits.record["columns_left_out"] == ["note"]
    rows = everything(splits)
    assert len(rows) == 60
    for i, (inputs, label) in rows.items():
        assert inputs == pytest.approx([i % 3 + i / 100, 50 - i])
        assert label == (2, 1, 0)[i % 3]
    assert splits.record["sizes"] == {"train": 42, "validation": 6, "test": 12}


@pytest.mark.parametrize(("name", "separator"), [("a.tsv", "\t"), ("b.csv", ";"), ("c.txt", "|")])
def test_separators_are_found(flowers, name: str, separator: str) -> None:
    same = Table(path=str(flowers()), label="kind").load(0)
    other = Table(path=str(flowers(name, separator=separator)), label="kind").load(0)
    torch.testing.assert_close(other.train.fetch([0, 5]).inputs, same.train.fetch([0, 5]).inputs)


def test_features_are_standardised_by_the_training_split(flowers) -> None:
    splits = Table(path=str(flowers()), label="kind").load(0)
    inputs = splits.train.fetch(range(len(splits.train))).inputs
    torch.testing.assert_close(inputs.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.std(0, correction=0), torch.ones(2))


def test_chosen_features_keep_their_order(flowers) -> None:
    path = str(flowers())
    one = Table(path=path, label="kind", features=["width", "length"], normalize="none").load(0)
    other = Table(path=path, label="kind", normalize="none").load(0)
    assert torch.equal(one.train.fetch([3]).inputs, other.train.fetch([3]).inputs.flip(1))
    assert one.info.fingerprint != other.info.fingerprint


@pytest.mark.parametrize("in_memory", [True, False])
def test_parquet_equals_csv_in_memory_or_not(flowers, tmp_path: Path, in_memory: bool, everything) -> None:
    from pyarrow import csv

    path = flowers()
    pq.write_table(csv.read_csv(path), tmp_path / "same.parquet")
    text = Table(path=str(path), label="kind", in_memory=in_memory).load(0)
    columns = Table(path=str(tmp_path / "same.parquet"), label="kind", in_memory=in_memory).load(0)
    assert isinstance(columns.train, TensorExamples if in_memory else ArrowExamples)
    mine, theirs = everything(columns), everything(text)
    assert mine.keys() == theirs.keys()
    for key, (inputs, label) in mine.items():
        assert (pytest.approx(inputs, abs=1e-5), label) == theirs[key]


def test_test_and_validation_files_are_kept_apart(flowers) -> None:
    files = {
        "path": flowers("a.csv", 60),
        "test_path": flowers("b.csv", 9, 60),
        "validation_path": flowers("c.csv", 6, 69),
    }
    splits = Table(**{k: str(v) for k, v in files.items()}, label="kind", normalize="none").load(0)
    assert splits.record["sizes"] == {"train": 60, "validation": 6, "test": 9}
    assert splits.test.fetch(range(9)).inputs[:, 1].tolist() == [50.0 - i for i in range(60, 69)]
    assert splits.warnings == []


def test_a_row_in_two_files_is_reported(flowers) -> None:
    splits = Table(path=str(flowers("a.csv", 60)), test_path=str(flowers("b.csv", 6, 57)), label="kind").load(0)
    assert any(w.endswith("test samples have the same content as a training sample") for w in splits.warnings)


def test_several_files_by_folder_or_pattern(flowers, tmp_path: Path, everything) -> None:
    (tmp_path / "parts").mkdir()
    flowers("parts/1.csv", 30), flowers("parts/2.csv", 30, 30)
    whole = everything(Table(path=str(flowers("whole.csv")), label="kind").load(0))
    for path in (tmp_path / "parts", tmp_path / "parts" / "*.csv"):
        assert everything(Table(path=str(path), label="kind").load(0)) == whole


def test_whole_number_labels_are_sorted_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "n.csv"
    path.write_text("x,label\n" + "".join(f"{i},{(2, 10, 9)[i % 3]}\n" for i in range(30)))
    assert Table(path=str(path)).load(0).info.class_names == ("2", "9", "10")


def test_images_by_bytes_are_found_decoded_and_normalised(tmp_path: Path, picture, everything, images_table) -> None:
    path = images_table(tmp_path / "i.parquet", [i % 3 for i in range(30)])
    splits = Table(path=str(path), normalize="none").load(0)
    assert splits.info.input_shape == (3, 6, 6)
    assert splits.record["columns"] == ["img"]
    expected = torch.from_numpy(picture(0, 3)).permute(2, 0, 1) / 255
    torch.testing.assert_close(torch.tensor(everything(splits)[3][0]).view(3, 6, 6), expected)
    normal = Table(path=str(path)).load(0)
    inputs = normal.train.fetch(range(len(normal.train))).inputs
    torch.testing.assert_close(inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    on_disk = Table(path=str(path), in_memory=False).load(0)
    torch.testing.assert_close(on_disk.train.fetch([1, 4]).inputs, normal.train.fetch([1, 4]).inputs)
    assert on_disk.info == normal.info


def test_images_are_resized_and_made_grey(tmp_path: Path, picture, encoded, images_table) -> None:
    images = [{"bytes": encoded(picture(i % 3, i, (6 + i % 2, 9))), "path": None} for i in range(30)]
    path = images_table(tmp_path / "i.parquet", [i % 3 for i in range(30)], images)
    assert Table(path=str(path), size=[4, 5], channels=1).load(0).info.input_shape == (1, 4, 5)
    with pytest.raises(InputError, match=r"i.parquet row 1 is 6x9, i.parquet row 2 is 7x9.*data.size=6"):
        Table(path=str(path)).load(0)


def test_declared_class_names_are_used(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"x": Value("float32"), "label": ClassLabel(names=["no", "yes", "perhaps"])})
    rows = {"x": [float(i) for i in range(40)], "label": [i % 3 for i in range(40)]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "d.parquet")
    assert Table(path=str(tmp_path / "d.parquet")).load(0).info.class_names == ("no", "yes", "perhaps")


def test_a_declared_label_out_of_range_is_named(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"x": Value("float32"), "label": ClassLabel(names=["no", "yes"])})
    made = Dataset.from_dict({"x": [0.0] * 6, "label": [0, 1] * 3}, features=features)
    made.to_parquet(tmp_path / "d.parquet")
    table = pq.read_table(tmp_path / "d.parquet")
    wrong = table.set_column(1, table.field("label"), pa.array([0, 1, 0, 7, 0, 1]))
    pq.write_table(wrong, tmp_path / "d.parquet")
    with pytest.raises(InputError, match=r"d.parquet row 4: 'label' is 7, outside 0\.\.1"):
        Table(path=str(tmp_path / "d.parquet")).load(0)


def test_the_second_reading_comes_from_the_cache_and_a_change_is_seen(flowers, cache: Path) -> None:
    path = flowers()
    first = Table(path=str(path), label="kind").load(0)
    stores = list(cache.glob("rows/*"))
    stamp = (stores[0] / "rows.arrow").stat().st_mtime_ns
    assert Table(path=str(path), label="kind").load(0).info == first.info
    assert (stores[0] / "rows.arrow").stat().st_mtime_ns == stamp
    path.write_text(path.read_text().replace("0.03,", "0.04,"))
    assert Table(path=str(path), label="kind").load(0).info.fingerprint != first.info.fingerprint
    assert len(list(cache.glob("rows/*"))) == 2


def test_a_damaged_cache_is_made_again(flowers, cache: Path, everything) -> None:
    table = Table(path=str(flowers()), label="kind", in_memory=False)
    first = everything(table.load(0))
    store = next(cache.glob("rows/*"))
    (store / "rows.arrow").write_bytes((store / "rows.arrow").read_bytes()[:200])
    assert everything(table.load(0)) == first


def test_only_requested_rows_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images_table) -> None:
    from tutelage.data.pictures import Pictures

    path = images_table(tmp_path / "i.parquet", [i % 3 for i in range(60)])
    splits = Table(path=str(path), in_memory=False).load(0)
    decoded, one = [], Pictures.one
    monkeypatch.setattr(Pictures, "one", lambda self, source: decoded.append(len(source)) or one(self, source))
    batch = splits.train.fetch([5, 2, 9])
    assert len(decoded) == 3
    assert batch.ids.tolist() == splits.train.ids[torch.tensor([5, 2, 9])].tolist()


def test_workers_read_arrow_files_alike(flowers) -> None:
    train = Table(path=str(flowers()), label="kind", in_memory=False).load(0).train
    one, two = (Loader(train, batch_size=8, seed=0, shuffle=True, workers=w).epoch(0) for w in (0, 2))
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.seeds, b.seeds)


def test_memory_stays_flat_over_a_set_much_larger_than_a_batch(tmp_path: Path) -> None:
    """Ten times the rows do not take ten times the memory, neither inspecting them nor in an epoch."""
    import tracemalloc

    def peak(rows: int) -> float:
        values = np.random.default_rng(0).random((rows, 256), dtype=np.float32)
        columns = {f"f{i}": values[:, i] for i in range(256)} | {"label": np.arange(rows) % 2}
        path = tmp_path / f"{rows}.parquet"
        pq.write_table(pa.table(columns), path, row_group_size=500)
        del values, columns
        pool = pa.default_memory_pool()
        before = pool.bytes_allocated()
        tracemalloc.start()
        train = Table(path=str(path), in_memory=False, normalize="none").load(0).train
        held = 0
        for batch in Loader(train, batch_size=64, seed=0, shuffle=True).epoch(0):
            held = max(held, pool.bytes_allocated() - before + batch.inputs.nbytes)
        traced = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return (traced + held) / 2**20

    peak(600)
    small, large = peak(2000), peak(20_000)
    assert large < 1.3 * small, f"{small:.1f} MiB for 2,000 rows, {large:.1f} MiB for 20,000 (20 MiB of values)"


@pytest.mark.skipif(not CIFAR.is_dir(), reason="the shared slice of CIFAR-10 is not at ../shared/data/cifar10")
def test_a_slice_of_cifar10() -> None:
    splits = Table(path=str(CIFAR / "test.parquet"), label="class", image="image").load(0)
    assert splits.info.input_shape == (3, 32, 32)
    assert splits.info.class_names[:2] == ("airplane", "automobile")
    assert splits.record["sizes"] == {"train": 3500, "validation": 500, "test": 1000}
    assert isinstance(splits.train, TensorExamples)
    assert splits.train.inputs.dtype == torch.uint8
    batch = splits.train.fetch(range(0, 3500))
    torch.testing.assert_close(batch.inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(batch.inputs.std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)
    assert torch.bincount(batch.labels).tolist() == [350] * 10
