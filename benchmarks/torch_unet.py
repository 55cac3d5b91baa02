"""The U-Net of `unet-hela` in plain PyTorch, for the benchmarks that compare with it.

Needs PyTorch alone: it is imported by interpreters that know nothing of unet_zoo.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn


def _twice(ins: int, outs: int) -> nn.Module:
    layers: list[nn.Module] = []
    for channels in (ins, outs):
        layers += [
            nn.Conv2d(channels, outs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Convolution, batch normalisation and ReLU twice a stage, as `unet` has it."""

    def __init__(
        self, filters: int = 24, depth: int = 5, widest: int = 256, classes: int = 3
    ) -> None:
        super().__init__()
        widths = [min(widest, filters * 2**level) for level in range(depth + 1)]
        self.down = nn.ModuleList(map(_twice, [1, *widths], widths))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(above, width, 2, stride=2)
            for width, above in itertools.pairwise(widths)
        )
        self.merge = nn.ModuleList(_twice(2 * width, width) for width in widths[:-1])
        self.head = nn.Conv2d(filters, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for stage in self.down[:-1]:
            x = stage(x)
            skips.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = self.down[-1](x)
        for up, merge, skip in zip(
            reversed(self.up), reversed(self.merge), reversed(skips), strict=True
        ):
            x = merge(torch.cat([up(x), skip], dim=1))
        return self.head(x)
