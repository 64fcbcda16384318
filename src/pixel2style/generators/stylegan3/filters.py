"""Low-pass filters, and StyleGAN3's filtered non-linearity (arXiv 2106.12423, section 3.2).

LeakyReLU adds frequencies without limit. StyleGAN3 therefore applies it at a higher resolution and removes what the
pixels of the result cannot represent: upsample, LeakyReLU, filter, downsample. The fine grid has four to eight times
the side of either map, so it is computed in tiles that fit into the cache, and again in the backward pass
(``benchmarks/stylegan3.py`` measures the gain).

Axes: ``b`` batch, ``c`` channels, ``n`` side of the input map, ``m`` of the output map, ``t`` taps.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ...ops import GAIN, SLOPE

CPU_TILE = 8 << 20
"""Bytes of a tile of the fine grid on a CPU. Larger ones fit neither into the cache nor into reused memory."""
CPU_UNTILED = 24 << 20
"""Bytes of a fine grid on a CPU up to which tiles are not faster."""
GPU_TILE = 1 << 30
"""Both limits on a GPU."""


def lowpass(taps: int, cutoff: float, width: float, rate: float) -> Tensor:
    """A Kaiser-windowed sinc of sum 1: ``[t]``, float64 (appendix C of the paper).

    It passes frequencies below ``cutoff``, with a transition band of ``width`` around it, at a sampling ``rate``; all
    three in the same unit. More taps and a larger width stop higher frequencies better.
    """
    positions = np.arange(taps) - (taps - 1) / 2
    return _unit_sum(np.sinc(2 * cutoff / rate * positions) * _window(taps, width, rate))


def radial_lowpass(taps: int, cutoff: float, width: float, rate: float) -> Tensor:
    """The radially symmetric filter, with a jinc instead of the sinc: ``[t t]``."""
    positions = (np.arange(taps) - (taps - 1) / 2) * 2 * np.pi * cutoff / rate
    radius = np.maximum(np.hypot(positions[:, None], positions), 1e-9)
    jinc = torch.special.bessel_j1(torch.as_tensor(radius, device="cpu")).numpy() / radius
    window = _window(taps, width, rate)
    return _unit_sum(jinc * window[:, None] * window)


def attenuation(taps: int, width: float, rate: float) -> float:
    """Attenuation in decibels beyond the transition band of a Kaiser window with these parameters."""
    return 2.285 * (taps - 1) * math.pi * width / (rate / 2) + 7.95


def _window(taps: int, width: float, rate: float) -> np.ndarray:
    decibels = attenuation(taps, width, rate)
    if decibels > 50:
        beta = 0.1102 * (decibels - 8.7)
    else:
        beyond = max(0.0, decibels - 21)
        beta = 0.5842 * beyond**0.4 + 0.07886 * beyond
    return np.kaiser(taps, beta)


def _unit_sum(values: np.ndarray) -> Tensor:
    return torch.as_tensor(values / values.sum(), device="cpu")


@dataclass(frozen=True)
class Span:
    """The input of a range of output pixels along one axis."""

    length: int
    """Output pixels."""
    pixels: slice
    """Input pixels."""
    before: int
    """Zeros before them."""
    after: int
    """Zeros after them."""
    crop: int
    """Samples that are removed at both ends after upsampling."""


class FilteredActivation(nn.Module):
    """Upsample, LeakyReLU times the square root of 2, clamp, downsample: ``[b c n n] -> [b c m m]``.

    ``up_filter`` ``[t]`` and ``down_filter`` ``[t]`` (``[t t]`` if not separable) apply to the fine grid, which has
    ``up`` times the resolution of the input and ``down`` times that of the output. Both maps have the same centre; the
    input is padded with zeros. The filters are not state, because they follow from the configuration.
    """

    up_filter: Tensor
    down_filter: Tensor

    def __init__(
        self, n: int, m: int, up_filter: Tensor, up: int, down_filter: Tensor, down: int, clamp: float | None = None
    ):
        super().__init__()
        self.n, self.m, self.up, self.down, self.clamp = n, m, up, down, clamp
        for name, values in (("up_filter", up_filter), ("down_filter", down_filter)):
            self.register_buffer(name, values.to("cpu", torch.float32), persistent=False)
        fine = (m - 1) * down + 1 - n * up + len(up_filter) + len(down_filter) - 2
        self.margin = (fine + up) // 2
        """Samples of the fine grid before the first input pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """``[b c n n] -> [b c m m]``."""
        if torch.compiler.is_compiling():
            whole = self.span((0, self.m))
            return self.tile(x[:, :, whole.pixels, whole.pixels], whole, whole)
        if x.requires_grad and torch.is_grad_enabled():
            return cast(Tensor, _Tiled.apply(x, self))
        return self.tiled(x)

    def tiled(self, x: Tensor) -> Tensor:
        """``[b c n n] -> [b c m m]``, tile by tile."""
        shape = (*x.shape[:2], self.m, self.m)
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout(x.device))
        for batch, rows, columns in self.tiles(x):
            down, right = self.span(rows), self.span(columns)
            result = self.tile(x[batch, :, down.pixels, right.pixels], down, right)
            out[batch, :, slice(*rows), slice(*columns)] = result
        return out

    def tiles(self, x: Tensor) -> Iterator[tuple[slice, tuple[int, int], tuple[int, int]]]:
        """Images, rows and columns of the output, tile by tile."""
        on_cpu = x.device.type == "cpu"
        pixel = x.shape[1] * (4 if on_cpu else x.element_size())
        fine = self._fine_side(self.m)
        untiled, tile = (CPU_UNTILED, CPU_TILE) if on_cpu else (GPU_TILE, GPU_TILE)
        if len(x) * pixel * fine**2 <= untiled:
            yield slice(None), (0, self.m), (0, self.m)
            return
        side = self.m if pixel * fine**2 <= untiled else self._output_side(math.isqrt(tile // pixel))
        count = -(-self.m // side)
        ranges = list(itertools.pairwise(self.m * index // count for index in range(count + 1)))
        for image in range(len(x)):
            for rows in ranges:
                yield from ((slice(image, image + 1), rows, columns) for columns in ranges)

    def tile(self, x: Tensor, down: Span, right: Span) -> Tensor:
        """The output tile of the input pixels ``x``.

        CPUs compute it in float32 whatever the type of the map, since they have no fast filters in half precision.
        """
        dtype = x.dtype
        with torch.autocast(x.device.type, enabled=False):
            x = x.float() if x.device.type == "cpu" and dtype != torch.float64 else x
            if down.before or down.after or right.before or right.after:
                x = functional.pad(x, (right.before, right.after, down.before, down.after))
            x = x.contiguous(memory_format=layout(x.device))
            taps = self.up_filter.to(x) * (self.up * math.sqrt(GAIN))
            x = upfilter(upfilter(x, taps, self.up, 2, down.crop), taps, self.up, 3, right.crop)
            x = _activate(x, self.clamp)
            x = downfilter(x, self.down_filter.to(x), self.down)
        return x[:, :, : down.length, : right.length].to(dtype)

    def span(self, output: tuple[int, int]) -> Span:
        """The input of the output pixels from the first up to, not including, the second number, along one axis."""
        up, taps = self.up, len(self.up_filter)
        length, position = self._fine_side(output[1] - output[0]), output[0] * self.down - self.margin
        first = min(max(0, -(-position // up)), self.n - 1)
        crop = position + taps - 1 - first * up
        before = max(0, -(crop // up))
        crop += before * up
        enough = max(1, -(-(length + 2 * crop - taps) // up) + 1) - before
        touched = (length - 1 + crop) // up + 1 - before
        last = max(first + 1, min(self.n, first + max(enough, touched)))
        return Span(output[1] - output[0], slice(first, last), before, max(0, enough - (last - first)), crop)

    def _fine_side(self, side: int) -> int:
        """Side of the fine grid for an output tile of ``side`` pixels."""
        return (side - 1) * self.down + len(self.down_filter)

    def _output_side(self, fine: int) -> int:
        """Side of the output tile for a fine grid of ``fine`` samples, at least 8."""
        return max(8, (fine - len(self.down_filter)) // self.down + 1)


class _Tiled(torch.autograd.Function):
    """A filtered activation that keeps only its input: tiles are computed again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FilteredActivation) -> Tensor:
        """``[b c n n] -> [b c m m]``."""
        ctx.save_for_backward(x)
        ctx.layer = layer
        return layer.tiled(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Input tiles overlap, so their gradients are added."""
        (x,) = ctx.saved_tensors
        total = torch.zeros_like(x)
        for batch, rows, columns in ctx.layer.tiles(x):
            down, right = ctx.layer.span(rows), ctx.layer.span(columns)
            part = x[batch, :, down.pixels, right.pixels].detach().requires_grad_()
            with torch.enable_grad():
                result = ctx.layer.tile(part, down, right)
            (part_grad,) = torch.autograd.grad(result, part, grad[batch, :, slice(*rows), slice(*columns)])
            total[batch, :, down.pixels, right.pixels] += part_grad
        return total, None


def layout(device: torch.device) -> torch.memory_format:
    """The memory format of features: channels last on CPUs, where filters are many times faster with it."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def upfilter(x: Tensor, taps: Tensor, factor: int, axis: int, crop: int) -> Tensor:
    """Insert ``factor - 1`` zeros after every pixel along ``axis``, filter, and remove ``crop`` samples at both ends.

    CPUs use a transposed convolution. On GPUs depthwise transposed convolutions are slow, so every phase of the result
    is an ordinary convolution there.
    """
    channels = x.shape[1]
    if x.device.type == "cpu":
        stride, padding = ((factor, 1), (crop, 0)) if axis == 2 else ((1, factor), (0, crop))
        weight = _along(taps, axis).expand(channels, 1, -1, -1)
        return functional.conv_transpose2d(x, weight, stride=stride, padding=padding, groups=channels)
    return _polyphase(x, taps, factor, axis, crop)


def _polyphase(x: Tensor, taps: Tensor, factor: int, axis: int, crop: int) -> Tensor:
    """``upfilter`` by ordinary convolutions; the number of taps is a multiple of the factor."""
    channels, each = x.shape[1], len(taps) // factor
    kernels = taps.view(each, factor).t().flip(1)
    weight = kernels[:, None, :, None] if axis == 2 else kernels[:, None, None, :]
    padding = (each - 1 - crop // factor) * (axis == 2), (each - 1 - crop // factor) * (axis == 3)
    phases = functional.conv2d(x, weight.repeat(channels, 1, 1, 1), padding=padding, groups=channels)
    height, width = phases.shape[2:]
    merged = phases.reshape(-1, channels, factor, height, width).movedim(2, axis + 1).flatten(axis, axis + 1)
    rest = crop % factor
    return merged.narrow(axis, rest, merged.shape[axis] - 2 * rest)


def downfilter(x: Tensor, taps: Tensor, factor: int) -> Tensor:
    """Filter ``[b c h w]`` without padding by ``[t]`` along both axes or ``[t t]``; keep every ``factor``-th pixel."""
    channels = x.shape[1]
    if taps.ndim == 2:
        return functional.conv2d(x, taps.expand(channels, 1, -1, -1), stride=factor, groups=channels)
    for axis, stride in ((2, (factor, 1)), (3, (1, factor))):
        x = functional.conv2d(x, _along(taps, axis).expand(channels, 1, -1, -1), stride=stride, groups=channels)
    return x


def _along(taps: Tensor, axis: int) -> Tensor:
    return taps[:, None] if axis == 2 else taps[None, :]


def _activate(x: Tensor, clamp: float | None) -> Tensor:
    """LeakyReLU and clamp, in place where no gradient needs the old values."""
    keep_input = x.requires_grad or torch.compiler.is_compiling()
    x = functional.leaky_relu(x, SLOPE) if keep_input else functional.leaky_relu_(x, SLOPE)
    if clamp is None:
        return x
    return x.clamp(-clamp, clamp) if keep_input else x.clamp_(-clamp, clamp)
