"""The outermost frame of every command: mistakes become sentences and exit codes."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from tutelage.recipe.errors import TutelageError


def guarded(arguments: Sequence[str]) -> int:
    """Run a command and answer whatever goes wrong in words."""
    import typer

    from tutelage.cli.app import app

    try:
        result = app(args=list(arguments), prog_name="tutelage", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except TutelageError as error:
        return _say(str(error), error.exit_code)
    except typer.Exit as leaving:
        return leaving.exit_code
    except typer.Abort:
        return _say("interrupted", 130)
    except _usage_error() as error:
        error.show()
        return 2
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except BrokenPipeError:
        # The reader of a pipe went away, as `head` does; what it did not want is no failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _say("the machine ran out of memory; a smaller batch_size, or train.accumulate, needs less", 1)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
        return _say(f"{error.filename or 'the system'}: {reason}", 1)
    except Exception as error:
        return _unforeseen(error)


def _usage_error() -> Any:
    """The base of typer's complaints about arguments: its own in newer versions, click's in older ones."""
    import typer

    return typer.BadParameter.__mro__[2]


def _say(text: str, code: int) -> int:
    for line in text.splitlines():
        sys.stderr.write(f"{'error' if code != 130 else 'note'}: {line}\n")
    return code


def _unforeseen(error: Exception) -> int:
    """A mistake of Tutelage itself, or of the user's own components: one sentence, the rest in a file."""
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile("w", prefix="tutelage-", suffix=".log", delete=False) as file:
        traceback.print_exception(error, file=file)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return _say(
        f"{type(error).__name__}: {error} (in {os.path.basename(frame.filename)}:{frame.lineno}). "
        f"This was not foreseen; what led to it is in {file.name}",
        1,
    )
