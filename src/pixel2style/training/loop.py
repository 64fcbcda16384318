"""The training loop: the passes of a step, then its update (pSp, section 3).

    from pixel2style.tasks import presets
    from pixel2style.training import loop
    loop.fit(replace(presets.PRESETS["invert-compact"].config, data=("photos",), out="runs/mine"))

The same configuration again continues the run from its last saved state, to the bit on one machine: the pictures of a
step follow from the run's seed, the step and the index in the joint batch alone (``dataset``, ``batches``).
"""

import contextlib
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .. import files
from ..config import TrainConfig
from ..errors import ConfigError, ImageError, TrainingError
from . import checks, setup
from .distributed import average, check_same_state, make_accelerator
from .memory import StepInBackward
from .monitor import Monitor, Watch
from .run_folder import RunFolder
from .state import State, TrainContext, resume
from .stopping import Stop

DECAY_SHARE, FINAL = 0.3, 0.03
"""The share of the steps in which the rate of a trapezoid falls, and what is left of it at the end."""
MAX_SKIPPED = 20
"""Steps in a row without a finite gradient after which a run ends."""


def training_loop(state: State, context: TrainContext, monitor: Monitor) -> None:
    """Train ``state`` in place, to ``config.steps`` or until ``monitor`` says that the run is to stop.

    ``context.step`` adds up the gradients of all parts of a batch; they are averaged over processes; then one update is
    made. A step whose gradient is not finite is skipped: weights, statistics and the bank stay as
    they were (but in a frugal run, where weights with a finite gradient have been updated by then). Raises ImageError
    for a picture that cannot be read, TrainingError when ``MAX_SKIPPED`` steps in a row were skipped.
    """
    config, accelerator = context.config, context.accelerator
    network, optimizer = state.network, state.optimizer
    parameters = list(network.parameters())
    if state.step == 0:
        monitor.evaluate()  # so that curves start where the run starts
    monitor.start()
    done = state.step >= config.steps
    while not done:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, state.step) * group.get("lr_factor", 1.0)
        statistics = [(buffer, buffer.clone()) for buffer in network.buffers()]
        passes = context.step(state, context)

        # Average the gradients over the processes and update.
        if isinstance(optimizer, StepInBackward):
            norm = optimizer.gradient_norm()
        else:
            average([weight.grad for weight in parameters if weight.grad is not None], accelerator)
            norm = torch.as_tensor(accelerator.clip_grad_norm_(parameters, config.clip or math.inf))
        finite = bool(torch.isfinite(norm))
        if finite or accelerator.scaler is not None:  # a scaler skips the step itself, and adapts its scale
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if finite:
            if passes.codes is not None:
                state.bank = cast(Tensor, accelerator.gather(passes.codes))
            average([buffer for buffer, _ in statistics if buffer.is_floating_point()], accelerator)
            state.skipped_in_a_row = 0
        else:
            for buffer, before in statistics:
                buffer.copy_(before)
            state.skipped, state.skipped_in_a_row = state.skipped + 1, state.skipped_in_a_row + 1
        if state.average is not network:
            update_average(state.average, network, min(config.ema, (state.step + 1) / (state.step + 10)))
        state.step += 1
        if state.skipped_in_a_row >= MAX_SKIPPED:
            raise TrainingError(
                f"{MAX_SKIPPED} steps in a row gave no finite gradient: continue from the last state with a lower --lr "
                "in another --out, set --clip 1, or use --precision fp32"
            )

        # Log, evaluate and save.
        done = monitor.stopping() or state.step >= config.steps
        if state.step % config.log_every == 0 or state.step in (1, config.steps):
            losses = passes.losses
            mean = {name: torch.stack([values[name] for values in losses]).mean() for name in losses[0]}
            monitor.log({**mean, "gradient": norm})
        else:
            monitor.tick()
        if state.step % config.judge_every == 0 or state.step >= config.steps:
            monitor.evaluate()
        if done or state.step % config.save_every == 0:
            monitor.save()


