"""MobileStyleGAN (Belousov, arXiv 2104.04767): StyleGAN2's images from depthwise convolutions and wavelets.

It has StyleGAN2's mapping network, so its W is StyleGAN2's W. The synthesis network doubles the side with inverse Haar
steps. It uses 16 rows: row 0 drives ``conv1``; rows ``1 + 2i`` and ``2 + 2i`` drive block ``i`` (the first both the
up-step and ``conv1``); row 15 drives ``to_rgb``. Demodulation is constant and folded into the weights; noise is
constant.

An additional image head, not in the paper, computes 256 pixels from the 128-pixel features, so that training does not
need the blocks above.

Axes: ``b`` batch, ``c`` channels, ``h w`` map, ``k`` rows, ``d`` width of a row.
"""

import itertools
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...config import GeneratorConfig
from ...ops import SLOPE, activate, area
from ..base import NO_RESIDUALS, Change, Generator, Residuals
from ..sampling import check, rows_of, size_of, truncated
from . import adjoint
from .adjoint import inverse_haar, needs_graph, scale
from .strips import Step, strips

ROWS = 16
HEAD_SIZE = 256
CHANNELS = (512, 512, 512, 512, 256, 128, 64)
"""Output channels of the blocks, whose maps are 8, 16, ... 512 pixels wide."""
HEAD_BLOCK = 4
MIXED = 64
"""Side of the coarsest map that ``mix_precision`` is for."""
_HEAD_RANK, _HEAD_WIDTH = 64, 96
ALL_ROWS = slice(None)


def _pointwise(images: Tensor, style: Tensor, weight: Tensor, bias: Tensor, mixed: bool = False) -> Tensor:
    """Scale channels, then convolve 1x1. For a single image on a CPU, scaling the weight is cheaper.

    What is ``mixed`` then is computed in bfloat16, image by image, and the result is of the type of ``images``.
    """
    if needs_graph(images) or images.device.type != "cpu" or (len(images) != 1 and not mixed):
        return F.conv2d(scale(images, style), weight, bias)
    if len(images) != 1:
        pairs = zip(images[:, None], style[:, None], strict=True)
        return torch.cat([_pointwise(one, own, weight, bias, mixed) for one, own in pairs])
    weight = scale(weight, style)
    if mixed:
        low = torch.bfloat16
        return F.conv2d(images.to(low), weight.to(low), bias.to(low)).to(images.dtype)
    return F.conv2d(images, weight, bias)


class StyledConv(nn.Module):
    """Scale channels by the style, convolve, add noise and bias, LeakyReLU 0.2: ``[b c h w], [b d] -> [b c' h w]``.

    The convolution is a full 3x3 (``separable=False``) or 3x3 depthwise, then 1x1.
    """

    mixed = False
    """Whether 1x1 convolutions are computed in bfloat16 on a CPU, where nothing is differentiated."""

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
        """The next map; ``row`` is ``[b d]``."""
        return self.convolve(images, self.style(row))

    def convolve(self, images: Tensor, style: Tensor, rows: slice = ALL_ROWS) -> Tensor:
        """``forward`` for the scales ``style`` ``[b c]``, where ``images`` holds only ``rows`` of the map."""
        noise = cast(Tensor, self.noise)[:, :, rows]
        if self.separable and adjoint.is_usable(images, style, self.depthwise, self.pointwise, self.bias, noise):
            return adjoint.separable_conv(images, style, self.depthwise, self.pointwise, self.bias, noise)
        if not self.separable:
            images = F.conv2d(scale(images, style), self.weight, self.bias, padding=1)
        else:  # scaling commutes with a depthwise convolution and is cheapest after it
            images = F.conv2d(images, self.depthwise, padding=1, groups=images.shape[1])
            images = _pointwise(images, style, self.pointwise, self.bias, self.mixed)
        if needs_graph(images):
            return F.leaky_relu(images + noise, SLOPE)
        return F.leaky_relu_(images.add_(noise), SLOPE)


