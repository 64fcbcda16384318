"""StyleGAN3 generators in NVIDIA's layout, that of the stylegan3 repository (arXiv 2106.12423), read and written.

The network is ``stylegan3``'s, and so are its numbers: only names differ. A file's layers are named for their pixels
and channels, and each stores its filters: names and filters must be those that follow from the configuration, and are
left out. What no tensor shows (``told``, the arguments that a generator was built with: where cutoffs begin and end,
the clamp ...) is NVIDIA's default where nothing is told; a file that was built with something else is refused by its
filters or names.

Axes: ``c`` channels, ``d`` width of a row. This module does not know how files are read (see ``foreign`` and
``pickles``).
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
from ...formats.state_dicts import fill, is_constant, spell
from ..sampling import average_w
from ..stylegan2.nvidia import arguments, copied
from .network import MAPPING_LR_MUL, Layer, StyleGAN3, bands, channels_of

MAX_SIZE, MAX_LAYERS, MAX_MAPPING = 4096, 62, 64
"""Beyond these a number in a key is nonsense."""

CLAMP = 256.0
TOLERANCE = 1e-5
"""How far a stored filter may be from ours: they were designed in other libraries, and rounded."""

_TOLD = {
    "num_critical": ("critical", MAX_LAYERS),
    "first_cutoff": ("first_cutoff", MAX_SIZE),
    "first_stopband": ("first_stopband", MAX_SIZE),
    "last_stopband_rel": ("last_stopband_rel", MAX_SIZE),
    "margin_size": ("margin", 1024),
    "output_scale": ("output_scale", math.inf),
    "filter_size": ("filter_size", 64),
    "lrelu_upsampling": ("lrelu_upsampling", 16),
}
"""What NVIDIA's arguments are called in our configuration, and what none of them exceeds."""

_PARTS = {"conv.weight": "weight", "conv.modulation.weight": "affine.weight", "conv.modulation.bias": "affine.bias"}
_LAYER = re.compile(r"synthesis\.L(\d{1,3})_(\d{1,5})_(\d{1,5})\.(.+)")
_FILTERS = ("up_filter", "down_filter")


def stylegan3(weights: Mapping[str, Tensor], told: Mapping[str, Any], source: str) -> StyleGAN3:
    """The generator with these tensors, ready to draw; ``told`` is what it was built with, as far as that is known.

    One without an average gets that of 100,000 mapped samples. Raises CheckpointError when they do not fit.
    """
    config = _config(weights, told, source)
    try:
        with shapes_only():
            made = StyleGAN3(config)
    except ConfigError as error:
        raise CheckpointError(f"{source}: {error}") from error
    learned = _without_filters(weights, made, source)
    given = {} if "mapping.w_avg" in learned else {"w_avg": torch.zeros(config.width)}
    fill(made, learned, source, lambda key: _theirs(key, made), given)
    if given:
        made.w_avg.copy_(average_w(made))
    return made.eval()


