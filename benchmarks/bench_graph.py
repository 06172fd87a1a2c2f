"""Learning and ranking links against PyKEEN: TransE, RotatE and ComplEx, the same triples, width, batch and negatives.

Three graphs: UMLS, WN18RR where the shared data are, and one drawn at random of the size of FB15k-237. PyKEEN lives in
an environment of its own, made once in the user's cache folder. Both sides are processes of one thread that take turns;
what counts is CPU time of an epoch (PyKEEN's without its first), CPU time of the filtered full ranking of the test
triples, and what resident memory rises by while they are ranked.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import measuring
import numpy as np

from tutelage.data.graphs import UMLS

HERE = Path(__file__).resolve().parent
VERSION = "1.11.1"
SHARED = measuring.ROOT.parent / "shared" / "data" / "wn18rr"
MODELS = ("transe", "rotate", "complex")
WIDTH, NEGATIVES, RATE = 64, 32, 5e-3
EPOCH = {"umls": 0.25, "wn18rr": 0.5, "synthetic": 0.5}
RANKING, MEMORY = 0.2, 0.25


def write(path: Path, triples: np.ndarray, names: Callable[[int, int], str]) -> None:
    lines = ("\t".join(names(column, int(value)) for column, value in enumerate(row)) for row in triples)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def umls(folder: Path) -> None:
    splits = UMLS().load(0)
    info = splits.info

    def name(column: int, value: int) -> str:
        names = info.relation_names if column == 1 else info.entity_names  # type: ignore[attr-defined]
        return str(names[value])

    write(folder / "train.tsv", splits.train.array, name)  # type: ignore[attr-defined]
    write(folder / "test.tsv", splits.test.array, name)  # type: ignore[attr-defined]


def wn18rr(folder: Path) -> None:
    (folder / "train.tsv").write_text((SHARED / "train.tsv").read_text(encoding="utf-8"), encoding="utf-8")
    known = {cell for line in (folder / "train.tsv").read_text().splitlines() for cell in line.split("\t")}
    lines = (SHARED / "test.tsv").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if set(line.split("\t")) <= known][:500]
    (folder / "test.tsv").write_text("\n".join(kept) + "\n", encoding="utf-8")


def synthetic(folder: Path) -> None:
    """14,541 entities, 237 relations, 272,115 triples, entities as unevenly frequent as in a real graph; 500 tests."""
    generator = np.random.default_rng(0)
    entities, relations, count = 14_541, 237, 272_115
    share = 1.0 / np.arange(1, entities + 1) ** 0.7
    ends = generator.choice(entities, size=(count + 500, 2), p=share / share.sum())
    of = generator.choice(relations, size=count + 500, p=(w := 1.0 / np.arange(1, relations + 1)) / w.sum())
    triples = np.stack([ends[:, 0], of, ends[:, 1]], 1)
    triples[:entities, 0], triples[:relations, 1] = np.arange(entities), np.arange(relations)
    write(folder / "train.tsv", triples[:count], lambda column, value: f"{'eer'[2 * (column == 1)]}{value}")
    write(folder / "test.tsv", triples[count:], lambda column, value: f"{'eer'[2 * (column == 1)]}{value}")


GRAPHS: dict[str, tuple[Callable[[Path], None], int, int]] = {
    # How it is written, the batch and the epochs of a side.
    "umls": (umls, 256, 21),
    "wn18rr": (wn18rr, 512, 3),
    "synthetic": (synthetic, 1024, 2),
}


def side(python: str | Path, script: str, *arguments: object) -> dict[str, float]:
    done = subprocess.run(
        [str(python), str(HERE / "sides" / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--graphs", nargs="*", default=list(GRAPHS))
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    options = parser.parse_args()
    python, within = measuring.environment("pykeen", VERSION, wanted="pykeen.txt"), True
    for graph in options.graphs:
        prepare, batch, epochs = GRAPHS[graph]
        if graph == "wn18rr" and not SHARED.is_dir():
            print(f"{graph}: left out, for {SHARED} is not there", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            prepare(folder)
            first = (folder / "test.tsv").read_text(encoding="utf-8").splitlines()[0]
            (folder / "one.tsv").write_text(first + "\n", encoding="utf-8")
            for model in options.models:
                asked = (folder, model, WIDTH, batch, NEGATIVES, epochs, RATE)
                ours, peer = [], []
                for turn in range(options.repeats):
                    both = [
                        (ours, sys.executable, "tutelage_graph.py"),
                        (peer, python, "pykeen_graph.py"),
                    ]
                    for found, interpreter, script in both if turn % 2 == 0 else reversed(both):
                        found.append(side(interpreter, script, *asked))
                about = (
                    f"{model} on {graph}: width {WIDTH}, batch {batch}, {NEGATIVES} negatives, {epochs} epochs; "
                    f"filtered MRR ours {ours[-1]['mrr']:.4f}, PyKEEN {VERSION} {peer[-1]['mrr']:.4f}"
                )
                for what, limit, unit in (
                    ("epoch", EPOCH[graph], "s"),
                    ("ranking", RANKING, "s"),
                    ("memory", MEMORY, "bytes"),
                ):
                    values = [[max(one[what], 1) if unit == "bytes" else one[what] for one in s] for s in (ours, peer)]
                    title = f"graph-{graph}-{model}-{what}"
                    within &= measuring.compared(title, *values, limit, unit=unit, about=about)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
