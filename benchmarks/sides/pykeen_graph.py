"""PyKEEN's side: train a model on triples, then rank test triples; a line of JSON with what each took."""

from __future__ import annotations

import ctypes
import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from pykeen.evaluation import RankBasedEvaluator
from pykeen.models import ComplEx, RotatE, TransE
from pykeen.training import SLCWATrainingLoop, TrainingCallback
from pykeen.triples import TriplesFactory


class Clock(TrainingCallback):
    """CPU seconds at the end of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = [time.process_time()]

    def post_epoch(self, epoch: int, epoch_loss: float, **kwargs: Any) -> None:
        self.ends.append(time.process_time())


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
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    train = TriplesFactory.from_path(folder / "train.tsv")
    names = {"entity_to_id": train.entity_to_id, "relation_to_id": train.relation_to_id}
    test = TriplesFactory.from_path(folder / "test.tsv", **names)
    shared = {
        "triples_factory": train,
        "random_seed": 0,
        "loss": "nssa",
        "loss_kwargs": {"margin": 6.0 if name != "complex" else 0.0, "adversarial_temperature": 1.0},
    }
    model = {
        "transe": lambda: TransE(embedding_dim=width, **shared),
        "rotate": lambda: RotatE(embedding_dim=width // 2, **shared),
        "complex": lambda: ComplEx(embedding_dim=width // 2, **shared),
    }[name]()
    loop = SLCWATrainingLoop(
        model=model,
        triples_factory=train,
        optimizer="adam",
        optimizer_kwargs={"lr": rate},
        negative_sampler="basic",
        negative_sampler_kwargs={"num_negs_per_pos": negatives},
    )
    clock = Clock()
    loop.train(train, num_epochs=epochs, batch_size=batch, use_tqdm=False, callbacks=clock)
    triples = test.mapped_triples
    # Once before, so that what is loaded at the first call counts for neither side.
    RankBasedEvaluator(filtered=True).evaluate(
        model, triples[:2], additional_filter_triples=[train.mapped_triples], use_tqdm=False
    )
    high_water()
    before, start = resident(), time.process_time()
    evaluator = RankBasedEvaluator(filtered=True)
    found = evaluator.evaluate(model, triples, additional_filter_triples=[train.mapped_triples], use_tqdm=False)
    spent = time.process_time() - start
    # The first epoch warms up.
    steps = [b - a for a, b in zip(clock.ends[1:], clock.ends[2:], strict=False)]
    print(
        json.dumps(
            {
                "epoch": sum(steps) / len(steps),
                "ranking": spent,
                "memory": high_water() - before,
                "mrr": found.get_metric("both.realistic.inverse_harmonic_mean_rank"),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *(int(a) for a in sys.argv[3:7]), float(sys.argv[7]))
