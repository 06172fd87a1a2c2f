"""The user's own text: JSONL, JSON or Parquet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.data.splits import Splits
from tutelage.data.text_pool import TextPool
from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.registry import component

_FORMS = ("messages", "prompt", "text")


@component("data", "text")
@dataclass(frozen=True, kw_only=True)
class Text(TextPool):
    """Texts of a file: rows with ``messages``, with ``prompt`` and ``completion``, or with ``text``.

    Args:
        path: A ``.jsonl``, ``.json`` or ``.parquet`` file.
        test_path: Another to test on.
    """

    path: str
    test_path: str | None = None

    def load(self, seed: int) -> Splits:
        """Read, tokenise and divide the file.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.

        Raises:
            InputError: A file cannot be read, or rows cannot be used.
        """
        test = None if self.test_path is None else read_rows(Path(self.test_path).expanduser())
        return self.divided(read_rows(Path(self.path).expanduser()), seed, test=test, name=self.path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file.

    Raises:
        InputError: There is no such file, a line is no JSON object (its number is named), or no column holds text.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if path.suffix == ".parquet":
        try:
            from pyarrow import ArrowInvalid, parquet
        except ImportError as error:
            raise InputError("Parquet needs a further package: pip install 'tutelage[data]'") from error
        try:
            rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
        except (ArrowInvalid, OSError) as error:
            raise InputError(f"{path} is no Parquet file: {error}") from error
    else:
        rows = _json_rows(path)
    if not rows:
        raise InputError(f"{path} holds no rows")
    columns = sorted({key for row in rows[:1000] for key in row})
    if not set(columns) & set(_FORMS) or ("prompt" in columns and "completion" not in columns):
        raise InputError(
            f"{path} has the columns {', '.join(columns)}; expected `messages`, `prompt` and `completion`, or `text`. "
            f"{nearest(columns[0] if columns else '', _FORMS)}"
        )
    return rows


def _json_rows(path: Path) -> list[dict[str, Any]]:
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no UTF-8 text: {error}") from error
    if path.suffix == ".json":
        try:
            whole = json.loads(content)
        except ValueError as error:
            raise InputError(f"{path} is no JSON: {error}") from error
        if not isinstance(whole, list) or not all(isinstance(row, dict) for row in whole):
            raise InputError(f"{path}: expected a list of objects")
        return whole
    rows = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: expected an object, found {type(row).__name__}")
        rows.append(row)
    return rows
