"""Names of things: CURIEs to IRIs and back, and the predicates that ontologies are written with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote

from pyoxigraph import BlankNode, Literal, NamedNode, RdfFormat, Triple, parse

from tutelage.recipe.errors import InputError, nearest

Subject = NamedNode | BlankNode | Triple
Term = NamedNode | BlankNode | Literal | Triple

OBO = "http://purl.obolibrary.org/obo/"
OIO = "http://www.geneontology.org/formats/oboInOwl#"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
RDFS = "http://www.w3.org/2000/01/rdf-schema#"
OWL = "http://www.w3.org/2002/07/owl#"
XSD = "http://www.w3.org/2001/XMLSchema#"
SKOS = "http://www.w3.org/2004/02/skos/core#"
NAMES = "urn:tutelage:"
"""Namespace of plain names, which files of triples and GraphML have in place of IRIs."""

# fmt: off
_OBO_SPACES = (
    "AEO", "APOLLO_SV", "ARO", "BFO", "BSPO", "BTO", "CARO", "CDNO", "CHEBI", "CHMO", "CL", "CLO", "COB", "DDANAT",
    "DOID", "DRON", "ECAO", "ECO", "ECOCORE", "EFO", "ENVO", "ERO", "EUPATH", "FAO", "FBbt", "FBcv", "FBdv", "FIX",
    "FMA", "FOODON", "FYPO", "GENEPIO", "GO", "HANCESTRO", "HP", "IAO", "ICO", "IDO", "INO", "MA", "MAXO", "MCO",
    "MF", "MFOMD", "MI", "MIRO", "MMO", "MOD", "MONDO", "MP", "MS", "NBO", "NCBITaxon", "NCIT", "OBA", "OBI", "OGG",
    "OGMS", "OMIABIS", "OMIT", "OMO", "OMP", "OPL", "PATO", "PCO", "PDRO", "PECO", "PO", "PORO", "PR", "PSDO", "PW",
    "RO", "SEPIO", "SO", "STATO", "SWO", "SYMP", "TADS", "TO", "TRANS", "TTO", "UBERON", "UO", "UPHENO", "VO", "VT",
    "WBbt", "WBls", "WBPhenotype", "XAO", "XCO", "ZECO", "ZFA", "ZFS", "ZP",
)
# fmt: on

PREFIXES: Mapping[str, str] = {
    **{name: f"{OBO}{name}_" for name in _OBO_SPACES},
    "obo": OBO,
    "oio": OIO,
    "oboInOwl": OIO,
    "rdf": RDF,
    "rdfs": RDFS,
    "owl": OWL,
    "xsd": XSD,
    "skos": SKOS,
    "dc": "http://purl.org/dc/elements/1.1/",
    "dcterms": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "foaf": "http://xmlns.com/foaf/0.1/",
    "schema": "https://schema.org/",
    "orcid": "https://orcid.org/",
    "PMID": "http://www.ncbi.nlm.nih.gov/pubmed/",
    "sssom": "https://w3id.org/sssom/",
    "kgcl": "http://w3id.org/kgcl/",
    "name": NAMES,
}
"""What is known before a graph adds its own."""

TYPE = NamedNode(f"{RDF}type")
LABEL = NamedNode(f"{RDFS}label")
COMMENT = NamedNode(f"{RDFS}comment")
SUBCLASS = NamedNode(f"{RDFS}subClassOf")
SUBPROPERTY = NamedNode(f"{RDFS}subPropertyOf")
EQUIVALENT = NamedNode(f"{OWL}equivalentClass")
CLASS = NamedNode(f"{OWL}Class")
PROPERTY = NamedNode(f"{OWL}ObjectProperty")
ANNOTATION_PROPERTY = NamedNode(f"{OWL}AnnotationProperty")
RESTRICTION = NamedNode(f"{OWL}Restriction")
ON_PROPERTY = NamedNode(f"{OWL}onProperty")
SOME = NamedNode(f"{OWL}someValuesFrom")
ONLY = NamedNode(f"{OWL}allValuesFrom")
AXIOM = NamedNode(f"{OWL}Axiom")
AXIOM_SOURCE = NamedNode(f"{OWL}annotatedSource")
AXIOM_PREDICATE = NamedNode(f"{OWL}annotatedProperty")
AXIOM_TARGET = NamedNode(f"{OWL}annotatedTarget")
DEPRECATED = NamedNode(f"{OWL}deprecated")
TRUE = Literal("true", datatype=NamedNode(f"{XSD}boolean"))
DEFINITION = NamedNode(f"{OBO}IAO_0000115")
REPLACED_BY = NamedNode(f"{OBO}IAO_0100001")
OBSOLESCENCE_REASON = NamedNode(f"{OBO}IAO_0000231")
MERGED = NamedNode(f"{OBO}IAO_0000227")
PART_OF = NamedNode(f"{OBO}BFO_0000050")
CONSIDER = NamedNode(f"{OIO}consider")
SUBSET = NamedNode(f"{OIO}inSubset")
ALTERNATIVE_ID = NamedNode(f"{OIO}hasAlternativeId")
XREF = NamedNode(f"{OIO}hasDbXref")
SYNONYMS: Mapping[str | None, NamedNode] = {
    "exact": NamedNode(f"{OIO}hasExactSynonym"),
    "narrow": NamedNode(f"{OIO}hasNarrowSynonym"),
    "broad": NamedNode(f"{OIO}hasBroadSynonym"),
    "related": NamedNode(f"{OIO}hasRelatedSynonym"),
    None: NamedNode(f"{OIO}hasSynonym"),
}
VOCABULARY = tuple(str(PREFIXES[name]) for name in ("rdf", "rdfs", "owl", "skos", "oio", "dc", "dcterms", "prov"))
"""Namespaces whose predicates may be used without being declared."""

_LOCAL = re.compile(r"[^\s<>\"'#,]+")
_SAFE = "-._~:@!$&'()*+,;=/"


class Prefixes:
    """A map of prefixes; longer namespaces win when an IRI is shortened.

    Args:
        own: Those of a graph, beside the usual ones.
    """

    def __init__(self, own: Mapping[str, str] | None = None) -> None:
        self.own = dict(own or {})
        self.spaces = {**PREFIXES, **self.own}
        self._sorted = sorted(
            ((space, name) for name, space in self.spaces.items()),
            key=lambda pair: (-len(pair[0]), len(pair[1]), pair[1]),
        )

    def expand(self, curie: str) -> str:
        """``GO:0005634`` as an IRI.

        Raises:
            InputError: The prefix is unknown; nothing is ever dropped silently.
        """
        prefix, colon, local = curie.partition(":")
        if not colon:
            # A bare word: what tables of triples call a node.
            return named(curie)
        space = self.spaces.get(prefix)
        if space is None:
            raise InputError(
                f"unknown prefix {prefix!r} of {curie!r}. {nearest(prefix, self.spaces)} Add it with `--prefix "
                f"{prefix}=IRI`, or write the whole IRI in <angle brackets>"
            )
        return space + local

    def contract(self, iri: str) -> str | None:
        """The CURIE that `expand` turns into just this IRI; ``None`` where there is none."""
        for space, name in self._sorted:
            if iri.startswith(space) and len(iri) > len(space):
                local = iri[len(space) :]
                if _LOCAL.fullmatch(local) and not local.startswith("/"):
                    return f"{name}:{local}"
        return None

    def short(self, term: Term) -> str:
        """For people: a CURIE, an IRI in brackets, or a literal."""
        if isinstance(term, NamedNode):
            return self.contract(term.value) or str(term)
        return str(term)


def named(name: str, base: str = NAMES) -> str:
    """The IRI of a plain name."""
    return base + quote(name, safe=_SAFE)


def plain(iri: str, base: str = NAMES) -> str | None:
    """The plain name of an IRI that `named` made."""
    if not iri.startswith(base):
        return None
    name = unquote(iri[len(base) :])
    return name if named(name, base) == iri else None


def to_lines(triples: Iterable[Triple]) -> list[str]:
    """N-Triples, sorted."""
    return sorted(f"{t.subject} {t.predicate} {t.object} ." for t in triples)


def from_lines(lines: Iterable[str]) -> list[Triple]:
    """The triples of N-Triples; blank nodes keep their names."""
    return [q.triple for q in parse("\n".join(lines), RdfFormat.N_TRIPLES)]
