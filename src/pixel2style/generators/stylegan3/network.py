"""StyleGAN3: pictures whose details move with what they are details of (Karras et al., arXiv 2106.12423), T and R.

A map of waves, drawn from a learned set of frequencies and phases, goes through modulated convolutions, each followed
by a filtered non-linearity (``filters``) that leaves no frequency in it which its pixels cannot hold. Every layer has
its own limit; they grow from layer to layer up to the picture's. So whatever happens to the waves happens to the
picture: moving (T), or moving and turning (R).

Keys: ``mapping.fc0`` on, ``mapping.embed``, ``input``, ``layers.0`` on, ``w_avg``. Filters follow from the
configuration and are no state.

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row, ``n`` numbers of noise, ``c`` channels, ``f`` frequencies, ``h w``
height and width, ``r`` side of a picture. This module does not know where weights come from.
"""

import itertools
import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ...config import AliasFreeConfig, GeneratorConfig
from ...errors import ConfigError
from ...ops import EqualLinear, ModulatedConv2d, area
from ..base import Generator
from ..sampling import check, noise_width, rows_of, size_of, truncated
from .filters import FilteredActivation, layout, lowpass, radial_lowpass

MAPPING_LR_MUL = 0.01
MOST_CHANNELS = 512
MOST_TAPS = 1 << 12


@dataclass(frozen=True)
class Band:
    """What a map can hold, in cycles over the canvas, and on how many pixels."""

    cutoff: float
    """What is below passes."""
    stopband: float
    """What is above is stopped."""
    rate: int
    """Pixels over the canvas."""
    size: int
    """Pixels of the map, with the room around the canvas."""

    @property
    def width(self) -> float:
        """From what passes to what must be stopped, on both sides of the cutoff."""
        return 2 * (max(self.stopband, self.rate / 2) - self.cutoff)


def bands(config: GeneratorConfig) -> list[Band]:
    """The layers' bands, the colours' last (section 3.2 and figure 4c: cutoffs grow geometrically).

    Raises ConfigError where the numbers describe no network.
    """
    given = config.alias_free or AliasFreeConfig()
    last = config.size / 2
    growing = 0 < given.first_cutoff < min(last, given.first_stopband) and given.last_stopband_rel > 1
    growing = growing and 1 <= given.first_stopband <= config.size
    if config.size < 8 or config.size & (config.size - 1) or not growing:
        raise ConfigError(
            f"a StyleGAN3 draws 8, 16, 32 ... pixels, and cutoffs grow from one below its stopband to half as many: "
            f"{config.size} pixels from {given.first_cutoff} (stopband {given.first_stopband}, at the end "
            f"{given.last_stopband_rel} times the cutoff) cannot be drawn"
        )
    if given.layers <= given.critical:
        raise ConfigError(f"of {given.layers} layers, {given.critical} cannot be critical: ask for more layers")
    made = []
    for layer in range(given.layers + 1):
        along = min(layer / (given.layers - given.critical), 1)
        cutoff = given.first_cutoff * (last / given.first_cutoff) ** along
        stopband = given.first_stopband * (last * given.last_stopband_rel / given.first_stopband) ** along
        rate = 2 ** math.ceil(math.log2(min(2 * stopband, config.size)))
        framed = layer < given.layers - 1
        made.append(Band(cutoff, stopband, rate, rate + 2 * given.margin if framed else config.size))
    return made


def channels_of(config: GeneratorConfig) -> list[int]:
    """Channels of the input, then of every layer but the colours. Raises ConfigError as ``bands`` does."""
    limits = bands(config)[:-1]
    if config.channels and len(config.channels) != len(limits) + 1:
        raise ConfigError(
            f"channels of this StyleGAN3 are {len(limits) + 1} numbers, of its input and its {len(limits)} layers: "
            f"{len(config.channels)} were given"
        )
    made = [round(min(8192 * config.channel_multiplier / band.cutoff, MOST_CHANNELS)) for band in limits]
    channels = list(config.channels) or [made[0], *made]
    if min(channels) < 1:
        raise ConfigError(f"channel multiplier {config.channel_multiplier} leaves no channels: raise it")
    return channels


def placement(translate: tuple[float, float] = (0.0, 0.0), rotate: float = 0.0) -> Tensor:
    """What ``synthesize`` takes to move its picture: ``[3 3]``.

    The picture is turned about its middle by ``rotate`` degrees, counter-clockwise as one looks at it, then moved to
    the right and down by ``translate``, in sides of the picture: ``(0.5, 0)`` moves it by half its width to the right.
    """
    angle = math.radians(rotate)
    cos, sin = math.cos(angle), math.sin(angle)
    back = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    moved = torch.tensor([[1.0, 0.0, -translate[0]], [0.0, 1.0, -translate[1]], [0.0, 0.0, 1.0]])
    return back @ moved


