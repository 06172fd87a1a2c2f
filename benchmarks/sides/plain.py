"""Plain torch models and settings that both sides of a comparison use; imports nothing but torch."""

from __future__ import annotations

from torch import Tensor, nn

EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 20, 64, 5e-3, 0.01
TEMPERATURE, ALPHA = 4.0, 0.5


class Mean(nn.Module):
    """Average over the image."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean((2, 3))


def convolutional(width: int, classes: int = 10) -> nn.Sequential:
    """Three stages of a 3x3 convolution for small grey images: the models of recipes/quickstart.yaml."""
    layers: list[nn.Module] = []
    before = 1
    for stage in range(3):
        after = width * 2**stage
        layers += [nn.Conv2d(before, after, 3, 2 if stage else 1, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        before = after
    return nn.Sequential(*layers, Mean(), nn.Linear(before, classes))


def teacher(data: object = None, /) -> nn.Sequential:
    """The teacher."""
    return convolutional(16)


def student(data: object = None, /) -> nn.Sequential:
    """The student."""
    return convolutional(7)
