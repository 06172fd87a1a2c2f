"""The command line: parses, calls the API, prints."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0 done, 1 the run failed, 2 the input is wrong, 130 interrupted.

    Args:
        arguments: Instead of those of the process.
    """
    # What is imported stays: to look for garbage in it every few hundred objects takes a tenth of a start.
    gc.set_threshold(50_000, 20, 20)
    from tutelage.cli.guard import guarded
    from tutelage.cli.leaving import leave

    if arguments is not None:
        return guarded(list(arguments))
    return leave(guarded(sys.argv[1:]))
