"""The alias-free StyleGAN3 generator (Karras et al., arXiv 2106.12423), configurations T and R.

The input is a sum of waves with learned frequencies and phases. Modulated convolutions follow, each with a filtered
non-linearity (``filters``) that removes all frequencies above the band limit of its layer; band limits grow from layer
to layer. So the image is equivariant to translation (T), or translation and rotation (R), of the waves.

Keys: ``mapping.fc0`` on, ``mapping.embed``, ``input``, ``layers.0`` on, ``w_avg``. Filters are computed from the
configuration and are not state.

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row, ``n`` numbers of noise, ``c`` channels, ``i o`` those of input and
output, ``h w`` height and width, ``r`` side of an image.
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
from ..base import NO_RESIDUALS, Generator, Residuals
from ..sampling import check, noise_width, rows_of, size_of, truncated
from .filters import FilteredActivation, layout, lowpass, radial_lowpass

MAPPING_LR_MUL = 0.01
MAX_CHANNELS = 512
MAX_TAPS = 1 << 12


@dataclass(frozen=True)
class Band:
    """Band limits of a layer's map, in cycles per canvas width, and its sampling."""

    cutoff: float
    """Lower frequencies pass."""
    stopband: float
    """Higher frequencies are stopped."""
    rate: int
    """Pixels per canvas width."""
    size: int
    """Side of the map in pixels, including the margin around the canvas."""

    @property
    def width(self) -> float:
        """Width of the transition band around the cutoff."""
        return 2 * (max(self.stopband, self.rate / 2) - self.cutoff)


def bands(config: GeneratorConfig) -> list[Band]:
    """The bands of all layers, ToRGB last (section 3.2 and figure 4c: cutoffs grow geometrically).

    Raises ConfigError for an impossible configuration.
    """
    settings = config.alias_free or AliasFreeConfig()
    last = config.size / 2
    growing = 0 < settings.first_cutoff < min(last, settings.first_stopband) and settings.last_stopband_rel > 1
    growing = growing and 1 <= settings.first_stopband <= config.size
    if config.size < 8 or config.size & (config.size - 1) or not growing:
        raise ConfigError(
            f"the size of a StyleGAN3 must be a power of two of at least 8, and cutoffs must grow from below the first "
            f"stopband to half the size: got size {config.size}, first cutoff {settings.first_cutoff}, first stopband "
            f"{settings.first_stopband}, last stopband {settings.last_stopband_rel} times the cutoff"
        )
    if settings.layers <= settings.critical:
        raise ConfigError(f"of {settings.layers} layers, {settings.critical} cannot be critical: use more layers")
    result = []
    for layer in range(settings.layers + 1):
        progress = min(layer / (settings.layers - settings.critical), 1)
        cutoff = settings.first_cutoff * (last / settings.first_cutoff) ** progress
        stopband = settings.first_stopband * (last * settings.last_stopband_rel / settings.first_stopband) ** progress
        rate = 2 ** math.ceil(math.log2(min(2 * stopband, config.size)))
        has_margin = layer < settings.layers - 1
        result.append(Band(cutoff, stopband, rate, rate + 2 * settings.margin if has_margin else config.size))
    return result


def channels_of(config: GeneratorConfig) -> list[int]:
    """Channels of the input and of every layer but ToRGB. Raises ConfigError as ``bands`` does."""
    limits = bands(config)[:-1]
    if config.channels and len(config.channels) != len(limits) + 1:
        raise ConfigError(
            f"this StyleGAN3 needs {len(limits) + 1} numbers of channels, for its input and its {len(limits)} layers: "
            f"{len(config.channels)} were given"
        )
    usual = [round(min(8192 * config.channel_multiplier / band.cutoff, MAX_CHANNELS)) for band in limits]
    channels = list(config.channels) or [usual[0], *usual]
    if min(channels) < 1:
        raise ConfigError(f"channel multiplier {config.channel_multiplier} leaves no channels: raise it")
    return channels


