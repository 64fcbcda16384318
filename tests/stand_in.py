"""A model with random weights for tests that need *a* model, not a good one. No user ever meets it."""

from pathlib import Path

import torch

import pixel2style as p2s
from pixel2style import encoders
from pixel2style.config import EncoderConfig, GeneratorConfig, ModelConfig
from pixel2style.stylegan2 import StyleGAN2

SIZE = 16
ROWS = 6
WIDTH = 64


def random_model(seed: int = 0, channels: int = 3) -> "p2s.PSP":
    """A pSp into a 16-pixel generator, quick to build and to run."""
    config = ModelConfig(
        encoder=EncoderConfig(
            kind="single_w", trunk="mobilefacenet", input_channels=channels, input_size=64, rows=ROWS, width=WIDTH
        ),
        generator=GeneratorConfig(size=SIZE, width=WIDTH, mapping_layers=2, channel_multiplier=1),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = StyleGAN2(config.generator)
        model = p2s.PSP(encoders.build(config.encoder), generator, config, torch.randn(WIDTH) * 0.1)
    return model.eval()


def save_random_model(path: Path, seed: int = 0, channels: int = 3) -> Path:
    """``random_model`` as one of our files."""
    p2s.save(random_model(seed, channels), path)
    return path
