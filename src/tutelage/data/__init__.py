"""Data sets, loading and augmentation: what a recipe's ``data`` slot names."""
