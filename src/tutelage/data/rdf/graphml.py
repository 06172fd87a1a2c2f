"""GraphML: nodes and edges with data, as triples and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO
from xml.etree.ElementTree import Element, ParseError, iterparse
from xml.sax.saxutils import quoteattr

from pyoxigraph import Literal, NamedNode

from tutelage.data.rdf.graph import Graph
from tutelage.data.rdf.terms import LABEL, named
from tutelage.recipe.errors import InputError

_SPACE = "{http://graphml.graphdrawing.org/xmlns}"
_PREDICATES = ("predicate", "relation", "label", "type", "key", "interaction")


def read_graphml(stream: IO[bytes], base: str, path: Path) -> Iterator[bytes]:
    """N-Triples of a file's nodes and edges.

    A node's data are literals of predicates by that name (``label`` is ``rdfs:label``); an edge's predicate is the
    first of its data called predicate, relation, label, type, key or interaction, else ``related``. What
    `write_graphml` wrote is read back exactly.

    Raises:
        InputError: It is no GraphML.
    """
    keys: dict[str, str] = {}
    terms: dict[str, str] = {}
    out: list[str] = []
    try:
        for _, element in iterparse(stream, events=("end",)):
            tag = element.tag.removeprefix(_SPACE)
            if tag == "key":
                keys[element.get("id", "")] = element.get("attr.name") or element.get("id", "")
            elif tag == "node":
                out.extend(_node(element, keys, terms, base))
                element.clear()
            elif tag == "edge":
                out.append(_edge(element, keys, terms, base, path))
                element.clear()
            if len(out) > 4096:
                yield "".join(out).encode()
                out.clear()
    except ParseError as error:
        raise InputError(f"{path}, line {error.position[0]}: no GraphML: {error}. Nothing was loaded") from error
    yield "".join(out).encode()


def _data(element: Element, keys: dict[str, str]) -> dict[str, str]:
    return {
        keys.get(d.get("key", ""), d.get("key", "")): d.text or ""
        for d in element
        if d.tag.removeprefix(_SPACE) == "data"
    }


def _node(element: Element, keys: dict[str, str], terms: dict[str, str], base: str) -> Iterator[str]:
    name, data = element.get("id", ""), _data(element, keys)
    if "term" in data:
        terms[name] = data["term"]
        return
    subject = str(_name(name, base))
    for key, value in data.items():
        predicate = LABEL if key == "label" else NamedNode(named(key, base))
        yield f"{subject} {predicate} {Literal(value)} .\n"


def _edge(element: Element, keys: dict[str, str], terms: dict[str, str], base: str, path: Path) -> str:
    data = _data(element, keys)
    ends = []
    for end in ("source", "target"):
        name = element.get(end)
        if name is None:
            raise InputError(f"{path}: an edge without {end}. Nothing was loaded")
        ends.append(terms.get(name) or str(_name(name, base)))
    if "term" in data:
        return f"{ends[0]} {data['term']} {ends[1]} .\n"
    called = next((data[key] for key in _PREDICATES if data.get(key)), "related")
    return f"{ends[0]} {_name(called, base)} {ends[1]} .\n"


def _name(text: str, base: str) -> NamedNode:
    return NamedNode(text if text.startswith(("http://", "https://", "urn:")) else named(text, base))


def write_graphml(graph: Graph, out: IO[bytes]) -> None:
    """Write a graph: nodes have the term that they stand for and their label, edges their predicate."""
    out.write(
        b'<?xml version="1.0" encoding="UTF-8"?>\n<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n'
        b'<key id="t" for="all" attr.name="term" attr.type="string"/>\n'
        b'<key id="l" for="node" attr.name="label" attr.type="string"/>\n<graph edgedefault="directed">\n'
    )
    known: dict[str, int] = {}
    for triple in graph.match():
        for term in (triple.subject, triple.object):
            text = str(term)
            if text in known:
                continue
            known[text] = len(known)
            label = ""
            if isinstance(term, NamedNode):
                label = next((t.object.value for t in graph.match(term, LABEL) if isinstance(t.object, Literal)), "")
            shown = f'<data key="l">{_escaped(label)}</data>' if label else ""
            out.write(f'<node id="n{known[text]}"><data key="t">{_escaped(text)}</data>{shown}</node>\n'.encode())
        ends = (quoteattr(f"n{known[str(term)]}") for term in (triple.subject, triple.object))
        source, target = ends
        predicate = _escaped(str(triple.predicate))
        out.write(f'<edge source={source} target={target}><data key="t">{predicate}</data></edge>\n'.encode())
    out.write(b"</graph>\n</graphml>\n")


def _escaped(text: str) -> str:
    # What XML cannot hold, N-Triples can, as an escape.
    escaped = "".join(c if c in "\t\n\r" or c >= " " else f"\\u{ord(c):04X}" for c in text)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")
