"""What is wrong with a table: counted, named, refused or left out; one sentence with the nearest valid choice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tutelage.data.table import Table
from tutelage.recipe.errors import InputError


def write(tmp_path: Path, text: str, name: str = "t.csv") -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


GOOD = "".join(f"{i},{i * 2},{'ab'[i % 2]}\n" for i in range(30))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",1,a", "feature 'x' is missing"),
        ("nan,1,a", "feature 'x' is missing"),
        ("oops,1,a", r"feature 'x' is no finite number \('oops'\)"),
        ("1,inf,a", "feature 'y' is no finite number"),
        ("1,1e99,a", "feature 'y' is no finite number"),
        ("1,2,", "'label' is missing"),
        ("1,2", "2 values, expected 3"),
        ("1,2,a,9", "4 values, expected 3"),
    ],
)
def test_a_bad_row_is_named_then_refused_or_left_out(tmp_path: Path, row: str, reason: str, everything) -> None:
    path = write(tmp_path, f"x,y,label\n{GOOD}{row}\n31,62,b\n")
    with pytest.raises(InputError, match=rf"1 of 32 samples cannot be used: t.csv row 32: {reason}.*on_bad=skip"):
        Table(path=path).load(0)
    splits = Table(path=path, on_bad="skip", normalize="none").load(0)
    assert splits.warnings[0].startswith("1 of 32 samples were left out: t.csv row 32")
    rows = everything(splits)
    assert len(rows) == 31
    assert rows[30] == ([31.0, 62.0], 1)
    assert Table(path=path, on_bad="skip", normalize="none").load(0).warnings == splits.warnings
    with pytest.raises(InputError, match="cannot be used"):
        Table(path=path).load(0)


def test_rows_after_a_short_one_keep_their_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, f"x,y,label\n1\n{GOOD}bad,1,a\n")
    with pytest.raises(InputError, match=r"row 2: 1 values, expected 3; t.csv row 33: feature 'x'"):
        Table(path=path).load(0)


def test_ten_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    path = write(tmp_path, f"x,y,label\n{GOOD}" + "x,1,a\n" * 14)
    with pytest.raises(InputError, match=r"14 of 44 .* and 4 more\.") as caught:
        Table(path=path).load(0)
    assert str(caught.value).count("t.csv row") == 10


def test_nothing_usable_is_refused_even_when_skipping(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of 3 samples can be used"):
        Table(path=write(tmp_path, "x,label\n1,\n2,\n3,\n"), on_bad="skip").load(0)


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        ("x,labels\n" + "1,a\n2,b\n" * 5, {}, r"data\.label: .*no column 'label'\. Did you mean 'labels'"),
        ("x,label\n" + "1,a\n2,b\n" * 5, {"features": ["X"]}, r"data\.features: .*no column 'X'\. Did you mean 'x'"),
        ("x,label\n" + "1,a\n2,b\n" * 5, {"features": ["x", "label"]}, "give the answer away"),
        ("x,label\n" + "1,a\n2,b\n" * 5, {"image": "x"}, "text holds no images"),
        ("x,label\n" + "1,a\n2,b\n" * 5, {"size": [1, 2, 3], "image": "x"}, "text holds no images"),
        ("x,label\n" + "one,a\ntwo,b\n" * 5, {}, "no numeric column beside 'label'"),
        ("x,label\n" + "1,a\n" * 5, {}, "one class only, 'a'"),
        ("x,label\n", {}, "no samples|no numeric"),
        ("", {}, "is empty"),
        ("x,x,label\n1,2,a\n", {}, "two columns named 'x'"),
        ("x,label\n" + "".join(f"1,{i}\n" for i in range(40)), {}, "40 distinct values in 40 rows"),
        ("x,label\n" + "1,a\n2,b\n" * 5, {"test_fraction": 0.5, "validation_fraction": 0.6}, "less than 1"),
    ],
)
def test_bad_tables_are_refused_in_one_sentence(tmp_path: Path, text: str, keys: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Table(path=write(tmp_path, text), **keys).load(0)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "x,label\n1,a\n", "training.csv")
    with pytest.raises(InputError, match=r"data\.path: .*Did you mean 'training\.csv'"):
        Table(path=str(tmp_path / "trainin.csv")).load(0)
    with pytest.raises(InputError, match=r"data\.test_path: there is no CSV or Parquet file"):
        Table(path=str(tmp_path / "training.csv"), test_path=str(tmp_path / "none" / "*.csv")).load(0)
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(InputError, match="neither CSV"):
        Table(path=str(tmp_path / "t.xlsx")).load(0)


def test_files_that_are_not_what_their_name_says(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("x,label\n1,a\n")
    with pytest.raises(InputError, match="is not a Parquet file"):
        Table(path=str(tmp_path / "t.parquet")).load(0)
    (tmp_path / "t.csv").write_bytes("größe,label\n1,a\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        Table(path=str(tmp_path / "t.csv")).load(0)
    (tmp_path / "u.csv").write_bytes(b"x,label\n" + b"1,a\n2,b\n" * 50_000 + "3,ö\n".encode("latin-1"))
    with pytest.raises(InputError, match="cannot be read as CSV in UTF-8"):
        Table(path=str(tmp_path / "u.csv")).load(0)


def test_a_class_only_the_test_file_has(tmp_path: Path) -> None:
    train = write(tmp_path, "x,label\n" + "1,rose\n2,iris\n" * 5, "a.csv")
    test = write(tmp_path, "x,label\n1,rose\n2,irsi\n", "b.csv")
    with pytest.raises(
        InputError, match=r"test data has the class 'irsi', which the training data lacks. Did you mean 'iris'"
    ):
        Table(path=train, test_path=test).load(0)


def test_files_with_other_columns(tmp_path: Path) -> None:
    train = write(tmp_path, "width,label\n" + "1,a\n2,b\n" * 5, "a.csv")
    test = write(tmp_path, "Width,label\n1,a\n2,b\n", "b.csv")
    with pytest.raises(InputError, match=r"b\.csv has no column 'width'\. Did you mean 'Width'"):
        Table(path=train, test_path=test).load(0)


def test_a_measured_label_is_no_class(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0], "label": [0.0, 1.0, 0.5]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"row 3: 'label' is 0.5: a class is a word or a whole number"):
        Table(path=str(tmp_path / "t.parquet")).load(0)


def test_unreadable_images_are_named(tmp_path: Path, picture, encoded, everything, images_table) -> None:
    images = [{"bytes": encoded(picture(i % 2, i)), "path": None} for i in range(30)]
    images[4]["bytes"] = b"no image"
    images[7]["bytes"] = images[7]["bytes"][:60]
    images[9]["bytes"] = None
    images[11] = {"bytes": None, "path": "gone.png"}
    path = images_table(tmp_path / "i.parquet", [i % 2 for i in range(30)], images)
    with pytest.raises(
        InputError,
        match=r"4 of 30 .*row 5: not a readable image.*row 8.*row 10: the image is missing.*row 12: no image file",
    ):
        Table(path=str(path)).load(0)
    assert len(everything(Table(path=str(path), on_bad="skip").load(0))) == 26


def test_images_can_lie_beside_the_table(tmp_path: Path, picture, encoded, everything, images_table) -> None:
    images = [{"bytes": None, "path": f"{i}.png"} for i in range(20)]
    for i in range(20):
        (tmp_path / f"{i}.png").write_bytes(encoded(picture(i % 2, i)))
    path = images_table(tmp_path / "i.parquet", [i % 2 for i in range(20)], images)
    assert len(everything(Table(path=str(path)).load(0))) == 20
