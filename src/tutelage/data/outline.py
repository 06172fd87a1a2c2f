"""The size and shape of a data set, known before it is loaded."""

from __future__ import annotations

from typing import NamedTuple

from tutelage.data.batch import DataInfo


class Outline(NamedTuple):
    """What a data set would hold.

    Args:
        info: Facts that models are built from.
        train: Training samples.
        validation: Validation samples; 0 for none.
        test: Test samples.
    """

    info: DataInfo
    train: int
    validation: int
    test: int
