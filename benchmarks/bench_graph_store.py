"""The graph store and the change language: parsing against kgcl-schema, loading, one change in graphs of several sizes.

kgcl-schema lives in an environment of its own, made once in the user's cache folder. Both parsers read the same
commands, one of each form that both know, in processes of one thread that take turns. Loading is CPU time of what
`tutelage graph load` does with N-Triples. A change is one command, from its text to the journal on disk, in an open
graph; its cost is to be that of a graph of ten thousand triples however large the graph is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import measuring

HERE = Path(__file__).resolve().parent
VERSION = "0.7.0"
PARSING, LOADING, CHANGE = 1 / 50, 1e5, 1.5
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
# The size at which loading is measured, several times.
_LOADED = 1_000_000
COMMANDS = """\
rename GO:0005635 from 'nuclear envelope' to 'foo bar'
rename GO:0005635 from 'nuclear envelope'@en to 'foo bar'@de
create node GO:0000999 'a new node'
create GO:0000999
create exact synonym 'foo' for GO:0005634
create synonym 'foo' for GO:0005634
remove synonym 'foo' for GO:0005634
change exact synonym 'foo' for GO:0005634 to 'bar'
delete GO:0005634
obsolete GO:0005634
obsolete GO:0005634 with replacement GO:0000999
unobsolete GO:0005634
create edge GO:0005634 BFO:0000050 GO:0009411
create edge GO:0005634 rdfs:subClassOf GO:0009411
delete edge GO:0005634 BFO:0000050 GO:0009411
deepen GO:0005739 from GO:0043231 to GO:0005634
shallow GO:0005739 from GO:0043231 to GO:0005634
move GO:0005634 rdfs:subClassOf GO:0043231 from GO:0043231 to GO:0005739
change relationship between GO:0005634 and GO:0043231 from rdfs:subClassOf to BFO:0000050
change annotation of GO:0005635 with rdfs:comment from "one text" to "another"
add definition 'this is a definition' to GO:0005635
change definition of GO:0005635 from 'this is a definition' to 'this is another'
remove definition for GO:0005635
add GO:0005634 to subset GO:goslim_generic
remove GO:0005634 from subset GO:goslim_generic
"""
"""One of each form that both parsers know."""


def side(python: str | Path, which: str, commands: Path, seconds: float) -> float:
    """CPU seconds that a command costs a parser."""
    done = subprocess.run(
        [str(python), str(HERE / "sides" / "kgcl_commands.py"), which, str(commands), str(seconds)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{which} failed:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["per command"])


def parsing(repeats: int) -> bool:
    """Ours against kgcl-schema's."""
    python = measuring.environment("kgcl-schema", VERSION, wanted="kgcl.txt")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "commands.kgcl"
        path.write_text(COMMANDS, encoding="utf-8")
        found = measuring.alternate(
            {
                "ours": lambda: side(sys.executable, "tutelage", path, 2),
                "peer": lambda: side(python, "kgcl-schema", path, 6),
            },
            repeats,
        )
    rates = {name: 1 / statistics.median(values) for name, values in found.items()}
    about = (
        f"CPU time of a command, over {len(COMMANDS.splitlines())} forms that both know; commands a second: ours "
        f"{rates['ours']:,.0f}, kgcl-schema {VERSION} {rates['peer']:,.0f}"
    )
    return measuring.compared("graph-kgcl-parsing", found["ours"], found["peer"], PARSING, about=about)


def triples(count: int) -> Iterator[str]:
    """An ontology as N-Triples: classes with a type, a label, a parent, a definition and a synonym."""
    obo = "http://purl.obolibrary.org/obo/"
    rdf, rdfs = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://www.w3.org/2000/01/rdf-schema#"
    for number in range(count // 5):
        node = f"<{obo}GO_{number:07}>"
        yield f"{node} <{rdf}type> <http://www.w3.org/2002/07/owl#Class> .\n"
        yield f'{node} <{rdfs}label> "part number {number} of a cell" .\n'
        yield f"{node} <{rdfs}subClassOf> <{obo}GO_{max(0, (number - 1) // 4):07}> .\n"
        yield f'{node} <{obo}IAO_0000115> "Any part whose number, counted from the first, is {number}." .\n'
        yield f'{node} <http://www.geneontology.org/formats/oboInOwl#hasExactSynonym> "number {number}" .\n'


def write(path: Path, count: int) -> Path:
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(triples(count))
    return path


def load(folder: Path, file: Path) -> float:
    """CPU seconds of loading a file into a new graph; threads of the store count too."""
    from tutelage.api import graphs

    start = time.process_time()
    graphs.load(folder, [file], author="bench")
    return time.process_time() - start


def changes(folder: Path, count: int) -> list[float]:
    """CPU seconds of each of several changes; threads of the store count too."""
    from tutelage.data.kgcl.applying import effects
    from tutelage.data.kgcl.language import parse_command
    from tutelage.data.rdf.folder import Folder
    from tutelage.data.rdf.journal import Stamp

    found = []
    with Folder(folder, "write") as graph:
        for place in range(count):
            command = f"add synonym 'called {place}' to 'part number {7 * place} of a cell'"
            start = time.process_time()
            done = effects(graph, [parse_command(command)])
            graph.commit(done.removed, done.added, commands=[command], stamp=Stamp("bench"))
            found.append(time.process_time() - start)
    # The first opens files.
    return found[1:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--only", choices=("parsing", "store"))
    options = parser.parse_args()
    within = True if options.only == "store" else parsing(options.repeats)
    if options.only == "parsing":
        return 0 if within else 1
    costs: dict[int, list[float]] = {}
    loaded = max((size for size in options.sizes if size <= _LOADED), default=min(options.sizes))
    with tempfile.TemporaryDirectory() as place:
        for size in options.sizes:
            file = write(Path(place) / f"{size}.nt", size)
            folder = Path(place) / f"graph-{size}"
            seconds = load(folder, file)
            if size == loaded:
                rates = [size / seconds]
                rates += [size / load(Path(place) / f"again-{turn}", file) for turn in range(options.repeats - 1)]
                rate = statistics.median(rates)
                print(f"graph-loading {rate:,.0f} triples/s (at least {LOADING:,.0f})", flush=True)
                measuring.keep(
                    "graph-loading",
                    ratio=LOADING / rate,
                    limit=1.0,
                    unit="s",
                    ours=[1e6 / one for one in rates],
                    peer=[1e6 / LOADING],
                    about=f"CPU time of a million triples, from a file of {size:,} in N-Triples; the other side is the "
                    f"limit of {LOADING:,.0f} triples a second. Measured: {rate:,.0f} a second",
                )
                within &= rate >= LOADING
            costs[size] = changes(folder, 200)
            file.unlink()
    first, *others = costs
    for size in others:
        about = f"CPU time of a change, from its text to the journal on disk, in {size:,} triples and in {first:,}"
        within &= measuring.compared(f"graph-change-{size}", costs[size], costs[first], CHANGE, about=about)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
