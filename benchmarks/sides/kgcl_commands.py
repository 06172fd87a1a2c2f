"""A side that parses commands of the change language, the package's or ours; a line of JSON with what it took."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main(which: str, path: Path, seconds: float) -> None:
    commands = path.read_text(encoding="utf-8").splitlines()
    if which == "kgcl-schema":
        from kgcl_schema.grammar.parser import parse_statement as parse
    else:
        from tutelage.data.kgcl.language import parse_command as parse
    for command in commands:
        # What is made once, at the first command of a kind, is no part of what one costs.
        parse(command)
    start, count = time.process_time(), 0
    while time.process_time() - start < seconds:
        for command in commands:
            parse(command)
        count += len(commands)
    spent = time.process_time() - start
    print(json.dumps({"per command": spent / count, "commands": count}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
