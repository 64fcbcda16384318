"""Small networks written as the published code writes its own, for tests of reading them."""

import copy
import functools
from typing import Any

import torch
from torch import Tensor

from pixel2style.config import EncoderConfig, GeneratorConfig, ModelConfig
from pixel2style.generators.stylegan2.network import StyleGAN2
from pixel2style.models import encoders
from pixel2style.models.psp import PSP
from tests.support.golden_rule import arr

SIDE, WIDTH = 16, 24
ROWS = 6
KERNEL = torch.tensor([1.0, 3.0, 3.0, 1.0])


def random_generator(**sizes: Any) -> StyleGAN2:
    """A generator of 16 pixels, or of other ``sizes``."""
    config = {"size": SIDE, "width": WIDTH, "mapping_layers": 2, "channel_multiplier": 2, **sizes}
    return copy.deepcopy(_random_generator(GeneratorConfig(**config)))


@functools.lru_cache(maxsize=8)
def _random_generator(config: GeneratorConfig) -> StyleGAN2:
    """Drawn once: that takes ten times as long as a copy."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return StyleGAN2(config)


def random_psp(kind: str = "pyramid", drawer: StyleGAN2 | None = None, feedback: bool = False, **sizes: Any) -> PSP:
    """A model with a published trunk, narrow rows and a small generator."""
    generator = drawer or random_generator()
    read_off = kind not in ("single_w", "last_layer")  # the others' tensors do not show their input's size
    shape = {"input_size": 64 if read_off else 256, "rows": generator.rows, "width": generator.width, **sizes}
    looks = {"feedback": True, "iterations": 5} if feedback else {}
    config = ModelConfig(EncoderConfig(kind=kind, **shape), generator.config, **looks)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = PSP(encoders.build(config.encoder), generator, config, arr("latent_avg", generator.width, scale=0.3))
    return model.eval()


def generator_state(generator: StyleGAN2) -> dict[str, Tensor]:
    """A generator's state in rosinality's layout."""
    state = {key: value.clone() for key, value in generator.state_dict().items() if key != "w_avg"}
    for key in state:
        if key.endswith(".conv.weight"):
            state[key] = state[key][None]
    kernel = torch.outer(KERNEL, KERNEL) / 16
    for level in range(generator.size.bit_length() - 3):
        state[f"convs.{2 * level}.conv.blur.kernel"] = kernel.clone()
        state[f"to_rgbs.{level}.upsample.kernel"] = kernel.clone()
    return state


RENAMED = (
    ("trunk.", ""),
    ("heads.", "styles."),
    ("pyramid.middle.", "latlayer1."),
    ("pyramid.fine.", "latlayer2."),
    ("output.", "output_layer_2."),
)


def psp_state(model: PSP) -> dict[str, Tensor]:
    """A model's ``state_dict`` as official checkpoints hold it."""
    state = {f"decoder.{key}": value for key, value in generator_state(model.generator).items()}
    for key, value in model.encoder.state_dict().items():
        name = next((theirs + key.removeprefix(ours) for ours, theirs in RENAMED if key.startswith(ours)), key)
        state[f"encoder.{name}"] = value.clone()
    return state
