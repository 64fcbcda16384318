"""The StyleGAN2 generator (Karras et al., arXiv 1912.04958), also that of StyleGAN2-ADA.

Both are one network (arXiv 2006.06676 changes the training). ADA's may be class-conditional, with a label mapped beside
the noise, and may clamp the output of its convolutions (``config.clamp``).

Names of parameters are those of rosinality's PyTorch checkpoints with two differences: weights of modulated
convolutions have no leading axis of one (4 axes instead of 5), and constant filters (``*.kernel``) are not state. Keys:
``style.1`` to ``style.n`` (mapping); ``input.input``, ``conv1``, ``to_rgb1``, ``convs.0`` on, ``to_rgbs.0`` on
(synthesis); ``noises.noise_0`` on (constant noise); ``embed`` (labels) and ``w_avg``, which those checkpoints do not
have in their state.

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row, ``n`` numbers of noise, ``c`` channels, ``i o`` those of input and
output, ``h w`` height and width, ``r`` side of an image.
"""

import itertools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...config import GeneratorConfig
from ...errors import ConfigError
from ...ops import GAIN, SLOPE, EqualLinear, ModulatedConv2d, activate, area, upsample
from ..base import NO_RESIDUALS, Change, Generator, Residuals, adding
from ..sampling import check, noise_width, rows_of, size_of, truncated
from .sizes import channels_at

MAPPING_LR_MUL = 0.01
LAYOUT = torch.channels_last
"""Memory format of features: the faster one on CPUs at every size (``benchmarks/modulated_conv.py``)."""


def channels_of(config: GeneratorConfig) -> list[int]:
    """Channels of the maps at 4, 8, ... ``config.size`` pixels. Raises ConfigError for an impossible configuration."""
    if config.size < 8 or config.size & (config.size - 1):
        raise ConfigError(f"the size of a StyleGAN2 must be a power of two of at least 8, got {config.size}")
    sides = [4 << n for n in range(config.size.bit_length() - 2)]
    if config.channels and len(config.channels) != len(sides):
        raise ConfigError(
            f"a StyleGAN2 of {config.size} pixels needs {len(sides)} numbers of channels, for 4, 8, ... {config.size}: "
            f"{len(config.channels)} were given"
        )
    channels = list(config.channels) or [channels_at(side, config.channel_multiplier) for side in sides]
    if min(channels) < 1:
        raise ConfigError(
            f"channel multiplier {config.channel_multiplier} leaves no channels at {config.size} pixels: raise it"
        )
    return channels


def _clamp(x: Tensor, clamp: float | None) -> Tensor:
    """Values within ``clamp``, in place where no gradient needs the old ones."""
    if clamp is None:
        return x
    keep_input = torch.is_grad_enabled() or torch.compiler.is_compiling()
    return x.clamp(-clamp, clamp) if keep_input else x.clamp_(-clamp, clamp)


class PixelNorm(nn.Module):
    """Scale vectors to mean square 1: ``[b d] -> [b d]``."""

    def forward(self, z: Tensor) -> Tensor:
        """``[b d] -> [b d]``."""
        return z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)


class NoiseStrength(nn.Module):
    """The learned factor of a layer's noise."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, noise: Tensor) -> Tensor:
        """``[1 1 h w] -> [1 1 h w]``."""
        return noise * self.weight


class BiasedActivation(nn.Module):
    """Add a bias to every channel, then ``activate``: ``[b c h w] -> [b c h w]``."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``[b c h w] -> [b c h w]``."""
        return activate(x + self.bias[:, None, None])


