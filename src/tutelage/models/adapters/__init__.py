"""Adapters: what of a model is trained, as parametrisations of its weights."""
