"""The registry: components by kind and name, found without importing them."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from tutelage.recipe.errors import InputError, article, nearest
from tutelage.recipe.index import Header, Index
from tutelage.recipe.scan import REQUIRED, Param, Signature, Sources, signature

__all__ = ["KINDS", "REQUIRED", "Entry", "Param", "Registry", "component", "method", "registry"]

T = TypeVar("T")

KINDS = (
    *("method", "model", "data", "augment", "sampler", "augmentor", "adapter", "part", "explainer"),
    *("optimizer", "schedule", "callback", "measure", "ramp", "tracker"),
)
GROUP = "tutelage.plugins"


def component(kind: str, name: str) -> Callable[[T], T]:
    """Register a class or function under a kind and a name; its keyword-only arguments are its recipe keys.

    The decorator only leaves a mark: the registry finds it by reading the source, so that listing imports nothing.
    Both arguments must therefore be literals, and the decorated thing must stand at the top level of its module.
    """

    def mark(thing: T) -> T:
        thing.__tutelage__ = (kind, name)  # type: ignore[attr-defined]
        return thing

    return mark


def method(name: str, *, paper: str, route: str) -> Callable[[T], T]:
    """Register a method: ``component("method", name)`` with its citation and route.

    Args:
        name: The method's name in recipes, as on its card.
        paper: ``"arXiv:2402.11148"`` or another resolvable citation.
        route: The family it belongs to: the package it lives in.
    """
    return component("method", name)


@dataclass(frozen=True)
class Entry:
    """A component, as its source describes it.

    Args:
        kind: What it is, e.g. ``model``.
        name: What recipes call it.
        module: Dotted name of the module that defines it.
        qualname: Its class or function there.
        package: The distribution that brought it.
        summary: First line of its docstring.
        title: A short readable name.
        paper: Its citation (methods).
        route: Its family (methods).
        path: Source file.
        line: Line of the definition.
    """

    kind: str
    name: str
    module: str
    qualname: str
    package: str
    summary: str
    title: str
    paper: str
    route: str
    path: Path
    line: int
    _read: Callable[[], Signature] = field(repr=False, compare=False)

    @cached_property
    def _signature(self) -> Signature:
        return self._read()

    @property
    def params(self) -> tuple[Param, ...]:
        """Its recipe keys: the keyword-only parameters.

        Raises:
            InputError: Its source uses types that cannot be read without importing it.
        """
        return self._signature.params

    @property
    def positional(self) -> tuple[str, ...]:
        """Names of the required positional parameters, which the engine supplies."""
        return self._signature.positional

    @property
    def slots(self) -> Mapping[str, str]:
        """Named inputs of a method and their kinds; a trailing ``?`` means optional, ``*`` a list."""
        return MappingProxyType(dict(self._signature.attributes.get("slots", {})))

    @property
    def facts(self) -> Mapping[str, Any]:
        """Its other literal class attributes, e.g. a measure's ``group``."""
        return MappingProxyType({k: v for k, v in self._signature.attributes.items() if k != "slots"})

    @property
    def recipe(self) -> str:
        """Where a method's shipped recipe lies, from the root of the project."""
        return f"recipes/{self.route}/{self.name}.yaml" if self.kind == "method" else ""


class Registry:
    """Components by kind and name.

    Args:
        entries: What was found.
        unread: Files that could not be read, with the reason; a name that is not found mentions them.

    Raises:
        InputError: Two components have the same kind and name.
    """

    def __init__(self, entries: Iterable[Entry], unread: Iterable[str] = ()) -> None:
        self.unread = tuple(unread)
        self._entries: dict[str, dict[str, Entry]] = {}
        for entry in entries:
            taken = self._entries.setdefault(entry.kind, {}).setdefault(entry.name, entry)
            if taken is not entry:
                raise InputError(
                    f"two components are the {entry.kind} '{entry.name}': {taken.module}:{taken.qualname} of"
                    f" {taken.package} and {entry.module}:{entry.qualname} of {entry.package}; rename or uninstall one"
                )

    def kinds(self) -> tuple[str, ...]:
        """All kinds: ours, then those that only plugins have."""
        return (*KINDS, *sorted(set(self._entries) - set(KINDS)))

    def names(self, kind: str) -> tuple[str, ...]:
        """Names of a kind, sorted."""
        return tuple(sorted(self._entries.get(kind, {})))

    def entries(self, kind: str | None = None) -> tuple[Entry, ...]:
        """Entries of a kind (or all of them), sorted by kind and name."""
        kinds = [kind] if kind else sorted(self._entries)
        return tuple(self._entries[k][n] for k in kinds if k in self._entries for n in self.names(k))

    def find(self, kind: str, name: str) -> Entry | None:
        """The entry, or ``None``."""
        return self._entries.get(kind, {}).get(name)

    def get(self, kind: str, name: str) -> Entry:
        """The entry.

        Raises:
            InputError: There is none; the text names the nearest.
        """
        entry = self.find(kind, name)
        if entry is None:
            raise InputError(" ".join(filter(None, self.missing(kind, name))))
        return entry

    def missing(self, kind: str, name: str) -> tuple[str, str]:
        """What to say of a name that a kind does not have: the fact, and a hint."""
        message = f"there is no {kind} named '{name}'."
        others = [k for k in self.kinds() if k != kind and self.find(k, name)]
        if others:
            is_a = " and ".join(article(k) for k in others)
            return f"'{name}' is {is_a}, not {article(kind)}.", nearest(name, self.names(kind))
        if self.unread:
            message += f" (Not read: {'; '.join(self.unread)}.)"
        return message, nearest(name, self.names(kind))

    def load(self, kind: str, name: str) -> Any:
        """Import a component and return it.

        Raises:
            InputError: No such component, or its module needs a package that is not installed.
        """
        entry = self.get(kind, name)
        return imported(entry.module, entry.qualname, f"the {kind} '{name}'")


