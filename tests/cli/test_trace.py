"""`tutelage trace`: from a log of answers to predictions, states, prerequisites, advice, and a service."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tutelage.api import run
from tutelage.api.learners import Learners, given
from tutelage.cli import main
from tutelage.recipe.errors import InputError

LEARNERS = 60


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tutelage.data.simulated_answers import Prerequisites

    answers, _ = Prerequisites(learners=LEARNERS, steps=20).drawn()
    path = tmp_path_factory.mktemp("log") / "answers.csv"
    with path.open("w") as file:
        file.write("learner,time,concept,correct\n")
        for who in range(LEARNERS):
            for at in range(20 * who, 20 * who + 20):
                time = 1_600_000_000 + answers.times[at]
                file.write(f"secret{who},{time:.0f},c{answers.concepts[at, 0]},{answers.correct[at]}\n")
    return path


@pytest.fixture(scope="module")
def trained(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    recipe = {
        "method": "psi-kt",
        "model": {"model": "psi-kt", "influence": 8.0},
        "data": {"name": "answers", "path": str(log)},
        "train": {"epochs": 3, "batch_size": 16, "optimizer": {"name": "adam", "lr": 1e-2}},
        "measure": ["tracing"],
    }
    folder = run(recipe, root=tmp_path_factory.mktemp("runs")).folder
    torch.set_num_threads(threads)
    return folder


def call(*words: str | Path, code: int = 0) -> Any:
    """A command in this process: what it printed, and said."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            found = main(["trace", *map(str, words)])
        except SystemExit as leaving:
            found = leaving.code
    assert (found or 0) == code, err.getvalue() + out.getvalue()
    return SimpleNamespace(stdout=out.getvalue(), stderr=err.getvalue())


def test_a_log_is_enough_to_train_on(log: Path, tmp_path: Path) -> None:
    done = call("train", log, "--method", "bkt", "--run-dir", tmp_path / "run", "--json")
    report = json.loads(done.stdout)
    assert report["method"] == "bkt"
    written = "".join(
        p.read_text() for p in (tmp_path / "run").rglob("*") if p.suffix in (".json", ".jsonl", ".yaml", ".html")
    )
    assert "secret" not in written + done.stdout + done.stderr
    assert "Did you mean" in call("train", log, "--method", "bkd", code=2).stderr


def test_answers_are_predicted_without_naming_who_gave_them(trained: Path, log: Path, tmp_path: Path) -> None:
    done = call("predict", trained, log, "--out", tmp_path / "p.csv", "--json")
    facts = json.loads(done.stdout)
    assert facts["answers"] == 20 * LEARNERS
    assert facts["auc"] > 0.5
    rows = (tmp_path / "p.csv").read_text()
    assert rows.count("\n") == 20 * LEARNERS + 1
    assert "secret" not in rows + done.stdout + done.stderr
    named = call("predict", trained, log, "--learners")
    assert named.stdout.startswith("learner,position,concept,correct,chance,known")
    assert "secret7," in named.stdout


