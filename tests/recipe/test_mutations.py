"""Thousands of wrong recipes: each is caught, placed and, where a word was mistyped, answered with the right one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_every_wrong_recipe_is_answered() -> None:
    script = Path(__file__).with_name("corpus.py")
    done = subprocess.run([sys.executable, str(script), "4000"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not found["heavy"], f"checking recipes imported {found['heavy']}"
    assert not found["wrong"], f"{len(found['wrong'])} of {found['count']}:\n" + "\n".join(found["wrong"][:40])
    assert found["count"] >= 2000
