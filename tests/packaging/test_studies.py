"""The scripts behind the results pages can be run: they are read with every change, though they take long to run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LISTING = """
import study
from tutelage.recipe.registry import registry
known = set(registry().names("method"))
unknown = sorted(set(study.STUDIES) - known)
assert not unknown, f"studies of no method: {unknown}"
print(len(study.STUDIES))
"""


def test_every_study_is_of_a_method_and_can_be_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTING], cwd=ROOT / "results", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
