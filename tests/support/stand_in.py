"""A model with random weights for tests that need *a* model, not a good one. No user ever meets it."""

from pathlib import Path
from typing import Any

import torch

import pixel2style as p2s
from pixel2style.config import DEFAULT_TASK, EncoderConfig, GeneratorConfig, ModelConfig
from pixel2style.generators.stylegan2.network import StyleGAN2
from pixel2style.models import encoders

SIZE = 16
ROWS = 6
WIDTH = 64
MAPS = (160, 160, 160)
"""Channels of the generator's maps, narrow so that it is quick to draw, store and read; ``()`` for the usual 512."""


def random_model(
    seed: int = 0, channels: int = 3, maps: tuple[int, ...] = MAPS, task: str = DEFAULT_TASK, height: int = 0
) -> "p2s.PSP":
    """A pSp into a 16-pixel generator, quick to build and to run; with a ``height`` below 64, of wide pictures."""
    config = ModelConfig(
        encoder=EncoderConfig(
            kind="single_w",
            trunk="mobilefacenet",
            input_channels=channels,
            input_size=64,
            input_height=height,
            rows=ROWS,
            width=WIDTH,
        ),
        generator=GeneratorConfig(size=SIZE, width=WIDTH, mapping_layers=2, channel_multiplier=1, channels=maps),
        task=task,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = StyleGAN2(config.generator)
        model = p2s.PSP(encoders.build(config.encoder), generator, config, torch.randn(WIDTH) * 0.1)
    return model.eval()


def save_random_model(path: Path, seed: int = 0, channels: int = 3, task: str = DEFAULT_TASK) -> Path:
    """``random_model`` as one of our files."""
    p2s.save(random_model(seed, channels, task=task), path)
    return path


def tiny_model(seed: int = 0, **changes: Any) -> "p2s.PSP":
    """The smallest pSp, for tests of files and not of pictures; ``changes`` are of its configuration."""
    encoder = EncoderConfig(kind="single_w", trunk="mobilefacenet", input_size=32, rows=4, width=16)
    config = ModelConfig(encoder, GeneratorConfig(size=8, width=16, mapping_layers=1, channels=(8, 8)), **changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return p2s.PSP(encoders.build(encoder), StyleGAN2(config.generator), config, torch.randn(16)).eval()


def same(one: "p2s.PSP", other: "p2s.PSP") -> bool:
    """Whether two models have the same numbers."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
