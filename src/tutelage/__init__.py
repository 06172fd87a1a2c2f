"""Tutelage: knowledge carried from one model to another, and an honest account of what arrived.

This module stays light: ``import tutelage`` loads neither torch nor anything that does.
"""

from __future__ import annotations

__version__ = "0.1.0"
