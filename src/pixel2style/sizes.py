"""Sizes of published networks, read off the shapes of their tensors and never off what a file says of itself.

A tensor that is missing, or a senseless index, makes a guess: whoever fills the network then says what does not fit.
Keys are those of rosinality's generators and of pSp's encoders, without the prefix that tells the two apart.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from .config import EncoderConfig, GeneratorConfig

MAX_DOUBLINGS, MAX_MAPPING, MAX_STRIDES = 10, 64, 6
"""Beyond these an index in a key is nonsense: 4096 pixels, 64 mapping layers, inputs of 1024 pixels."""

FULL_CHANNELS, FULL_CHANNELS_SIDE = 512, 32


def channels_at(side: int, multiplier: int) -> int:
    """Channels of a StyleGAN2's maps of ``side`` pixels: 512 up to 32, then halved with every doubling."""
    return FULL_CHANNELS if side <= FULL_CHANNELS_SIDE else FULL_CHANNELS_SIDE * FULL_CHANNELS * multiplier // side


def multiplier(channels: Sequence[int]) -> int | None:
    """What multiplier makes ``channels_at`` these ``channels`` of the maps at 4, 8, ... pixels; None where none does.

    Up to 32 pixels every multiplier does; the usual one is said.
    """
    side = 4 << len(channels) - 1
    guess = channels[-1] * side // (FULL_CHANNELS_SIDE * FULL_CHANNELS)
    found = guess if side > FULL_CHANNELS_SIDE else GeneratorConfig.channel_multiplier
    usual = [channels_at(4 << n, found) for n in range(len(channels))]
    return found if found > 0 and usual == list(channels) else None


def generator(weights: Mapping[str, Tensor]) -> GeneratorConfig:
    """What a generator with these tensors is."""
    doublings = max(_highest(weights, r"convs\.(\d+)\..*") // 2, _highest(weights, r"to_rgbs\.(\d+)\..*")) + 1
    doublings = min(max(doublings, 1), MAX_DOUBLINGS)
    biases = ["conv1.activate.bias", *(f"convs.{2 * n + 1}.activate.bias" for n in range(doublings))]
    channels = tuple(_length(weights, key, FULL_CHANNELS) for key in biases)
    found = multiplier(channels)
    layers = min(max(_highest(weights, r"style\.(\d+)\..*"), 1), MAX_MAPPING)
    width = _length(weights, f"style.{layers}.bias", GeneratorConfig.width)
    first, embed = weights.get("style.1.weight"), weights.get("embed.weight")
    told = embed.shape if embed is not None and embed.ndim == 2 else (0, 0)
    noise = width if first is None or first.ndim != 2 else max(1, first.shape[1] - told[0])
    return GeneratorConfig(
        size=4 << doublings,
        width=width,
        mapping_layers=layers,
        channel_multiplier=found or GeneratorConfig.channel_multiplier,
        channels=() if found else channels,
        noise_width=0 if noise == width else noise,
        classes=told[1],
    )


def encoder(weights: Mapping[str, Tensor], drawer: GeneratorConfig) -> EncoderConfig:
    """What an encoder with these tensors, that belongs to ``drawer``, is; rows that are deltas look like others."""
    resnet = "conv1.weight" in weights
    stem = weights.get("conv1.weight" if resnet else "input_layer.0.weight")
    common: dict[str, Any] = {
        "trunk": "resnet34" if resnet else "ir_se50",
        "input_channels": max(1, stem.shape[1]) if stem is not None and stem.ndim == 4 else 3,
    }
    if "linear.weight" not in weights:
        strides = _highest(weights, r"styles\.0\.convs\.(\d+)\..*") // 2 + 1
        return EncoderConfig(
            kind="pyramid" if "latlayer1.weight" in weights else "top",
            input_size=16 << min(max(strides, 1), MAX_STRIDES),
            rows=min(max(_highest(weights, r"styles\.(\d+)\..*") + 1, 1), 2 * MAX_DOUBLINGS + 2),
            width=_length(weights, "styles.0.linear.bias", drawer.width),
            pyramid_width=_length(weights, "latlayer1.bias", EncoderConfig.pyramid_width),
            **common,
        )
    numbers = _length(weights, "linear.bias", drawer.width)
    if any(key.startswith("output_layer_2.") for key in weights):
        rows = max(1, numbers // drawer.width)
        return EncoderConfig(kind="last_layer", rows=rows, width=drawer.width, **common)
    rows = 2 * (drawer.size.bit_length() - 1) - 2
    return EncoderConfig(kind="single_w", rows=rows, width=numbers, **common)


def _highest(weights: Mapping[str, Tensor], pattern: str) -> int:
    """The highest index that ``pattern`` finds in the keys, -1 where it finds none."""
    found = (re.fullmatch(pattern, key) for key in weights)
    return max((int(match[1][:6]) for match in found if match), default=-1)


def _length(weights: Mapping[str, Tensor], key: str, default: int) -> int:
    value = weights.get(key)
    return default if value is None else max(1, value.numel())
