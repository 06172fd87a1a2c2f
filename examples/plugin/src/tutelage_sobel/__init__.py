"""Edges for Tutelage: the augmentation ``sobel`` and the model ``sobel-net``."""