def learning_rate(config: TrainConfig, step: int) -> float:
    """Warm-up, then ``lr``, and a cosine from it to a fiftieth of it at ``steps``, or a line to ``FINAL`` of it."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "trapezoid":
        left = max(0.0, min(1.0, (config.steps - step) / max(1, DECAY_SHARE * config.steps)))
        return config.lr * (FINAL + (1 - FINAL) * left)
    done = min(1.0, (step - config.warmup) / max(1, config.steps - config.warmup))
    return config.lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the network's; buffers are copied."""
    ours: list[Tensor] = list(average.parameters())
    theirs: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(ours, theirs, 1 - decay)
    for mean, buffer in zip(average.buffers(), network.buffers(), strict=True):
        mean.copy_(buffer)


def fit(
    config: TrainConfig,
    watch: Watch | None = None,
    stop: Stop | None = None,
    say: Callable[[str], None] | None = None,
) -> State:
    """Start or resume the run that ``config`` describes, and return its last state. A finished run takes no step.

    ``watch`` gets the number of every step and, at logged steps, its losses; ``say`` one sentence when training starts.
    Ctrl-C and SIGTERM let the current step end and save it; then ``stop`` holds the signal where it was given, else
    KeyboardInterrupt or SystemExit is raised.

    Raises ConfigError for settings that cannot work, files that cannot be paired, and where ``out`` holds a run with
    another configuration; CheckpointError for models and states that cannot be read; OutputError when ``out`` cannot be
    written; ImageError when a picture has become unreadable, after saving; TrainingError when the run diverges.
    """
    config, listener = checks.check_config(config), stop or Stop()
    accelerator = make_accelerator(config)
    busy = f"{config.out}: another process is training here: wait until it ends, or choose another --out"
    with files.locked(Path(config.out), busy) if accelerator.is_main_process else contextlib.nullcontext():
        return _fit(config, accelerator, listener, watch, say, hold=stop is not None)


def _fit(
    config: TrainConfig,
    accelerator: Accelerator,
    listener: Stop,
    watch: Watch | None,
    say: Callable[[str], None] | None,
    hold: bool,
) -> State:
    """``fit``, in a folder that is locked; ``hold``: a signal stays in ``listener``."""
    state = setup.initial_state(config, accelerator)
    pictures = setup.training_pictures(config, state.model)
    validation = setup.validation_pictures(config, state.model)
    context = setup.build_context(config, state, pictures, accelerator)
    folder = RunFolder(config.out)
    folder.check_config(config)
    resume(state, context, folder)
    check_same_state(state.step, state.network, accelerator)
    if state.step > config.steps:
        raise ConfigError(f"{config.out} is at step {state.step} already: give --steps {state.step} or more")
    if accelerator.is_main_process:
        folder.write_config(config)
    accelerator.wait_for_everyone()
    monitor = Monitor(state, context, folder, validation, watch, listener)
    with contextlib.ExitStack() as stack:
        if accelerator.is_main_process:
            stack.enter_context(monitor.tracking())
            if say:
                say(_summary(state, context, len(pictures)))
        stack.enter_context(listener.listening())
        try:
            training_loop(state, context, monitor)
        except ImageError:
            monitor.save()  # what was trained so far is kept
            raise
        accelerator.wait_for_everyone()
    if not hold and listener.signal is not None:
        raise KeyboardInterrupt if listener.signal == signal.SIGINT else SystemExit(128 + listener.signal)
    return state


def _summary(state: State, context: TrainContext, pictures: int) -> str:
    config, device = context.config, context.device.type
    text = f"{pictures} pictures, on {device}, from step {state.step} of {config.steps}"
    if device == "cpu" and config.network == "encoder" and state.model.encoder.config.trunk == "ir_se50":
        text += f"; an encoder of the paper's size needs a GPU: on a CPU train {config.task}-compact"
    return text
