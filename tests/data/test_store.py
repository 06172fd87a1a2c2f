"""The store of logits: what is written is found again by sample and view, and nothing else passes for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from tutelage.data import store as module
from tutelage.data.seeds import shuffle
from tutelage.data.store import Layout, Store
from tutelage.recipe.errors import InputError, RunError

IDS = torch.tensor([3, 8, 1, 40, 12, 7, 5, 22, 9, 30])
IDENTITY = {"teacher": "a" * 64, "data set": "b" * 64, "augmentation": "c" * 64}


def logits(view: int, ids: torch.Tensor, classes: int = 12) -> torch.Tensor:
    """Different for each sample and view, and known beforehand."""
    grid = torch.arange(classes) * 0.37
    return torch.sin(ids[:, None] * 1.3 + view * 0.7 + grid) * 5


def opened(folder: Path, **changes: Any) -> Store:
    layout = changes.pop("layout", Layout(12, 4, "fp32"))
    return Store(folder, **{"identity": IDENTITY, "ids": IDS, "seed": 7, "views": 3, "layout": layout, **changes})


def fill(store: Store, shards: Any = None) -> Store:
    for shard in store.missing() if shards is None else shards:
        order = shuffle(store.count, store.seed, shard.view)[shard.start : shard.stop]
        store.write(shard, [store.layout.pack(logits(shard.view, IDS[part])) for part in order.split(2)])
    return store


@pytest.fixture(params=[4 << 20, 60], ids=["one shard", "several shards"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "_SHARD_BYTES", request.param)
    return int(request.param)


def test_every_sample_of_every_view_is_found(tmp_path: Path, size: int) -> None:
    fill(opened(tmp_path / "s", batch=2))
    found = opened(tmp_path / "s", batch=2)
    assert len(list(found.shards())) == (3 if size > 1000 else 15)
    for view in range(3):
        some = IDS[[4, 0, 9, 4]]
        kept = found.read(view, some)
        top = logits(view, some).topk(4)
        assert torch.equal(kept["values"], top.values)
        assert torch.equal(kept["indices"], top.indices)
        rest = logits(view, some).exp().sum(1) - top.values.exp().sum(1)
        assert torch.allclose(kept["tail"].exp(), rest, atol=1e-4)


@pytest.mark.parametrize("top_k", [None, 12])
def test_all_classes_in_full_precision_are_kept_to_the_bit(tmp_path: Path, top_k: int | None) -> None:
    store = fill(opened(tmp_path / "s", layout=Layout(12, top_k, "fp32")))
    assert store.read(1, IDS).keys() == {"values"}
    assert torch.equal(store.read(1, IDS)["values"], logits(1, IDS))


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        (Layout(527, 20, "fp16"), 84),
        (Layout(10, 3, "fp16"), 16),
        (Layout(10, None, "fp32"), 40),
        (Layout(100_000, 20, "fp16"), 124),
    ],
)
def test_bytes_of_a_sample(layout: Layout, size: int) -> None:
    """84 for 20 of AudioSet's 527 classes: 2 million clips in 10 views are 1.7 GB."""
    assert layout.row.itemsize == size
    assert Layout(527, 20, "fp16").row.itemsize * 2_000_000 * 10 == pytest.approx(1.7e9, rel=0.02)


def test_bytes_are_stated_and_are_those_on_disk(tmp_path: Path) -> None:
    store = fill(opened(tmp_path / "s"))
    said = json.loads((tmp_path / "s" / "store.json").read_text())
    assert said["bytes_per_sample"] == store.bytes_per_sample == 4 * 4 + 4 * 2 + 4
    assert store.size() == 28 * 3 * 10
    for file in (tmp_path / "s").glob("view-*/*.npy"):
        assert numpy.load(file, allow_pickle=False).nbytes == 28 * 10


def test_files_are_memory_mapped_and_not_pickled(tmp_path: Path) -> None:
    store = fill(opened(tmp_path / "s"))
    store.read(0, IDS)
    assert all(isinstance(shard, numpy.memmap) for shard in store._opened.values())
    assert not list((tmp_path / "s").rglob("*.pkl"))


def test_a_view_is_the_same_whoever_asks_in_which_order(tmp_path: Path) -> None:
    store = fill(opened(tmp_path / "s"))
    one, two = store.read(2, IDS), store.read(2, IDS.flip(0))
    assert torch.equal(one["values"], two["values"].flip(0))


