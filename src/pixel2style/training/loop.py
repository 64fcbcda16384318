"""A training run from its first step to its last: when to log, judge, save and stop.

    from pixel2style import presets, train
    train.fit(replace(presets.PRESETS["invert-compact"].config, data=("photos",), out="runs/mine"))

The same configuration again continues the run from its last saved state, to the bit on one machine. What a step is,
``learning`` says; what a run starts from, ``starting``; this module decides. Of many processes the first one writes.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import checkpoints
from ..config import TrainConfig
from ..errors import ConfigError, ImageError
from ..metrics.scores import Scorer
from ..runtime import memory_gb
from ..tasks import find_task
from . import checks, logging, setup
from . import evaluate as validation
from .dataset import Pictures
from .run_folder import RunFolder
from .step import State, Teacher, learning_rate, steps
from .stopping import Stop

if TYPE_CHECKING:
    from accelerate import Accelerator

Watch = Callable[[int, Mapping[str, float]], None]
"""Told every step's number and, at every logged one, its losses."""


def save(state: State, teacher: Teacher, folder: RunFolder) -> None:
    """Write the run's model (the averaged encoder), then its state: a run cut off in between does both again."""
    save_model(state, teacher.config, folder.model)
    scaler = teacher.accelerator.scaler
    learning = state.model.encoder
    content: dict[str, Any] = {
        "encoder": learning.state_dict(),
        "average": None if state.average is learning else state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scaler": scaler.state_dict() if scaler else None,
        "random": torch.get_rng_state(),
        "bank": state.bank,
        "counts": [state.step, state.skipped, state.skipped_in_a_row, state.best_step],
        "best": state.best,
        "validation": [*teacher.config.validation, *teacher.config.validation_targets],
    }
    folder.keep(content, state.step, teacher.config.keep)


def save_model(state: State, config: TrainConfig, file: Path) -> None:
    """Write the averaged encoder as one of our files; a bundled generator is referred to, not stored again."""
    source = config.generator or config.start_from or checkpoints.DEFAULT_GENERATOR
    checkpoints.save(state.averaged(), file, generator=checkpoints.bundled_generator(source))


def resume(state: State, folder: RunFolder, config: TrainConfig, accelerator: "Accelerator") -> None:
    """Take up the folder's last state, if there is one. Raises CheckpointError when none can be read.

    The best loss so far is forgotten where other pictures judge now.
    """
    content = folder.kept()
    if content is None:
        return
    state.model.encoder.load_state_dict(content["encoder"])
    if content["average"] is not None:
        state.average.load_state_dict(content["average"])
    state.optimizer.load_state_dict(content["optimizer"])
    if content["scaler"] and accelerator.scaler:
        accelerator.scaler.load_state_dict(content["scaler"])
    torch.set_rng_state(content["random"])
    state.bank = content["bank"].to(state.bank.device)
    state.step, state.skipped, state.skipped_in_a_row, state.best_step = content["counts"]
    if content["validation"] == [*config.validation, *config.validation_targets]:
        state.best = content["best"]


