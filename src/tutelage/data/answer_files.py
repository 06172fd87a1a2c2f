"""Files of answers in the layouts that people have: ASSISTments, Junyi, EdNet, Duolingo, pyKT's, or named columns."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.data.answer_tables import Collector
from tutelage.recipe.errors import InputError, nearest

ROLES = ("learner", "time", "item", "concept", "correct")
_NEEDED = ("learner", "concept", "correct")
# What columns are called, in the order of preference; layouts that differ only in this need no more.
LAYOUTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "standard": {
        "learner": ("learner", "learner_id", "student", "student_id", "user", "user_id", "uid"),
        "time": ("time", "timestamp", "start_time"),
        "item": ("item", "item_id", "question", "question_id", "problem", "problem_id"),
        "concept": ("concept", "concepts", "skill", "skills", "kc", "knowledge_component"),
        "correct": ("correct", "response", "is_correct", "label"),
    },
    "assistments": {
        "learner": ("user_id", "studentId"),
        "time": ("order_id", "start_time", "startTime", "log_id"),
        "item": ("problem_id", "problemId"),
        "concept": ("skill_id", "skill", "sequence_id"),
        "correct": ("correct",),
    },
    "junyi": {
        "learner": ("uuid", "user_id"),
        "time": ("timestamp_TW", "time_done"),
        "item": ("upid",),
        "concept": ("ucid", "exercise"),
        "correct": ("is_correct", "correct"),
    },
    "duolingo": {
        "learner": ("user_id",),
        "time": ("timestamp",),
        "concept": ("lexeme_id",),
        "correct": ("p_recall",),
    },
}
_SIGNS = {"duolingo": {"lexeme_id", "p_recall"}, "pykt": {"uid", "concepts", "responses"}, "junyi": {"ucid"}}
# Running numbers, which order answers but say nothing of the time between them.
_ORDER = ("order_id", "log_id")
_CHUNK = 1 << 18


def read_answers(
    path: Path,
    into: Collector,
    *,
    layout: str = "auto",
    columns: Mapping[str, str] | None = None,
    questions: Path | None = None,
) -> None:
    """Read a file, or EdNet's folder of files, into a collector.

    Args:
        path: ``.csv``, ``.tsv``, ``.txt`` or ``.parquet``, or a folder of EdNet.
        into: Takes the rows.
        layout: One of `LAYOUTS`, ``pykt`` (its sequences), ``lines`` (a count, concepts and answers, a line each for a
            learner), ``ednet``, or ``auto``.
        columns: Names of columns by role, for files of other names.
        questions: EdNet's ``questions.csv``.

    Raises:
        InputError: The file cannot be read, or columns are missing.
    """
    if path.is_dir() or layout == "ednet":
        _ednet(path, into, questions)
        return
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    if layout == "auto" and columns is None and path.suffix != ".parquet":
        layout = "lines" if _counts(path) else layout
    if layout == "lines":
        _lines(path, into)
        return
    try:
        found = _columns_of(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if layout == "auto":
        layout = next((name for name, signs in _SIGNS.items() if signs <= set(found)), "auto")
    if layout == "pykt":
        _pykt(path, into, found)
        return
    chosen = _roles(path, found, layout, columns)
    threshold = layout == "duolingo"
    into.dated &= chosen.get("time") not in _ORDER
    line = 2
    for chunk in _chunks(path, tuple(dict.fromkeys(chosen.values())), into):
        rows = len(next(iter(chunk.values())))
        lines = chunk.pop(_LINE, np.arange(line, line + rows))
        line += rows
        correct = chunk[chosen["correct"]]
        if threshold:
            # A session of several answers counts as right where all of them were.
            numbers = _numbers(correct)
            correct = np.where(np.isnan(numbers), np.nan, (numbers >= 1.0).astype(np.float64))
        into.add(
            chunk[chosen["learner"]],
            chunk[chosen["concept"]],
            correct,
            lines=lines,
            items=chunk[chosen["item"]] if "item" in chosen else None,
            times=_times(chunk[chosen["time"]]) if "time" in chosen else None,
        )


_LINE = "\0line"


def _roles(path: Path, found: Sequence[str], layout: str, columns: Mapping[str, str] | None) -> dict[str, str]:
    """The column of each role.

    Raises:
        InputError: A role is unknown, a column is not there, or one that is needed was not found.
    """
    if layout not in LAYOUTS and layout != "auto":
        raise InputError(f"layout '{layout}' is unknown. {nearest(layout, [*LAYOUTS, 'pykt', 'lines', 'ednet'])}")
    chosen: dict[str, str] = {}
    for role, name in (columns or {}).items():
        if role not in ROLES:
            raise InputError(f"columns: '{role}' is no role. {nearest(role, ROLES)}")
        if name not in found:
            raise InputError(f"{path} has no column '{name}' for the {role}. {nearest(name, found)}")
        chosen[role] = name
    tried = LAYOUTS.values() if layout == "auto" else (LAYOUTS[layout],)
    lower = {name.lower(): name for name in reversed(list(found))}
    for names in tried:
        for role, choices in names.items():
            if role not in chosen:
                at = next((lower[name.lower()] for name in choices if name.lower() in lower), None)
                if at is not None and at not in chosen.values():
                    chosen[role] = at
    missing = [role for role in _NEEDED if role not in chosen]
    if missing:
        raise InputError(
            f"{path} has no column for the {' and the '.join(missing)}; its columns are {', '.join(found)}. Name them: "
            f"`columns: {{{', '.join(f'{role}: ...' for role in missing)}}}`"
        )
    return chosen


def _separator(path: Path) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        head = file.readline()
    return "\t" if head.count("\t") > head.count(",") else ","


def _columns_of(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return list(pq.read_schema(path).names)
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        return [name.strip() for name in next(csv.reader(file, delimiter=_separator(path)), [])]


def _chunks(path: Path, wanted: Sequence[str], into: Collector) -> Iterator[dict[str, NDArray[Any]]]:
    """Columns of so many rows at a time, as texts."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_CHUNK, columns=list(wanted)):
                frame = batch.to_pandas()
                yield {name: _texts(frame[name]) for name in wanted}
        return
    yield from _csv_chunks(path, wanted, into)


