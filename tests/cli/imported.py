"""What a run imports, for the process that the tests' commands are forked from; nothing here starts a thread."""

from __future__ import annotations

import importlib

from tutelage.recipe.registry import registry

for name in (
    "torch._dynamo",
    "accelerate",
    "matplotlib.backends.backend_svg",
    "sklearn.datasets",
    "tutelage.api.running",
    "tutelage.cli.app",
    "tutelage.cli.progress",
    "tutelage.engine.run",
    "tutelage.report.answers",
    "tutelage.report.html",
    "tutelage.report.terminal",
):
    importlib.import_module(name)
for entry in registry().entries():
    importlib.import_module(entry.module)