class Block(nn.Module):
    """Double the side: ``[b c h w], two rows [b d] -> [b c' 2h 2w]``."""

    def __init__(self, channels_in: int, channels: int, side: int, width: int):
        super().__init__()
        self.up_style = nn.Linear(width, channels_in)
        self.conv1 = StyledConv(channels_in // 4, channels, side, width)
        self.conv2 = StyledConv(channels, channels, side, width)

    def forward(self, images: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """``first`` drives the up-step and the first convolution, ``second`` the second convolution."""
        return self.step(first, second)(images, ALL_ROWS)

    def step(self, first: Tensor, second: Tensor) -> Step:
        """``forward`` as a function of a strip of a map. The scales of the channels are computed once, here."""
        up, scales1, scales2 = self.up_style(first), self.conv1.style(first), self.conv2.style(second)

        def run(images: Tensor, rows: slice) -> Tensor:
            images = self.conv1.convolve(inverse_haar(images, up), scales1, rows)
            return self.conv2.convolve(images, scales2, rows)

        return run


class ToRGB(nn.Module):
    """Features to an image of twice the side: ``[b c h w], [b d] -> [b 3 2h 2w]``."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.style = nn.Linear(width, channels)
        self.weight = nn.Parameter(torch.empty(12, channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(12))

    def forward(self, images: Tensor, row: Tensor) -> Tensor:
        """``[b c h w], [b d] -> [b 3 2h 2w]``."""
        return inverse_haar(_pointwise(images, self.style(row), self.weight, self.bias))


class SmallHead(nn.Module):
    """256 pixels from block 4's features: ``[b 256 128 128], [b k d] -> [b 3 256 256]``.

    It replaces the blocks above. The image is a linear function of the features except for what the last five rows
    change, so a low-rank affine of those rows scales the features, and a narrow separable layer corrects the result of
    a linear one.
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
        """``[b 256 128 128], [b k d] -> [b 3 256 256]``."""
        channels = features.shape[1]
        style = 1 + self.style(self.squeeze(ws[:, 11:].flatten(1)))
        # one convolution computes both: the linear image and the features of its correction
        weight = torch.cat([self.linear.weight, self.reduce.weight])
        bias = torch.cat([cast(Tensor, self.linear.bias), cast(Tensor, self.reduce.bias)])
        linear, hidden = _pointwise(features, style[:, :channels], weight, bias).tensor_split((12,), 1)
        hidden = F.leaky_relu(scale(self.depthwise(hidden), style[:, channels:]), SLOPE)
        image = inverse_haar(linear + self.detail(hidden))
        return image + cast(Tensor, self.mix(image))


class MobileStyleGAN(Generator):
    """A frozen MobileStyleGAN of 1024 pixels and 16 rows: gradients are computed for inputs, not for weights."""

    fits_bf16 = True
    w_avg: Tensor
    w_std: Tensor

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        if config.kind != "mobilestylegan" or config.size != 1024:
            raise ValueError(f"MobileStyleGAN has 1024 pixels, got {config}")
        self.config, self.size, self.rows, self.width = config, config.size, ROWS, config.width
        width = config.width
        self.mapping = nn.ModuleList(nn.Linear(width, width) for _ in range(config.mapping_layers))
        self.constant = nn.Parameter(torch.empty(1, 512, 4, 4))
        self.conv1 = StyledConv(512, 512, 4, width, separable=False)
        pairs = enumerate(itertools.pairwise((512, *CHANNELS)))
        self.blocks = nn.ModuleList(Block(i, o, 8 << n, width) for n, (i, o) in pairs)
        self.to_rgb = ToRGB(CHANNELS[-1], width)
        self.head = SmallHead(CHANNELS[HEAD_BLOCK], width)
        self.register_buffer("w_avg", torch.zeros(width))
        self.register_buffer("w_std", torch.ones(width))
        self.requires_grad_(False)

    def map(self, z: Tensor, truncation: float = 1.0, labels: Tensor | None = None) -> Tensor:
        """Noise ``[b d]`` to latents ``[b d]``, nearer to ``w_avg`` for ``truncation`` below 1 (StyleGAN, section B).

        It takes no labels. Raises ConfigError for noise that does not fit.
        """
        check(self.config, z, labels)
        w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.mapping:
            w = activate(layer(w))
        return truncated(w, self.w_avg, truncation)

    def mix_precision(self) -> None:
        """The 1x1 convolutions, image by image, on maps from ``MIXED`` pixels on.

        It takes three quarters of the time. Pictures differ by .2 of 255 on average and by 4 at most (8 million numbers
        of two generated faces; 6 after large edits); with the coarser maps, which take little time, by up to 22.
        """
        for module in self.modules():
            if isinstance(module, StyledConv):
                module.mixed = cast(Tensor, module.noise).shape[-1] >= MIXED

    def row_unit(self) -> Tensor:
        """Measured over 100,000 mapped samples."""
        return self.w_std

    def style_matrices(self) -> list[list[Tensor]]:
        """Row 0 of the first convolution, two rows of each block, the last row of ``to_rgb``."""
        blocks = [cast(Block, block) for block in self.blocks]
        pairs = [([b.up_style.weight, b.conv1.style.weight], [b.conv2.style.weight]) for b in blocks]
        return [[self.conv1.style.weight], *(row for pair in pairs for row in pair), [self.to_rgb.style.weight]]

    def map_channels(self) -> dict[int, int]:
        """The first map, and those after each block."""
        return {4 << blocks: channels for blocks, channels in enumerate((512, *CHANNELS))}

    def through(self, ws: Tensor, side: int, change: Change, start: Tensor | None = None) -> Tensor:
        """The map of ``side`` pixels, from that of 4 pixels on, see ``Generator.through``."""
        self.check_side(side)
        ws = rows_of(ws, self.rows, self.width).to(self.constant.dtype)
        done = 0 if start is None else start.shape[-1].bit_length() - 3
        images = change(4, self._first_map(ws, NO_RESIDUALS)) if start is None else start
        for blocks, step in enumerate(self._steps(ws, side.bit_length() - 3, NO_RESIDUALS)[done:], done):
            images = change(8 << blocks, step(images, ALL_ROWS))
        return images

    def _first_map(self, ws: Tensor, residuals: Residuals) -> Tensor:
        """``[b k d] -> [b 512 4 4]``."""
        images: Tensor = self.conv1(self.constant.expand(ws.shape[0], -1, -1, -1), ws[:, 0])
        if images.device.type == "cpu":  # the following layers keep the layout, and depthwise kernels are faster in it
            images = images.contiguous(memory_format=torch.channels_last)
        return images + residuals[4] if 4 in residuals else images

    def _steps(self, ws: Tensor, blocks: int, residuals: Residuals) -> list[Step]:
        steps = [cast(Block, self.blocks[i]).step(ws[:, 1 + 2 * i], ws[:, 2 + 2 * i]) for i in range(blocks)]
        return [_adding(step, residuals[8 << i]) if 8 << i in residuals else step for i, step in enumerate(steps)]

    def _run(
        self,
        ws: Tensor,
        blocks: int,
        head: Callable[[Tensor, Tensor], Tensor],
        halo: int,
        residuals: Residuals,
        start: Tensor | None = None,
    ) -> Tensor:
        """``blocks`` blocks, then ``head``, whose result depends on ``halo`` pixels of the map around each pixel.

        Blocks before the map ``start`` are not computed. On a CPU without gradients each image is computed by itself,
        strip by strip.
        """
        inputs = (ws, *residuals.values(), *([] if start is None else [start]))
        graph = torch.compiler.is_compiling() or (torch.is_grad_enabled() and any(x.requires_grad for x in inputs))
        done = 0 if start is None else start.shape[-1].bit_length() - 3
        if graph or ws.device.type != "cpu" or not len(ws):
            maps = self._first_map(ws, residuals) if start is None else start
            for step in self._steps(ws, blocks, residuals)[done:]:
                maps = step(maps, ALL_ROWS)
            return head(maps, ws)
        images = []
        for index, one in enumerate(ws[:, None]):
            own = {side: residual[index : index + 1] for side, residual in residuals.items()}
            first = self._first_map(one, own) if start is None else start[index : index + 1]
            parts = strips(first, self._steps(one, blocks, own)[done:], halo)
            images.append(torch.cat([part.crop(head(part.maps, one)) for part in parts], 2))
        return images[0] if len(images) == 1 else torch.cat(images)

    def synthesize(self, ws: Tensor, size: int | None = None, *, residuals: Residuals = NO_RESIDUALS) -> Tensor:
        """Rows to images: ``[b k d]``, or ``[b d]`` for all rows alike, to ``[b 3 size size]``, RGB, about [-1, 1].

        Up to 256 pixels the small head approximates the image at a tenth of the cost. Sizes below 256 pixels, and
        between it and 1024, are area averages. The small head does not see residuals of maps above 128 pixels. Raises
        ConfigError where rows, size or residuals do not fit.
        """
        self.check_residuals(residuals, ws)
        return self._picture(ws, size, self._in_own_type(residuals))

    def draw(self, ws: Tensor, maps: Residuals, size: int | None = None) -> Tensor:
        """``synthesize`` from the finest of ``maps`` on, see ``Generator.draw``; coarser ones do not change it."""
        self.check_residuals(maps, ws)
        own = self._in_own_type(maps)
        small = size_of(size, self.size) <= HEAD_SIZE
        sides = [side for side in own if not small or side <= 4 << HEAD_BLOCK + 1]
        start = own[max(sides)] if sides else None
        if start is not None and start.device.type == "cpu":
            start = start.contiguous(memory_format=torch.channels_last)
        return self._picture(ws, size, NO_RESIDUALS, start)

    def _picture(self, ws: Tensor, size: int | None, residuals: Residuals, start: Tensor | None = None) -> Tensor:
        """The picture of rows ``[b k d]`` or ``[b d]``, of ``size``, from the map ``start`` on."""
        ws = rows_of(ws, self.rows, self.width).to(self.constant.dtype)
        size = size_of(size, self.size)
        if size <= HEAD_SIZE:
            image = self._run(ws, HEAD_BLOCK + 1, self.head, 2, residuals, start)
        else:
            image = self._run(ws, len(CHANNELS), lambda maps, own: self.to_rgb(maps, own[:, -1]), 0, residuals, start)
        return image if image.shape[-1] == size else area(image, size)

    def _in_own_type(self, residuals: Residuals) -> Residuals:
        """Residuals for a generator of lower precision; float32 takes all types."""
        dtype = self.constant.dtype
        return residuals if dtype == torch.float32 else {side: own.to(dtype) for side, own in residuals.items()}


def _adding(step: Step, residual: Tensor) -> Step:
    """``step``, then ``residual`` ``[b c 2h 2w]`` added to the rows of its result."""
    return lambda images, rows: step(images, rows).add(residual[:, :, rows])
