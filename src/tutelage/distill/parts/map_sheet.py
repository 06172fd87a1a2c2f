"""Maps beside the images that they are about, as a picture for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tutelage.recipe.errors import InputError


def map_sheet(path: str | Path, images: Tensor, maps: Mapping[str, Tensor], *, titles: Sequence[str] = ()) -> Path:
    """A row for each sample: its image, then one map a column, each coloured about its own 0.

    Args:
        path: Where the picture goes; its ending says in which format.
        images: ``[count, channels, height, width]``; of other channels than 1 and 3 the mean is shown.
        maps: ``[count, height, width]`` by name; each may have a size of its own.
        titles: What to call each sample.

    Returns:
        The path.

    Raises:
        InputError: matplotlib is not installed, there is nothing to show, or the counts differ.
    """
    counts = {len(images), *(len(one) for one in maps.values())}
    if len(counts) > 1 or not len(images) or images.ndim != 4 or any(one.ndim != 3 for one in maps.values()):
        shapes = ", ".join(str(list(one.shape)) for one in (images, *maps.values()))
        raise InputError(
            f"a sheet needs images [count, channels, height, width] and maps [count, height, width], got {shapes}"
        )
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("maps are drawn by matplotlib: pip install 'tutelage[report]'") from error
    rows, columns = len(images), 1 + len(maps)
    figure = Figure(figsize=(1.4 * columns, 1.4 * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    for row, image in enumerate(images.detach().cpu().float()):
        shown = image.permute(1, 2, 0).clamp(0, 1) if len(image) == 3 else image.mean(0)
        axes[row][0].imshow(shown.numpy(), cmap="gray")
        if titles:
            axes[row][0].set_ylabel(titles[row], fontsize=7)
    axes[0][0].set_title("input", fontsize=7)
    for column, (name, several) in enumerate(maps.items(), 1):
        axes[0][column].set_title(name, fontsize=7)
        for row, one in enumerate(several.detach().cpu().float()):
            reach = max(float(torch.nan_to_num(one).abs().max()), 1e-12)
            axes[row][column].imshow(one.numpy(), cmap="coolwarm", vmin=-reach, vmax=reach)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=120)
    return target
