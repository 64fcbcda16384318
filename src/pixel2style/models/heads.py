"""Style heads: read the rows of W+ off a feature pyramid (pSp, section 3).

Row ``i`` drives the generator's ``i``-th style input: early rows set pose and shape, late rows colour and texture. Rows
0-2 are read off the coarse level, 3-6 off the middle one, the rest off the fine one, at every output size. The paper
gives each row its own convolutions; the compact models let the rows of a level share them.

Axes: ``b`` batch, ``c`` channels, ``s`` side of a map, ``k`` rows, ``d`` width of a row.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import EqualLinear

COARSE_ROWS, MIDDLE_ROWS = 3, 4
SLOPE = 0.01
"""LeakyReLU's slope inside heads; the generator uses 0.2."""


def rows_of_levels(rows: int) -> tuple[int, int, int]:
    """How many rows the coarse, middle and fine level give: ``rows_of_levels(18) == (3, 4, 11)``."""
    coarse = min(rows, COARSE_ROWS)
    middle = min(rows - coarse, MIDDLE_ROWS)
    return coarse, middle, rows - coarse - middle


def _halvings(side: int) -> int:
    if side < 2 or side & (side - 1):
        raise ValueError(f"side must be a power of two of at least 2, got {side}")
    return side.bit_length() - 1


class Pyramid(nn.Module):
    """Three trunk maps to three maps of one width, coarse detail added to fine: ``(c1, c2, c3) -> (p1, p2, p3)``.

    The coarse map passes unchanged when it already has the width. Upsampling aligns corners, as the paper's models do.
    """

    def __init__(self, channels: tuple[int, int, int], width: int):
        super().__init__()
        fine, middle, coarse = channels
        self.top: nn.Module = nn.Identity() if coarse == width else nn.Conv2d(coarse, width, 1)
        self.middle = nn.Conv2d(middle, width, 1)
        self.fine = nn.Conv2d(fine, width, 1)

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps at strides 4, 8 and 16, fine to coarse, as they came."""
        p3: Tensor = self.top(coarse)
        p2 = _enlarge_onto(p3, self.middle(middle))
        p1 = _enlarge_onto(p2, self.fine(fine))
        return p1, p2, p3


def _enlarge_onto(small: Tensor, large: Tensor) -> Tensor:
    return F.interpolate(small, size=large.shape[-2:], mode="bilinear", align_corners=True) + large


class StyleHead(nn.Module):
    """One row from one map: ``[b c s s] -> [b d]`` (the paper's map2style).

    Stride-2 convolutions halve the map to one pixel. Pooling would be cheaper but forgets where things were.
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
        """Read the row."""
        row: Tensor = self.linear(self.convs(level).flatten(1))
        return row


class SharedHead(nn.Module):
    """Several rows from one map: ``[b c s s] -> [b k d]``.

    One tower of stride-2 convolutions, widening over its last two steps, then two small layers for each row, written as
    batched products. Starts near zero, so that training starts near the average row.
    """

    def __init__(self, channels: int, side: int, rows: int, width: int, tower_width: int, head_width: int):
        super().__init__()
        steps = _halvings(side)
        widths = [channels] * (steps - 1) + [(channels + tower_width) // 2, tower_width]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            halving = nn.Conv2d(before, after, 3, stride=2, padding=1)
            nn.init.kaiming_normal_(halving.weight, SLOPE)
            layers += [halving, nn.LeakyReLU(SLOPE)]
        self.tower = nn.Sequential(*layers)
        self.hidden = EqualLinear(tower_width, rows * head_width)
        self.out = nn.Parameter(torch.randn(rows, head_width, width) * 0.1)
        self.out_bias = nn.Parameter(torch.zeros(rows, width))
        self.rows, self.scale = rows, head_width**-0.5

    def forward(self, level: Tensor) -> Tensor:
        """Read the rows."""
        hidden = F.leaky_relu(self.hidden(self.tower(level).flatten(1)), SLOPE)
        hidden = hidden.reshape(hidden.shape[0], self.rows, -1)
        return torch.einsum("bkh,khd->bkd", hidden, self.out * self.scale) + self.out_bias
