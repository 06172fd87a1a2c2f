"""The command line: parses, calls the API, prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0 done, 1 the run failed, 2 the input is wrong, 130 interrupted.

    Args:
        arguments: Instead of those of the process.
    """
    from tutelage.cli.guard import guarded

    return guarded(sys.argv[1:] if arguments is None else list(arguments))
