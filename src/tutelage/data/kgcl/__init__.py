"""KGCL, the change language of ontologies and knowledge graphs (arXiv:2409.13906)."""
