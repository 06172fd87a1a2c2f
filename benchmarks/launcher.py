"""Run a command and say what it took, from a process that is itself small.

The peak that the system reports of a process is at least that of the process that started it: a benchmark that has
loaded torch cannot ask for the peak of its own child.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """``launcher.py FD COMMAND...``: writes JSON to the file descriptor."""
    start = time.perf_counter()
    child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
    _, status, usage = os.wait4(child, 0)
    found = {
        "cpu": usage.ru_utime + usage.ru_stime,
        "wall": time.perf_counter() - start,
        "peak": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "code": os.waitstatus_to_exitcode(status),
    }
    with os.fdopen(int(sys.argv[1]), "w") as channel:
        json.dump(found, channel)


if __name__ == "__main__":
    main()