def test_concepts_that_training_never_saw_are_counted(trained: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text("learner,time,concept,correct\na,1,c0,1\na,2,brand new,0\na,3,c1,1\nb,1,c0,7\n")
    done = call("predict", trained, new, "--json")
    facts = json.loads(done.stdout)
    assert facts["unseen"] == 1
    assert facts["answers"] == 3
    assert "neither 0 nor 1" in facts["left out"][0]
    facts = json.loads(call("update", trained, new, "--store", tmp_path / "s.db", "--json").stdout)
    assert (facts["taken"], facts["unknown"], facts["repeated"]) == (3, 1, 0)


def test_update_state_next_and_map(trained: Path, log: Path, tmp_path: Path) -> None:
    store = tmp_path / "learners.sqlite"
    facts = json.loads(call("update", trained, log, "--store", store, "--json").stdout)
    assert (facts["taken"], facts["repeated"]) == (20 * LEARNERS, 0)
    assert facts["milliseconds an answer"] > 0
    again = json.loads(call("update", trained, log, "--store", store, "--json").stdout)
    assert (again["taken"], again["repeated"]) == (0, 20 * LEARNERS)
    picture = tmp_path / "state.svg"
    state = json.loads(
        call("state", trained, "--learner", "secret3", "--store", store, "--plot", picture, "--json").stdout
    )
    assert state["answers"] == 20
    assert all(row["low"] <= row["chance"] <= row["high"] for row in state["concepts"])
    assert picture.read_text().lstrip().startswith("<?xml")
    rows = json.loads(call("next", trained, "--learner", "secret3", "--store", store, "-n", "3", "--json").stdout)
    assert len(rows) == 3
    assert rows[0]["score"] >= rows[1]["score"]
    assert "builds on" in rows[0]["why"] or "build on" in rows[0]["why"]
    for name in ("map.graphml", "map.json", "map.svg"):
        call("map", trained, "--threshold", "0.01", "--out", tmp_path / name)
    import networkx as nx

    graph = nx.read_graphml(tmp_path / "map.graphml")
    assert len(graph) == 8
    assert all(0.01 <= d["probability"] <= 1 for _, _, d in graph.edges(data=True))
    assert json.loads((tmp_path / "map.json").read_text())["edges"][0]["probability"] <= 1
    assert "secret3" not in call("state", trained, "--learner", "secret3", "--store", store).stdout


def test_mistakes_are_answered_in_words(trained: Path, log: Path, tmp_path: Path) -> None:
    store = tmp_path / "s.db"
    assert "no such learner" in call("state", trained, "--learner", "who", "--store", store, code=2).stderr
    assert "ends in .graphml" in call("map", trained, "--threshold", "0", "--out", tmp_path / "m.txt", code=2).stderr
    assert "no such file" in call("predict", trained, tmp_path / "none.csv", code=2).stderr
    bad = tmp_path / "bad.db"
    bad.write_text("this is no database, but a text that is long enough to be taken for one at first sight" * 20)
    assert "cannot be used as a store" in call("update", trained, log, "--store", bad, code=2).stderr
    assert "token" in call("serve", trained, "--host", "0.0.0.0", "--store", store, code=2).stderr
    for fields, said in (
        ({"concept": "c0", "correct": 1}, "expected a learner"),
        ({"learner": "a", "correct": 1}, "expected `concept`"),
        ({"learner": "a", "concept": "c0", "correct": 2}, "expected 0 or 1"),
        ({"learner": "a", "concept": "c0", "correct": 1, "time": "now"}, "seconds since 1970"),
        ({"learner": "a", "concept": "c0", "correct": 1, "tme": 3}, "Did you mean 'time'"),
    ):
        with pytest.raises(InputError, match=said):
            given(fields, 0, 0.0)


def test_a_store_belongs_to_its_model(trained: Path, log: Path, tmp_path: Path) -> None:
    Learners(trained, tmp_path / "s.db").close()
    other = run(
        {
            "method": "bkt",
            "model": {"model": "bkt"},
            "data": {"name": "hidden-mastery", "learners": 20},
            "measure": ["tracing"],
        },
        root=tmp_path,
    ).folder
    with pytest.raises(InputError, match="model of other data"):
        Learners(other, tmp_path / "s.db")


# ---------------------------------------------------------------------- the service


class Service:
    """`tutelage trace serve` in a process of its own."""

    def __init__(self, model: Path, store: Path, token: str | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **({"TUTELAGE_TOKEN": token} if token else {})}
        words = ["trace", "serve", str(model), "--store", str(store), "--port", str(self.port)]
        self.log = store.with_suffix(".log")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tutelage", *words],
            stdout=self.log.open("ab"),
            stderr=subprocess.STDOUT,
            env=environment,
        )
        until = time.monotonic() + 60
        while True:
            try:
                self.ask("GET", "/about")
                return
            except OSError:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise

    def ask(self, verb: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            link.request(verb, path, json.dumps(body) if body is not None else None, headers)
            answer = link.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            link.close()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def service(trained: Path, tmp_path: Path) -> Iterator[Service]:
    made = Service(trained, tmp_path / "learners.sqlite")
    yield made
    if made.process.poll() is None:
        made.kill()


@pytest.mark.slow
def test_a_tutoring_system_asks(service: Service) -> None:
    rows = [
        {"learner": "secret1", "concept": f"c{i % 3}", "correct": i % 2, "time": 1.6e9 + 3600 * i} for i in range(10)
    ]
    status, found = service.ask("POST", "/answers", {"answers": rows})
    assert status == 200
    assert (found["taken"], found["repeated"]) == (10, 0)
    assert all(0 < chance < 1 for chance in found["chances"])
    # Sent again because the answer was lost on the way: nothing is counted twice.
    assert service.ask("POST", "/answers", {"answers": rows})[1]["repeated"] == 10
    status, state = service.ask("POST", "/state", {"learner": "secret1", "time": 1.6e9 + 36_000})
    assert (status, state["answers"], len(state["concepts"])) == (200, 10, 8)
    status, following = service.ask("POST", "/next", {"learner": "secret1", "count": 2})
    assert (status, len(following["next"])) == (200, 2)
    status, about = service.ask("GET", "/about")
    assert (about["learners"], about["answers"]) == (1, 10)
    status, error = service.ask(
        "POST", "/answers", {"answers": [*rows[:1], {"learner": "secret2", "concept": "c0", "correct": 5}]}
    )
    assert (status, "expected 0 or 1" in error["detail"]) == (400, True)
    assert service.ask("GET", "/about")[1]["learners"] == 1
    assert service.ask("POST", "/state", {"learner": "nobody"})[0] == 404
    assert service.ask("POST", "/answers", [1])[0] == 400
    assert "secret" not in service.log.read_text()


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_it_is_killed_under_load(service: Service, trained: Path) -> None:
    acknowledged: list[tuple[str, int]] = []
    stop = threading.Event()

    def client(name: str) -> None:
        for i in range(10_000):
            if stop.is_set():
                return
            row = {"learner": name, "concept": f"c{i % 8}", "correct": i % 2, "time": 1.6e9 + i}
            try:
                status, found = service.ask("POST", "/answers", {"answers": [row]})
            except (OSError, http.client.HTTPException, ValueError):
                return
            if status == 200 and found["taken"] == 1:
                acknowledged.append((name, i))

    clients = [threading.Thread(target=client, args=(f"l{k}",)) for k in range(6)]
    for one in clients:
        one.start()
    until = time.monotonic() + 60
    while len(acknowledged) < 120 and time.monotonic() < until:
        time.sleep(0.01)
    service.kill()
    stop.set()
    for one in clients:
        one.join()
    assert len(acknowledged) >= 120
    store = service.log.with_suffix(".sqlite")
    again = Service(trained, store)
    try:
        for name in {name for name, _ in acknowledged}:
            last = max(i for who, i in acknowledged if who == name)
            status, state = again.ask("POST", "/state", {"learner": name, "time": 1.6e9 + last})
            assert status == 200
            # One more may have reached the disk whose acknowledgement did not reach its client.
            assert state["answers"] in (last + 1, last + 2)
    finally:
        again.kill()
    # States made from the store are those of answers that were never interrupted.
    held, fresh = Learners(trained, store), Learners(trained, store.with_name("fresh.sqlite"))
    history = held.history("l0")
    fresh.take(
        [
            given({"learner": "l0", "concept": f"c{a.concepts[0]}", "correct": a.correct, "time": a.time}, 0, 0)
            for a in history
        ]
    )
    names = held.model.info.concept_names
    if names == tuple(f"c{i}" for i in range(8)):
        for one, two in zip(held.state("l0", 1.7e9)["concepts"], fresh.state("l0", 1.7e9)["concepts"], strict=True):
            assert one["chance"] == pytest.approx(two["chance"], abs=1e-5)
    held.close()
    fresh.close()


@pytest.mark.slow
def test_a_token_is_asked_for(trained: Path, tmp_path: Path) -> None:
    made = Service(trained, tmp_path / "s.sqlite", token="open sesame")
    try:
        assert made.ask("GET", "/about")[0] == 401
        assert made.ask("POST", "/state", {"learner": "x"}, token="wrong")[0] == 401
        assert made.ask("GET", "/about", token="open sesame")[0] == 200
    finally:
        made.kill()