def placement(translate: tuple[float, float] = (0.0, 0.0), rotate: float = 0.0) -> Tensor:
    """The ``transform`` of ``synthesize`` that rotates, then translates the image: ``[3 3]``.

    ``rotate`` is in degrees, counter-clockwise about the centre. ``translate`` is to the right and down, in sides of
    the image: ``(0.5, 0)`` moves it to the right by half its width.
    """
    angle = math.radians(rotate)
    cos, sin = math.cos(angle), math.sin(angle)
    inverse_rotation = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    inverse_translation = torch.tensor([[1.0, 0.0, -translate[0]], [0.0, 1.0, -translate[1]], [0.0, 0.0, 1.0]])
    return inverse_rotation @ inverse_translation


class Mapping(nn.Module):
    """Noise, and labels of a class-conditional generator, to latents: ``[b n], [b classes] -> [b d]``."""

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
        w = _normalized(z)
        if self.embed is not None and labels is not None:
            w = torch.cat([w, _normalized(self.embed(labels.to(z.dtype)))], dim=1)
        for layer in range(self.depth):
            w = self.get_submodule(f"fc{layer}")(w)
        return w


def _normalized(x: Tensor) -> Tensor:
    """Scale vectors to mean square 1: ``[b n] -> [b n]``."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class FourierInput(nn.Module):
    """The input waves: ``[b d], [b 3 3] -> [b c h w]`` (section 3.1 and appendix F).

    The caller's transform, then a learned one from the row, rotate and translate them. Waves above the band limit are
    faded out.
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
        """``[b d], [3 3] or [b 3 3] -> [b c h w]``, without autocast, whose precision is too low for phases."""
        with torch.autocast(row.device.type, enabled=False):
            given = self.transform if transform is None else transform.to(self.transform)
            total = self._learned_transform(self.affine(row)) @ given
            freqs = self.freqs @ total[:, :2, :2]
            phases = self.phases + (self.freqs @ total[:, :2, 2:]).squeeze(2)
            nyquist = self.band.rate / 2
            fade = ((nyquist - freqs.norm(dim=2)) / (nyquist - self.band.cutoff)).clamp(0, 1)
            size = self.band.size
            grid = (torch.arange(size, device=row.device, dtype=freqs.dtype) + (0.5 - size / 2)) / self.band.rate
            x, y = freqs[:, :, :1] * grid, freqs[:, :, 1:] * grid + phases[:, :, None]
            waves = torch.sin((y[:, :, :, None] + x[:, :, None, :]) * (2 * math.pi))
            weight = self.weight / math.sqrt(len(self.weight)) * fade[:, None, :]
            mixed: Tensor = weight @ waves.flatten(2)
            return mixed.reshape(*mixed.shape[:2], size, size)

    def _learned_transform(self, parameters: Tensor) -> Tensor:
        """Cosine, sine and translation ``[b 4]`` to the matrix of rotation times translation: ``[b 3 3]``."""
        cos, sin, x, y = (parameters / parameters[:, :2].norm(dim=1, keepdim=True)).unbind(dim=1)
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        rows = [cos, -sin, sin * y - cos * x, sin, cos, -sin * x - cos * y, zero, zero, one]
        return torch.stack(rows, dim=1).reshape(-1, 3, 3)


class Layer(nn.Module):
    """Modulated convolution, bias, filtered non-linearity: ``[b c h w], [b d] -> [b c' h' w']``.

    ``magnitude_ema`` is the mean square of the input during training; the input is divided by its root. The last layer,
    ToRGB, has neither demodulation nor non-linearity.
    """

    magnitude_ema: Tensor

    def __init__(self, config: GeneratorConfig, i: int, o: int, before: Band, band: Band, to_rgb: bool, radial: bool):
        super().__init__()
        settings = config.alias_free or AliasFreeConfig()
        kernel = 1 if to_rgb else settings.kernel
        self.conv = ModulatedConv2d(i, o, kernel, config.width, demodulate=not to_rgb, padding=kernel - 1)
        self.bias = nn.Parameter(torch.zeros(o))
        self.clamp = config.clamp
        self.register_buffer("magnitude_ema", torch.ones(()))
        fine = max(before.rate, band.rate) * settings.lrelu_upsampling
        up, down = fine // before.rate, fine // band.rate
        padded = before.size + kernel - 1
        self.activate = None
        if not to_rgb:
            up_filter = lowpass(_taps(settings, up), before.cutoff, before.width, fine)
            design = radial_lowpass if radial else lowpass
            down_filter = design(_taps(settings, down), band.cutoff, band.width, fine)
            self.activate = FilteredActivation(padded, band.size, up_filter, up, down_filter, down, config.clamp)

    def forward(self, x: Tensor, row: Tensor) -> Tensor:
        """``[b c h w], [b d] -> [b c' h' w']``."""
        y, factor = self.conv.undemodulated(x, row)
        gain = self.magnitude_ema.rsqrt().to(y.dtype)
        keep_input = torch.is_grad_enabled() or torch.compiler.is_compiling()
        bias = self.bias[:, None, None].to(y.dtype)
        y = torch.addcmul(bias, y, gain if factor is None else factor * gain, out=None if keep_input else y)
        if self.activate is not None:
            return cast(Tensor, self.activate(y))
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