def _csv_chunks(path: Path, wanted: Sequence[str], into: Collector) -> Iterator[dict[str, NDArray[Any]]]:
    """Rows of a text file; those of another number of columns are counted and left out."""
    import pyarrow as pa
    from pyarrow import csv as pc

    bad: list[int] = []

    def note(row: Any) -> str:
        bad.append(-1 if row.number is None else row.number)
        return "skip"

    names = _columns_of(path)
    quoted, path, cut = _quotes(path, into)
    reading = pc.ReadOptions(use_threads=False, block_size=1 << 24, column_names=names, skip_rows=1)
    quote: Any = '"' if quoted else False
    parsing = pc.ParseOptions(delimiter=_separator(path), quote_char=quote, invalid_row_handler=note)
    kinds = {name: pa.string() for name in wanted}
    converting = pc.ConvertOptions(column_types=kinds, include_columns=list(wanted), check_utf8=False)
    seen, line = 0, 2
    try:
        with pc.open_csv(path, reading, parsing, converting) as file:
            for batch in file:
                frame = batch.to_pandas()
                rows = len(frame)
                # Rows that were left out before these moved the later ones down.
                into.dropped.add("columns", list(bad[seen:]))
                into.rows += len(bad) - seen
                seen = len(bad)
                yield {**{name: _texts(frame[name]) for name in wanted}, _LINE: np.arange(line, line + rows)}
                line += rows
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    finally:
        if cut is not None:
            cut.close()


def _quotes(path: Path, into: Collector) -> tuple[bool, Path, Any]:
    """Whether a file quotes; and the file without lines whose quotes do not close, which would swallow the next."""
    with open(path, "rb") as file:
        if not any(b'"' in block for block in iter(lambda: file.read(1 << 20), b"")):
            return False, path, None
        file.seek(0)
        odd = [place for place, line in enumerate(file, 1) if line.count(b'"') % 2]
        if not odd:
            return True, path, None
        into.dropped.add("quotes", odd)
        into.rows += len(odd)
        broken = set(odd)
        file.seek(0)
        cut = tempfile.NamedTemporaryFile(prefix="tutelage-answers-", suffix=path.suffix)  # noqa: SIM115 - it is read later
        cut.writelines(line for place, line in enumerate(file, 1) if place not in broken)
        cut.flush()
    return True, Path(cut.name), cut


def _texts(column: Any) -> NDArray[Any]:
    """A column's values as they are compared: texts and whole numbers, without a fraction that pandas put there."""
    if column.dtype.kind == "f" and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    if column.dtype.kind in "iu":
        return np.asarray(column.to_numpy())
    return np.asarray(column.to_numpy(dtype=object, na_value=""))


def _numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    import pandas as pd

    return np.asarray(pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=np.float64))


