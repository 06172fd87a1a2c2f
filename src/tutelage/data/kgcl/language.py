"""Commands to changes and back, both from the table of sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tutelage.data.kgcl.grammar import COMPANIONS, LITERALS, MOVES, ROWS, SUBCLASS_OF, Row
from tutelage.data.kgcl.model import TYPES, Change, Edge, MultiNodeObsoletion, NodeMove, NodeObsoletion
from tutelage.data.kgcl.wording import double, entity, quote, say, unquote
from tutelage.recipe.errors import InputError, nearest

_END = r"(?=[\s@,]|\^\^|$)"
_TRIPLED = r"'''(?:[^\\]|\\.)*?'''(?!')|\"\"\"(?:[^\\]|\\.)*?\"\"\"(?!\")"
_DOUBLE = r"\"(?:[^\"\\]|\\.)*\""
# An apostrophe inside a word needs no escape; one before a blank ends the text.
_SINGLE = rf"'(?:[^'\\]|\\.|'(?![\s@,]|\^\^|$))*'{_END}"
_STRING = rf"(?:{_TRIPLED}|{_DOUBLE}{_END}|{_SINGLE})"
_TAG = r"[A-Za-z]+(?:-[A-Za-z0-9]+)*"
_BARE = r"[^\s'\"<#]\S*"
_ENTITY = rf"(?:<[^<>\s]+>|{_STRING}|{_BARE})"
_LISTED = rf"(?:<[^<>\s]+>|{_STRING}|[^\s'\"<#,][^\s,]*)"
_VALUE = rf"(?:(?:{_TRIPLED}|{_DOUBLE})(?:@{_TAG}|\^\^(?:<[^<>\s]+>|[^\s'\"<]\S*))?(?!\S)|<[^<>\s]+>|{_SINGLE}|{_BARE})"
_KINDS = {
    "e": _ENTITY,
    "w": _ENTITY,
    "v": _VALUE,
    "s": _STRING,
    "l": _TAG,
    "q": "exact|narrow|broad|related",
    "i": "some|only",
    "m": rf"{_LISTED}(?:\s*,\s*{_LISTED})*",
}
_PIECE = re.compile(
    r"( ?)(?:\[(?P<option>(?:[^\[\]{}]|\{[^}]*\}|\[[^\]]*\])*)\]"
    r"|\{(?P<field>[\w.]+):(?P<kind>\w)\}|(?P<word>[^\s\[{]+))"
)
_WORDS = re.compile(r"\s*(\S+)(?:\s+(\S+))?")
_LITERAL = re.compile(rf"({_TRIPLED}|{_DOUBLE})(?:@({_TAG})|\^\^(.+))?")
_COMMENT = r"\s*(?:\s#.*)?"


# ---------------------------------------------------------------------- the table, compiled


@dataclass(frozen=True)
class _Part:
    """A word, a field, or optional parts."""

    space: bool
    word: str = ""
    field: str = ""
    kind: str = ""
    parts: tuple[_Part, ...] = ()

    def pattern(self) -> str:
        before = r"\s+" if self.space else r"\s*" if self.word == "," else ""
        if self.parts:
            return f"(?:{before}{''.join(p.pattern() for p in self.parts)})?"
        if self.field:
            return f"{before}({_KINDS[self.kind]})"
        alone = self.word[1:] if self.word.startswith("|") else self.word
        return before + "(?:" + "|".join(re.escape(w) for w in alone.split("|")) + ")"

    def fields(self) -> Iterator[tuple[str, str, bool]]:
        """Names, kinds, and whether they must be there."""
        if self.field:
            yield self.field, self.kind, True
        for part in self.parts:
            for name, kind, _ in part.fields():
                yield name, kind, False


def _parts(sentence: str) -> tuple[_Part, ...]:
    out = []
    for place, found in enumerate(_PIECE.finditer(sentence)):
        space = bool(found[1]) and place > 0
        if found["option"] is not None:
            out.append(_Part(space, parts=_parts(found["option"])))
        elif found["field"]:
            out.append(_Part(space, field=found["field"], kind=found["kind"]))
        else:
            out.append(_Part(space, word=found["word"]))
    return tuple(out)


class _Sentence:
    """A row, ready to read and to write."""

    def __init__(self, row: Row) -> None:
        self.row, self.parts = row, _parts(row.sentence)
        self.regex = re.compile("".join(p.pattern() for p in self.parts) + _COMMENT)
        self.type = TYPES[row.kind]
        known = [f for p in self.parts for f in p.fields()]
        self.fields = [(name, kind) for name, kind, _ in known]
        self.required = [name for name, _, must in known if must]
        self.names = {name for name, _ in self.fields}
        moves = issubclass(self.type, NodeMove)
        self.companions = {**COMPANIONS, **(MOVES if moves else {})}

    def first_words(self) -> Iterator[tuple[str, str | None]]:
        head = self.parts[0].word.split("|")
        second = self.parts[1]
        if second.word:
            seconds: list[str | None] = [*second.word.split("|")]
        elif second.parts and second.parts[0].kind == "q":
            seconds = [*_KINDS["q"].split("|"), self.parts[2].word]
        else:
            seconds = [None]
        return ((a, b) for a in head for b in seconds)

    def read(self, groups: tuple[str | None, ...]) -> Change:
        values: dict[str, Any] = {}
        edge: dict[str, Any] = {}
        for (name, kind), text in zip(self.fields, groups, strict=True):
            if text is None:
                continue
            if kind == "s":
                values[name] = unquote(text)
            elif kind in "wlqi":
                values[name] = text
            elif kind == "m":
                values[name] = re.findall(_LISTED, text)
            else:
                self._put(name, kind, text, values, edge)
        if edge:
            if "old_value" in values and issubclass(self.type, NodeMove):
                self._same(edge, values)
            elif self.row.kind == "PredicateChange":
                edge["predicate"], edge["predicate_representation"] = values["old_value"], values["old_value_type"]
            values["about_edge"] = Edge(**edge)
        return self._made(values)

    def _put(self, name: str, kind: str, text: str, values: dict[str, Any], edge: dict[str, Any]) -> None:
        if kind == "v" and text[0] in "'\"" and (text[0] == '"' or text.startswith("'''")):
            found = _LITERAL.fullmatch(text)
            assert found is not None
            value, how = unquote(found[1]), "literal"
            for field, tag in zip(LITERALS[name], (found[2], found[3]), strict=True):
                if tag:
                    values[field] = tag
        else:
            value, how = entity(text)
        companion = self.companions.get(name)
        into = edge if name.startswith("about_edge.") else values
        into[name.removeprefix("about_edge.")] = value
        if companion:
            into[companion.removeprefix("about_edge.")] = how

    @staticmethod
    def _same(edge: dict[str, Any], values: dict[str, Any]) -> None:
        """The edge that is moved ends where it is moved from."""
        old, how = values["old_value"], values["old_object_type"]
        if "object" in edge and (edge["object"], edge["object_representation"]) != (old, how):
            raise InputError(
                f"the edge ends at {say(edge['object'], edge['object_representation'])}, but is moved from "
                f"{say(old, how)}: name the same node twice"
            )
        edge["object"], edge["object_representation"] = old, how

    def _made(self, values: dict[str, Any]) -> Change:
        kind = self.type
        if kind is MultiNodeObsoletion:
            nodes = [entity(text) for text in values.pop("change_set")]
            values["change_set"] = [NodeObsoletion(about_node=n, about_node_representation=how) for n, how in nodes]
        elif self.row.kind in ("EdgeCreation", "EdgeDeletion") and values["predicate"] in SUBCLASS_OF:
            kind = TYPES["PlaceUnder" if self.row.kind == "EdgeCreation" else "RemoveUnder"]
        return kind(**values)

    # ------------------------------------------------------------------ writing

    def fits(self, change: Change) -> bool:
        """Whether all that the change says can be said in this sentence."""
        if any(_get(change, name) is None for name in self.required):
            return False
        for name in _FIELDS[self.row.kind]:
            if name in self.names or _get(change, name) is None:
                continue
            if name == "about_edge.object" and _get(change, name) == _get(change, "old_value"):
                continue
            if name == "about_edge.predicate" and self.row.kind == "PredicateChange":
                continue
            return False
        return True

    def write(self, change: Change) -> str:
        return "".join(self._said(part, change) for part in self.parts)

    def _said(self, part: _Part, change: Change) -> str:
        space = " " if part.space else ""
        if part.parts:
            if all(_get(change, name) is None for p in part.parts for name, _, _ in p.fields()):
                return ""
            return space + "".join(self._said(p, change) for p in part.parts)
        if not part.field:
            return space + part.word.split("|")[0]
        return space + self._value(part.field, part.kind, change)

    def _value(self, name: str, kind: str, change: Change) -> str:
        value = _get(change, name)
        if kind == "s":
            return quote(value)
        if kind in "wlqi":
            return str(value) if kind != "w" or value[:1] in "'\"<_" else say(value, None)
        if kind == "m":
            if isinstance(change, MultiNodeObsoletion):
                return ", ".join(say(c.about_node, c.about_node_representation) for c in value)
            return ", ".join([value] if isinstance(value, str) else value)
        how = _get(change, self.companions[name]) if name in self.companions else None
        if kind == "v" and how == "literal":
            language, datatype = (getattr(change, field, None) for field in LITERALS[name])
            return double(value) + (f"@{language}" if language else f"^^{datatype}" if datatype else "")
        return say(value, how)


def _get(change: Change, name: str) -> Any:
    if name.startswith("about_edge."):
        edge = getattr(change, "about_edge", None)
        return None if edge is None else getattr(edge, name[11:])
    return getattr(change, name, None)


_SENTENCES = tuple(_Sentence(row) for row in ROWS)
_FIELDS: dict[str, set[str]] = {}
_BY_KIND: dict[str, list[_Sentence]] = {}
_WILD: dict[str, list[_Sentence]] = {}
_BY_WORDS: dict[tuple[str, str], list[_Sentence]] = {}
for _one in _SENTENCES:
    _FIELDS.setdefault(_one.row.kind, set()).update(_one.names)
    if _one.row.written:
        _BY_KIND.setdefault(_one.row.kind, []).append(_one)
    for _first, _second in _one.first_words():
        if _second is None:
            _WILD.setdefault(_first, []).append(_one)
        else:
            _BY_WORDS.setdefault((_first, _second), []).append(_one)
_BY_WORDS = {key: [*found, *_WILD.get(key[0], [])] for key, found in _BY_WORDS.items()}
_BY_KIND["PlaceUnder"], _BY_KIND["RemoveUnder"] = _BY_KIND["EdgeCreation"], _BY_KIND["EdgeDeletion"]
_FIRST = sorted({a for a, _ in _BY_WORDS} | set(_WILD))


# ---------------------------------------------------------------------- in and out


def parse_command(text: str) -> Change:
    """Read one command.

    Raises:
        InputError: It is none; the text says what was expected.
    """
    text = text.strip()
    words = _WORDS.match(text)
    if words is None:
        raise InputError("an empty command")
    first = words[1]
    for sentence in _BY_WORDS.get((first, words[2] or "")) or _WILD.get(first) or ():
        found = sentence.regex.fullmatch(text)
        if found is not None:
            return sentence.read(found.groups())
    raise InputError(_refused(text, first, words[2] or ""))


def parse(text: str, name: str = "") -> list[Change]:
    """Read commands, one a line; blank lines, and comments after ``#``, say nothing.

    Args:
        text: The commands.
        name: Of their file, for messages.

    Raises:
        InputError: Lines are no commands; the text names all of them.
    """
    out, wrong = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            out.append(parse_command(line))
        except InputError as error:
            wrong.append(f"{name + ', ' if name else ''}line {number}: {error}")
    if wrong:
        more = [f"and {len(wrong) - 20} more lines are wrong"] if len(wrong) > 20 else []
        raise InputError("\n".join([*wrong[:20], *more]))
    return out


def render(change: Change) -> str:
    """A change as a command.

    Raises:
        InputError: It lacks what its sentence says, or is of a kind that no sentence stands for.
    """
    kind = type(change).__name__
    for sentence in _BY_KIND.get(kind, ()):
        if sentence.fits(change):
            return sentence.write(change)
    if kind not in _BY_KIND:
        raise InputError(f"{kind} is exchanged as JSON or RDF only: no sentence of the language stands for it")
    raise InputError(f"{kind} lacks something to be said: expected " + " or ".join(forms(kind)))


def forms(kind: str) -> list[str]:
    """Sentences of a kind of change, for people."""
    return [_shown(s.row.sentence) for s in _SENTENCES if s.row.kind == kind]


def render_all(changes: Iterable[Change]) -> str:
    """Changes as commands, one a line."""
    return "".join(f"{render(change)}\n" for change in changes)


_NAMES = {
    "e": "NODE",
    "v": "VALUE",
    "w": "NODE",
    "s": "'TEXT'",
    "l": "LANGUAGE",
    "q": "SCOPE",
    "i": "some|only",
    "m": "NODE, ...",
}


def _shown(sentence: str) -> str:
    return re.sub(r"\{[\w.]+:(\w)\}", lambda found: _NAMES[found[1]], sentence)


def _refused(text: str, first: str, second: str) -> str:
    shown = text if len(text) <= 100 else f"{text[:97]}..."
    known = (
        _BY_WORDS.get((first, second))
        or _WILD.get(first)
        or [s for k, v in _BY_WORDS.items() if k[0] == first for s in v]
    )
    if not known:
        return f"{shown!r} is no command. {nearest(first, _FIRST, limit=20)}"
    unique: dict[str, None] = {_shown(s.row.sentence): None for s in known}
    hint = ""
    if text.count("'") % 2 and "\\'" not in text:
        hint = " An apostrophe before a blank ends a text: write it as \\'."
    return f"{shown!r} is no command; expected {' or '.join(list(unique)[:6])}.{hint}"
