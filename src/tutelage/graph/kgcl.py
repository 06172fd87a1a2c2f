"""KGCL: an older version of a graph learns what a newer one says, by changes in words (arXiv:2409.13906)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

import torch

from tutelage.engine.method import Finding, Method, Result, Train
from tutelage.measure.number import Number
from tutelage.measure.scored import Scored
from tutelage.recipe.errors import InputError, Problem, nearest
from tutelage.recipe.registry import method
from tutelage.recipe.spec import Recipe

if TYPE_CHECKING:
    from tutelage.data.graph_versions import VersionsInfo
    from tutelage.data.kgcl.model import Change
    from tutelage.data.rdf.graph import Memory
    from tutelage.engine.run import Run

_SHOWN = 20


@method("kgcl", paper="arXiv:2409.13906", route="graph")
class KGCL(Method):
    """Compare two versions of a graph, write what changed in controlled language, read it back, apply it to the older.

    Nothing is trained. Of every fact that one of the versions states, the report says whether the older one agrees with
    the newer afterwards; of what the newer says, how much arrived; of what both say, how much was kept.

    Args:
        form: How the changes travel: as commands, or in the data model's JSON or RDF.
        types: Names of the types of change that travel, e.g. ``[NodeRename, NodeMove]``; ``null`` for all. What others
            would have brought stays behind.
        edges: How an edge between classes is meant: as an ``owl`` restriction, as the ``plain`` triple, or as what the
            graph declares (``auto``).
    """

    slots: ClassVar[dict[str, str]] = {"data": "data"}
    starts: ClassVar[dict[str, str]] = {"data": "graph-versions"}
    learner: ClassVar[str] = "graph"
    measured: ClassVar[str] = "facts"
    quality: ClassVar[str] = "accuracy"
    compared: ClassVar[bool] = False

    def __init__(
        self,
        *,
        form: Literal["text", "json", "rdf"] = "text",
        types: list[str] | None = None,
        edges: Literal["auto", "owl", "plain"] = "auto",
    ) -> None:
        super().__init__()
        self.form, self.types, self.edges = form, types, edges
        self.sent: Sequence[Change] = ()
        self.held_back: Sequence[Change] = ()
        self.ambiguous: Sequence[str] = ()
        self.letter = ""
        self._facts: dict[str, set[str]] = {}
        self._graph: Memory | None = None

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """Types of change that there are not; data without versions."""
        from tutelage.data.kgcl.model import TYPES

        problems = []
        where = recipe.method.place
        for place, name in enumerate(recipe.method.args.get("types") or ()):
            if name not in TYPES:
                keys: tuple[str | int, ...] = ("method", "types", place)
                text, hint = f"'{name}' is no type of change.", nearest(name, TYPES)
                problems.append(Problem(text, keys, where.file, where.line, where.column, hint))
        return problems

    # ------------------------------------------------------------------ work

    def stages(self, run: Run) -> Iterator[Train]:
        """None that trains: the changes are found, written, read and made, before anything is asked of the method."""
        from tutelage.data.graph_versions import facts
        from tutelage.data.kgcl.describing import difference
        from tutelage.data.kgcl.view import Rules
        from tutelage.data.rdf.graph import Memory
        from tutelage.data.rdf.journal import Stamp
        from tutelage.data.rdf.terms import from_lines

        info = versions_of(run)
        prefixes, rules = dict(info.prefixes), Rules(edges=self.edges)
        old = Memory(from_lines(info.before), prefixes, "the older version")
        new = Memory(from_lines(info.after), prefixes, "the newer version")
        self._facts = {"newer version": set(facts(new.match())), "older version": set(facts(old.match()))}
        found = difference(old, new, rules)
        travels = [self.types is None or type(change).__name__ in self.types for change in found.changes]
        self.sent = [change for change, goes in zip(found.changes, travels, strict=True) if goes]
        self.held_back = [change for change, goes in zip(found.changes, travels, strict=True) if not goes]
        self.ambiguous = found.ambiguous
        self.letter = _written(self.sent, self.form)
        read = _read(self.letter, self.form)
        self._make(old, read, rules, Stamp("kgcl"), run)
        self._graph = old
        self._facts["graph"] = set(facts(old.match()))
        yield from ()

    def _make(self, graph: Memory, changes: Sequence[Change], rules: Any, stamp: Any, run: Run) -> None:
        """All of them in one transaction; where some were held back, each for itself, for others may build on them."""
        from tutelage.data.kgcl.applying import effects
        from tutelage.data.kgcl.language import render

        parts = [list(changes)] if not self.held_back else [[change] for change in changes]
        for part in parts:
            try:
                done = effects(graph, part, rules)
            except InputError as error:
                if not self.held_back:
                    raise
                run.warnings.append(f"A change that builds on others could not be made: {error}")
                continue
            graph.commit(done.removed, done.added, commands=[render(change) for change in part], stamp=stamp)

    # ------------------------------------------------------------------ results

    def results(self, run: Run) -> Sequence[Result]:
        """The newer version, the older as it was, and as it is now."""
        return (
            Result("newer version", _unasked, "source", ()),
            Result("older version", _unasked, "baseline", ()),
            Result("graph", _unasked, "recipient", ()),
        )

    def before(self, run: Run) -> Result:
        """The older version as it was."""
        return Result("older version", _unasked, "other", ())

    def scored(self, run: Run, result: Result) -> Scored:
        """Of each fact of either version: whether it is stated here exactly if the newer version states it."""
        info = versions_of(run)
        here, there = self._facts[result.name], self._facts["newer version"]
        states = torch.tensor([name in here for name in info.facts])
        right = torch.tensor([name in there for name in info.facts])
        numbers = {"facts": Number(float(len(here))), "of neither version": Number(float(len(here - set(info.facts))))}
        return Scored(
            result.name,
            torch.arange(len(info.facts)),
            {"quality": {"accuracy": (states == right).double()}},
            {"facts": numbers},
            right=states & right,
        )

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """Changes by type, what could have been told otherwise, and how many drawn ones came back as they were."""
        info = versions_of(run)
        told = Counter(type(change).__name__ for change in (*self.sent, *self.held_back))
        back = Counter(type(change).__name__ for change in self.held_back)
        out: dict[str, Finding] = {}
        rows: list[dict[str, Any]] = []
        drawn: Counter[str] = Counter()
        if info.drawn:
            from tutelage.data.kgcl.language import parse_command

            drawn.update(type(parse_command(command)).__name__ for command in info.drawn)
            out["share_of_drawn_changes_told_by_the_same_type"] = _again(drawn, told, related=False)
            out["share_told_by_the_same_type_or_a_kind_of_it"] = _again(drawn, told, related=True)
        for name in sorted({*told, *drawn}):
            rows.append({"type": name, "drawn": drawn[name] or "-", "told": told[name], "held back": back[name]})
        out["changes"] = rows
        out["groups_that_could_be_told_otherwise"] = len(self.ambiguous)
        if self.ambiguous:
            out["such_groups"] = [{"group": text} for text in self.ambiguous[:_SHOWN]]
        out["characters_sent"] = len(self.letter)
        return out

    def keep(self, run: Run, folder: Path) -> None:
        """The graph, and the changes as they travelled."""
        from pyoxigraph import RdfFormat

        assert self._graph is not None
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "graph.nt").open("wb") as stream:
            self._graph.dump(stream, RdfFormat.N_TRIPLES)
        ending = {"text": "kgcl", "json": "json", "rdf": "ttl"}[self.form]
        (folder / f"changes.{ending}").write_text(self.letter, encoding="utf-8")
        about = {"method": "kgcl", "form": self.form, "changes": len(self.sent)}
        (folder / "config.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def versions_of(run: Run) -> VersionsInfo:
    """The facts of data that have versions.

    Raises:
        InputError: They have none.
    """
    from tutelage.data.graph_versions import VersionsInfo

    if not isinstance(run.splits.info, VersionsInfo):
        raise InputError("data: changes are carried between versions of a graph: use 'graph-versions'")
    return run.splits.info


def _again(drawn: Counter[str], told: Counter[str], *, related: bool) -> float:
    """Share of drawn changes for which a change of their type was told; or of a type above or below theirs."""
    from tutelage.data.kgcl.model import TYPES

    same = drawn & told
    count, left, free = same.total(), drawn - same, told - same
    for name in sorted(left) if related else ():
        for other in sorted(free):
            kinds = TYPES[name], TYPES[other]
            if issubclass(*kinds) or issubclass(*reversed(kinds)):
                paired = min(left[name], free[other])
                count += paired
                left[name] -= paired
                free[other] -= paired
    return count / drawn.total()


def _unasked(_: Any) -> NoReturn:
    raise TypeError("a graph gives no logits")


def _written(changes: Sequence[Change], form: str) -> str:
    from tutelage.data.kgcl import wire
    from tutelage.data.kgcl.language import render_all

    if form == "text":
        return render_all(changes)
    return wire.to_json(changes) if form == "json" else wire.to_rdf(changes)


def _read(text: str, form: str) -> Sequence[Change]:
    from tutelage.data.kgcl import wire
    from tutelage.data.kgcl.language import parse

    if form == "text":
        return parse(text)
    return (wire.from_json if form == "json" else wire.from_rdf)(text).change_set
