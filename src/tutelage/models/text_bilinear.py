"""A link predictor that knows entities by their texts alone."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.losses.candidates import inner_products
from tutelage.models.link_predictor import LinkPredictor, halves
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


@component("model", "text-bilinear")
class TextBilinear(LinkPredictor):
    """ComplEx (arXiv:1606.06357) whose entities are a learnt linear image of fixed vectors of their texts.

    What it knows of an entity it knows from the vector, so an entity of which nothing was learnt has a row too.

    Args:
        data: The graph.
        width: Real numbers of an entity's row and of a relation: even.
        text_width: Numbers of a text's vector.
    """

    text: Tensor

    def __init__(
        self, data: DataInfo, /, *, width: Annotated[int, Ge(2)] = 64, text_width: Annotated[int, Ge(1)] = 512
    ) -> None:
        halves(width, "a complex row")
        super().__init__(data, 1, width)
        # Nothing is learnt of an entity itself.
        del self.entities
        self.project = nn.Linear(text_width, width)
        nn.init.normal_(self.project.weight, std=0.4)
        nn.init.normal_(self.relations, std=0.2)
        self.register_buffer("text", torch.zeros(self.graph.entities, text_width))

    def rows(self, entities: Tensor | None = None) -> Tensor:
        """Images of the texts' vectors."""
        rows: Tensor = self.project(self.text if entities is None else self.text.index_select(0, entities))
        return rows

    def ready(self) -> None:
        """Refuse to be trained without texts.

        Raises:
            InputError: It was given none.
        """
        if not bool(self.text.any()):
            raise InputError(
                "the model 'text-bilinear' knows no texts yet; the method 'plm-kgc-inference' gives it some"
            )

    def query(self, known: Tensor, relation: Tensor, tails: Tensor) -> Tensor:
        """``h∘r``, or ``t∘r̄``."""
        real, imaginary = relation.chunk(2, dim=1)
        imaginary = imaginary * torch.where(tails, 1.0, -1.0).to(known.dtype)[:, None]
        a, b = known.chunk(2, dim=1)
        return torch.cat([a * real - b * imaginary, a * imaginary + b * real], 1)

    def compare(self, query: Tensor, table: Tensor, index: Tensor | None) -> Tensor:
        """Inner products."""
        return inner_products(query, table, index)
