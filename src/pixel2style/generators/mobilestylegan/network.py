"""MobileStyleGAN (Belousov, arXiv 2104.04767): StyleGAN2's picture from depthwise convolutions and wavelets.

It has StyleGAN2's mapping network, so its W is StyleGAN2's W, and a synthesis network that grows by inverse Haar
steps. Of its rows 16 are alive: row 0 drives ``conv1``; rows ``1 + 2i`` and ``2 + 2i`` drive block ``i`` (the first
both the up-step and ``conv1``); row 15 drives ``to_rgb``. Demodulation is constant and folded into the weights; noise
is constant.

An extra image head, ours, reads 256 pixels off the 128-pixel features, so that training need not pay for the blocks
above.

Axes: ``b`` batch, ``c`` channels, ``h w`` map, ``k`` rows, ``d`` width of a row. Wavelet channels lie band by band: the
low band of every output channel, then LH, HL and HH. The module does not know where its weights come from.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...config import GeneratorConfig
from ...errors import ConfigError
from ...ops import area
from ..sampling import check, size_of
from . import adjoint
from .strips import Step, strips

ROWS = 16
HEAD_SIZE = 256
CHANNELS = (512, 512, 512, 512, 256, 128, 64)
"""Output channels of the blocks, whose maps are 8, 16, ... 512 pixels wide."""
HEAD_BLOCK = 4
_HEAD_RANK, _HEAD_WIDTH = 64, 96
WHOLE = slice(None)
"""Every row of a map."""


def inverse_haar(bands: Tensor, style: Tensor | None = None) -> Tensor:
    """``[b 4c h w] -> [b c 2h 2w]``: one orthonormal inverse Haar step, of bands scaled by ``style`` ``[b 4c]``."""
    if style is not None and adjoint.pays(bands, style):
        return adjoint.inverse_haar(bands, style)
    if _needs_graph(bands):
        return adjoint.plain_haar(bands, style)
    return adjoint.haar_step(bands * 0.5 if style is None else _scale(bands, 0.5 * style))


def _needs_graph(images: Tensor) -> bool:
    """Whether someone will differentiate or compile what follows, so that nothing may be written in place."""
    return images.requires_grad or torch.compiler.is_compiling()


def _scale(images: Tensor, style: Tensor) -> Tensor:
    return images * style[:, :, None, None]


def _point(images: Tensor, style: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Scale, then 1x1. For one picture on a CPU it is the weight that is scaled."""
    if _needs_graph(images) or len(images) != 1 or images.device.type != "cpu":
        return F.conv2d(_scale(images, style), weight, bias)
    return F.conv2d(images, _scale(weight, style), bias)


class StyledConv(nn.Module):
    """Scale channels by the style, convolve, add noise and bias, LeakyReLU 0.2: ``[b c h w], [b d] -> [b c' h w]``.

    The convolution is a full 3x3 (``separable=False``) or 3x3 depthwise, then 1x1.
    """

    def __init__(self, channels_in: int, channels: int, side: int, width: int, *, separable: bool = True):
        super().__init__()
        self.style = nn.Linear(width, channels_in)
        self.separable = separable
        if separable:
            self.depthwise = nn.Parameter(torch.empty(channels_in, 1, 3, 3))
            self.pointwise = nn.Parameter(torch.empty(channels, channels_in, 1, 1))
        else:
            self.weight = nn.Parameter(torch.empty(channels, channels_in, 3, 3))
        self.bias = nn.Parameter(torch.empty(channels))
        self.register_buffer("noise", torch.empty(1, 1, side, side))

    def forward(self, images: Tensor, row: Tensor) -> Tensor:
        """Draw the next map; ``row`` is ``[b d]``."""
        return self.drawn(images, self.style(row))

    def drawn(self, images: Tensor, style: Tensor, rows: slice = WHOLE) -> Tensor:
        """``forward`` by what the row says of the channels, ``[b c]``, of ``images`` that are these rows of a map."""
        noise = cast(Tensor, self.noise)[:, :, rows]
        if self.separable and adjoint.pays(images, style, self.depthwise, self.pointwise, self.bias, noise):
            return adjoint.separable_conv(images, style, self.depthwise, self.pointwise, self.bias, noise)
        if not self.separable:
            images = F.conv2d(_scale(images, style), self.weight, self.bias, padding=1)
        else:  # a scale commutes with a depthwise convolution: it is cheapest after it
            images = F.conv2d(images, self.depthwise, padding=1, groups=images.shape[1])
            images = _point(images, style, self.pointwise, self.bias)
        if _needs_graph(images):
            return F.leaky_relu(images + noise, 0.2)
        return F.leaky_relu_(images.add_(noise), 0.2)


