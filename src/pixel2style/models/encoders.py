"""Encoders: an image to rows of W+ in one forward pass (pSp, sections 3 and 4).

Every encoder is a trunk with heads. ``ENCODERS`` lists them; ``build`` makes one from its configuration. The output is
the difference of the rows to the average row, which ``psp.PSP`` adds.

Axes: ``b`` batch, ``c`` channels, ``s`` side of the input, ``k`` rows, ``d`` width of a row. For inputs wider than
high, ``s s`` are height and width, and the number of stride-2 convolutions in heads follows from the width.
"""

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from ..config import EncoderConfig
from ..ops import EqualLinear
from .backbones.ir_se import IRSE
from .backbones.mobilefacenet import Bottleneck, MobileFaceNet
from .backbones.resnet34 import ResNet34
from .heads import Pyramid, SharedHead, StyleHead, rows_of_levels


class Trunk(Protocol):
    """The interface of trunks: maps at strides 4, 8 and 16."""

    tap_channels: tuple[int, int, int]
    recompute: bool

    def taps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[b c s s]`` to maps of sides s/4, s/8 and s/16."""


TRUNKS: dict[str, Callable[[int], nn.Module]] = {
    "ir_se50": lambda channels: IRSE(50, channels),
    "resnet34": ResNet34,
    "mobilefacenet": lambda channels: MobileFaceNet(channels, embed=False),
}


class Neck(nn.Sequential):
    """More residual units after a small trunk, initialised to the identity: ``[b c s s] -> [b c s s]``."""

    def __init__(self, channels: int, units: int):
        super().__init__(*(Bottleneck(channels, 4 * channels, channels) for _ in range(units)))
        for unit in self:
            last = cast(nn.Conv2d, cast(Bottleneck, unit)[-1])
            nn.init.zeros_(last.weight)
            nn.init.zeros_(cast(Tensor, last.bias))


class Deltas(nn.Module):
    """A first row and differences to it, as rows: ``[b k d] -> [b k d]`` (e4e, arXiv 2102.02766, section 3.3).

    Rows after ``stage`` equal the first one: training raises it from 0, one row at a time. By default all may differ.
    """

    def __init__(self, rows: int):
        super().__init__()
        self.stage = rows - 1

    def forward(self, codes: Tensor) -> Tensor:
        """``[b k d] -> [b k d]``."""
        first = codes[:, :1]
        free, tied = codes[:, 1 : self.stage + 1], codes[:, self.stage + 1 :]
        return torch.cat([first, first + free, first.expand_as(tied)], 1)


class Encoder(nn.Module):
    """Base of encoders: a trunk and a neck; subclasses add heads and are final."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        height, width = config.input_shape
        if width % 16:
            raise ValueError(f"the input size must be a multiple of 16, got {width}")
        if height % 16 or height > width:
            raise ValueError(f"the input height must be a multiple of 16, {width} at most, got {height}")
        self.config = config
        self.trunk = TRUNKS[config.trunk](config.input_channels)
        self.channels = cast(Trunk, self.trunk).tap_channels
        self.neck = Neck(self.channels[-1], config.neck)

    @property
    def recompute(self) -> bool:
        """Whether the trunk's maps are computed again in the backward pass instead of being kept (default: no)."""
        return cast(Trunk, self.trunk).recompute

    @recompute.setter
    def recompute(self, value: bool) -> None:
        cast(Trunk, self.trunk).recompute = value

    def levels(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The trunk's maps at strides 4, 8 and 16, the last one after the neck."""
        if images.device.type == "cpu" and not torch.compiler.is_compiling():
            images = images.contiguous(memory_format=torch.channels_last)  # all layers keep it, and are faster with it
        fine, middle, coarse = cast(Trunk, self.trunk).taps(images)
        return fine, middle, cast(Tensor, self.neck(coarse))


class PyramidEncoder(Encoder):
    """Rows from a feature pyramid: ``[b c s s] -> [b k d]`` (pSp, section 3; e4e with ``Deltas``)."""

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        width = config.pyramid_width
        self.pyramid = Pyramid(self.channels, width)
        sides = [config.input_size // stride for stride in (16, 8, 4)]
        counts = rows_of_levels(config.rows)
        if config.heads == "separate":
            heads = [StyleHead(width, s, config.width) for s, n in zip(sides, counts, strict=True) for _ in range(n)]
            self.heads = nn.ModuleList(heads)
            self.level_of_head = [i for i, n in enumerate(counts) for _ in range(n)]
        else:
            shape = (config.width, config.tower_width, config.head_width)
            self.heads = nn.ModuleList(SharedHead(width, s, n, *shape) for s, n in zip(sides, counts, strict=True) if n)
            self.level_of_head = [i for i, n in enumerate(counts) if n]
        self.deltas = Deltas(config.rows) if config.kind == "e4e" else None

    def forward(self, images: Tensor) -> Tensor:
        """``[b c s s] -> [b k d]``."""
        fine, middle, coarse = self.pyramid(*self.levels(images))
        levels = (coarse, middle, fine)
        parts = [head(levels[level]) for head, level in zip(self.heads, self.level_of_head, strict=True)]
        rows = torch.stack(parts, 1) if self.config.heads == "separate" else torch.cat(parts, 1)
        return rows if self.deltas is None else cast(Tensor, self.deltas(rows))


class TopEncoder(Encoder):
    """All rows from the last map: ``[b c s s] -> [b k d]`` (ReStyle, arXiv 2104.02699, section 4 and figure 4)."""

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        channels, side = self.channels[-1], config.input_size // 16
        if config.heads == "separate":
            self.heads = nn.ModuleList(StyleHead(channels, side, config.width) for _ in range(config.rows))
        else:
            shape = (config.rows, config.width, config.tower_width, config.head_width)
            self.heads = nn.ModuleList([SharedHead(channels, side, *shape)])
        self.deltas = Deltas(config.rows) if config.kind == "top_e4e" else None

    def forward(self, images: Tensor) -> Tensor:
        """``[b c s s] -> [b k d]``."""
        top = self.levels(images)[-1]
        parts = [head(top) for head in self.heads]
        rows = torch.stack(parts, 1) if self.config.heads == "separate" else torch.cat(parts, 1)
        return rows if self.deltas is None else cast(Tensor, self.deltas(rows))


class SingleWEncoder(Encoder):
    """One vector of W for all rows: ``[b c s s] -> [b k d]`` (pSp, section 4.1, "W encoder")."""

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        self.linear = EqualLinear(self.channels[-1], config.width)

    def forward(self, images: Tensor) -> Tensor:
        """Average the last map, then one linear layer: ``[b c s s] -> [b k d]``."""
        w = self.linear(self.levels(images)[-1].mean(dim=(2, 3)))
        return cast(Tensor, w[:, None].expand(-1, self.config.rows, -1))


class LastLayerEncoder(Encoder):
    """All rows from the last map: ``[b c s s] -> [b k d]`` (pSp, section 4.1, "naive W+")."""

    POOLED = 7

    def __init__(self, config: EncoderConfig):
        super().__init__(config)
        channels = self.channels[-1]
        self.output = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.AdaptiveAvgPool2d(self.POOLED),
            nn.Flatten(),
            nn.Linear(channels * self.POOLED**2, config.width),
        )
        self.linear = EqualLinear(config.width, config.width * config.rows)

    def forward(self, images: Tensor) -> Tensor:
        """Pool the last map, then two linear layers: ``[b c s s] -> [b k d]``."""
        codes: Tensor = self.linear(self.output(self.levels(images)[-1]))
        return codes.reshape(codes.shape[0], self.config.rows, self.config.width)


ENCODERS: dict[str, type[Encoder]] = {
    "pyramid": PyramidEncoder,
    "single_w": SingleWEncoder,
    "last_layer": LastLayerEncoder,
    "e4e": PyramidEncoder,
    "top": TopEncoder,
    "top_e4e": TopEncoder,
}


def build(config: EncoderConfig) -> Encoder:
    """The encoder of ``config``, with random weights."""
    return ENCODERS[config.kind](config)
