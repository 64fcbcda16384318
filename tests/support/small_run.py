"""The smallest run with everything in it: two photographs, a generated picture, two iterations, all losses."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

import pixel2style as p2s
from pixel2style.config import EncoderShape, GeneratorConfig, TrainConfig
from pixel2style.generators.stylegan2.network import StyleGAN2
from pixel2style.training import checks, setup
from pixel2style.training.distributed import make_accelerator
from pixel2style.training.loop import training_loop
from pixel2style.training.monitor import Monitor
from pixel2style.training.state import BatchSource, State, TrainContext
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
        p2s.save(StyleGAN2(GeneratorConfig(size=8, width=32, mapping_layers=1, channels=(32, 32))), generator)
    config = TrainConfig(
        data=(str(photos),), out=str(folder / "run"), generator=str(generator), encoder=SHAPE, feedback=True,
        iterations=2, one_iteration_until=1, batch=2, generated=2, augment=True, warmup=2, steps=4, save_every=100,
        log_every=1,
        device="cpu", precision="fp32", clip=1.0,
    )  # fmt: skip
    return replace(config, **changes)


def start_run(config: TrainConfig) -> tuple[State, TrainContext]:
    """A run before its first step, without a folder."""
    config = checks.check_config(config)
    accelerator = make_accelerator(config)
    state = setup.initial_state(config, accelerator)
    return state, setup.build_context(config, state, setup.training_pictures(config, state.model), accelerator)


def train_steps(state: State, context: TrainContext, steps: int) -> list[dict[str, float]]:
    """Train so many steps more, without a folder; the losses of each."""
    context = replace(context, config=replace(context.config, steps=state.step + steps, log_every=1))
    found: list[dict[str, float]] = []
    training_loop(state, context, Monitor(state, context, watch=lambda step, losses: found.append(dict(losses))))
    return found


class Recorder:
    """An optimiser that changes nothing and keeps the gradients that it is given."""

    param_groups: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, state: State):
        self.network = state.network
        self.gradients: dict[str, Tensor] = {}

    def step(self) -> None:
        found = {name: weight.grad for name, weight in self.network.named_parameters()}
        self.gradients = {name: value.clone() for name, value in found.items() if value is not None}

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.network.zero_grad(set_to_none)


def gradients(state: State, context: TrainContext) -> dict[str, Tensor]:
    """The gradients of a step, as the optimiser gets them."""
    state.optimizer = recorder = Recorder(state)  # type: ignore[assignment]
    train_steps(state, context, 1)
    return recorder.gradients


class DoubleBatches:
    """Another source's pictures in 64 bits."""

    def __init__(self, batches: BatchSource):
        self.batches = batches

    def read(self, step: int) -> tuple[Tensor, Tensor]:
        sources, targets = self.batches.read(step)
        return sources.double(), targets.double()


def in_double(state: State, context: TrainContext) -> TrainContext:
    """Compute in 64 bits: in 32, a batch of another size is rounded differently, and kinks amplify the difference."""
    mapped = state.model.generator.map
    state.model.double()
    state.average.double()
    state.bank = state.bank.double()
    state.model.generator.map = lambda z, truncation=1.0: mapped(z.double(), truncation)  # type: ignore[method-assign]
    return replace(context, batches=DoubleBatches(context.batches))


def everything(state: State) -> dict[str, Tensor]:
    """All numbers of a state by name."""
    found = {f"network.{name}": value for name, value in state.network.state_dict().items()}
    found |= {f"average.{name}": value for name, value in state.average.state_dict().items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        found |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    return found | {"bank": state.bank, "step": torch.tensor(state.step)}


def differences(one: State, other: State) -> list[str]:
    """The names of all numbers in which two states differ."""
    ours, theirs = everything(one), everything(other)
    assert ours.keys() == theirs.keys()
    return [name for name, value in ours.items() if not torch.equal(value, theirs[name])]