class Mapping(nn.Module):
    """Noise, and a label where there are any, to latents: ``[b n], [b classes] -> [b d]``."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        width = config.width
        self.embed = EqualLinear(config.classes, width) if config.classes else None
        self.depth = config.mapping_layers
        inputs = [noise_width(config) + (width if config.classes else 0), *[width] * (self.depth - 1)]
        for layer, i in enumerate(inputs):
            self.add_module(f"fc{layer}", EqualLinear(i, width, lr_mul=MAPPING_LR_MUL, activation=True))

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """``[b n], [b classes] -> [b d]``."""
        w = _normalised(z)
        if self.embed is not None and labels is not None:
            w = torch.cat([w, _normalised(self.embed(labels.to(z.dtype)))], dim=1)
        for layer in range(self.depth):
            w = self.get_submodule(f"fc{layer}")(w)
        return w


def _normalised(x: Tensor) -> Tensor:
    """``[b n] -> [b n]`` of mean square 1."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class FourierInput(nn.Module):
    """The waves that a picture begins as: ``[b d], [b 3 3] -> [b c h w]`` (section 3.1 and appendix F).

    A row turns and moves them, what the caller hands in does so before it. A wave that its map can no longer hold is
    left out.
    """

    freqs: Tensor
    phases: Tensor
    transform: Tensor

    def __init__(self, channels: int, width: int, band: Band):
        super().__init__()
        self.band = band
        radius, angle = torch.rand(channels).sqrt() * band.cutoff, torch.rand(channels) * (2 * math.pi)
        self.affine = EqualLinear(width, 4)
        nn.init.zeros_(self.affine.weight)
        self.affine.bias = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        self.weight = nn.Parameter(torch.randn(channels, channels))
        self.register_buffer("transform", torch.eye(3))
        self.register_buffer("freqs", torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1))
        self.register_buffer("phases", torch.rand(channels) - 0.5)

    def forward(self, row: Tensor, transform: Tensor | None) -> Tensor:
        """``[b d], [3 3] or [b 3 3] -> [b c h w]``; no precision but the weight's is fine enough for waves."""
        with torch.autocast(row.device.type, enabled=False):
            given = self.transform if transform is None else transform.to(self.transform)
            change = self._learned(self.affine(row)) @ given
            freqs = self.freqs @ change[:, :2, :2]
            phases = self.phases + (self.freqs @ change[:, :2, 2:]).squeeze(2)
            nyquist = self.band.rate / 2
            fade = ((nyquist - freqs.norm(dim=2)) / (nyquist - self.band.cutoff)).clamp(0, 1)
            size = self.band.size
            places = (torch.arange(size, device=row.device, dtype=freqs.dtype) + (0.5 - size / 2)) / self.band.rate
            across, down = freqs[:, :, :1] * places, freqs[:, :, 1:] * places + phases[:, :, None]
            waves = torch.sin((down[:, :, :, None] + across[:, :, None, :]) * (2 * math.pi))
            weight = self.weight / math.sqrt(len(self.weight)) * fade[:, None, :]
            mixed: Tensor = weight @ waves.flatten(2)
            return mixed.reshape(*mixed.shape[:2], size, size)

    def _learned(self, said: Tensor) -> Tensor:
        """Cosine, sine and a way to go, ``[b 4]``, as a turn behind a move: ``[b 3 3]``."""
        cos, sin, x, y = (said / said[:, :2].norm(dim=1, keepdim=True)).unbind(dim=1)
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        rows = [cos, -sin, sin * y - cos * x, sin, cos, -sin * x - cos * y, zero, zero, one]
        return torch.stack(rows, dim=1).reshape(-1, 3, 3)