def imported(module: str, attribute: str, what: str) -> Any:
    """Import an attribute of a module.

    Raises:
        InputError: The module or the attribute does not exist.
    """
    try:
        thing: Any = importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"{what} cannot be imported from '{module}': {error}") from error
    for part in attribute.split("."):
        if not hasattr(thing, part):
            public = [n for n in vars(thing) if not n.startswith("_")]
            raise InputError(f"{what}: '{module}' has no '{part}'. {nearest(part, public)}")
        thing = getattr(thing, part)
    return thing


@lru_cache(maxsize=1)
def registry() -> Registry:
    """The registry of this process: Tutelage's own components and those of installed plugins.

    A plugin is a distribution with an entry point in the group ``tutelage.plugins`` whose value is a module or package;
    its source is read like ours and imported only when a recipe uses it.
    """
    own = Path(__file__).resolve().parents[1]
    roots: dict[str, Path] = {"tutelage": own}
    searched = [("tutelage", "tutelage")]
    unread: list[str] = []
    for point in metadata.entry_points(group=GROUP):
        root = _root(point.module.split(".")[0])
        package = point.dist.name if point.dist else point.module
        if root is None:
            unread.append(f"plugin '{package}' names the module '{point.module}', which is not installed")
            continue
        roots.setdefault(point.module.split(".")[0], root)
        searched.append((package, point.module))
    return scan(roots, dict.fromkeys(searched), unread)


def _root(top: str) -> Path | None:
    """Folder (or single file) of a top-level module, found without importing it."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None


def scan(roots: Mapping[str, Path], searched: Iterable[tuple[str, str]], unread: Iterable[str] = ()) -> Registry:
    """Read the components of packages.

    Args:
        roots: Top-level package name to its folder or file; base classes are followed through these.
        searched: (distribution, module or package) pairs whose files are read for components.
        unread: Notes on what could not be found, kept for messages.
    """
    sources, notes, entries = Sources(roots), list(unread), dict[tuple[str, str], Entry]()
    found: list[Entry] = []
    digest = hashlib.sha256("\n".join(f"{name} {root}" for name, root in sorted(roots.items())).encode())
    index = Index(digest.hexdigest()[:16])
    for package, name in searched:
        for dotted, path in _files(roots, name):
            try:
                for header in index.read(dotted, path):
                    entry = _entry(sources, dotted, path, package, header)
                    if (entry.module, entry.qualname) not in entries:
                        entries[entry.module, entry.qualname] = entry
                        found.append(entry)
            except (OSError, SyntaxError, UnicodeDecodeError) as error:
                notes.append(f"{path}: {error}")
    index.keep()
    return Registry(found, notes)


def _files(roots: Mapping[str, Path], name: str) -> Iterable[tuple[str, Path]]:
    top, *rest = name.split(".")
    root = roots[top]
    base = root.joinpath(*rest) if root.is_dir() else root
    if not base.is_dir():
        file = base if base.is_file() else base.with_suffix(".py")
        return [(name, file)] if file.is_file() else []
    out = []
    for path in sorted(base.rglob("*.py")):
        parts = path.relative_to(base).with_suffix("").parts
        out.append((".".join([name, *(parts[:-1] if parts[-1] == "__init__" else parts)]), path))
    return out


def _entry(sources: Sources, module: str, path: Path, package: str, header: Header) -> Entry:
    names = ("kind", "name") if header.called == "component" else ("name",)
    given = {**dict(zip(names, header.values, strict=False)), **header.keywords}
    if header.called == "method":
        given["kind"] = "method"
    if "kind" not in given or "name" not in given:
        raise InputError(f"{path}:{header.line}: @{header.called} needs {' and '.join(names)}")
    title = header.summary.rstrip(".")
    if given["kind"] == "method":
        after = re.match(r"[^:(]{1,60}:\s*([^(]+)", header.heading)
        title = after[1].strip().rstrip(".") if after else title

    def read() -> Signature:
        source = sources.add(module, path, path.read_text(encoding="utf-8"))
        return signature(sources, source, source.definitions[header.name])

    return Entry(
        kind=given["kind"],
        name=given["name"],
        module=module,
        qualname=header.name,
        package=package,
        summary=header.summary,
        title=title,
        paper=given.get("paper", ""),
        route=given.get("route", ""),
        path=path,
        line=header.line,
        _read=read,
    )
