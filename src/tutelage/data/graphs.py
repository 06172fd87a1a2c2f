"""Graphs as recipes name them: the user's triples, and small benchmarks that come with a package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from tutelage.data.graph_files import Read, Vocabulary, content_of, package_folder, read_triples
from tutelage.data.graph_splits import inductive_parts, leaks, random_parts
from tutelage.data.splits import Splits
from tutelage.data.triples import GraphInfo, TripleExamples, graph_info, inverted
from tutelage.recipe.errors import InputError
from tutelage.recipe.index import cache_root
from tutelage.recipe.registry import component

New = Literal["all", "entities", "none"]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Keys of every data set of triples.

    Args:
        inverse: Add each training triple turned around, under the inverse of its relation: heads are then asked for as
            tails of the inverse.
        leakage_threshold: Share of common pairs from which on two relations count as saying the same; 1 for only those
            that say exactly the same.
    """

    inverse: bool = False
    leakage_threshold: Annotated[float, Gt(0), Ge(0.01)] = 0.8

    def assemble(
        self, parts: Mapping[str, Any], entities: Vocabulary, relations: Vocabulary, warnings: list[str], about: Any
    ) -> Splits:
        """Splits of integer triples ``[count, 3]`` by part; identities count through train, validation and test."""
        names, links = entities.names, relations.names
        arrays = {
            name: np.asarray(array) if not isinstance(array, np.memmap) else array for name, array in parts.items()
        }
        info = graph_info(
            names, links, content_of({n: [a] for n, a in arrays.items()}, names, links), inverse=self.inverse
        )
        sizes = {name: len(array) for name, array in arrays.items()}
        tested = torch.from_numpy(np.array(arrays["test"])).long()
        learnt = torch.from_numpy(np.array(arrays["train"])).long()
        warnings = [*warnings, *leaks(learnt, tested, links, self.leakage_threshold)]
        train = arrays["train"]
        if self.inverse:
            train = inverted(learnt, len(links)).int().numpy()
        first = len(train)
        examples: dict[str, TripleExamples | None] = {"train": TripleExamples(train)}
        for name in ("validation", "test"):
            if name in arrays and sizes[name]:
                examples[name] = TripleExamples(arrays[name], torch.arange(first, first + sizes[name]))
                first += sizes[name]
        record = {**about, "triples": sizes, "entities": len(names), "relations": len(links), "inverse": self.inverse}
        assert examples["train"] is not None
        test = examples["test"]
        assert test is not None
        return Splits(examples["train"], examples.get("validation"), test, info, warnings, record)


@component("data", "triples")
@dataclass(frozen=True, kw_only=True)
class TripleFiles(Graph):
    """Triples of text files, a fact a line: head, relation and tail, kept apart by tabs.

    Args:
        path: Training triples, or all of them.
        test_path: Test triples; ``null`` to keep a fraction of the others.
        validation_path: Validation triples; ``null`` likewise where there is no ``test_path``, and for none beside one.
        columns: Places of head, relation and tail, counted from 0.
        split: How triples are kept back: ``random`` with every entity in training, or ``inductive``, where each test
            triple has an entity that training has not.
        test_fraction: Fraction of the triples kept for testing.
        validation_fraction: Fraction kept for validation.
        split_seed: Seed of the division; ``null`` for the run's.
        on_bad: What to do with lines that are no triples: ``refuse`` the file and name the line, or ``skip`` them.
    """

    path: str
    test_path: str | None = None
    validation_path: str | None = None
    columns: tuple[Annotated[int, Ge(0)], Annotated[int, Ge(0)], Annotated[int, Ge(0)]] = (0, 1, 2)
    split: Literal["random", "inductive"] = "random"
    test_fraction: Annotated[float, Gt(0), Lt(1)] = 0.1
    validation_fraction: Annotated[float, Ge(0), Lt(1)] = 0.05
    split_seed: Annotated[int, Ge(0)] | None = 0
    on_bad: Literal["refuse", "skip"] = "refuse"

    def load(self, seed: int) -> Splits:
        """Read and divide the triples.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.

        Raises:
            InputError: A file cannot be read, a line is no triple, or so many cannot be spared.
        """
        entities, relations = Vocabulary(), Vocabulary()
        read = self._read(self.path, entities, relations)
        about: dict[str, Any] = {"data": "triples", "path": self.path}
        if self.test_path is None:
            chosen = seed if self.split_seed is None else self.split_seed
            triples = torch.from_numpy(np.array(read.triples)).long()
            divide = random_parts if self.split == "random" else inductive_parts
            at = divide(triples, validation=self.validation_fraction, test=self.test_fraction, seed=chosen)
            found = {n: read.triples[getattr(at, n).numpy()] for n in ("train", "validation", "test")}
            how = {"split": self.split, "split_seed": chosen, "test_fraction": self.test_fraction}
            return self.assemble(found, entities, relations, read.warnings, {**about, **how})
        # An entity that only the test has is one of the graph, of which nothing was learnt.
        found, warnings = {"train": read.triples}, list(read.warnings)
        new: New = "none" if self.split == "random" else "entities"
        for name, path in (("validation", self.validation_path), ("test", self.test_path)):
            if path is not None:
                part = self._read(path, entities, relations, new=new)
                found[name], warnings = part.triples, [*warnings, *part.warnings]
        return self.assemble(found, entities, relations, warnings, {**about, "test_path": self.test_path})

    def _read(self, path: str, entities: Vocabulary, relations: Vocabulary, *, new: New = "all") -> Read:
        return read_triples(
            Path(path).expanduser(),
            entities,
            relations,
            columns=self.columns,
            on_bad=self.on_bad,
            new=new,
            keep=cache_root() / "triples",
        )


