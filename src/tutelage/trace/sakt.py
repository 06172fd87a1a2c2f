"""SAKT: self-attentive knowledge tracing (arXiv:1907.06837, EDM 2019)."""

from __future__ import annotations

from typing import ClassVar

from tutelage.recipe.registry import method
from tutelage.trace.base import KnowledgeTracing


@method("sakt", paper="arXiv:1907.06837", route="trace")
class SelfAttentiveTracing(KnowledgeTracing):
    """Train attention from what is asked to the answers before."""

    wanted: ClassVar[str] = "sakt"

    def __init__(self) -> None:
        super().__init__()
