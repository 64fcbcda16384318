"""Low-pass filters, and a non-linearity that makes no frequencies its pixels cannot hold (arXiv 2106.12423).

LeakyReLU bends a signal, and a bend has frequencies without end. StyleGAN3 therefore applies it to a finer grid and
takes away what the coarse one cannot hold: enlarge, bend, filter, shrink (section 3.2). The fine grid has four to eight
times the pixels of either map, so it is never held whole: tiles of it go through memory that the cache holds, and are
computed again for a gradient (``benchmarks/stylegan3.py`` says what that saves).

Axes: ``b`` batch, ``c`` channels, ``n`` side of the map that comes, ``m`` of the one that goes, ``t`` taps. This module
does not know which layers a network has.
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

CACHED = 8 << 20
"""Bytes of a tile of the fine grid on a CPU: more than the cache holds, or than the allocator reuses, is slow."""
WHOLE = 24 << 20
"""Bytes of a fine grid that is not worth cutting up there."""
ON_DEVICE = 1 << 30
"""Bytes of either on a GPU."""


def lowpass(taps: int, cutoff: float, width: float, rate: float) -> Tensor:
    """A Kaiser-windowed sinc: ``[t]``, of sum 1, in 64 bits (Kaiser's design; appendix C of the paper).

    It passes what is below ``cutoff``, over a transition of ``width`` about it, on a grid of ``rate`` samples; all
    three in the same unit of frequency. The number of ``taps`` and the width decide how much is left of what it stops.
    """
    places = np.arange(taps) - (taps - 1) / 2
    return _unit_sum(np.sinc(2 * cutoff / rate * places) * _window(taps, width, rate))


def radial_lowpass(taps: int, cutoff: float, width: float, rate: float) -> Tensor:
    """The same for all directions alike, a jinc in place of the sinc: ``[t t]``."""
    places = (np.arange(taps) - (taps - 1) / 2) * 2 * np.pi * cutoff / rate
    radius = np.maximum(np.hypot(places[:, None], places), 1e-9)
    jinc = torch.special.bessel_j1(torch.as_tensor(radius, device="cpu")).numpy() / radius
    window = _window(taps, width, rate)
    return _unit_sum(jinc * window[:, None] * window)


def attenuation(taps: int, width: float, rate: float) -> float:
    """Decibels by which Kaiser's design with these numbers weakens what lies beyond the transition."""
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
class Reach:
    """What a stretch of the result is made of, along one side."""

    length: int
    """How many pixels of the result."""
    pixels: slice
    """Of the map that comes."""
    before: int
    """Zeros in front of them."""
    after: int
    """Zeros behind."""
    crop: int
    """What is left out at both ends of the enlarged pixels."""


class FilteredActivation(nn.Module):
    """Enlarge, LeakyReLU times the root of 2, clamp, shrink: ``[b c n n] -> [b c m m]``.

    ``up_filter`` ``[t]`` and ``down_filter`` ``[t]``, or ``[t t]`` where it does not separate, belong to the fine grid,
    ``up`` times finer than the map that comes and ``down`` times than the one that goes; the centres of both maps are
    the same point. Beyond the map that comes lie zeros. The filters are no state: whoever configures a network designs
    them again.
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
        """Places of the fine grid in front of the map's first pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """``[b c n n] -> [b c m m]``."""
        if torch.compiler.is_compiling():
            reach = self.reach((0, self.m))
            return self.tile(x[:, :, reach.pixels, reach.pixels], reach, reach)
        if x.requires_grad and torch.is_grad_enabled():
            return cast(Tensor, _Tiled.apply(x, self))
        return self.tiled(x)

    def tiled(self, x: Tensor) -> Tensor:
        """The same, tile by tile."""
        shape = (*x.shape[:2], self.m, self.m)
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout(x.device))
        for batch, rows, columns in self.tiles(x):
            down, right = self.reach(rows), self.reach(columns)
            made = self.tile(x[batch, :, down.pixels, right.pixels], down, right)
            out[batch, :, slice(*rows), slice(*columns)] = made
        return out

    def tiles(self, x: Tensor) -> Iterator[tuple[slice, tuple[int, int], tuple[int, int]]]:
        """Pictures, rows and columns of the result that are computed at once."""
        on_cpu = x.device.type == "cpu"
        pixel = x.shape[1] * (4 if on_cpu else x.element_size())
        fine = self._fine(self.m)
        whole, part = (WHOLE, CACHED) if on_cpu else (ON_DEVICE, ON_DEVICE)
        if len(x) * pixel * fine**2 <= whole:
            yield slice(None), (0, self.m), (0, self.m)
            return
        side = self.m if pixel * fine**2 <= whole else self._coarse(math.isqrt(part // pixel))
        cuts = -(-self.m // side)
        edges = [self.m * cut // cuts for cut in range(cuts + 1)]
        spans = list(itertools.pairwise(edges))
        for picture in range(len(x)):
            for rows in spans:
                yield from ((slice(picture, picture + 1), rows, columns) for columns in spans)

    def tile(self, x: Tensor, down: Reach, right: Reach) -> Tensor:
        """The part of the result that the pixels of ``x`` are for.

        CPUs compute it in 32 bits, whatever the map is kept in: they know no fast filters of fewer.
        """
        kept = x.dtype
        with torch.autocast(x.device.type, enabled=False):
            x = x.float() if x.device.type == "cpu" and kept != torch.float64 else x
            if down.before or down.after or right.before or right.after:
                x = functional.pad(x, (right.before, right.after, down.before, down.after))
            x = x.contiguous(memory_format=layout(x.device))
            taps = self.up_filter.to(x) * (self.up * math.sqrt(GAIN))
            x = enlarge(enlarge(x, taps, self.up, 2, down.crop), taps, self.up, 3, right.crop)
            x = _bend(x, self.clamp)
            x = shrink(x, self.down_filter.to(x), self.down)
        return x[:, :, : down.length, : right.length].to(kept)

    def reach(self, span: tuple[int, int]) -> Reach:
        """What the pixels of the result from the first to behind the last are made of, along one side."""
        up, taps = self.up, len(self.up_filter)
        length, place = self._fine(span[1] - span[0]), span[0] * self.down - self.margin
        first = min(max(0, -(-place // up)), self.n - 1)
        crop = place + taps - 1 - first * up
        before = max(0, -(crop // up))
        crop += before * up
        enough = max(1, -(-(length + 2 * crop - taps) // up) + 1) - before
        touched = (length - 1 + crop) // up + 1 - before
        last = max(first + 1, min(self.n, first + max(enough, touched)))
        return Reach(span[1] - span[0], slice(first, last), before, max(0, enough - (last - first)), crop)

    def _fine(self, side: int) -> int:
        """Side of the tile of the fine grid that ``side`` pixels of the result are made of."""
        return (side - 1) * self.down + len(self.down_filter)

    def _coarse(self, fine: int) -> int:
        """How many pixels of the result a tile of the fine grid of that side is enough for; 8 at least."""
        return max(8, (fine - len(self.down_filter)) // self.down + 1)


class _Tiled(torch.autograd.Function):
    """A filtered activation that keeps only its input: every tile is computed again for its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FilteredActivation) -> Tensor:
        """``[b c n n] -> [b c m m]``."""
        ctx.save_for_backward(x)
        ctx.layer = layer
        return layer.tiled(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Tiles reach a little into each other: what they say of the same pixel adds up."""
        (x,) = ctx.saved_tensors
        total = torch.zeros_like(x)
        for batch, rows, columns in ctx.layer.tiles(x):
            down, right = ctx.layer.reach(rows), ctx.layer.reach(columns)
            part = x[batch, :, down.pixels, right.pixels].detach().requires_grad_()
            with torch.enable_grad():
                made = ctx.layer.tile(part, down, right)
            (found,) = torch.autograd.grad(made, part, grad[batch, :, slice(*rows), slice(*columns)])
            total[batch, :, down.pixels, right.pixels] += found
        return total, None


def layout(device: torch.device) -> torch.memory_format:
    """How features lie in memory: channels together where a CPU filters them, which is many times faster there."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def enlarge(x: Tensor, taps: Tensor, factor: int, axis: int, crop: int) -> Tensor:
    """Put ``factor - 1`` zeros behind every pixel along ``axis`` and filter; leave out ``crop`` at both ends.

    No zero is multiplied: CPUs have a transposed convolution for it; elsewhere every phase of the result is a
    convolution of its own, since transposed ones by channel are slow on GPUs.
    """
    channels = x.shape[1]
    if x.device.type == "cpu":
        stride, padding = ((factor, 1), (crop, 0)) if axis == 2 else ((1, factor), (0, crop))
        weight = _along(taps, axis).expand(channels, 1, -1, -1)
        return functional.conv_transpose2d(x, weight, stride=stride, padding=padding, groups=channels)
    return _by_phases(x, taps, factor, axis, crop)


def _by_phases(x: Tensor, taps: Tensor, factor: int, axis: int, crop: int) -> Tensor:
    """``enlarge`` by ordinary convolutions; the taps are a multiple of the factor."""
    channels, each = x.shape[1], len(taps) // factor
    kernels = taps.view(each, factor).t().flip(1)
    weight = kernels[:, None, :, None] if axis == 2 else kernels[:, None, None, :]
    padding = (each - 1 - crop // factor) * (axis == 2), (each - 1 - crop // factor) * (axis == 3)
    phases = functional.conv2d(x, weight.repeat(channels, 1, 1, 1), padding=padding, groups=channels)
    height, width = phases.shape[2:]
    long = phases.reshape(-1, channels, factor, height, width).movedim(2, axis + 1).flatten(axis, axis + 1)
    rest = crop % factor
    return long.narrow(axis, rest, long.shape[axis] - 2 * rest)


def shrink(x: Tensor, taps: Tensor, factor: int) -> Tensor:
    """Filter without padding and keep every ``factor``-th pixel: ``[b c h w]`` by ``[t]`` both ways, or ``[t t]``."""
    channels = x.shape[1]
    if taps.ndim == 2:
        return functional.conv2d(x, taps.expand(channels, 1, -1, -1), stride=factor, groups=channels)
    for axis, stride in ((2, (factor, 1)), (3, (1, factor))):
        x = functional.conv2d(x, _along(taps, axis).expand(channels, 1, -1, -1), stride=stride, groups=channels)
    return x


def _along(taps: Tensor, axis: int) -> Tensor:
    return taps[:, None] if axis == 2 else taps[None, :]


def _bend(x: Tensor, clamp: float | None) -> Tensor:
    """LeakyReLU, then nothing beyond ``clamp``; in place where no gradient asks for what was there."""
    kept = x.requires_grad or torch.compiler.is_compiling()
    x = functional.leaky_relu(x, SLOPE) if kept else functional.leaky_relu_(x, SLOPE)
    if clamp is None:
        return x
    return x.clamp(-clamp, clamp) if kept else x.clamp_(-clamp, clamp)
