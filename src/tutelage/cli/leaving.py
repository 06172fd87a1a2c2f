"""The end of a process."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading


def leave(code: int) -> int:
    """End the process at once, where nothing is left to do but to take it apart.

    With torch in it, that takes half a second of processor time. What was registered to be done at exit is done.

    Returns:
        The exit code, where the interpreter has to end in its own way: threads are still at work, or torch is not here.
    """
    working = any(not t.daemon and t is not threading.main_thread() for t in threading.enumerate())
    if working or "torch" not in sys.modules:
        return code
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # Whoever read it may be gone.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