def stylegan3_state(generator: StyleGAN3) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state dict of NVIDIA's generator with these numbers, and the arguments that build it.

    Raises ConfigError for channels that its code cannot be told.
    """
    config = generator.config
    given = config.alias_free or AliasFreeConfig()
    base, most = _rule(config)
    state = {_theirs(key, generator): value for key, value in generator.state_dict().items()}
    state |= _filters(generator)
    return copied(state), {
        **arguments(config),
        "channel_base": base,
        "channel_max": most,
        "num_layers": given.layers,
        **{theirs: getattr(given, ours) for theirs, (ours, _) in _TOLD.items()},
        "num_fp16_res": 0,
        "conv_kernel": given.kernel,
        "use_radial_filters": given.radial,
        "conv_clamp": config.clamp,
    }


def _config(weights: Mapping[str, Tensor], told: Mapping[str, Any], source: str) -> GeneratorConfig:
    """What the generator is. Raises CheckpointError where names, shapes and ``told`` describe none."""
    named = {int(found[1]): found for found in map(_LAYER.fullmatch, weights) if found}
    layers = max(named, default=0)
    size, colours = (int(named[layers][n]) for n in (2, 3)) if named else (0, 0)
    if not 0 < layers <= MAX_LAYERS or not 8 <= size <= MAX_SIZE or set(named) != set(range(layers + 1)):
        raise CheckpointError(f"{source}: has no layers that a StyleGAN3 could have; the file is damaged")
    if colours != 3:
        raise CheckpointError(f"{source}: draws pictures of {colours} channels; only those of 3, RGB, are read here")
    told = {**_part(told, "synthesis_kwargs"), **told}
    pace = _part(told, "mapping_kwargs").get("lr_multiplier", MAPPING_LR_MUL)
    if pace != MAPPING_LR_MUL:
        raise CheckpointError(
            f"{source}: was built with lr_multiplier {spell(str(pace))}; only {MAPPING_LR_MUL}, the usual one, is read"
        )
    values: dict[str, Any] = {
        ours: _number(told[theirs], theirs, most, source) for theirs, (ours, most) in _TOLD.items() if theirs in told
    }
    clamp = told.get("conv_clamp", CLAMP)
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
                f"{source}: {_stem(named[layer])} would have {band.size} pixels by what is told of how the file was "
                "built; give the original .pkl, which says it"
            )
    return _by_table(config)


def _mapping(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """The part of a configuration that the mapping network shows."""
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
    """Numbers in the vector called ``key``; where there is none, a guess that will not fit."""
    value = weights.get(key)
    return 512 if value is None or value.ndim != 1 else max(1, len(value))


def _part(told: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = told.get(name)
    return part if isinstance(part, Mapping) else {}


def _number(value: Any, name: str, most: float, source: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most or value == math.inf:
        raise CheckpointError(f"{source}: its {name} is {spell(str(value))}, which no StyleGAN3 can have")
    return value


def _by_table(config: GeneratorConfig) -> GeneratorConfig:
    """The same configuration, said by a multiplier where one says it."""
    for multiplier in (2, 1, 4):
        usual = replace(config, channels=(), channel_multiplier=multiplier)
        if tuple(channels_of(usual)) == config.channels:
            return usual
    return config


def _stem(found: re.Match[str]) -> str:
    """``synthesis.L0_36_512`` of a key below it."""
    return found.string[: found.start(4) - 1]


def _theirs(key: str, generator: StyleGAN3) -> str:
    """What a tensor of ours is called there."""
    if key == "w_avg":
        return "mapping.w_avg"
    if key.startswith("input."):
        return f"synthesis.{key}"
    if not key.startswith("layers."):
        return key
    _, layer, part = key.split(".", 2)
    return f"{_names(generator)[int(layer)]}.{_PARTS.get(part, part)}"


def _names(generator: StyleGAN3) -> list[str]:
    """What the layers are called there."""
    channels = [*channels_of(generator.config)[1:], 3]
    sides = [band.size for band in bands(generator.config)]
    return [f"synthesis.L{n}_{side}_{own}" for n, (side, own) in enumerate(zip(sides, channels, strict=True))]


def _filters(generator: StyleGAN3) -> dict[str, Tensor]:
    """The filters of all layers that have some, as they are stored there."""
    found = {}
    for name, layer in zip(_names(generator), generator.layers, strict=True):
        assert isinstance(layer, Layer)
        for part in _FILTERS if layer.activate is not None else ():
            taps = getattr(layer.activate, part)
            if taps.numel() > 1:
                found[f"{name}.{part}"] = taps
    return found


def _without_filters(weights: Mapping[str, Tensor], generator: StyleGAN3, source: str) -> dict[str, Tensor]:
    """The tensors that were learned. Raises CheckpointError for a filter that is another than the one used here."""
    ours = _filters(generator)
    for key, taps in ours.items():
        if not is_constant(weights.get(key, taps), taps, TOLERANCE):
            raise CheckpointError(
                f"{source}: {spell(key)} is another filter than follows from what is told of how the file was built; "
                "give the original .pkl, which says it"
            )
    return {key: value for key, value in weights.items() if key not in ours}


def refuse(generator: StyleGAN3) -> None:
    """Raise ConfigError where NVIDIA's code has no room for a generator."""
    _rule(generator.config)


def _rule(config: GeneratorConfig) -> tuple[int, int]:
    """``base, most``: NVIDIA's code gives a layer ``min(base / 2 / cutoff, most)`` channels, rounded.

    The roundest base is given. Raises ConfigError where no two numbers say it.
    """
    channels = channels_of(config)
    cutoffs = [band.cutoff for band in bands(config)[:-1]]
    most = max(channels)
    lowest = max(2 * cutoff * (own - 0.5) for own, cutoff in zip(channels[1:], cutoffs, strict=True))
    highest = min(
        2 * cutoff * (own + 0.5) if own < most else 2 * lowest
        for own, cutoff in zip(channels[1:], cutoffs, strict=True)
    )
    for step in (1 << n for n in range(20, -1, -1)):
        base = math.ceil(lowest / step) * step
        made = [round(min(base / 2 / cutoff, most)) for cutoff in cutoffs]
        if base <= highest and [made[0], *made] == channels:
            return base, most
    raise ConfigError(
        f"NVIDIA's code divides a number by each layer's cutoff to know its channels, and this generator has "
        f"{', '.join(map(str, channels))}: keep it in our own format"
    )
