"""Leaving in good order: on Ctrl-C or a polite kill, the step is finished and saved."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from tutelage.recipe.errors import RunError


class Interrupted(RunError):
    """The run was asked to leave and has saved its state."""

    exit_code = 130


# A launcher passes on the Ctrl-C that the terminal has already given to every process.
_ECHO = 1.0


class Interruption:
    """Whether the run was asked to leave."""

    def __init__(self) -> None:
        self.asked = False
        self._asked_at = 0.0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM as requests; a second Ctrl-C, a second later, is not waited for."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            if not self.asked:
                self.asked, self._asked_at = True, time.monotonic()
            elif number == signal.SIGINT and time.monotonic() - self._asked_at > _ECHO:
                raise KeyboardInterrupt

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