class Layer(nn.Module):
    """Modulated convolution, bias, filtered non-linearity: ``[b c h w], [b d] -> [b c' h' w']``.

    ``magnitude_ema`` is the mean square of what came in training; whatever comes is divided by its root. The last layer
    makes colours, with neither demodulation nor non-linearity.
    """

    magnitude_ema: Tensor

    def __init__(self, config: GeneratorConfig, i: int, o: int, before: Band, band: Band, colours: bool, radial: bool):
        super().__init__()
        given = config.alias_free or AliasFreeConfig()
        kernel = 1 if colours else given.kernel
        self.conv = ModulatedConv2d(i, o, kernel, config.width, demodulate=not colours, padding=kernel - 1)
        self.bias = nn.Parameter(torch.zeros(o))
        self.clamp = config.clamp
        self.register_buffer("magnitude_ema", torch.ones(()))
        fine = max(before.rate, band.rate) * given.lrelu_upsampling
        up, down = fine // before.rate, fine // band.rate
        grown = before.size + kernel - 1
        self.activate = None
        if not colours:
            up_filter = lowpass(_taps(given, up), before.cutoff, before.width, fine)
            design = radial_lowpass if radial else lowpass
            down_filter = design(_taps(given, down), band.cutoff, band.width, fine)
            self.activate = FilteredActivation(grown, band.size, up_filter, up, down_filter, down, config.clamp)

    def forward(self, x: Tensor, row: Tensor) -> Tensor:
        """``[b c h w], [b d] -> [b c' h' w']``."""
        y, factor = self.conv.undemodulated(x, row)
        gain = self.magnitude_ema.rsqrt().to(y.dtype)
        kept = torch.is_grad_enabled() or torch.compiler.is_compiling()
        bias = self.bias[:, None, None].to(y.dtype)
        y = torch.addcmul(bias, y, gain if factor is None else factor * gain, out=None if kept else y)
        if self.activate is not None:
            return cast(Tensor, self.activate(y))
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


def _taps(given: AliasFreeConfig, factor: int) -> int:
    """How many taps the filter of a change of resolution has. Raises ConfigError for a senseless number."""
    taps = given.filter_size * factor if factor > 1 else 1
    if taps > MOST_TAPS:
        raise ConfigError(f"filters of {taps} taps cannot be meant: ask for more layers or smaller filters")
    return taps


class StyleGAN3(Generator):
    """The generator: ``map`` takes noise to rows, ``synthesize`` takes rows to pictures.

    It is born frozen: no parameter asks for a gradient, so backward through ``synthesize`` reaches the rows and spends
    nothing on weights. Whoever wants to tune it says ``requires_grad_(True)``. It adds no noise, and no picture depends
    on what else is in its batch. ``w_avg`` ``[d]`` is zero until a file or ``sampling.average_w`` fills it.

    Row 0 places the waves; row 1 + i drives layer i, the last one the colours.
    """

    w_avg: Tensor

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        given = config.alias_free or AliasFreeConfig()
        limits, channels = bands(config), channels_of(config)
        self.config = config
        self.size, self.width, self.noise_width = config.size, config.width, noise_width(config)
        self.rows = given.layers + 2
        self.output_scale = given.output_scale
        self.mapping = Mapping(config)
        self.input = FourierInput(channels[0], config.width, limits[0])
        self.layers = nn.ModuleList()
        steps = zip(itertools.pairwise([*channels, 3]), itertools.pairwise([limits[0], *limits]), strict=True)
        for layer, ((i, o), (before, band)) in enumerate(steps):
            radial = given.radial and layer < given.layers - given.critical
            self.layers.append(Layer(config, i, o, before, band, layer == given.layers, radial))
        self.register_buffer("w_avg", torch.zeros(config.width))
        self.requires_grad_(False)

    def map(self, z: Tensor, truncation: float = 1.0, labels: Tensor | None = None) -> Tensor:
        """Normal noise ``[b n]`` and ``labels`` ``[b classes]`` to the generator's own latents ``[b d]``.

        Truncation and labels mean what they mean to ``StyleGAN2.map``; what does not fit raises ConfigError here too.
        """
        check(self.config, z, labels)
        w: Tensor = self.mapping(z, labels)
        return truncated(w, self.w_avg, truncation)

    def synthesize(self, ws: Tensor, size: int | None = None, transform: Tensor | None = None) -> Tensor:
        """Rows to pictures: ``[b k d]``, or ``[b d]`` for every row alike, ``-> [b 3 r r]``, RGB in about [-1, 1].

        ``size`` below the full one averages pixels over areas. ``transform`` ``[3 3]`` or ``[b 3 3]`` takes places in
        the picture to places among the waves, instead of the stored one: see ``placement``. Raises ConfigError where
        rows, size or transform do not fit.
        """
        ws = rows_of(ws, self.rows, self.width).to(self.input.weight.dtype)
        size = size_of(size, self.size)
        if transform is not None and tuple(transform.shape) not in ((3, 3), (ws.shape[0], 3, 3)):
            raise ConfigError(f"a transform is [3, 3], or [{ws.shape[0]}, 3, 3] here, got {list(transform.shape)}")
        row = ws.unbind(dim=1)
        x: Tensor = self.input(row[0], transform).contiguous(memory_format=layout(ws.device))
        for layer, style in zip(self.layers, row[1:], strict=True):
            x = layer(x, style)
        image = x.contiguous() * self.output_scale
        return image if size == self.size else area(image, size)