class Block(nn.Module):
    """Double the side: ``[b c h w], two rows [b d] -> [b c' 2h 2w]``."""

    def __init__(self, channels_in: int, channels: int, side: int, width: int):
        super().__init__()
        self.up_style = nn.Linear(width, channels_in)
        self.conv1 = StyledConv(channels_in // 4, channels, side, width)
        self.conv2 = StyledConv(channels, channels, side, width)

    def forward(self, images: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Up-step and first convolution by ``first``, second convolution by ``second``."""
        return self.step(first, second)(images, WHOLE)

    def step(self, first: Tensor, second: Tensor) -> Step:
        """``forward`` of two rows as a function of rows of a map: what they say of the channels is computed once."""
        up, one, two = self.up_style(first), self.conv1.style(first), self.conv2.style(second)
        return lambda images, rows: self.conv2.drawn(self.conv1.drawn(inverse_haar(images, up), one, rows), two, rows)


class ToRGB(nn.Module):
    """Channels to a picture of twice the side: ``[b c h w], [b d] -> [b 3 2h 2w]``."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.style = nn.Linear(width, channels)
        self.weight = nn.Parameter(torch.empty(12, channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(12))

    def forward(self, images: Tensor, row: Tensor) -> Tensor:
        """Draw the picture."""
        return inverse_haar(_point(images, self.style(row), self.weight, self.bias))


class SmallHead(nn.Module):
    """256 pixels from block 4's features: ``[b 256 128 128], [b k d] -> [b 3 256 256]``.

    Stands for the blocks above it. They are linear-readable but for what the last five rows change, so a low-rank
    affine of those rows scales the features and a thin separable layer refines a linear reading.
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.squeeze = nn.Linear((ROWS - 11) * width, _HEAD_RANK)
        self.style = nn.Linear(_HEAD_RANK, channels + _HEAD_WIDTH)
        self.reduce = nn.Conv2d(channels, _HEAD_WIDTH, 1)
        self.depthwise = nn.Conv2d(_HEAD_WIDTH, _HEAD_WIDTH, 3, padding=1, groups=_HEAD_WIDTH)
        self.detail = nn.Conv2d(_HEAD_WIDTH, 12, 1)
        self.linear = nn.Conv2d(channels, 12, 1)
        self.mix = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, features: Tensor, ws: Tensor) -> Tensor:
        """Read the picture off the features."""
        channels = features.shape[1]
        style = 1 + self.style(self.squeeze(ws[:, 11:].flatten(1)))
        both = [torch.cat([getattr(part, kind) for part in (self.linear, self.reduce)]) for kind in ("weight", "bias")]
        read, hidden = _point(features, style[:, :channels], *both).tensor_split((12,), 1)
        hidden = F.leaky_relu(_scale(self.depthwise(hidden), style[:, channels:]), 0.2)
        picture = inverse_haar(read + self.detail(hidden))
        return picture + cast(Tensor, self.mix(picture))


class MobileStyleGAN(nn.Module):
    """A frozen MobileStyleGAN of 1024 pixels and 16 rows. Gradients reach its inputs, never its weights."""

    w_avg: Tensor
    w_std: Tensor

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        if config.kind != "mobilestylegan" or config.size != 1024:
            raise ValueError(f"MobileStyleGAN draws 1024 pixels, got {config}")
        self.config, self.size, self.rows, self.width = config, config.size, ROWS, config.width
        width = config.width
        self.mapping = nn.ModuleList(nn.Linear(width, width) for _ in range(config.mapping_layers))
        self.constant = nn.Parameter(torch.empty(1, 512, 4, 4))
        self.conv1 = StyledConv(512, 512, 4, width, separable=False)
        before = (512, *CHANNELS)
        self.blocks = nn.ModuleList(Block(before[i], channels, 8 << i, width) for i, channels in enumerate(CHANNELS))
        self.to_rgb = ToRGB(CHANNELS[-1], width)
        self.head = SmallHead(CHANNELS[HEAD_BLOCK], width)
        self.register_buffer("w_avg", torch.zeros(width))
        self.register_buffer("w_std", torch.ones(width))
        self.requires_grad_(False)

    def map(self, z: Tensor, truncation: float = 1.0, labels: Tensor | None = None) -> Tensor:
        """Gaussian ``z [b d]`` to ``w [b d]``, pulled towards the mean by ``truncation`` (StyleGAN, section 4).

        There are no labels to give. Raises ConfigError for noise that does not fit.
        """
        check(self.config, z, labels)
        w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.mapping:
            w = F.leaky_relu(layer(w), 0.2) * 2**0.5
        return w if truncation == 1 else self.w_avg + truncation * (w - self.w_avg)

    def features(self, ws: Tensor, blocks: int = len(CHANNELS)) -> Tensor:
        """The map after ``blocks`` blocks: ``[b k d] -> [b c h w]``."""
        images = self._smallest(ws)
        for step in self._steps(ws, blocks):
            images = step(images, WHOLE)
        return images

    def _smallest(self, ws: Tensor) -> Tensor:
        images: Tensor = self.conv1(self.constant.expand(ws.shape[0], -1, -1, -1), ws[:, 0])
        if images.device.type == "cpu":  # whatever follows keeps the layout, and depthwise kernels like it
            images = images.contiguous(memory_format=torch.channels_last)
        return images

    def _steps(self, ws: Tensor, blocks: int) -> list[Step]:
        return [cast(Block, self.blocks[i]).step(ws[:, 1 + 2 * i], ws[:, 2 + 2 * i]) for i in range(blocks)]

    def _drawn(self, ws: Tensor, blocks: int, finish: Callable[[Tensor, Tensor], Tensor], around: int) -> Tensor:
        """What ``finish`` makes of the map after ``blocks`` blocks; it looks ``around`` pixels of the map away."""
        graph = torch.compiler.is_compiling() or (ws.requires_grad and torch.is_grad_enabled())
        if graph or ws.device.type != "cpu" or not len(ws):
            return finish(self.features(ws, blocks), ws)
        pictures = []
        for one in ws[:, None]:
            parts = strips(self._smallest(one), self._steps(one, blocks), around)
            pictures.append(torch.cat([part.of(finish(part.maps, one)) for part in parts], 2))
        return pictures[0] if len(pictures) == 1 else torch.cat(pictures)

    def synthesize(self, ws: Tensor, size: int | None = None) -> Tensor:
        """Rows to pictures: ``[b k d]`` or ``[b d]`` (for every row) to ``[b 3 size size]``, RGB, about [-1, 1].

        Up to 256 pixels the small head draws, and areas are averaged: it approximates the whole picture at a tenth of
        the cost. Other sizes are averaged from the whole. Raises ConfigError where rows or size do not fit.
        """
        ws = ws.unsqueeze(1).expand(-1, self.rows, -1) if ws.ndim == 2 else ws
        if ws.shape[1:] != (self.rows, self.width):
            raise ConfigError(
                f"rows for this generator are [batch, {self.rows}, {self.width}] or [batch, {self.width}], "
                f"got {list(ws.shape)}"
            )
        ws = ws.to(self.constant.dtype)
        size = size_of(size, self.size)
        if size <= HEAD_SIZE:
            picture = self._drawn(ws, HEAD_BLOCK + 1, self.head, around=2)
        else:
            picture = self._drawn(ws, len(CHANNELS), lambda maps, own: self.to_rgb(maps, own[:, -1]), around=0)
        return picture if picture.shape[-1] == size else area(picture, size)
