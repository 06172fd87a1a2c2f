"""Writing and reading ``report.json``."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.recipe.errors import InputError, nearest

FORMAT = 1
"""Version of the report's layout; a reader refuses a newer one."""
KEYS = (
    *("method", "route", "status", "arrived", "kept", "lost", "leaked"),
    *("fidelity", "calibration", "cost", "artifacts", "warnings"),
)
"""The keys that every report has."""


def plain(value: Any, warnings: list[str], place: str = "") -> Any:
    """The value in JSON's own types; a number that is not finite becomes ``None`` and adds a warning.

    Args:
        value: Mappings with string keys, lists, tuples, strings, numbers, booleans, ``None`` and things with
            ``to_dict``.
        warnings: Receives the warnings.
        place: Keys from the root, joined by dots.
    """
    if hasattr(value, "to_dict"):
        fields = value.to_dict()
        if not math.isfinite(fields["value"]):
            warnings.append(f"{place} is not finite ({fields['value']}) and counts as not measured.")
            return None
        return {
            key: None if isinstance(entry, float) and not math.isfinite(entry) else entry
            for key, entry in fields.items()
        }
    if isinstance(value, Mapping):
        return {
            str(key): plain(entry, warnings, f"{place}.{key}" if place else str(key)) for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain(entry, warnings, f"{place}.{_label(entry, i)}") for i, entry in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        warnings.append(f"{place} is not finite ({value}) and counts as not measured.")
        return None
    return value


def to_json(report: Mapping[str, Any]) -> str:
    """The report's text: keys in the report's order, never NaN or infinity.

    Raises:
        ValueError: The mapping holds a number that is not finite.
    """
    return json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def save_report(report: Mapping[str, Any], run_dir: Path) -> Path:
    """Write ``report.json`` into a run's folder; a reader sees the old file or the new one, never a half."""
    return write(run_dir / "report.json", to_json(report))


def write(path: Path, text: str) -> Path:
    """Write a text file beside its place and rename it there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    return path


def load_report(run_dir: Path | str) -> dict[str, Any]:
    """Read the report of a run.

    Args:
        run_dir: A run's folder, or the ``report.json`` itself.

    Raises:
        InputError: There is no such folder, it has no report yet, or the file is not a report of a version known here.
    """
    given = Path(run_dir)
    path = given if given.suffix == ".json" else given / "report.json"
    if not path.parent.is_dir():
        folder = path.parent
        names = [entry.name for entry in folder.parent.iterdir() if entry.is_dir()] if folder.parent.is_dir() else []
        raise InputError(f"there is no run folder '{folder}'. {nearest(folder.name, names)}".rstrip())
    if not path.is_file():
        hint = ""
        if (path.parent / "recipe.yaml").is_file():
            hint = f" The run has not finished: 'tutelage resume {path.parent}' goes on with it."
        raise InputError(f"'{path.parent}' has no {path.name}.{hint}")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"'{path}' is not JSON: {error}. Expected a report written by 'tutelage run'.") from error
    if not isinstance(report, dict):
        raise InputError(f"'{path}' holds a {type(report).__name__}; expected a report, which is a mapping.")
    version = report.get("format", FORMAT)
    if not isinstance(version, int) or version > FORMAT:
        raise InputError(
            f"'{path}' has format {version}; this version of Tutelage reads up to {FORMAT}. Upgrade to read it."
        )
    missing = [key for key in KEYS if key not in report]
    if missing:
        raise InputError(f"'{path}' is not a report: it lacks {', '.join(missing)}.")
    return report


def _label(entry: Any, index: int) -> str:
    return str(entry["name"]) if isinstance(entry, Mapping) and "name" in entry else str(index)
