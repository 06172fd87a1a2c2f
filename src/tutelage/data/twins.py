"""Twins of a graph's texts: the same graph, told in names that nobody could remember (arXiv:2311.09109, section 3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tutelage.data.dated_files import in_words
from tutelage.recipe.errors import InputError

SETTINGS = ("original", "virtual-world", "anonymised", "inconsistent", "fully-anonymised")
_LETTERS = "bcdfghjklmnpqrstvwxz"
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Texts:
    """What a graph's entities and relations are called, and what is said of entities.

    Args:
        names: Of entities, by index.
        relations: Names of relations, by index.
        descriptions: Of entities; empty texts where nothing is said.
    """

    names: tuple[str, ...]
    relations: tuple[str, ...]
    descriptions: tuple[str, ...]

    def told(self) -> list[str]:
        """An entity in words: its name, and what is said of it."""
        return [
            f"{name}: {about}" if about else name for name, about in zip(self.names, self.descriptions, strict=True)
        ]


def texts_of(entities: Sequence[str], relations: Sequence[str], path: str | None) -> Texts:
    """Texts of a graph's names, or of a file.

    Args:
        entities: Identifiers, by index.
        relations: Likewise.
        path: A file with a line for each entity: its identifier, a tab, its name, and after a comma what is said of it;
            ``None`` for names alone, which are the identifiers in words.

    Raises:
        InputError: The file cannot be read, or says nothing of an entity.
    """
    links = tuple(in_words(name) for name in relations)
    if path is None:
        return Texts(tuple(in_words(name) for name in entities), links, ("",) * len(entities))
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    said = dict(line.split("\t", 1) for line in lines if "\t" in line)
    missing = [name for name in entities if name not in said]
    if missing:
        raise InputError(f"{path} says nothing of {len(missing)} of {len(entities)} entities, e.g. '{missing[0]}'")
    parts = [said[name].partition(", ") for name in entities]
    return Texts(tuple(p[0].strip() for p in parts), links, tuple(p[2].strip() for p in parts))


def twin(texts: Texts, setting: str, seed: int, groups: Sequence[int] | None = None, length: int = 10) -> Texts:
    """The texts in another world.

    Args:
        texts: The original ones.
        setting: ``virtual-world`` permutes names among entities, and among relations, and follows them in descriptions;
            ``anonymised`` replaces them by random strings; ``inconsistent`` permutes descriptions and follows nothing;
            ``fully-anonymised`` replaces every word, the same by the same.
        seed: Of what is drawn.
        groups: ``[entities]`` a group each: names are only permuted inside it, e.g. among entities of like degree.
        length: Letters of a random string.

    Raises:
        ValueError: There is no such setting.
    """
    generator = np.random.default_rng([seed, SETTINGS.index(setting)])
    if setting == "original":
        return texts
    if setting == "virtual-world":
        order, links = _moved(len(texts.names), generator, groups), _moved(len(texts.relations), generator)
        names = tuple(texts.names[i] for i in order)
        return _follow(texts, names, tuple(texts.relations[i] for i in links))
    if setting == "anonymised":
        taken = {name.lower() for name in (*texts.names, *texts.relations)}
        drawn = _strings(len(texts.names) + len(texts.relations), length, generator, taken)
        return _follow(texts, tuple(drawn[: len(texts.names)]), tuple(drawn[len(texts.names) :]))
    if setting == "inconsistent":
        order = _moved(len(texts.names), generator, groups)
        return replace(texts, descriptions=tuple(texts.descriptions[i] for i in order))
    words = sorted(
        {w.lower() for text in (*texts.names, *texts.relations, *texts.descriptions) for w in _WORD.findall(text)}
    )
    other = dict(zip(words, _strings(len(words), length, generator, set(words)), strict=True))

    def hidden(text: str) -> str:
        return _WORD.sub(lambda found: other[found[0].lower()], text)

    return Texts(*(tuple(hidden(text) for text in part) for part in (texts.names, texts.relations, texts.descriptions)))


def _moved(count: int, generator: np.random.Generator, groups: Sequence[int] | None = None) -> list[int]:
    """A permutation, inside groups, that leaves nothing where it was unless it is alone in its group."""
    order = np.arange(count)
    for group in sorted(set(groups)) if groups is not None else [None]:
        mine = np.flatnonzero(np.asarray(groups) == group) if group is not None else np.arange(count)
        # One cycle through all in random order: a permutation without fixed points.
        shuffled = generator.permutation(mine)
        order[shuffled] = np.roll(shuffled, 1)
    return [int(i) for i in order]


def _strings(count: int, length: int, generator: np.random.Generator, taken: set[str]) -> list[str]:
    out: list[str] = []
    used = set(taken)
    while len(out) < count:
        text = "".join(generator.choice(list(_LETTERS), length))
        if text not in used:
            used.add(text)
            out.append(text)
    return out


def _follow(texts: Texts, names: tuple[str, ...], relations: tuple[str, ...]) -> Texts:
    renaming: dict[str, str] = {}
    for old, new in zip(texts.names, names, strict=True):
        renaming.setdefault(old.lower(), new)
    change = replacer(renaming)
    return Texts(names, relations, tuple(change(text) for text in texts.descriptions))


def replacer(renaming: Mapping[str, str]) -> Callable[[str], str]:
    """What replaces every mention of a name, longer names first, in any case, at the borders of words.

    Args:
        renaming: New names by old ones in small letters.
    """
    if not renaming:
        return lambda text: text
    choices = "|".join(re.escape(name) for name in sorted(renaming, key=lambda name: (-len(name), name)))
    pattern = re.compile(rf"(?<!\w)(?:{choices})(?!\w)", re.IGNORECASE)
    return lambda text: pattern.sub(lambda found: renaming[found[0].lower()], text)


def remaining(texts: Texts, other: Texts) -> int:
    """How many entities are still told by their own original name in a twin."""
    count = 0
    for name, now, about in zip(texts.names, other.names, other.descriptions, strict=True):
        mention = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
        count += bool(mention.search(f"{now} {about}"))
    return count
