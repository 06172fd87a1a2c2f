from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.conftest import recipe, run

from tutelage.engine import checkpoint
from tutelage.engine.packing import pack, unpack
from tutelage.recipe.errors import RunError

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
keys = st.integers() | st.text() | st.tuples(st.integers(), st.text())
tensors = st.builds(
    lambda dtype, shape: (torch.rand(shape) * 5).to(dtype),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 3)).map(tuple),
)
states = st.recursive(
    scalars | tensors,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)


def alike(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(alike(a[key], b[key]) for key in a)
    return bool(a == b) or (a != a and b != b)


@settings(max_examples=150, deadline=None)
@given(states)
def test_nested_state_comes_back_through_json_as_it_was(state: Any) -> None:
    structure, packed = pack(state)
    assert alike(unpack(json.loads(json.dumps(structure)), packed), state)


def test_state_that_would_need_a_pickle_is_refused_with_its_place() -> None:
    with pytest.raises(TypeError, match=r"state\.callbacks\.0\.own is a object"):
        pack({"callbacks": [{"own": object()}]})


def test_a_packed_tensor_is_a_copy() -> None:
    tensor = torch.zeros(3)
    _, packed = pack({"a": tensor, "b": tensor[1:]})
    tensor += 1
    assert all(float(t.sum()) == 0 for t in packed.values())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "checkpoints"
    for step in (10, 20, 30):
        checkpoint.save(root, step, {"step": step, "w": torch.full((50,), float(step))}, keep=3)
    return root


def test_only_the_newest_stay(root: Path) -> None:
    checkpoint.save(root, 40, {"step": 40}, keep=2)
    assert sorted(p.name for p in root.iterdir()) == ["step-0000000030", "step-0000000040"]
    assert checkpoint.latest(root) == (40, {"step": 40})


def test_there_may_be_none(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "nothing") is None


def spoil(folder: Path, how: str, name: str) -> None:
    path = folder / name
    data = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        data[-2] ^= 1
        path.write_bytes(data)


@pytest.mark.parametrize("name", ["state.json", "state.safetensors", "checksums.json"])
@pytest.mark.parametrize("how", ["missing", "truncated", "empty", "flipped"])
def test_a_damaged_one_is_named_and_the_one_before_it_taken(root: Path, how: str, name: str) -> None:
    newest = root / "step-0000000030"
    spoil(newest, how, name)
    with pytest.raises(checkpoint.Damaged, match=str(newest)):
        checkpoint.load(newest)
    heard: list[str] = []
    found = checkpoint.latest(root, warn=heard.append)
    assert found is not None
    assert found[0] == 20
    assert float(found[1]["w"][0]) == 20.0
    assert len(heard) == 1
    assert str(newest) in heard[0]


def test_a_damaged_one_does_not_push_out_what_is_written_after_it(root: Path) -> None:
    spoil(root / "step-0000000030", "flipped", "state.safetensors")
    for step in (21, 22):
        checkpoint.save(root, step, {"step": step}, keep=1)
        assert checkpoint.latest(root) == (step, {"step": step})


def test_a_newer_format_is_refused_and_not_passed_over(root: Path) -> None:
    folder = root / "step-0000000030"
    path = folder / "state.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    import hashlib

    sums = json.loads((folder / "checksums.json").read_text())
    sums["state.json"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "checksums.json").write_text(json.dumps(sums))
    with pytest.raises(RunError, match=r"newer version of Tutelage \(checkpoint format 2\)"):
        checkpoint.latest(root)


def test_a_full_disk_is_an_error_and_leaves_the_old_ones(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"step-0000000040: No space left on device"):
        checkpoint.save(root, 40, {"step": 40}, keep=1)
    assert sorted(p.name for p in root.iterdir()) == [f"step-00000000{n}0" for n in (1, 2, 3)]


def test_what_a_kill_left_behind_is_ignored_and_then_removed(root: Path) -> None:
    partial = root / "step-0000000035.partial"
    partial.mkdir()
    (partial / "state.json").write_text("{")
    found = checkpoint.latest(root)
    assert found is not None
    assert found[0] == 30
    checkpoint.save(root, 40, {"step": 40}, keep=1)
    assert [p.name for p in root.iterdir()] == ["step-0000000040"]


def test_no_run_leaves_a_pickle(tmp_path: Path) -> None:
    content = recipe(
        train={"checkpoint": {"seconds": None, "steps": 1}, "epochs": 1},
        callbacks=["ema", "swa", "best-checkpoint"],
        trackers=["tensorboard"],
    )
    folder = run(content, tmp_path / "run")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        start = path.read_bytes()[:8]
        # Zip archives are what torch.save makes; 0x80 with a protocol's number begins a pickle.
        assert not start.startswith(b"PK\x03\x04"), path
        assert not (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"), path
        assert path.suffix not in (".pt", ".pth", ".pkl", ".bin"), path


def test_what_a_checkpoint_copied_is_gone_at_once(tmp_path: Path) -> None:
    """A model of gigabytes is copied for every checkpoint; nobody may have to look for garbage to be rid of it."""
    import gc

    def copies() -> int:
        return sum(1 for one in gc.get_objects() if type(one) is torch.Tensor and one.shape == (321,))

    state = {"models": {"student": {"weight": torch.ones(321)}}, "list": [torch.ones(321)]}
    gc.collect()
    gc.disable()
    try:
        before = copies()
        checkpoint.save(tmp_path, 1, state, keep=1)
        assert copies() == before
    finally:
        gc.enable()
