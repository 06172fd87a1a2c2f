"""Generalised JSD from hidden states, forward and backward with both output projections, against TRL and Liger.

The peers: TRL's formula over whole logits (what its GKD trainer minimises), TRL's tiles of tokens and vocabulary, and
Liger's chunks of tokens, at its own size of a chunk and at a smaller one. They live in an environment of their own,
made once in the user's cache folder. Every measurement is a fresh process of one thread; sides take turns. What
counts is CPU time of a step, against the best of the peers, and by how much resident memory rises in the first step,
the gradients included. Both sides must come to the same loss and the same gradients.

At few tokens and few entries the plain formula is the peer: saving memory must not cost time where there is none to
save.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import measuring

HERE = Path(__file__).resolve().parent
VERSION = "trl-1.16.0-liger-0.8.5"
PEERS = ("trl-dense", "trl-tiled", "liger", "liger-128")
NARROW, WIDE = 256, 576
SIZES = {"32k": (1024, 32_000), "152k": (512, 151_936)}
SMALL = {"tiny": (16, 500), "small": (128, 2_000)}
LIMIT, EXTRA, LIMIT_SMALL = 0.6, 320, 1.0


def side(python: str | Path, name: str, tokens: int, vocabulary: int, times: int) -> dict[str, Any]:
    """What one side took in a process of its own."""
    command = [str(python), str(HERE / "sides" / "token_losses.py"), name]
    done = subprocess.run(
        [*command, *map(str, (tokens, vocabulary, NARROW, WIDE, times))],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def same(ours: dict[str, Any], peer: dict[str, Any]) -> bool:
    """Whether two sides came to one loss and gradients of one size."""
    pairs = zip([ours["loss"], *ours["gradient"]], [peer["loss"], *peer["gradient"]], strict=True)
    return all(math.isclose(a, b, rel_tol=1e-4) for a, b in pairs)


def measured(
    interpreters: dict[str, str | Path], tokens: int, vocabulary: int, repeats: int, times: int
) -> dict[str, list[dict[str, Any]]]:
    """Every side's measurements, which agree."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in interpreters}

    def once(name: str) -> float:
        found[name].append(side(interpreters[name], name, tokens, vocabulary, times))
        return float(found[name][-1]["cpu"])

    measuring.alternate({name: (lambda name=name: once(name)) for name in interpreters}, repeats)
    for name, values in found.items():
        if not same(found["ours"][0], values[0]):
            raise SystemExit(f"ours and {name} come to different losses or gradients: {found['ours'][0]}, {values[0]}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--sizes", nargs="+", choices=[*SIZES, *SMALL], default=[*SIZES, *SMALL])
    options = parser.parse_args()
    python = measuring.environment("token-losses", VERSION, wanted="token-losses.txt")
    within = []
    for name, (tokens, vocabulary) in SIZES.items():
        if name not in options.sizes:
            continue
        interpreters = {"ours": sys.executable, **dict.fromkeys(PEERS, python)}
        found = measured(interpreters, tokens, vocabulary, options.repeats, options.times)
        cpu = {side: [one["cpu"] for one in values] for side, values in found.items()}
        extra = {side: [one["extra"] / 2**20 for one in values] for side, values in found.items()}
        best = min(PEERS, key=lambda peer: statistics.median(cpu[peer]))
        about = (
            f"CPU time of a generalised JSD, forward and backward, {tokens} tokens x {vocabulary}, widths {NARROW} and "
            f"{WIDE}; peer: {best}, the best of {', '.join(PEERS)}"
        )
        within.append(measuring.compared(f"token-losses-{name}", cpu["ours"], cpu[best], LIMIT, about=about, cpu=cpu))
        about = f"what resident memory rises by in such a step, {tokens} tokens x {vocabulary}, its gradients included"
        within.append(
            measuring.bounded(f"token-losses-{name}-memory", extra["ours"], EXTRA, unit="MiB", about=about, extra=extra)
        )
    for name, (tokens, vocabulary) in SMALL.items():
        if name not in options.sizes:
            continue
        interpreters = {"ours": sys.executable, "plain": sys.executable}
        found = measured(interpreters, tokens, vocabulary, options.repeats, 50)
        cpu = {side: [one["cpu"] for one in values] for side, values in found.items()}
        about = f"the same at {tokens} tokens x {vocabulary}, where the peer is the plain formula over whole logits"
        within.append(
            measuring.compared(f"token-losses-{name}", cpu["ours"], cpu["plain"], LIMIT_SMALL, about=about, cpu=cpu)
        )
    return 0 if all(within) else 1


if __name__ == "__main__":
    sys.exit(main())