def test_a_damaged_shard_is_noticed_and_made_again(tmp_path: Path, size: int) -> None:
    store = fill(opened(tmp_path / "s", batch=2))
    shard = list(store.shards())[1]
    data = bytearray(store.path(shard).read_bytes())
    data[-3] ^= 1
    store.path(shard).write_bytes(bytes(data))
    found = opened(tmp_path / "s", batch=2)
    assert found.missing() == [shard]
    with pytest.raises(RunError, match=r"does not match its checksum"):
        found.read(shard.view, IDS)
    fill(found)
    assert torch.equal(found.read(shard.view, IDS)["values"], logits(shard.view, IDS).topk(4).values)


def test_checksums_can_be_checked_without_us(tmp_path: Path) -> None:
    fill(opened(tmp_path / "s"))
    for file in (tmp_path / "s").glob("view-*/*.sha256"):
        done = subprocess.run(["sha256sum", "-c", file.name], cwd=file.parent, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout


def _killed_after(folder: Path, replaced: int) -> int:
    """Write in a process that is killed when it is to name its next file; its exit status."""
    child = os.fork()
    if child == 0:
        replace, done = os.replace, 0

        def some(*args: Any) -> None:
            nonlocal done
            if done == replaced:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            replace(*args)

        os.replace = some  # type: ignore[assignment]
        fill(opened(folder, batch=2))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("replaced", [0, 1, 2, 3, 8, 9])
def test_a_writer_that_is_killed_loses_what_it_was_writing(
    replaced: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before a file gets its name: the description, the ids, a shard, a shard's checksum."""
    monkeypatch.setattr(module, "_SHARD_BYTES", 60)
    assert _killed_after(tmp_path / "s", replaced) == -9
    store = opened(tmp_path / "s", batch=2)
    left = store.missing()
    assert len(left) == 15 - max(replaced - 2, 0) // 2
    before = {store.path(shard): store.path(shard).stat().st_mtime_ns for shard in store.shards() if shard not in left}
    fill(store)
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    for view in range(3):
        assert torch.equal(store.read(view, IDS)["values"], logits(view, IDS).topk(4).values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"identity": {**IDENTITY, "teacher": "d" * 64}}, "of another teacher"),
        ({"identity": {**IDENTITY, "data set": "d" * 64}}, "of another data set"),
        ({"identity": {**IDENTITY, "augmentation": "d" * 64}}, "of another augmentation"),
        ({"ids": IDS.flip(0)}, "of other samples"),
        ({"seed": 8}, "seed is 7 there and 8 here"),
        ({"views": 4}, "views is 3 there and 4 here"),
        ({"layout": Layout(12, 5, "fp32")}, "top_k is 4 there and 5 here"),
        ({"layout": Layout(12, 4, "fp16")}, 'dtype is "fp32" there and "fp16" here'),
    ],
)
def test_logits_of_something_else_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    fill(opened(tmp_path / "s"))
    with pytest.raises(InputError, match=said):
        opened(tmp_path / "s", **change)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="no store of logits"):
        opened(tmp_path)
    (tmp_path / "thesis.tex").rename(tmp_path / "store.json")
    with pytest.raises(InputError, match="cannot be read"):
        opened(tmp_path)
    (tmp_path / "store.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match="another version"):
        opened(tmp_path)


@pytest.mark.parametrize("stranger", [2, 41, -1])
def test_a_sample_that_was_not_stored(tmp_path: Path, stranger: int) -> None:
    store = fill(opened(tmp_path / "s"))
    with pytest.raises(KeyError, match=f"no sample {stranger}"):
        store.read(0, torch.tensor([3, stranger]))


def test_numbers_that_cannot_be_kept_are_refused() -> None:
    for layout in (Layout(3, None, "fp16"), Layout(3, 2, "fp16")):
        with pytest.raises(RunError, match="half precision"):
            layout.pack(torch.tensor([[0.0, 70000.0, 1.0]]))
        # A class that is masked away is no overflow.
        assert numpy.isinf(layout.pack(torch.tensor([[-torch.inf, -torch.inf, 1.0]]))["values"]).any()
    with pytest.raises(RunError, match="no numbers"):
        Layout(3, None, "fp32").pack(torch.tensor([[0.0, torch.nan, 1.0]]))
    with pytest.raises(InputError, match=r"top_k 4 is not in 1\.\.3"):
        Layout(3, 4, "fp32")


def test_rows_must_be_those_of_the_shard(tmp_path: Path) -> None:
    store = opened(tmp_path / "s")
    with pytest.raises(ValueError, match="has 10 rows, not 2"):
        store.write(next(store.shards()), [store.layout.pack(logits(0, IDS[:2]))])


def test_another_batch_size_goes_on_in_the_same_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHARD_BYTES", 60)
    first = opened(tmp_path / "s", batch=2)
    fill(first, list(first.shards())[:4])
    second = fill(opened(tmp_path / "s", batch=3))
    assert torch.equal(second.read(2, IDS)["values"], logits(2, IDS).topk(4).values)
