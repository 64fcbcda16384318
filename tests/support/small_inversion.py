"""A small generator with maps of 16 and 32 pixels, and inversions with residuals on both."""

import torch

from pixel2style.config import GeneratorConfig
from pixel2style.generators import StyleGAN2
from pixel2style.models.inversion import Inversion

from .golden_rule import arr


def generator() -> StyleGAN2:
    """Of 64 pixels."""
    torch.manual_seed(0)
    return StyleGAN2(GeneratorConfig(size=64, width=16, mapping_layers=1, channels=(8, 8, 8, 6, 4))).eval()


def inversion(generator: StyleGAN2, pictures: int) -> Inversion:
    """The same numbers every time."""
    channels = generator.map_channels()
    residuals = {side: arr(f"residual {side}", pictures, channels[side], side, side) for side in (16, 32)}
    return Inversion(arr("ws", pictures, generator.rows, 16), residuals)
