"""The smallest run with everything in it: two photographs and a generated picture, two looks, every judge.

For tests that need *a* run, in this process or in one that they start and stop.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import pixel2style as p2s
from pixel2style.config import EncoderShape, GeneratorConfig, TrainConfig
from pixel2style.generators.stylegan2.network import StyleGAN2
from pixel2style.training.step import State, Teacher
from tests.support.paths import ASTRONAUT

SHAPE = EncoderShape(
    trunk="mobilefacenet", input_size=32, pyramid_width=32, heads="shared", tower_width=32, head_width=16
)


def small_config(folder: Path, **changes: Any) -> TrainConfig:
    """A run whose photographs and generator lie in ``folder``."""
    photos, generator = folder / "photos", folder / "generator.safetensors"
    if not generator.exists():
        photos.mkdir(parents=True)
        with Image.open(ASTRONAUT) as astronaut:
            for left in (140, 160):
                astronaut.convert("RGB").crop((left, 20, left + 160, 180)).save(photos / f"{left}.png")
        torch.manual_seed(0)
        p2s.save(StyleGAN2(GeneratorConfig(size=8, width=32, mapping_layers=1, channel_multiplier=1)), generator)
    config = TrainConfig(
        data=(str(photos),), out=str(folder / "run"), generator=str(generator), encoder=SHAPE, feedback=True,
        iterations=2, one_iteration_until=1, batch=2, generated=2, augment=True, warmup=2, steps=4, save_every=100,
        log_every=1,
        device="cpu", precision="fp32", clip=1.0,
    )  # fmt: skip
    return replace(config, **changes)


def in_double(state: State, teacher: Teacher) -> None:
    """Compute in 64 bits: in 32, a batch of another size rounds otherwise, and kinks make that rounding larger."""
    read, mapped = teacher.read, state.model.generator.map
    state.model.double()
    state.average.double()
    state.bank = state.bank.double()
    state.model.generator.map = lambda z, truncation=1.0: mapped(z.double(), truncation)
    teacher.read = lambda step: tuple(pictures.double() for pictures in read(step))


def everything(state: State) -> dict[str, Tensor]:
    """All numbers of a state by name."""
    found = {f"encoder.{name}": value for name, value in state.model.encoder.state_dict().items()}
    found |= {f"average.{name}": value for name, value in state.average.state_dict().items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        found |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    return found | {"bank": state.bank, "step": torch.tensor(state.step)}


def differences(one: State, other: State) -> list[str]:
    """The names of all numbers in which two states differ."""
    ours, theirs = everything(one), everything(other)
    assert ours.keys() == theirs.keys()
    return [name for name, value in ours.items() if not torch.equal(value, theirs[name])]
