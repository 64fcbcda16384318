"""Networks built as shapes: the same shapes, and nothing heavy imported for them."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from pixel2style.config import AliasFreeConfig, EncoderConfig, GeneratorConfig
from pixel2style.formats.meta_device import shapes_only
from pixel2style.generators.mobilestylegan.network import MobileStyleGAN
from pixel2style.generators.stylegan2.network import StyleGAN2
from pixel2style.generators.stylegan3.network import StyleGAN3
from pixel2style.models import encoders

GENERATORS = [
    (StyleGAN2, GeneratorConfig(size=16, width=32, mapping_layers=2, classes=3)),
    (MobileStyleGAN, GeneratorConfig(kind="mobilestylegan")),
    (StyleGAN3, GeneratorConfig(kind="stylegan3", size=16, width=32, alias_free=AliasFreeConfig(radial=True))),
]


def shapes(network: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (value.shape, value.dtype) for name, value in network.state_dict().items()}


@pytest.mark.parametrize(("build", "config"), GENERATORS)
def test_a_generator_of_shapes_has_those_of_one_of_numbers(build: type[nn.Module], config: GeneratorConfig) -> None:
    with shapes_only():
        outline = build(config)
    assert all(value.is_meta for value in outline.state_dict().values())
    assert shapes(outline) == shapes(build(config))


@pytest.mark.parametrize("trunk", ["ir_se50", "mobilefacenet", "resnet34"])
def test_an_encoder_of_shapes_has_those_of_one_of_numbers(trunk: str) -> None:
    config = EncoderConfig(trunk=trunk, input_size=64, rows=6, width=32, pyramid_width=32)
    with shapes_only():
        outline = encoders.build(config)
    assert all(value.is_meta for value in outline.state_dict().values())
    assert shapes(outline) == shapes(encoders.build(config))


def test_numbers_are_drawn_again_outside() -> None:
    with shapes_only():
        pass
    assert nn.Linear(4, 4).weight.unique().numel() == 16


def test_a_photograph_is_inverted_without_a_compiler_and_without_torchvision() -> None:
    """They take longer to import than everything else together."""
    program = """
import sys
import numpy as np, pixel2style as p2s
from PIL import Image
session = p2s.Session("faces", "cpu")
session.model, session.aligner.detect(Image.fromarray(np.zeros((64, 64, 3), np.uint8)))
sys.exit(" ".join({"torch._dynamo", "torchvision", "sympy", "huggingface_hub"} & set(sys.modules)) or 0)
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
