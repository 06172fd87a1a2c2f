"""A model behind a server teaches as it does at home."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage import api
from tutelage.data.batch import DataInfo
from tutelage.models.served import Served
from tutelage.models.weight_files import read_tensors
from tutelage.recipe.errors import InputError, RunError

INFO = DataInfo((1, 8, 8), 10, tuple("0123456789"), "x")
Start = Callable[..., str]


def recipe(teacher: dict[str, Any], **train: Any) -> dict[str, Any]:
    return {
        "method": "kd",
        "teacher": teacher,
        "student": {"model": "mlp", "hidden": [8]},
        "data": {"name": "digits", "limit": 100},
        "train": {"epochs": 2, "batch_size": 50, **train},
        "measure": ["accuracy", "cost"],
        "baseline": False,
    }


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Two runs whose models differ."""
    folder = tmp_path_factory.mktemp("taught")
    for seed in (0, 1):
        own = {**recipe({}), "method": "supervised", "seed": seed}
        del own["teacher"]
        api.run(own, run_dir=folder / str(seed))
    return {seed: folder / str(seed) for seed in (0, 1)}


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[subprocess.Popen[bytes]] = []

    def begin(model: Path, port: int | None = None, **environment: str) -> str:
        import os

        if port is None:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
        command = [sys.executable, "-m", "tutelage", "serve", str(model), "--port", str(port)]
        running.append(subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL))
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            with socket.socket() as line:
                if line.connect_ex(("127.0.0.1", port)) == 0:
                    return url
            time.sleep(0.05)
        raise AssertionError("the server did not start")

    begin.stop = lambda: running[-1].kill() or running[-1].wait()  # type: ignore[attr-defined]
    yield begin
    for one in running:
        one.kill()
        one.wait()


def test_a_served_teacher_and_a_local_one_make_the_same_student(
    taught: dict[int, Path], start: Start, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    url = start(taught[0], OMP_NUM_THREADS="1")
    served = api.run(recipe({"model": "served", "url": url}), run_dir=tmp_path / "served")
    local = api.run(recipe({"model": "mlp", "hidden": [8], "weights": str(taught[0])}), run_dir=tmp_path / "local")
    one, two = (read_tensors(run.folder / "model" / "model.safetensors")[1] for run in (served, local))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert served.report["arrived"]["source"] == local.report["arrived"]["source"]


def test_a_server_that_goes_away_is_waited_for_and_another_model_is_refused(
    taught: dict[int, Path], start: Start, tmp_path: Path
) -> None:
    url = start(taught[0])
    port = int(url.rpartition(":")[2])
    model = Served(INFO, url=url)
    inputs = torch.rand(3, 1, 8, 8)
    before = model(inputs)
    start.stop()  # type: ignore[attr-defined]
    with pytest.raises(RunError, match="does not answer any more"):
        Served.forward(_with(model, retries=0), inputs)
    model.retries = 12
    again = threading.Thread(target=start, args=(taught[0], port))
    again.start()
    assert torch.allclose(model(inputs), before, atol=1e-6)
    again.join()
    start.stop()  # type: ignore[attr-defined]
    start(taught[1], port)
    with pytest.raises(RunError, match="holds another model"):
        model(inputs)
    with pytest.raises(InputError, match="holds another model"):
        Served(INFO, url=url).load_state_dict(model.state_dict())


def _with(model: Served, **changes: Any) -> Served:
    import copy

    other = copy.deepcopy(model)
    for name, value in changes.items():
        setattr(other, name, value)
    return other


def test_what_does_not_fit_is_said(taught: dict[int, Path], start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no model answers at http") as found:
        # Nobody listens at the port for discarding.
        _nearly("http://127.0.0.1:9")
    assert "http://127.0.0.1:9" in str(found.value)
    with pytest.raises(InputError, match="is no address of a server"):
        _nearly("127.0.0.1:8000")
    url = start(taught[0], TUTELAGE_TOKEN="open")
    with pytest.raises(InputError, match="wants a token"):
        _nearly(url)
    with pytest.raises(InputError, match="no variable KEY_OF_MINE"):
        _nearly(url, token="KEY_OF_MINE")
    monkeypatch.setenv("KEY_OF_MINE", "open")
    with pytest.raises(InputError, match="has classes 10, and the data 3"):
        Served(DataInfo((1, 8, 8), 3, tuple("abc"), "x"), url=url, token="KEY_OF_MINE")
    model = Served(INFO, url=url, token="KEY_OF_MINE")
    with pytest.raises(InputError, match=r"inputs are \[2, 5\]"):
        model(torch.zeros(2, 5))
    asked = urllib.request.Request(f"{url}/logits", b"no tensors", {"Authorization": "Bearer open"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(asked)


def _nearly(url: str, **more: Any) -> Served:
    return Served(INFO, url=url, **more)


def test_others_may_only_ask_with_a_token(taught: dict[int, Path]) -> None:
    from tutelage.api.serving import serve

    with pytest.raises(InputError, match="give a token"):
        serve(taught[0], host="0.0.0.0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="cannot listen"):
            serve(taught[0], port=taken.getsockname()[1])
