"""Plain torch models and settings that both sides of a comparison use; imports nothing but torch."""

from __future__ import annotations

from torch import nn

EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 20, 64, 2e-3, 0.01
TEMPERATURE, ALPHA = 4.0, 0.5


def convolutional(width: int, classes: int = 10) -> nn.Sequential:
    """Two stages of two 3x3 convolutions for small grey images."""
    layers: list[nn.Module] = []
    before = 1
    for stage in range(2):
        for i in range(2):
            after = width * 2**stage
            layers += [nn.Conv2d(before, after, 3, 2 if stage and not i else 1, 1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.ReLU()]
            before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


def teacher(data: object = None, /) -> nn.Sequential:
    """The teacher."""
    return convolutional(32)


def student(data: object = None, /) -> nn.Sequential:
    """The student."""
    return convolutional(8)