@dataclass(frozen=True, kw_only=True)
class Packaged(Graph):
    """A benchmark that the package ``pykeen`` carries; its files are read, it is not imported."""

    folder: ClassVar[str] = ""

    def load(self, seed: int) -> Splits:
        """Read the parts as they were published.

        Raises:
            InputError: The package is not installed.
        """
        home = package_folder("pykeen", "1.11.1", f"datasets/{self.folder}")
        entities, relations = Vocabulary(), Vocabulary()
        files = {"train": "train.txt", "validation": "valid.txt", "test": "test.txt"}
        read = {name: read_triples(home / file, entities, relations) for name, file in files.items()}
        warnings = [text for part in read.values() for text in part.warnings]
        found = {name: part.triples for name, part in read.items()}
        return self.assemble(found, entities, relations, warnings, {"data": self.folder})


@component("data", "nations")
@dataclass(frozen=True, kw_only=True)
class Nations(Packaged):
    """Dealings of 14 nations: 55 relations, 1,592 / 199 / 201 triples (Rummel 1968; Kok and Domingos 2007)."""

    folder: ClassVar[str] = "nations"


@component("data", "umls")
@dataclass(frozen=True, kw_only=True)
class UMLS(Packaged):
    """Kinds of biomedical things: 135 entities, 46 relations, 5,216 / 652 / 661 triples (McCray 2003)."""

    folder: ClassVar[str] = "umls"


@component("data", "kinships")
@dataclass(frozen=True, kw_only=True)
class Kinships(Packaged):
    """Who calls whom what in the Alyawarra tribe: 104 entities, 25 relations, 8,544 / 1,068 / 1,074 triples."""

    folder: ClassVar[str] = "kinships"


def graph_of(splits: Splits) -> GraphInfo:
    """The facts of a data set that is a graph.

    Raises:
        InputError: It is none.
    """
    if not isinstance(splits.info, GraphInfo):
        raise InputError("data: this method learns from triples: use 'triples' with your files, 'umls' or 'kinships'")
    return splits.info


def triples_of(examples: Any) -> Tensor:
    """``[count, 3]`` int64: the triples of a part."""
    if isinstance(examples, TripleExamples):
        return examples.triples
    batch = examples.fetch(torch.arange(len(examples)))
    inputs: Tensor = batch.inputs
    return inputs


def own_triples(splits: Splits) -> Tensor:
    """``[count, 3]`` int64: the training triples, those turned around left out."""
    info, triples = graph_of(splits), triples_of(splits.train)
    return triples[triples[:, 1] < info.relations // 2] if info.inverse else triples


def told(splits: Splits) -> Tensor:
    """``[count, 3]`` int64: the triples of all parts, those turned around left out."""
    info = graph_of(splits)
    parts = [p for p in (splits.train, splits.validation, splits.test) if p is not None]
    every = torch.cat([triples_of(part) for part in parts])
    return every[every[:, 1] < info.relations // 2] if info.inverse else every
