"""Ten times the data: at most 10.5 times the work, and memory that stays where it was.

Supervised training for an epoch on pictures in folders, drawn from a fixed seed, in processes of one thread that read
and inspect the pictures anew each time. Compared are the CPU seconds of the whole run; those of its training alone,
which no start-up flatters; and the peak of the process's memory. Held in memory, the larger set would take 94 MB more.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import measuring
import numpy as np
from PIL import Image

TIME_LIMIT, MEMORY_LIMIT = 10.5, 1.10
SMALL, FACTOR, SIDE, CLASSES = 3000, 10, 28, 10
RECIPE = """
method: supervised
student: {{model: convnet, width: 8, depth: 2}}
data: {{name: folder, path: {path}, channels: 1}}
train: {{epochs: 1, batch_size: 128}}
measure: [accuracy]
baseline: false
"""


def pictures(root: Path, count: int) -> Path:
    """``count`` training pictures, and the same few others whatever the count."""
    draw = np.random.default_rng(0)
    for part, size in (("validation", 200), ("test", 200), ("train", count)):
        for label in range(CLASSES):
            (root / part / str(label)).mkdir(parents=True)
        for i in range(size):
            image = draw.integers(0, 128, (SIDE, SIDE), dtype=np.uint8)
            image[2 * (i % CLASSES)] += 127
            Image.fromarray(image).save(root / part / str(i % CLASSES) / f"{i}.bmp")
    return root


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--count", type=int, default=SMALL, help="pictures of the smaller set")
    options = parser.parse_args()
    counts = {"peer": options.count, "ours": options.count * FACTOR}
    stages: dict[str, list[float]] = {what: [] for what in counts}
    peaks: dict[str, list[float]] = {what: [] for what in counts}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, count in counts.items():
            text = RECIPE.format(path=pictures(folder / "data" / what, count))
            (folder / f"{what}.yaml").write_text(text, encoding="utf-8")

        def side(what: str) -> float:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                run = Path(place) / "run"
                command = [sys.executable, "-m", "tutelage", "run", folder / f"{what}.yaml", "--run-dir", run]
                cost = measuring.process(command, {"OMP_NUM_THREADS": "1", "TUTELAGE_CACHE": place})
                if cost.code != 0:
                    raise SystemExit(f"the run failed with exit code {cost.code}")
                (record,) = (json.loads(path.read_text()) for path in run.glob("stages/*/record.json"))
            stages[what].append(record["cpu_seconds"])
            peaks[what].append(cost.peak / 2**20)
            return cost.cpu

        found = measuring.alternate({what: lambda what=what: side(what) for what in counts}, options.repeats)
    about = f"a run on {counts['ours']:,} pictures; peer: on {counts['peer']:,}: "
    within = [
        measuring.compared(name, values["ours"], values["peer"], limit, about=about + what, unit=unit)
        for name, values, limit, what, unit in (
            ("scale-run", found, TIME_LIMIT, "CPU seconds of the whole run", "s"),
            ("scale-training", stages, TIME_LIMIT, "CPU seconds of its training", "s"),
            ("scale-memory", peaks, MEMORY_LIMIT, "peak resident memory", "MiB"),
        )
    ]
    return 0 if all(within) else 1


if __name__ == "__main__":
    sys.exit(main())
