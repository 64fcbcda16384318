"""Style heads: rows of W+ from the levels of a feature pyramid (pSp, section 3).

Row ``i`` drives the generator's ``i``-th style input: early rows set pose and shape, late rows colour and texture. Rows
0-2 come from the coarse level, 3-6 from the middle one, the rest from the fine one, at every output size. In the paper
each row has its own convolutions; in the compact models the rows of a level share them.

Axes: ``b`` batch, ``c`` channels, ``s`` side of a map, ``k`` rows, ``d`` width of a row.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import EqualLinear

COARSE_ROWS, MIDDLE_ROWS = 3, 4
SLOPE = 0.01
"""LeakyReLU's slope in heads; generators use 0.2."""


def rows_of_levels(rows: int) -> tuple[int, int, int]:
    """Numbers of rows of the coarse, middle and fine level: ``rows_of_levels(18) == (3, 4, 11)``."""
    coarse = min(rows, COARSE_ROWS)
    middle = min(rows - coarse, MIDDLE_ROWS)
    return coarse, middle, rows - coarse - middle


def _halvings(side: int) -> int:
    if side < 2 or side & (side - 1):
        raise ValueError(f"side must be a power of two of at least 2, got {side}")
    return side.bit_length() - 1


class Pyramid(nn.Module):
    """Feature pyramid: three trunk maps to three maps of one width, each with the upsampled coarser one added.

    The coarse map stays unchanged if it has the width already. Upsampling aligns corners, as in the paper's models.
    """

    def __init__(self, channels: tuple[int, int, int], width: int):
        super().__init__()
        fine, middle, coarse = channels
        self.top: nn.Module = nn.Identity() if coarse == width else nn.Conv2d(coarse, width, 1)
        self.middle = nn.Conv2d(middle, width, 1)
        self.fine = nn.Conv2d(fine, width, 1)

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps at strides 4, 8 and 16 to maps of the same sides."""
        p3: Tensor = self.top(coarse)
        p2 = _upsample_and_add(p3, self.middle(middle))
        p1 = _upsample_and_add(p2, self.fine(fine))
        return p1, p2, p3


def _upsample_and_add(small: Tensor, large: Tensor) -> Tensor:
    return F.interpolate(small, size=large.shape[-2:], mode="bilinear", align_corners=True) + large


class StyleHead(nn.Module):
    """One row from one map: ``[b c s s] -> [b d]`` (the paper's map2style).

    Stride-2 convolutions reduce the map to one pixel. Pooling would be cheaper but loses positions.
    """

    def __init__(self, channels: int, side: int, width: int):
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(_halvings(side)):
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
            channels = width
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(width, width)

    def forward(self, level: Tensor) -> Tensor:
        """``[b c s s] -> [b d]``."""
        row: Tensor = self.linear(self.convs(level).flatten(1))
        return row


class SharedHead(nn.Module):
    """Several rows from one map: ``[b c s s] -> [b k d]``.

    Stride-2 convolutions, wider in the last two, then two small layers for each row as batched products. The initial
    output is near zero, so that training starts near the average row.
    """

    def __init__(self, channels: int, side: int, rows: int, width: int, tower_width: int, head_width: int):
        super().__init__()
        steps = _halvings(side)
        widths = [channels] * (steps - 1) + [(channels + tower_width) // 2, tower_width]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            convolution = nn.Conv2d(before, after, 3, stride=2, padding=1)
            nn.init.kaiming_normal_(convolution.weight, SLOPE)
            layers += [convolution, nn.LeakyReLU(SLOPE)]
        self.tower = nn.Sequential(*layers)
        self.hidden = EqualLinear(tower_width, rows * head_width)
        self.out = nn.Parameter(torch.randn(rows, head_width, width) * 0.1)
        self.out_bias = nn.Parameter(torch.zeros(rows, width))
        self.rows, self.scale = rows, head_width**-0.5

    def forward(self, level: Tensor) -> Tensor:
        """``[b c s s] -> [b k d]``."""
        hidden = F.leaky_relu(self.hidden(self.tower(level).flatten(1)), SLOPE)
        hidden = hidden.reshape(hidden.shape[0], self.rows, -1)
        return torch.einsum("bkh,khd->bkd", hidden, self.out * self.scale) + self.out_bias
