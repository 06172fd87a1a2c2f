"""Run folders: whole or absent, held by one process, readable after any kill."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tutelage.recipe import runfolder
from tutelage.recipe.errors import InputError, RunError
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.runfolder import RunFolder, atomic_write
from tutelage.recipe.spec import Recipe


@pytest.fixture
def recipe(mapping: dict[str, Any]) -> Recipe:
    return load_recipe(mapping)


def test_create_and_open(tmp_path: Path, recipe: Recipe) -> None:
    run = RunFolder.create(recipe, tmp_path / "runs", parents=("runs/teacher",))
    assert re.fullmatch(rf"{recipe.name}-\d{{8}}-\d{{6}}-{recipe.fingerprint()[:8]}", run.path.name)
    again = RunFolder.open(run.path)
    assert again.recipe() == recipe
    manifest = again.manifest()
    assert manifest["seed"] == 3
    assert manifest["parents"] == ["runs/teacher"]
    assert manifest["versions"]["torch"]
    assert manifest["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    again.update_manifest(data={"train": "abc"})
    again.update_manifest(data={"test": "def"})
    assert again.manifest()["data"] == {"train": "abc", "test": "def"}
    assert again.status() == "new"


def test_two_runs_in_one_second_and_an_exact_place(tmp_path: Path, recipe: Recipe) -> None:
    paths = {RunFolder.create(recipe, tmp_path).path for _ in range(3)}
    assert len(paths) == 3
    exact = RunFolder.create(recipe, tmp_path / "mine", exact=True)
    assert exact.path == tmp_path / "mine"
    with pytest.raises(InputError, match="not an empty folder"):
        RunFolder.create(recipe, tmp_path / "mine", exact=True)
    (tmp_path / "empty").mkdir()
    assert RunFolder.create(recipe, tmp_path / "empty", exact=True).recipe() == recipe


def test_open_refuses(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(InputError, match="no such run"):
        RunFolder.open(tmp_path / "none")
    with pytest.raises(InputError, match="not a run folder"):
        RunFolder.open(tmp_path)
    run = RunFolder.create(recipe, tmp_path)
    for text, said in (
        ("{", "damaged"),
        ("[]", "damaged"),
        ('{"format": 99}', "newer"),
        ("{}", "damaged"),
        ("\xff", "damaged"),
    ):
        (run.path / "manifest.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError, match=said):
            RunFolder.open(run.path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_failed_creation_leaves_nothing(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(runfolder.os, "fsync", fail)
    with pytest.raises(RunError, match="disk is full" if code == errno.ENOSPC else "denied"):
        RunFolder.create(recipe, tmp_path / "deep" / "runs")
    assert list(tmp_path.iterdir()) == []


def test_root_that_is_a_file(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file"):
        RunFolder.create(recipe, tmp_path / "file")


def test_atomic_write_keeps_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    atomic_write(path, "old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(runfolder.os, "replace", full)
    with pytest.raises(RunError, match="disk is full"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


HOLDER = """
import sys, time
from pathlib import Path
from tutelage.recipe.runfolder import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_lock_is_exclusive_and_dies_with_its_holder(tmp_path: Path, recipe: Recipe) -> None:
    run = RunFolder.create(recipe, tmp_path)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        assert run.status() == "running"
        with pytest.raises(InputError, match=f"process {holder.pid}"), run.lock():
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with run.lock():
        pass
    assert run.status() == "new"


def test_events_survive_a_torn_line(tmp_path: Path, recipe: Recipe) -> None:
    run = RunFolder.create(recipe, tmp_path)
    run.event("started", step=0)
    with open(run.path / "events.jsonl", "ab") as file:
        file.write(b'{"event": "ste')
    assert [e["event"] for e in run.events()] == ["started"]
    run.event("step", loss=1.5)
    assert [e["event"] for e in run.events()] == ["started", "step"]
    assert run.status() == "interrupted"
    run.event("done")
    assert run.status() == "done"
    assert json.loads((run.path / "events.jsonl").read_text().splitlines()[0])["step"] == 0


def test_events_cannot_hold_what_json_cannot(tmp_path: Path, recipe: Recipe) -> None:
    run = RunFolder.create(recipe, tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        run.event("step", loss=float("nan"))
    assert list(run.events()) == []
