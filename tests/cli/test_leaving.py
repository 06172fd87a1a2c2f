"""A process that ends at once loses nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import atexit, sys, threading, time
from tutelage.cli.leaving import leave
{imports}
atexit.register(lambda: print("registered"))
class Late:
    def __del__(self):
        print("taken apart")
late = Late()
{more}
print("said", end=" ")
sys.exit(leave(3))
"""


def ended(imports: str, more: str = "") -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(imports=imports, more=more)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def test_what_was_printed_and_registered_is_there() -> None:
    assert ended("import torch") == (3, "said registered\n")


@pytest.mark.parametrize(
    ("imports", "more", "last"),
    [
        ("", "", "taken apart"),
        ("import torch", "threading.Thread(target=lambda: (time.sleep(0.2), print('worked'))).start()", "taken apart"),
    ],
    ids=["nothing heavy", "a thread at work"],
)
def test_otherwise_the_interpreter_ends_as_usual(imports: str, more: str, last: str) -> None:
    code, out = ended(imports, more)
    assert code == 3
    assert "registered" in out
    assert last in out
    assert ("worked" in out) == bool(more)
