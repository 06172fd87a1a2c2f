"""KGCL, the Knowledge Graph Change Language: changes as objects, as controlled English, as JSON and as RDF.

Paper: arXiv 2409.13906 (Database 2025, baae133). Names of classes and fields are those of its published schema.
"""
