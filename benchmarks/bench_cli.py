"""CPU seconds of the commands that people wait for without training anything: a help page, a list, a check."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import measuring

COMMANDS = {
    "cli-help": (("--help",), 0.3),
    "cli-methods": (("methods",), 0.5),
    "cli-check": (("check", "recipes/quickstart.yaml"), 2.0),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    script = Path(sys.executable).with_name("tutelage")
    start = [script] if script.exists() else [sys.executable, "-m", "tutelage"]
    within = True
    for name, (arguments, limit) in COMMANDS.items():
        command = [*start, *arguments]
        # The first call compiles what was changed since the last.
        costs = [measuring.process(command) for _ in range(options.repeats + 1)][1:]
        if any(cost.code for cost in costs):
            return 1
        about = f"CPU seconds of `tutelage {' '.join(arguments)}`"
        cpu, wall = [cost.cpu for cost in costs], [cost.wall for cost in costs]
        within &= measuring.bounded(name, cpu, limit, about=about, wall=wall)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