def _taps(settings: AliasFreeConfig, factor: int) -> int:
    """Taps of the filter for a change of resolution by ``factor``. Raises ConfigError for more than ``MAX_TAPS``."""
    taps = settings.filter_size * factor if factor > 1 else 1
    if taps > MAX_TAPS:
        raise ConfigError(f"a filter would have {taps} taps, more than {MAX_TAPS}: use more layers or smaller filters")
    return taps


class StyleGAN3(Generator):
    """StyleGAN3. Row 0 transforms the waves, row 1 + i drives layer i, the last row ToRGB."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        settings = config.alias_free or AliasFreeConfig()
        limits, channels = bands(config), channels_of(config)
        self.config = config
        self.rows, self.width, self.size = settings.layers + 2, config.width, config.size
        self.noise_width = noise_width(config)
        self.output_scale = settings.output_scale
        self.mapping = Mapping(config)
        self.input = FourierInput(channels[0], config.width, limits[0])
        self.layers = nn.ModuleList()
        steps = zip(itertools.pairwise([*channels, 3]), itertools.pairwise([limits[0], *limits]), strict=True)
        for layer, ((i, o), (before, band)) in enumerate(steps):
            radial = settings.radial and layer < settings.layers - settings.critical
            self.layers.append(Layer(config, i, o, before, band, layer == settings.layers, radial))
        self.register_buffer("w_avg", torch.zeros(config.width))
        self.requires_grad_(False)

    def map(self, z: Tensor, truncation: float = 1.0, labels: Tensor | None = None) -> Tensor:
        """Noise ``[b n]``, and one-hot ``labels`` ``[b classes]`` for a class-conditional one, to latents ``[b d]``.

        ``truncation`` below 1 moves them towards ``w_avg``: more typical images, less variety (StyleGAN, section B).
        Raises ConfigError for noise or labels that do not fit.
        """
        check(self.config, z, labels)
        w: Tensor = self.mapping(z, labels)
        return truncated(w, self.w_avg, truncation)

    def synthesize(
        self,
        ws: Tensor,
        size: int | None = None,
        transform: Tensor | None = None,
        *,
        residuals: Residuals = NO_RESIDUALS,
    ) -> Tensor:
        """Rows to images: ``[b k d]``, or ``[b d]`` for all rows alike, to ``[b 3 r r]``, RGB in about [-1, 1].

        A smaller ``size`` is an area average. ``transform`` ``[3 3]`` or ``[b 3 3]`` maps image coordinates to those of
        the waves and replaces the stored one: see ``placement``. Raises ConfigError where rows, size, transform or
        residuals do not fit.
        """
        ws = rows_of(ws, self.rows, self.width).to(self.input.weight.dtype)
        size = size_of(size, self.size)
        self.check_residuals(residuals, ws)
        if transform is not None and tuple(transform.shape) not in ((3, 3), (ws.shape[0], 3, 3)):
            raise ConfigError(f"a transform is [3, 3], or [{ws.shape[0]}, 3, 3] here, got {list(transform.shape)}")
        row = ws.unbind(dim=1)
        x: Tensor = self.input(row[0], transform).contiguous(memory_format=layout(ws.device))
        for layer, style in zip(self.layers, row[1:], strict=True):
            x = layer(x, style)
        image = x.contiguous() * self.output_scale
        return image if size == self.size else area(image, size)
