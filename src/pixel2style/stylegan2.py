"""StyleGAN2: the generator that rows of W+ are written for, and its discriminator (Karras et al., arXiv 1912.04958).

Modules carry the names that the widely used PyTorch checkpoints carry, so a file in that layout loads with two
adjustments: ``*.conv.weight`` of a modulated convolution loses its leading axis of one (5 axes there, 4 here), and
fixed filters (``*.kernel``) are not state here. The generator's keys: ``style.1`` to ``style.n`` (mapping);
``input.input``, ``conv1``, ``to_rgb1``, ``convs.0`` on, ``to_rgbs.0`` on (synthesis); ``noises.noise_0`` on (constant
noise); and ``w_avg``, which those files keep beside the state or not at all. The discriminator's: ``convs.0.0`` on,
``final_conv``, ``final_linear``.

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row, ``c`` channels, ``h w`` height and width, ``r`` side of a picture.
This module does not know where weights come from.
"""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import GeneratorConfig
from .errors import ConfigError
from .ops import GAIN, SLOPE, EqualConv2d, EqualLinear, ModulatedConv2d, activate, blur, downsample, upsample

MAPPING_LR_MUL = 0.01
STD_GROUP = 4
LAYOUT = torch.channels_last
"""Of features in memory: on a CPU it is the faster one at every size (``benchmarks/modulated_conv.py``)."""


def channels_at(size: int, multiplier: int) -> int:
    """Channels of the features at ``size`` pixels: 512 up to 32, then halved with every doubling."""
    return 512 if size <= 32 else 16384 * multiplier // size


def _doublings(config: GeneratorConfig) -> int:
    """How often the picture doubles from 4 pixels. Raises ConfigError for a size that cannot be drawn."""
    if config.size < 8 or config.size & (config.size - 1):
        raise ConfigError(f"a StyleGAN2 picture's size is a power of two of at least 8: {config.size} is not")
    if config.channel_multiplier < 1 or channels_at(config.size, config.channel_multiplier) < 1:
        raise ConfigError(
            f"channel multiplier {config.channel_multiplier} leaves no channels at {config.size} pixels: raise it"
        )
    return config.size.bit_length() - 3


class PixelNorm(nn.Module):
    """Scale every vector to unit mean square: ``[b d] -> [b d]``."""

    def forward(self, z: Tensor) -> Tensor:
        """``[b d] -> [b d]``."""
        return z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)


class NoiseStrength(nn.Module):
    """How much of a layer's noise is added."""

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
    """The learned 4x4 map that every picture starts from."""

    def __init__(self, channels: int):
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, batch: int) -> Tensor:
        """``[batch c 4 4]``."""
        return self.input.expand(batch, -1, -1, -1)


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias, activation: ``[b i h w], [b d], noise -> [b o h w]``."""

    def __init__(self, i: int, o: int, width: int, up: bool = False):
        super().__init__()
        self.conv = ModulatedConv2d(i, o, 3, width, up=up)
        self.noise = NoiseStrength()
        self.activate = BiasedActivation(o)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """``[b i h w], [b d], [1 1 h w] -> [b o h w]``, twice as large with ``up``.

        At high resolution memory traffic costs as much as the convolution, so demodulation, noise, bias and gain are
        three passes over the features: the gain is moved in front of the activation, which is homogeneous. Where no
        gradient will ask for the convolution's output, its memory takes the result.
        """
        y, factor = self.conv.undemodulated(x, style)
        assert factor is not None
        bias = self.activate.bias[:, None, None].to(y.dtype)
        y = torch.addcmul(bias * GAIN, y, factor * GAIN, out=None if torch.is_grad_enabled() else y)
        y += (self.noise(noise) * GAIN).to(y.dtype)
        return functional.leaky_relu_(y, SLOPE)


class ToRGB(nn.Module):
    """A layer's share of the picture, added to the enlarged share of the layers below: ``[b c h w] -> [b 3 h w]``."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.conv = ModulatedConv2d(channels, 3, 1, width, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, style: Tensor, below: Tensor | None = None) -> Tensor:
        """``[b c h w], [b d], [b 3 h/2 w/2] -> [b 3 h w]``."""
        image: Tensor = self.conv(x, style) + self.bias
        return image if below is None else image + upsample(below)