@dataclass
class Run:
    """One process's side of a run. Only the first process has a tracker and judges."""

    config: TrainConfig
    state: State
    teacher: Teacher
    folder: RunFolder
    validation: Pictures | None = None
    judges: Scorer | None = None
    tracker: logging.Tracker | None = None
    watch: Watch | None = None
    begun: float = field(default_factory=time.monotonic)
    measured: tuple[float, int] = (0.0, 0)

    def log(self, numbers: Mapping[str, Tensor]) -> None:
        """Tell a step's numbers, averaged over the processes, with speed and memory since the last time."""
        mean = torch.stack([value.float().to(self.teacher.device) for value in numbers.values()])
        self.teacher.joined([mean])
        state, config, now = self.state, self.config, time.monotonic()
        values = dict(zip(numbers, mean.tolist(), strict=True))
        taken, passed = state.step - self.measured[1], now - self.measured[0]
        self.measured = (now, state.step)
        if self.tracker:
            about = {
                "lr": learning_rate(config, state.step - 1),
                "pictures_per_s": taken * (config.batch + config.generated) / max(passed, 1e-9),
                "memory_gb": memory_gb(self.teacher.device),
                "skipped_steps": float(state.skipped),
                "seconds": now - self.begun,
            }
            self.tracker.numbers(state.step, {f"train/{name}": value for name, value in values.items()} | about)
        if self.watch:
            self.watch(state.step, values)

    def judge(self) -> None:
        """Judge the validation pictures, keep the best model, show pictures."""
        if not (self.tracker and self.judges):
            return
        state = self.state
        if self.validation is not None:
            found = validation.judge(state, self.teacher, self.judges, self.validation)
            losses = {f"validation/{name}": value for name, value in found.losses.items()}
            scores = {f"scores/{name}": value for name, value in found.scores.items()}
            self.tracker.numbers(state.step, losses | scores)
            if self.watch:
                self.watch(state.step, {"validation/loss": found.losses["loss"], **scores})
            self.tracker.pictures(state.step, "validation", found.rows)
            if found.losses["loss"] < state.best:
                state.best, state.best_step = found.losses["loss"], state.step
                save_model(state, self.config, self.folder.best)
                best = {f"best/{name}": value for name, value in {"loss": state.best, **found.scores}.items()}
                self.tracker.summary({"best/step": state.step, "best/file": str(self.folder.best), **best})
        self.tracker.pictures(state.step, "train", validation.training_rows(state, self.teacher, self.judges))

    def over(self) -> bool:
        """Whether the run has come to its end, or to the end of its minutes."""
        late = self.config.minutes > 0 and time.monotonic() - self.begun > 60 * self.config.minutes
        if self.teacher.accelerator.num_processes > 1:  # clocks differ, and all must stop at the same step
            flag = torch.tensor([float(late)], device=self.teacher.device)
            self.teacher.joined([flag])
            late = bool(flag > 0)
        return late or self.state.step >= self.config.steps

    def next_of(self, learning: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
        """The next step's numbers. What was learned is saved where the step cannot be taken, for a broken picture."""
        try:
            return next(learning)
        except ImageError:
            if self.teacher.accelerator.is_main_process:
                save(self.state, self.teacher, self.folder)
            raise

    def go(self, stop: Stop) -> None:
        """Take steps to the end, or until someone wants it to stop; the last step is always saved.

        A new run is judged before its first step, so that curves begin where it began.
        """
        config, state = self.config, self.state
        if state.step == 0:
            self.judge()
        self.begun = time.monotonic()  # minutes are for learning
        self.measured = (self.begun, state.step)
        learning, over = steps(state, self.teacher), state.step >= config.steps
        while not over:
            numbers = self.next_of(learning)
            over = stop.agreed(self.teacher.accelerator) or self.over()
            if state.step % config.log_every == 0 or state.step in (1, config.steps):
                self.log(numbers)
            elif self.watch:
                self.watch(state.step, {})
            if state.step % config.judge_every == 0 or state.step >= config.steps:
                self.judge()
            if self.teacher.accelerator.is_main_process and (over or state.step % config.save_every == 0):
                save(state, self.teacher, self.folder)


def fit(
    config: TrainConfig,
    watch: Watch | None = None,
    stop: Stop | None = None,
    say: Callable[[str], None] | None = None,
) -> State:
    """Run, or take up again, the run that ``config`` describes. A finished one takes no step.

    ``say`` is told in a sentence what begins. Ctrl-C and SIGTERM let the step end and save: whoever gave ``stop`` finds
    it in there, for all others KeyboardInterrupt or SystemExit is raised then.

    Raises ConfigError for settings that cannot work, pictures that do not fit, or another configuration than the one
    that ``out`` holds; CheckpointError for models and states that cannot be read; OutputError when ``out`` cannot be
    written; TrainingError when it diverges.
    """
    config, asked = checks.settled(config), stop or Stop()
    accelerator = checks.accelerated(config)
    with contextlib.ExitStack() as until_the_end:
        state, run = prepared(config, accelerator, watch)
        if run.tracker:
            until_the_end.push(_closing(run.tracker))
        if say and accelerator.is_main_process:
            say(_beginning(run))
        until_the_end.enter_context(asked.listening())
        run.go(asked)
        accelerator.wait_for_everyone()
    if stop is None and asked.signal is not None:
        raise KeyboardInterrupt if asked.signal == signal.SIGINT else SystemExit(128 + asked.signal)
    return state


def _beginning(run: Run) -> str:
    config, device = run.config, run.teacher.device.type
    text = f"{len(run.teacher.pictures)} pictures, on {device}, from step {run.state.step} of {config.steps}"
    if device == "cpu" and run.state.model.encoder.config.trunk == "ir_se50":
        text += f"; an encoder of the paper's size wants a GPU: on a CPU train {config.task}-compact"
    return text


def prepared(config: TrainConfig, accelerator: "Accelerator", watch: Watch | None) -> tuple[State, Run]:
    """The run at its first step, or where it was left. What is wrong is raised before anything is written."""
    state = setup.start(config, accelerator)
    pictures = setup.training_pictures(config, state.model.encoder.config.input_size)
    judged = setup.validation_pictures(config, state.model.encoder.config.input_size)
    teacher = setup.appoint(config, state, pictures, accelerator)
    folder = RunFolder(config.out)
    folder.compare(config)
    resume(state, folder, config, accelerator)
    check_agreement(state, accelerator)
    if state.step > config.steps:
        raise ConfigError(f"{config.out} stands at step {state.step} already: give --steps {state.step} or more")
    if accelerator.is_main_process:
        folder.remember(config)
    accelerator.wait_for_everyone()
    run = Run(config, state, teacher, folder, watch=watch)
    if accelerator.is_main_process:
        run.validation = judged
        run.judges = Scorer(accelerator.device, faces=find_task(config.task).faces)
        run.tracker = logging.trackers(config, folder.path, state.step)
    return state, run


def check_agreement(state: State, accelerator: "Accelerator") -> None:
    """Raise ConfigError where processes begin with different weights: they would average gradients of nothing."""
    total = sum(float(weight.detach().double().sum()) for weight in state.model.encoder.parameters())
    mine = torch.tensor([[float(state.step), total]], device=accelerator.device)
    everyone = accelerator.gather(mine)
    if not bool((everyone == everyone[0]).all()):
        raise ConfigError("processes found different states: give all of them the same files and a shared --out")


def _closing(tracker: logging.Tracker) -> Callable[..., bool]:
    def close(kind: type[BaseException] | None, *_: object) -> bool:
        tracker.close(failed=kind is not None)
        return False

    return close
