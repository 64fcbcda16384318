"""A run between two steps: what stays the same, what changes, and how that is saved and resumed.

Axes: ``b`` batch, ``c`` channels, ``s`` side, ``n`` pictures in the bank, ``k`` rows, ``d`` width of a row.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor

from .. import checkpoints
from ..config import TrainConfig
from ..metrics.losses import Objective
from ..models.detail import DetailEncoder
from ..models.encoders import Encoder
from ..models.psp import PSP
from ..tasks import Task
from .dataset import Pictures
from .detail_setup import model_source
from .memory import StepInBackward, recast
from .run_folder import RunFolder
from .steps import Step

if TYPE_CHECKING:
    from accelerate import Accelerator


class BatchSource(Protocol):
    """Where the pictures of a step come from."""

    def read(self, step: int) -> tuple[Tensor, Tensor]:
        """This process's sources ``[b c s s]`` and targets ``[b 3 256 256]`` of a step, on the CPU."""


@dataclass(frozen=True)
class TrainContext:
    """What stays the same during a run.

    ``draw`` maps rows ``[b k d]`` to the pictures ``[b 3 r r]`` of a step, ``step`` computes its gradients.
    """

    config: TrainConfig
    task: Task
    objective: Objective
    pictures: Pictures
    batches: BatchSource
    draw: Callable[[Tensor], Tensor]
    accelerator: "Accelerator"
    step: Step

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return cast(torch.device, self.accelerator.device)

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """The run's precision, without keeping 16-bit copies of weights until the backward pass."""
        from accelerate.utils import AutocastKwargs

        saving = contextlib.nullcontext() if self.config.compile else recast()
        with self.accelerator.autocast(AutocastKwargs(cache_enabled=False)), saving:
            yield


@dataclass
class State:
    """What changes during a run.

    ``average`` is the moving average of the network that is trained, or that network itself where the run keeps none.
    ``bank`` holds the codes of the last pictures, ``[n k d]``. ``best`` is the lowest validation loss, found at
    ``best_step``.
    """

    model: PSP
    average: Encoder | DetailEncoder
    optimizer: torch.optim.Optimizer | StepInBackward
    bank: Tensor
    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best: float = math.inf
    best_step: int = 0

    @property
    def network(self) -> Encoder | DetailEncoder:
        """The part of the model that is trained: its encoder, or its detail encoder."""
        return self.model.encoder if self.model.detail is None else self.model.detail

    def averaged(self) -> PSP:
        """The model with the averaged network in the place of the trained one."""
        model, average = self.model, self.average
        parts = (average, None) if isinstance(average, Encoder) else (model.encoder, average)
        made = PSP(parts[0], model.generator, model.config, model.w_avg, model.w_unit, detail=parts[1])
        return made.to(self.bank.device)

    @contextlib.contextmanager
    def inference(self) -> Iterator[PSP]:
        """The averaged model in eval mode; afterwards its average is in the mode that it was in."""
        training = self.average.training
        try:
            yield self.averaged().eval()
        finally:
            self.average.train(training)


def save(state: State, context: TrainContext, folder: RunFolder) -> None:
    """Write the run's model (the averaged one), then its state: an interruption in between repeats both.

    Raises OutputError when they cannot be written.
    """
    config, scaler, network = context.config, context.accelerator.scaler, state.network
    save_model(state, config, folder.model)
    content: dict[str, Any] = {
        config.network: network.state_dict(),
        "average": None if state.average is network else state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scaler": scaler.state_dict() if scaler else None,
        "random": torch.get_rng_state(),
        "bank": state.bank,
        "counts": [state.step, state.skipped, state.skipped_in_a_row, state.best_step],
        "best": state.best,
        "validation": [*config.validation, *config.validation_targets],
    }
    folder.write_state(content, state.step, config.keep)


def save_model(state: State, config: TrainConfig, file: Path) -> None:
    """Write the averaged model as one of our files; a bundled generator is named in it, not stored again."""
    start = model_source(config) if config.network == "detail" else config.start_from
    source = config.generator or start or checkpoints.DEFAULT_GENERATOR
    checkpoints.save(state.averaged(), file, generator=checkpoints.bundled_generator(source))


def resume(state: State, context: TrainContext, folder: RunFolder) -> None:
    """Load the folder's last state, if there is one. Raises CheckpointError when none can be read.

    The lowest validation loss so far is dropped where the validation folders have changed.
    """
    content = folder.read_state()
    if content is None:
        return
    config, scaler = context.config, context.accelerator.scaler
    state.network.load_state_dict(content[config.network])
    if content["average"] is not None:
        state.average.load_state_dict(content["average"])
    state.optimizer.load_state_dict(content["optimizer"])
    if content["scaler"] and scaler:
        scaler.load_state_dict(content["scaler"])
    torch.set_rng_state(content["random"])
    state.bank = content["bank"].to(state.bank.device)
    state.step, state.skipped, state.skipped_in_a_row, state.best_step = content["counts"]
    if content["validation"] == [*config.validation, *config.validation_targets]:
        state.best = content["best"]
