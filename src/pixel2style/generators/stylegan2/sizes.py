"""The configuration of a published StyleGAN2 from the shapes of its tensors, never from the options in its file.

Where a tensor is missing or an index is out of range, the value is a guess, and filling the network reports what does
not fit. Keys are those of rosinality's generators.
"""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from ...config import GeneratorConfig

MAX_DOUBLINGS, MAX_MAPPING = 10, 64
"""Largest indices that are accepted in keys: 4096 pixels, 64 mapping layers."""

FULL_CHANNELS, FULL_CHANNELS_SIDE = 512, 32


def channels_at(side: int, multiplier: int) -> int:
    """Channels of maps of ``side`` pixels: 512 up to 32 pixels, above that half as many with every doubling."""
    return FULL_CHANNELS if side <= FULL_CHANNELS_SIDE else FULL_CHANNELS_SIDE * FULL_CHANNELS * multiplier // side


def multiplier(channels: Sequence[int]) -> int | None:
    """The multiplier for which ``channels_at`` gives ``channels`` for the maps at 4, 8, ... pixels; None if none does.

    Up to 32 pixels all do, and it is the default one.
    """
    side = 4 << len(channels) - 1
    guess = channels[-1] * side // (FULL_CHANNELS_SIDE * FULL_CHANNELS)
    found = guess if side > FULL_CHANNELS_SIDE else GeneratorConfig.channel_multiplier
    expected = [channels_at(4 << n, found) for n in range(len(channels))]
    return found if found > 0 and expected == list(channels) else None


def generator(weights: Mapping[str, Tensor]) -> GeneratorConfig:
    """The configuration of a generator with these tensors."""
    doublings = max(highest(weights, r"convs\.(\d+)\..*") // 2, highest(weights, r"to_rgbs\.(\d+)\..*")) + 1
    doublings = min(max(doublings, 1), MAX_DOUBLINGS)
    biases = ["conv1.activate.bias", *(f"convs.{2 * n + 1}.activate.bias" for n in range(doublings))]
    channels = tuple(length_of(weights, key, FULL_CHANNELS) for key in biases)
    found = multiplier(channels)
    layers = min(max(highest(weights, r"style\.(\d+)\..*"), 1), MAX_MAPPING)
    width = length_of(weights, f"style.{layers}.bias", GeneratorConfig.width)
    first, embed = weights.get("style.1.weight"), weights.get("embed.weight")
    embed_width, classes = embed.shape if embed is not None and embed.ndim == 2 else (0, 0)
    noise = width if first is None or first.ndim != 2 else max(1, first.shape[1] - embed_width)
    return GeneratorConfig(
        size=4 << doublings,
        width=width,
        mapping_layers=layers,
        channel_multiplier=found or GeneratorConfig.channel_multiplier,
        channels=() if found else channels,
        noise_width=0 if noise == width else noise,
        classes=classes,
    )


def highest(weights: Mapping[str, Tensor], pattern: str) -> int:
    """The highest index in keys that match ``pattern``, -1 where none does."""
    found = (re.fullmatch(pattern, key) for key in weights)
    return max((int(match[1][:6]) for match in found if match), default=-1)


def length_of(weights: Mapping[str, Tensor], key: str, default: int) -> int:
    """The number of elements of the tensor ``key``, ``default`` where there is none."""
    value = weights.get(key)
    return default if value is None else max(1, value.numel())
