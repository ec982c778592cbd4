"""The peer of `netdsl compile examples/resnet50.net`: PyTorch builds the same network and exports it.

Argument: the output file."""

from __future__ import annotations

import sys

import torch
from torch import nn


class ConvBN(nn.Sequential):
    def __init__(self, inputs: int, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, channels, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(channels),
        )


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.reduce = ConvBN(inputs, channels, 1)
        self.filter = ConvBN(channels, channels, 3, stride)
        self.expand = ConvBN(channels, 4 * channels, 1)
        same = inputs == 4 * channels and stride == 1
        self.shortcut = nn.Identity() if same else ConvBN(inputs, 4 * channels, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.expand(self.filter(self.reduce(x).relu()).relu())
        return (y + self.shortcut(x)).relu()


def resnet50(classes: int = 1000) -> nn.Module:
    layers: list[nn.Module] = [ConvBN(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for channels, depth, stride in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
        for i in range(depth):
            layers.append(Bottleneck(inputs, channels, stride if i == 0 else 1))
            inputs = 4 * channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


if __name__ == "__main__":
    model = resnet50().eval()
    assert sum(p.numel() for p in model.parameters()) == 25_557_032
    batch = torch.export.Dim("N")
    torch.onnx.export(
        model,
        (torch.zeros(2, 3, 224, 224),),
        sys.argv[1],
        dynamic_shapes=({0: batch},),
        external_data=False,
        verbose=False,
    )
