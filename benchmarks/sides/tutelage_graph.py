"""Tutelage's side: the same model, triples, batch and negatives; a line of JSON with what each took."""

from __future__ import annotations

import ctypes
import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from tutelage.api import run
from tutelage.data.graphs import TripleFiles, told
from tutelage.data.triples import GraphInfo, Known
from tutelage.measure.link_prediction import rank
from tutelage.models.link_predictor import LinkPredictor
from tutelage.models.weights import load_model

MODELS = {
    "transe": {"model": "transe", "norm": 1, "normalize": True},
    "rotate": {"model": "rotate", "norm": "euclidean"},
    "complex": {"model": "complex"},
}


def high_water() -> int:
    """Most bytes resident since it was last asked."""
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak


def resident() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def main(folder: Path, name: str, width: int, batch: int, negatives: int, epochs: int, rate: float) -> None:
    torch.set_num_threads(1)
    data = {"name": "triples", "path": str(folder / "train.tsv"), "test_path": str(folder / "test.tsv")}
    # One triple: the time of the ranking is measured apart, below.
    few = folder / "one.tsv"
    recipe = {
        "method": {"name": "link-prediction", "negatives": negatives, "filtered": False},
        "model": {**MODELS[name], "width": width},
        "data": {**data, "test_path": str(few)},
        "train": {
            "epochs": epochs,
            "batch_size": batch,
            "optimizer": {"name": "adam", "lr": rate},
            "schedule": "constant",
            "checkpoint": {"seconds": None},
        },
        "measure": ["links"],
    }
    with tempfile.TemporaryDirectory() as home:
        done = run(recipe, run_dir=Path(home) / "run")
        record = json.loads((done.folder / "stages" / "embed" / "record.json").read_text())
        model = load_model(done.folder / "model")
    splits = TripleFiles(path=data["path"], test_path=data["test_path"]).load(0)
    info, facts, triples = splits.info, told(splits), splits.test.triples  # type: ignore[attr-defined]
    assert isinstance(model, LinkPredictor)
    assert isinstance(info, GraphInfo)
    del done
    # Once before, so that what is loaded at the first call counts for neither side.
    rank(model, triples[:2], Known(facts[:2], info.entities, info.relations), entities=info.entities)
    high_water()
    before, start = resident(), time.process_time()
    known = Known(facts, info.entities, info.relations)
    found = float(rank(model, triples, known, entities=info.entities).reciprocal().mean())
    spent = time.process_time() - start
    print(
        json.dumps(
            {
                "epoch": record["cpu_seconds"] / epochs,
                "ranking": spent,
                "memory": high_water() - before,
                "mrr": found,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *(int(a) for a in sys.argv[3:7]), float(sys.argv[7]))
