"""Tokens of controlled English: names of nodes, texts in quotes, and their escapes."""

from __future__ import annotations

import re
from typing import NamedTuple

from tutelage.data.kgcl.elements import Representation

_LANGUAGE = r"[A-Za-z]+(?:-[A-Za-z0-9]+)*"
_IRI = r"<[^<>\s]+>"
_BARE = r"[^\s'\"<>,](?:\S*[^\s,])?"
# An apostrophe before a letter is one, and no closing quote; possessive, so that no text takes more than one pass.
_QUOTED = (
    r"(?:'''(?:[^\\']|\\.|'(?!''))*+'''|\"\"\"(?:[^\\\"]|\\.|\"(?!\"\"))*+\"\"\""
    r"|'(?!'')(?:[^'\\\n]|\\.|'(?=\w))*+'(?!\w)|\"(?!\"\")(?:[^\"\\\n]|\\.)*+\")"
)
_TEXT = rf"{_QUOTED}(?:@{_LANGUAGE}|\^\^(?:{_IRI}|{_BARE}))?"

PATTERNS = {
    "identifier": rf"(?:{_IRI}|{_BARE})",
    "entity": rf"(?:{_IRI}|{_QUOTED}|{_BARE})",
    "text": rf"(?:{_TEXT})",
    "value": rf"(?:{_IRI}|{_TEXT}|{_BARE})",
    "scope": r"(?:exact|narrow|broad|related)",
    "language": rf"(?:{_LANGUAGE})",
    "entities": rf"(?:(?:{_IRI}|{_QUOTED}|{_BARE})(?:\s*,\s*(?:{_IRI}|{_QUOTED}|{_BARE}))*)",
}
_ENTITY = re.compile(PATTERNS["entity"])
_IS_IRI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(?:urn|mailto|tag|info):")
_BARE_ALONE = re.compile(_BARE)
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[nrt\\'\"])")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", '"': '"'}
_UNSAFE = re.compile("[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Token(NamedTuple):
    """What one token says.

    Args:
        text: Without quotes and brackets.
        representation: What it is.
        language: Of a text.
        datatype: Of a text, a CURIE or an IRI.
    """

    text: str
    representation: Representation
    language: str | None = None
    datatype: str | None = None


def read(token: str) -> Token:
    """What a token of any of the patterns says."""
    first = token[0]
    if first == "<":
        iri = token[1:-1]
        return Token(iri, "curie" if is_iri(iri) else "uri")
    if first not in "'\"":
        return Token(token, "curie")
    mark = first * 3 if token.startswith(first * 3) and len(token) >= 6 else first
    end = token.rindex(mark)
    text, after = token[len(mark) : end], token[end + len(mark) :]
    if "\\" in text:
        text = _ESCAPE.sub(_unescaped, text)
    representation: Representation = "label" if mark == "'" else "literal"
    if after.startswith("@"):
        return Token(text, representation, after[1:])
    if after:
        return Token(text, representation, None, after[2:].strip("<>"))
    return Token(text, representation)


def read_all(tokens: str) -> list[str]:
    """Tokens kept apart by commas."""
    return _ENTITY.findall(tokens)


def _unescaped(found: re.Match[str]) -> str:
    what = found[1]
    return chr(int(what[1:], 16)) if what[0] in "uU" else _ESCAPES[what]


def is_iri(text: str) -> bool:
    """Whether a name is an IRI by its form, and no CURIE."""
    return _IS_IRI.match(text) is not None


def quote(text: str, mark: str = "'") -> str:
    """A text in quotes that `read` takes for just this text."""
    body = _UNSAFE.sub(_escaped, text).replace(mark, "\\" + mark)
    return f"{mark}{body}{mark}"


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    named = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return named.get(char) or f"\\u{ord(char):04X}"


def write(
    text: str, representation: Representation | None = None, language: str | None = None, datatype: str | None = None
) -> str:
    """The token that `read` reads so.

    Raises:
        ValueError: No token can say it.
    """
    if representation in ("label", "literal"):
        out = quote(text, "'" if representation == "label" else '"')
        return out + (f"@{language}" if language else f"^^{_identifier(datatype)}" if datatype else "")
    if representation == "uri":
        return f"<{text}>"
    return _identifier(text)


def _identifier(text: str) -> str:
    if is_iri(text):
        if re.search(r"[<>\s]", text):
            raise ValueError(f"{text!r} is no IRI")
        return f"<{text}>"
    if not _BARE_ALONE.fullmatch(text):
        raise ValueError(f"{text!r} is no CURIE")
    return text