class StyleGAN2(nn.Module):
    """The generator: ``map`` takes noise to rows, ``synthesize`` takes rows to pictures.

    It is born frozen: no parameter asks for a gradient, so backward through ``synthesize`` reaches the rows and spends
    nothing on weights. Whoever wants to tune it says ``requires_grad_(True)``. Its noise is constant, so the same rows
    give the same picture. ``w_avg`` ``[d]`` is zero until a file or ``average_w`` fills it.

    Row 0 drives the 4x4 layer; rows 1 + 2i and 2 + 2i the two layers at 8·2^i pixels, whose share of the picture row
    3 + 2i weighs; row 1 also weighs the 4x4 layer's share.
    """

    w_avg: Tensor

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        doublings = _doublings(config)
        width = config.width
        self.config = config
        self.rows = 2 * doublings + 2
        self.width = width
        self.size = config.size

        mapping = [
            EqualLinear(width, width, lr_mul=MAPPING_LR_MUL, activation=True) for _ in range(config.mapping_layers)
        ]
        self.style = nn.Sequential(PixelNorm(), *mapping)

        channels = [channels_at(4 << n, config.channel_multiplier) for n in range(doublings + 1)]
        self.input = Constant(channels[0])
        self.conv1 = StyledConv(channels[0], channels[0], width)
        self.to_rgb1 = ToRGB(channels[0], width)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        for i, o in itertools.pairwise(channels):
            self.convs += [StyledConv(i, o, width, up=True), StyledConv(o, o, width)]
            self.to_rgbs.append(ToRGB(o, width))
        self.noises = nn.Module()
        for layer in range(2 * doublings + 1):
            side = 4 << (layer + 1) // 2
            self.noises.register_buffer(f"noise_{layer}", torch.randn(1, 1, side, side))
        self.register_buffer("w_avg", torch.zeros(width))
        self.requires_grad_(False)

    def map(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Normal noise to the generator's own latents: ``[b d] -> [b d]``.

        ``truncation`` below 1 pulls them towards ``w_avg``: more typical pictures, less variety (StyleGAN, section B).
        """
        if z.ndim != 2 or z.shape[1] != self.width:
            raise ConfigError(f"noise for this generator is [batch, {self.width}], got {list(z.shape)}")
        w: Tensor = self.style(z)
        return w if truncation == 1 else torch.lerp(self.w_avg.to(w.dtype), w, truncation)

    def synthesize(self, ws: Tensor, size: int | None = None) -> Tensor:
        """Rows to pictures: ``[b k d]``, or ``[b d]`` for every row alike, ``-> [b 3 r r]``, RGB in about [-1, 1].

        ``size`` below the full one averages pixels over areas. Raises ConfigError where rows or size do not fit.
        """
        ws = self._rows(ws)
        size = self.size if size is None else size
        if not 1 <= size <= self.size:
            raise ConfigError(f"this generator draws up to {self.size} pixels: ask for 1 to that, not {size}")
        row = ws.unbind(dim=1)
        noise = [getattr(self.noises, f"noise_{layer}") for layer in range(self.rows - 1)]
        x = self.conv1(self.input(len(ws)).contiguous(memory_format=LAYOUT), row[0], noise[0])
        image: Tensor = self.to_rgb1(x, row[1])
        for n, to_rgb in enumerate(self.to_rgbs):
            first = 2 * n + 1
            x = self.convs[first - 1](x, row[first], noise[first])
            x = self.convs[first](x, row[first + 1], noise[first + 1])
            image = to_rgb(x, row[first + 2], image)
        image = image.contiguous()
        return image if size == self.size else functional.adaptive_avg_pool2d(image, size)

    def _rows(self, ws: Tensor) -> Tensor:
        if ws.ndim == 2:
            ws = ws[:, None].expand(-1, self.rows, -1)
        if ws.ndim != 3 or ws.shape[1:] != (self.rows, self.width):
            raise ConfigError(
                f"this generator takes rows of shape [batch, {self.rows}, {self.width}], got {list(ws.shape)}"
            )
        return ws.to(self.input.input.dtype)


@torch.no_grad()
def average_w(generator: StyleGAN2, samples: int = 100_000, seed: int = 0) -> Tensor:
    """The mean of ``samples`` mapped draws, ``[d]``: what ``w_avg`` is where a file has none.

    The draws come from the CPU's generator, so that every device gives the same average.
    """
    source = torch.Generator().manual_seed(seed)
    like = generator.w_avg
    total = torch.zeros(generator.width, dtype=torch.float64)
    for start in range(0, samples, 4096):
        z = torch.randn(min(4096, samples - start), generator.width, generator=source)
        total += generator.map(z.to(like)).double().sum(dim=0).cpu()
    return (total / samples).to(like)


class Blur(nn.Module):
    """``ops.blur`` as a layer; it holds no state."""

    def __init__(self, padding: int):
        super().__init__()
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """``[b c h w] -> [b c h+2p-3 w+2p-3]``."""
        return blur(x, self.padding)


class Downsample(nn.Module):
    """``ops.downsample`` as a layer; it holds no state."""

    def forward(self, x: Tensor) -> Tensor:
        """``[b c h w] -> [b c h/2 w/2]``."""
        return downsample(x)


class ResidualBlock(nn.Module):
    """Two convolutions that halve the map, beside a 1x1 that does: ``[b i h w] -> [b o h/2 w/2]``."""

    def __init__(self, i: int, o: int):
        super().__init__()
        self.conv1 = nn.Sequential(EqualConv2d(i, i, 3, padding=1, bias=False), BiasedActivation(i))
        self.conv2 = nn.Sequential(Blur(2), EqualConv2d(i, o, 3, stride=2, bias=False), BiasedActivation(o))
        self.skip = nn.Sequential(Downsample(), EqualConv2d(i, o, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """``[b i h w] -> [b o h/2 w/2]``."""
        y: Tensor = self.conv2(self.conv1(x)) + self.skip(x)
        return y / math.sqrt(2)


def append_spread(x: Tensor) -> Tensor:
    """Append how much the pictures of a group differ, as one more channel: ``[b c h w] -> [b c+1 h w]``.

    A group is of four, or of the largest number below that divides the batch (Progressive GAN, section 3).
    """
    batch, _, height, width = x.shape
    group = max(n for n in range(1, STD_GROUP + 1) if batch % n == 0)
    spread = (x.reshape(group, -1, *x.shape[1:]).var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return torch.cat([x, spread.repeat(group)[:, None, None, None].expand(-1, 1, height, width)], dim=1)


class Discriminator(nn.Module):
    """How real pictures look, as logits: ``[b 3 r r] -> [b 1]`` (the residual design of StyleGAN2). It is trainable."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        channels = [channels_at(4 << n, config.channel_multiplier) for n in range(_doublings(config), -1, -1)]
        self.size = config.size
        first = nn.Sequential(EqualConv2d(3, channels[0], 1, bias=False), BiasedActivation(channels[0]))
        blocks = [ResidualBlock(i, o) for i, o in itertools.pairwise(channels)]
        last = channels[-1]
        self.convs = nn.Sequential(first, *blocks)
        self.final_conv = nn.Sequential(EqualConv2d(last + 1, last, 3, padding=1, bias=False), BiasedActivation(last))
        self.final_linear = nn.Sequential(EqualLinear(last * 16, last, activation=True), EqualLinear(last, 1))

    def forward(self, images: Tensor) -> Tensor:
        """``[b 3 r r] -> [b 1]``. Raises ConfigError for pictures of another size."""
        if images.shape[1:] != (3, self.size, self.size):
            raise ConfigError(
                f"this discriminator judges pictures of shape [batch, 3, {self.size}, {self.size}], "
                f"got {list(images.shape)}"
            )
        x: Tensor = self.final_conv(append_spread(self.convs(images)))
        y: Tensor = self.final_linear(x.flatten(1))
        return y
