"""What happened to a graph: one entry a transaction, only ever added to."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

Kind = Literal["change", "load", "update", "undo"]


@dataclass(frozen=True)
class Entry:
    """One transaction.

    Args:
        id: Counts from 1.
        kind: What it was.
        author: Who did it.
        time: When, in ISO 8601, UTC.
        commands: In the change language; file names of a load, the text of a SPARQL update.
        removed: Triples that it took away, in N-Triples, sorted.
        added: Triples that it brought.
        undoes: The entry that it takes back, if it does.
        note: What else is to be known of it.
    """

    id: int
    kind: Kind
    author: str
    time: str
    commands: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    undoes: int | None = None
    note: str = ""

    def to_json(self) -> str:
        """One line."""
        return json.dumps({k: v for k, v in asdict(self).items() if v not in ((), None, "")}, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Entry:
        """Of one line."""
        found: dict[str, Any] = json.loads(line)
        for name in ("commands", "removed", "added"):
            found[name] = tuple(found.get(name, ()))
        return cls(**found)


@dataclass(frozen=True)
class Stamp:
    """Who changes a graph, and when."""

    author: str = field(default_factory=lambda: author())
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def author() -> str:
    """As ``TUTELAGE_AUTHOR`` says, else the user's name on this machine."""
    if named := os.environ.get("TUTELAGE_AUTHOR"):
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


class JournalFile:
    """Entries as lines of JSON; a line that a crash cut off is dropped when the next is written.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Entry]:
        if self.path.is_file():
            with self.path.open(encoding="utf-8") as stream:
                for line in stream:
                    if line.endswith("\n"):
                        yield Entry.from_json(line)

    def last(self) -> int:
        """Number of the last entry; 0 where there is none."""
        line = self._tail()
        return Entry.from_json(line).id if line else 0

    def append(self, entry: Entry) -> None:
        """Write an entry to the disk."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        with os.fdopen(descriptor, "r+b") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.truncate(end - _partial(stream, end))
            stream.seek(0, os.SEEK_END)
            stream.write(entry.to_json().encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def _tail(self) -> str | None:
        if not self.path.is_file():
            return None
        with self.path.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            block, data = 1 << 16, b""
            while end > 0:
                start = max(0, end - block)
                stream.seek(start)
                data = stream.read(end - start) + data
                lines = data.split(b"\n")
                # What follows the last line break is no entry yet.
                if len(lines) > 2 or (start == 0 and len(lines) > 1):
                    return lines[-2].decode()
                end = start
        return None


def _partial(stream: IO[bytes], end: int) -> int:
    """Bytes after the last line break."""
    size, step = 0, 1 << 16
    while end - size > 0:
        start = max(0, end - size - step)
        stream.seek(start)
        chunk = stream.read(end - size - start)
        place = chunk.rfind(b"\n")
        if place >= 0:
            return size + len(chunk) - place - 1
        size += len(chunk)
    return size
