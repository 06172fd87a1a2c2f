"""Graphs of triples: kept in a folder, in memory or behind a SPARQL endpoint; read, written, asked and changed."""