class Constant(nn.Module):
    """The learned 4x4 map that synthesis starts from."""

    def __init__(self, channels: int):
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, batch: int) -> Tensor:
        """``[batch c 4 4]``."""
        return self.input.expand(batch, -1, -1, -1)


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias, activation: ``[b i h w], [b d], noise -> [b o h w]``."""

    def __init__(self, i: int, o: int, width: int, up: bool = False, clamp: float | None = None):
        super().__init__()
        self.conv = ModulatedConv2d(i, o, 3, width, up=up)
        self.noise = NoiseStrength()
        self.activate = BiasedActivation(o)
        self.clamp = clamp

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        """``[b i h w], [b d], [1 1 h w] -> [b o h w]``, twice as large with ``up``.

        At high resolution memory traffic costs as much as the convolution, so demodulation, noise, bias and gain take
        only three passes over the features: the gain is applied before the activation, which is homogeneous. Where no
        gradient needs the output of the convolution, it is overwritten. Compilers fuse by themselves.
        """
        y, factor = self.conv.undemodulated(x, style)
        assert factor is not None
        bias = self.activate.bias[:, None, None].to(y.dtype)
        if torch.compiler.is_compiling():  # PyTorch 2.6 cannot export addcmul
            y = y * (factor * GAIN) + bias * GAIN
        else:
            y = torch.addcmul(bias * GAIN, y, factor * GAIN, out=None if torch.is_grad_enabled() else y)
        if noise is not None:
            y += (self.noise(noise) * GAIN).to(y.dtype)
        return _clamp(functional.leaky_relu_(y, SLOPE), self.clamp)


class ToRGB(nn.Module):
    """Features to RGB, added to the upsampled RGB of the layers below: ``[b c h w] -> [b 3 h w]``."""

    def __init__(self, channels: int, width: int, clamp: float | None = None):
        super().__init__()
        self.conv = ModulatedConv2d(channels, 3, 1, width, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.clamp = clamp

    def forward(self, x: Tensor, style: Tensor, below: Tensor | None = None) -> Tensor:
        """``[b c h w], [b d], [b 3 h/2 w/2] -> [b 3 h w]``."""
        image = _clamp(self.conv(x, style) + self.bias, self.clamp)
        return image if below is None else image + upsample(below)


class StyleGAN2(Generator):
    """StyleGAN2 with constant noise.

    Row 0 drives the 4x4 layer, row 1 also its ToRGB. Rows 1 + 2i and 2 + 2i drive the two layers at 8·2^i pixels, row
    3 + 2i their ToRGB.
    """

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        channels = channels_of(config)
        doublings = len(channels) - 1
        width, clamp = config.width, config.clamp
        self.config = config
        self.rows, self.width, self.size = 2 * doublings + 2, width, config.size
        self.noise_width = noise_width(config)

        self.embed = EqualLinear(config.classes, width) if config.classes else None
        inputs = [self.noise_width + (width if config.classes else 0), *[width] * (config.mapping_layers - 1)]
        mapping = [EqualLinear(i, width, lr_mul=MAPPING_LR_MUL, activation=True) for i in inputs]
        self.style = nn.Sequential(PixelNorm(), *mapping)

        self.input = Constant(channels[0])
        self.conv1 = StyledConv(channels[0], channels[0], width, clamp=clamp)
        self.to_rgb1 = ToRGB(channels[0], width, clamp)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        for i, o in itertools.pairwise(channels):
            self.convs += [StyledConv(i, o, width, up=True, clamp=clamp), StyledConv(o, o, width, clamp=clamp)]
            self.to_rgbs.append(ToRGB(o, width, clamp))
        self.noises = nn.Module()
        for layer in range(2 * doublings + 1):
            side = 4 << (layer + 1) // 2
            self.noises.register_buffer(f"noise_{layer}", torch.randn(1, 1, side, side))
        self.register_buffer("w_avg", torch.zeros(width))
        self.requires_grad_(False)

    def map(self, z: Tensor, truncation: float = 1.0, labels: Tensor | None = None) -> Tensor:
        """Noise ``[b n]``, and one-hot ``labels`` ``[b classes]`` for a class-conditional one, to latents ``[b d]``.

        ``truncation`` below 1 moves them towards ``w_avg``: more typical images, less variety (StyleGAN, section B).
        Raises ConfigError for noise or labels that do not fit.
        """
        check(self.config, z, labels)
        if self.embed is None or labels is None:
            w: Tensor = self.style(z)
        else:
            norm, *layers = self.style
            w = torch.cat([norm(z), norm(self.embed(labels.to(z.dtype)))], dim=1)
            for layer in layers:
                w = layer(w)
        return truncated(w, self.w_avg, truncation)

    def style_matrices(self) -> list[list[Tensor]]:
        """Those of the convolutions and of the ToRGB layers that each row drives."""
        rows: list[list[Tensor]] = [[] for _ in range(self.rows)]
        layers: list[tuple[int, nn.Module]] = [(0, self.conv1), (1, self.to_rgb1)]
        for n, to_rgb in enumerate(self.to_rgbs):
            layers += [(2 * n + 1, self.convs[2 * n]), (2 * n + 2, self.convs[2 * n + 1]), (2 * n + 3, to_rgb)]
        for row, layer in layers:
            rows[row].append(cast(StyledConv | ToRGB, layer).conv.modulation.weight)
        return rows

    def map_channels(self) -> dict[int, int]:
        """The maps of 8 pixels on, after both convolutions."""
        return {8 << n: channels for n, channels in enumerate(channels_of(self.config)[1:])}

    def through(self, ws: Tensor, side: int, change: Change, start: Tensor | None = None) -> Tensor:
        """The map of ``side`` pixels after both of its convolutions, see ``Generator.through``."""
        self.check_side(side)
        row = rows_of(ws, self.rows, self.width).to(self.input.input.dtype).unbind(dim=1)
        x = self._first_map(row) if start is None else start
        for n in range(x.shape[-1].bit_length() - 3, side.bit_length() - 3):
            x = change(8 << n, self._next_map(x, row, n))
        return x

    def synthesize(
        self, ws: Tensor, size: int | None = None, noise: bool = True, *, residuals: Residuals = NO_RESIDUALS
    ) -> Tensor:
        """Rows to images: ``[b k d]``, or ``[b d]`` for all rows alike, to ``[b 3 r r]``, RGB in about [-1, 1].

        A smaller ``size`` is an area average. ``noise=False`` adds no noise to features. Raises ConfigError where rows,
        size or residuals do not fit.
        """
        self.check_residuals(residuals, ws)
        return self._picture(ws, size, noise, adding(residuals))

    def draw(self, ws: Tensor, maps: Residuals, size: int | None = None) -> Tensor:
        """Rows to images with ``maps`` in place of the generator's own, see ``Generator.draw``."""
        self.check_residuals(maps, ws)
        return self._picture(ws, size, True, lambda side, own: maps[side].to(own.dtype) if side in maps else own)

    def _picture(self, ws: Tensor, size: int | None, noise: bool, change: Change) -> Tensor:
        """The picture of rows ``[b k d]`` or ``[b d]``, of ``size``."""
        ws = rows_of(ws, self.rows, self.width).to(self.input.input.dtype)
        size = size_of(size, self.size)
        image = self._run(ws, noise, change)
        return image if size == self.size else area(image, size)

    def _run(self, ws: Tensor, noise: bool, change: Change) -> Tensor:
        """The full picture of rows ``[b k d]``."""
        row = ws.unbind(dim=1)
        x = self._first_map(row, noise)
        image: Tensor = self.to_rgb1(x, row[1])
        for n, to_rgb in enumerate(self.to_rgbs):
            x = change(8 << n, self._next_map(x, row, n, noise))
            image = to_rgb(x, row[2 * n + 3], image)
        return image.contiguous()

    def _first_map(self, row: Sequence[Tensor], noise: bool = True) -> Tensor:
        """That of 4 pixels."""
        constant = self.input(row[0].shape[0]).contiguous(memory_format=LAYOUT)
        return cast(Tensor, self.conv1(constant, row[0], self._noise(0, noise)))

    def _next_map(self, x: Tensor, row: Sequence[Tensor], n: int, noise: bool = True) -> Tensor:
        """``[b c s s]`` to ``[b c' 2s 2s]``, for ``s`` of ``4 << n``."""
        for layer in (2 * n + 1, 2 * n + 2):
            x = self.convs[layer - 1](x, row[layer], self._noise(layer, noise))
        return x

    def _noise(self, layer: int, noise: bool) -> Tensor | None:
        return cast(Tensor, getattr(self.noises, f"noise_{layer}")) if noise else None
