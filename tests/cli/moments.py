"""The command line in a process that can be killed at a chosen moment, without importing torch each time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path


def command(arguments: Sequence[str], output: Path, cache: Path, dies_at_sync: int | None = None) -> None:
    """The target of a process: ``tutelage <arguments>``, which kills itself when it syncs a file the nth time."""
    import torch

    torch.set_num_threads(1)
    os.environ["TUTELAGE_CACHE"] = str(cache)
    with open(output, "a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if dies_at_sync is not None:
        left, sync = dies_at_sync, os.fsync

        def fsync(descriptor: int) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            sync(descriptor)

        os.fsync = fsync
    from tutelage.cli import main

    sys.exit(main(list(arguments)))


class Commands:
    """Starts commands in processes forked from one that has imported everything but started nothing.

    Args:
        output: File that they all write to.
        cache: Their cache of trained weights.
    """

    def __init__(self, output: Path, cache: Path) -> None:
        self.output, self.cache = output, cache
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.cli.imported"])

    def start(self, *arguments: str, dies_at_sync: int | None = None) -> multiprocessing.process.BaseProcess:
        """A process that has begun."""
        given = (arguments, self.output, self.cache, dies_at_sync)
        process = self._context.Process(target=command, args=given, daemon=True)
        process.start()
        return process

    def run(self, *arguments: str, dies_at_sync: int | None = None) -> int | None:
        """The exit code; negative for the signal that ended it."""
        process = self.start(*arguments, dies_at_sync=dies_at_sync)
        process.join(120)
        return process.exitcode