def _times(values: NDArray[Any]) -> NDArray[np.float64]:
    """Seconds, from seconds, milli- or microseconds since 1970 or from dates; NaN where neither can be read."""
    import pandas as pd

    found = _numbers(values).copy()
    texts = np.isnan(found)
    if texts.any():
        dates = pd.to_datetime(pd.Series(values[texts]), errors="coerce", utc=True, format="mixed")
        seconds = (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
        found[texts] = seconds.to_numpy(dtype=np.float64)
    size = np.nanmedian(np.abs(found)) if np.isfinite(found).any() else 0.0
    return found / (1e6 if size > 1e14 else 1e3 if size > 1e11 else 1.0)


# ---------------------------------------------------------------------- layouts of their own


def _counts(path: Path) -> bool:
    """Whether a file begins with a count and so many concepts and answers."""
    with open(path, encoding="utf-8", errors="replace") as file:
        first, concepts, answers = (file.readline().strip() for _ in range(3))
    if not first.isdigit() or "," in first:
        return False
    return len(_cells(concepts)) == len(_cells(answers)) == int(first)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().rstrip(",").split(",")]


def _lines(path: Path, into: Collector) -> None:
    """Three lines a learner: how many answers, their concepts, and 0 or 1 for each."""
    who, what, right, where = [], [], [], []
    with open(path, encoding="utf-8", errors="replace") as file:
        for place, head in enumerate(iter(file.readline, "")):
            concepts, answers = _cells(file.readline()), _cells(file.readline())
            line = 3 * place + 1
            if not head.strip().isdigit():
                raise InputError(
                    f"{path}:{line}: expected how many answers a learner gave, found {head.strip()[:40]!r}"
                )
            if len(concepts) != len(answers):
                into.dropped.add("columns", [line] * abs(len(concepts) - len(answers)))
            count = min(len(concepts), len(answers))
            who += [f"{path.stem}:{place}"] * count
            what += concepts[:count]
            right += answers[:count]
            where += [line] * count
    into.add(
        np.array(who, dtype=object),
        np.array(what, dtype=object),
        np.array(right, dtype=object),
        lines=np.array(where, dtype=np.int64),
    )


def _pykt(path: Path, into: Collector, found: Sequence[str]) -> None:
    """Sequences of pyKT: a row a window, lists joined by commas and padded by -1; several concepts joined by _."""
    import pandas as pd

    into.separator = "_"
    wanted = [n for n in ("uid", "questions", "concepts", "responses", "timestamps") if n in found]
    line = 2
    for frame in pd.read_csv(path, usecols=wanted, dtype=str, chunksize=4096):
        parts: dict[str, list[Any]] = {name: [] for name in (*wanted, _LINE)}
        for row in frame.itertuples(index=False):
            cells = {n: str(getattr(row, n)).split(",") for n in wanted if n != "uid"}
            count = min(len(c) for c in cells.values())
            keep = [i for i in range(count) if cells["responses"][i] != "-1" and cells["concepts"][i] != "-1"]
            for name, values in cells.items():
                parts[name] += [values[i] for i in keep]
            parts["uid"] += [row.uid] * len(keep)
            parts[_LINE] += [line] * len(keep)
            line += 1
        arrays = {name: np.array(values, dtype=object) for name, values in parts.items()}
        into.add(
            arrays["uid"],
            arrays["concepts"],
            arrays["responses"],
            lines=np.array(parts[_LINE], dtype=np.int64),
            items=arrays.get("questions"),
            times=_times(arrays["timestamps"]) if "timestamps" in arrays else None,
        )


def _ednet(folder: Path, into: Collector, questions: Path | None) -> None:
    """EdNet KT1: a file a learner, and a table of questions with their answers and tags.

    Raises:
        InputError: There is no table of questions, or no file.
    """
    import pandas as pd

    if questions is None or not questions.is_file():
        raise InputError(f"{folder}: EdNet's answers need `questions:`, the path of its questions.csv")
    table = pd.read_csv(questions, dtype=str).drop_duplicates("question_id").set_index("question_id")
    into.separator = ";"
    files = sorted(folder.glob("u*.csv")) if folder.is_dir() else [folder]
    if not files:
        raise InputError(f"{folder} has no files u*.csv, one a learner")
    for file in files:
        rows = pd.read_csv(file, dtype=str)
        asked = rows["question_id"].to_numpy(dtype=object)
        known = table.reindex(rows["question_id"])
        right = (rows["user_answer"].to_numpy() == known["correct_answer"].to_numpy()).astype(np.float64)
        tags = known["tags"].fillna("").replace("-1", "").to_numpy(dtype=object)
        into.add(
            np.array([file.stem] * len(rows), dtype=object),
            tags,
            right,
            lines=np.arange(2, len(rows) + 2),
            items=asked,
            times=_times(rows["timestamp"].to_numpy(dtype=object)),
        )
