"""Sizes of published generators, read off the shapes of their tensors and never off what a file says of itself.

A tensor that is missing, or a senseless index, makes a guess: whoever fills the network then says what does not fit.
Keys are those of rosinality's generators.
"""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from ...config import GeneratorConfig

MAX_DOUBLINGS, MAX_MAPPING = 10, 64
"""Beyond these an index in a key is nonsense: 4096 pixels, 64 mapping layers."""

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
    doublings = max(highest(weights, r"convs\.(\d+)\..*") // 2, highest(weights, r"to_rgbs\.(\d+)\..*")) + 1
    doublings = min(max(doublings, 1), MAX_DOUBLINGS)
    biases = ["conv1.activate.bias", *(f"convs.{2 * n + 1}.activate.bias" for n in range(doublings))]
    channels = tuple(length_of(weights, key, FULL_CHANNELS) for key in biases)
    found = multiplier(channels)
    layers = min(max(highest(weights, r"style\.(\d+)\..*"), 1), MAX_MAPPING)
    width = length_of(weights, f"style.{layers}.bias", GeneratorConfig.width)
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


def highest(weights: Mapping[str, Tensor], pattern: str) -> int:
    """The highest index that ``pattern`` finds in the keys, -1 where it finds none."""
    found = (re.fullmatch(pattern, key) for key in weights)
    return max((int(match[1][:6]) for match in found if match), default=-1)


def length_of(weights: Mapping[str, Tensor], key: str, default: int) -> int:
    """How many numbers the tensor ``key`` has, ``default`` where there is none."""
    value = weights.get(key)
    return default if value is None else max(1, value.numel())
