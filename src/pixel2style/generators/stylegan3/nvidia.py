"""StyleGAN3 generators in NVIDIA's layout, that of the stylegan3 repository (arXiv 2106.12423), read and written.

The network and its values are those of ``network``; only names differ. Names of layers contain their sides and
channels, and every layer stores its filters: both must be those that follow from the configuration. What no tensor
shows (cutoffs, clamp ...) comes from ``arguments``, those that the generator in a file was built with, and is NVIDIA's
default where they are missing; a file with other values is refused by its filters or names.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...config import AliasFreeConfig, GeneratorConfig
from ...errors import CheckpointError, ConfigError
from ...formats.meta_device import shapes_only
from ...formats.state_dicts import fill, is_constant, printable
from ..sampling import average_w
from ..stylegan2.nvidia import common_arguments, copied, nested
from .network import MAPPING_LR_MUL, Layer, StyleGAN3, bands, channels_of

MAX_SIZE, MAX_LAYERS, MAX_MAPPING = 4096, 62, 64
"""Largest numbers that are accepted in keys."""

CLAMP = 256.0
TOLERANCE = 1e-5
"""Difference that is allowed between stored filters and ours, which other libraries computed and rounded."""

_ARGUMENTS = {
    "num_critical": ("critical", MAX_LAYERS),
    "first_cutoff": ("first_cutoff", MAX_SIZE),
    "first_stopband": ("first_stopband", MAX_SIZE),
    "last_stopband_rel": ("last_stopband_rel", MAX_SIZE),
    "margin_size": ("margin", 1024),
    "output_scale": ("output_scale", math.inf),
    "filter_size": ("filter_size", 64),
    "lrelu_upsampling": ("lrelu_upsampling", 16),
}
"""``{NVIDIA's argument: (our setting, its largest accepted value)}``."""

_PARTS = {"conv.weight": "weight", "conv.modulation.weight": "affine.weight", "conv.modulation.bias": "affine.bias"}
_LAYER = re.compile(r"synthesis\.L(\d{1,3})_(\d{1,5})_(\d{1,5})\.(.+)")
_FILTERS = ("up_filter", "down_filter")


def stylegan3(weights: Mapping[str, Tensor], arguments: Mapping[str, Any], source: str) -> StyleGAN3:
    """The generator with these tensors, in eval mode; ``arguments`` are those it was built with, as far as known.

    Without an average in the file, ``w_avg`` is that of 100,000 samples. Raises CheckpointError when they do not fit.
    """
    config = _config(weights, arguments, source)
    try:
        with shapes_only():
            generator = StyleGAN3(config)
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from error
    learned = _without_filters(weights, generator, source)
    given = {} if "mapping.w_avg" in learned else {"w_avg": torch.zeros(config.width)}
    fill(generator, learned, source, lambda key: _theirs(key, generator), given)
    if given:
        generator.w_avg.copy_(average_w(generator))
    return generator.eval()


def stylegan3_state(generator: StyleGAN3) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state dict of NVIDIA's generator with the same values, and the arguments that build it.

    Raises ConfigError for channels that NVIDIA's code cannot have.
    """
    config = generator.config
    settings = config.alias_free or AliasFreeConfig()
    base, maximum = _channel_rule(config)
    state = {_theirs(key, generator): value for key, value in generator.state_dict().items()}
    state |= _filters(generator)
    return copied(state), {
        **common_arguments(config),
        "channel_base": base,
        "channel_max": maximum,
        "num_layers": settings.layers,
        **{theirs: getattr(settings, ours) for theirs, (ours, _) in _ARGUMENTS.items()},
        "num_fp16_res": 0,
        "conv_kernel": settings.kernel,
        "use_radial_filters": settings.radial,
        "conv_clamp": config.clamp,
    }


def _config(weights: Mapping[str, Tensor], arguments: Mapping[str, Any], source: str) -> GeneratorConfig:
    """The configuration. Raises CheckpointError where names, shapes and arguments describe no StyleGAN3."""
    named = {int(found[1]): found for found in map(_LAYER.fullmatch, weights) if found}
    layers = max(named, default=0)
    size, colours = (int(named[layers][n]) for n in (2, 3)) if named else (0, 0)
    if not 0 < layers <= MAX_LAYERS or not 8 <= size <= MAX_SIZE or set(named) != set(range(layers + 1)):
        raise CheckpointError(f"{source}: has no layers that a StyleGAN3 could have; the file is damaged")
    if colours != 3:
        raise CheckpointError(f"{source}: generates images of {colours} channels; only those of 3, RGB, are supported")
    arguments = {**nested(arguments, "synthesis_kwargs"), **arguments}
    multiplier = nested(arguments, "mapping_kwargs").get("lr_multiplier", MAPPING_LR_MUL)
    if multiplier != MAPPING_LR_MUL:
        raise CheckpointError(
            f"{source}: was built with lr_multiplier {printable(str(multiplier))}; only {MAPPING_LR_MUL}, as usual, is "
            "supported"
        )
    values: dict[str, Any] = {
        ours: _number(arguments[theirs], theirs, maximum, source)
        for theirs, (ours, maximum) in _ARGUMENTS.items()
        if theirs in arguments
    }
    clamp = arguments.get("conv_clamp", CLAMP)
    first = weights.get(f"{_stem(named[0])}.weight")
    values |= {"layers": layers, "kernel": 3 if first is None or first.ndim != 4 else first.shape[3]}
    values["radial"] = any(key.endswith(".down_filter") and value.ndim == 2 for key, value in weights.items())
    try:
        config = GeneratorConfig(
            kind="stylegan3",
            size=size,
            clamp=None if clamp is None else _number(clamp, "conv_clamp", math.inf, source),
            channels=(_length(weights, "synthesis.input.phases"), *(int(named[n][3]) for n in range(layers))),
            alias_free=AliasFreeConfig(**values),
            **_mapping(weights),
        )
        limits = bands(config)
    except (ValueError, ConfigError) as error:
        raise CheckpointError(f"{source}: was built with numbers that no StyleGAN3 can have; give another") from error
    for layer, band in enumerate(limits):
        if int(named[layer][2]) != band.size:
            raise CheckpointError(
                f"{source}: {_stem(named[layer])} would have {band.size} pixels by the known arguments; "
                "give the original .pkl, which has all of them"
            )
    return _with_multiplier(config)


def _mapping(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """The settings that the shapes of the mapping network show."""
    layers = 0
    while layers < MAX_MAPPING and f"mapping.fc{layers}.weight" in weights:
        layers += 1
    layers = max(layers, 1)
    width = _length(weights, f"mapping.fc{layers - 1}.bias")
    first, embed = weights.get("mapping.fc0.weight"), weights.get("mapping.embed.weight")
    classes = 0 if embed is None or embed.ndim != 2 else embed.shape[1]
    noise = width if first is None or first.ndim != 2 else max(1, first.shape[1] - (width if classes else 0))
    noise = 0 if noise == width else noise
    return {"width": width, "mapping_layers": layers, "classes": classes, "noise_width": noise}


def _length(weights: Mapping[str, Tensor], key: str) -> int:
    """Length of the vector ``key``; where there is none, a guess, and filling the network reports what is missing."""
    value = weights.get(key)
    return 512 if value is None or value.ndim != 1 else max(1, len(value))


def _number(value: Any, name: str, maximum: float, source: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= maximum or value == math.inf:
        raise CheckpointError(f"{source}: its {name} is {printable(str(value))}, which no StyleGAN3 can have")
    return value


def _with_multiplier(config: GeneratorConfig) -> GeneratorConfig:
    """The same configuration with a channel multiplier instead of a list, where one gives these channels."""
    for multiplier in (2, 1, 4):
        usual = replace(config, channels=(), channel_multiplier=multiplier)
        if tuple(channels_of(usual)) == config.channels:
            return usual
    return config


def _stem(found: re.Match[str]) -> str:
    """The name of a layer, such as ``synthesis.L0_36_512``, of a key below it."""
    return found.string[: found.start(4) - 1]


def _theirs(key: str, generator: StyleGAN3) -> str:
    """NVIDIA's name of a tensor."""
    if key == "w_avg":
        return "mapping.w_avg"
    if key.startswith("input."):
        return f"synthesis.{key}"
    if not key.startswith("layers."):
        return key
    _, layer, part = key.split(".", 2)
    return f"{_names(generator)[int(layer)]}.{_PARTS.get(part, part)}"


def _names(generator: StyleGAN3) -> list[str]:
    """NVIDIA's names of the layers."""
    channels = [*channels_of(generator.config)[1:], 3]
    sides = [band.size for band in bands(generator.config)]
    return [f"synthesis.L{n}_{side}_{own}" for n, (side, own) in enumerate(zip(sides, channels, strict=True))]


def _filters(generator: StyleGAN3) -> dict[str, Tensor]:
    """The filters of all layers by NVIDIA's names."""
    found = {}
    for name, layer in zip(_names(generator), generator.layers, strict=True):
        assert isinstance(layer, Layer)
        for part in _FILTERS if layer.activate is not None else ():
            taps = getattr(layer.activate, part)
            if taps.numel() > 1:
                found[f"{name}.{part}"] = taps
    return found


def _without_filters(weights: Mapping[str, Tensor], generator: StyleGAN3, source: str) -> dict[str, Tensor]:
    """The learned tensors. Raises CheckpointError for a filter that is not the one used here."""
    ours = _filters(generator)
    for key, taps in ours.items():
        if not is_constant(weights.get(key, taps), taps, TOLERANCE):
            raise CheckpointError(
                f"{source}: {printable(key)} is another filter than the known arguments of the generator give; give "
                "the original .pkl, which has all of them"
            )
    return {key: value for key, value in weights.items() if key not in ours}


def refuse(generator: StyleGAN3) -> None:
    """Raise ConfigError for a generator that NVIDIA's code cannot build."""
    _channel_rule(generator.config)


def _channel_rule(config: GeneratorConfig) -> tuple[int, int]:
    """``base, maximum``, from which NVIDIA's code computes a layer's channels: ``min(base / 2 / cutoff, maximum)``.

    The base is the roundest that fits. Raises ConfigError where no two numbers give these channels.
    """
    channels = channels_of(config)
    cutoffs = [band.cutoff for band in bands(config)[:-1]]
    maximum = max(channels)
    lowest = max(2 * cutoff * (own - 0.5) for own, cutoff in zip(channels[1:], cutoffs, strict=True))
    highest = min(
        2 * cutoff * (own + 0.5) if own < maximum else 2 * lowest
        for own, cutoff in zip(channels[1:], cutoffs, strict=True)
    )
    for step in (1 << n for n in range(20, -1, -1)):
        base = math.ceil(lowest / step) * step
        computed = [round(min(base / 2 / cutoff, maximum)) for cutoff in cutoffs]
        if base <= highest and [computed[0], *computed] == channels:
            return base, maximum
    raise ConfigError(
        f"NVIDIA's code computes channels as a number divided by each layer's cutoff, and this generator has "
        f"{', '.join(map(str, channels))}: keep it in our own format"
    )
