"""Recipes that come with the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tutelage.recipe.errors import InputError


def recipes_root() -> Path:
    """Folder of the shipped recipes: in an installed package beside the code, in a checkout at its root."""
    package = Path(__file__).parent.parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent.parent / "recipes"


def shipped(folder: Path | None = None) -> Iterator[tuple[Path, str]]:
    """Recipe files below a folder, with the first comment line of each.

    Raises:
        InputError: There is no such folder.
    """
    root = folder if folder is not None else recipes_root()
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder")
    for path in sorted(root.rglob("*.yaml")):
        first = path.read_text(encoding="utf-8").lstrip().partition("\n")[0]
        yield path, first.lstrip("# ").strip() if first.startswith("#") else ""
