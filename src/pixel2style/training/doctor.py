"""Checks before a long run: settings, device, data, model, disk, memory, time, and whether the loss falls.

Nothing is written and nothing is repaired. Every check yields what it found, so that one that fails does not hide the
others.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..config import TrainConfig
from ..errors import ConfigError, Pixel2StyleError
from ..ops import COMPARE_SIZE
from ..runtime import memory_gb
from ..tasks import find_task
from . import checks, dataset, setup
from .batches import photographs_at, pictures_at
from .distributed import make_accelerator
from .logging import check_installed
from .loop import training_loop
from .monitor import Monitor
from .state import State, TrainContext

if TYPE_CHECKING:
    from accelerate import Accelerator

PICTURES = 10
STEPS = 30
"""Steps in which the loss on ten pictures must fall by ``FALL``."""
FALL = 0.1
WARM_UP = 4
"""Steps after which memory and time of all others are known."""
LESS_MEMORY = "lower --batch, or add --accumulate 2 or more, or --checkpointing"


@dataclass(frozen=True)
class Finding:
    """The result of one check; ``ok`` None is a remark."""

    check: str
    ok: bool | None
    message: str


@dataclass(frozen=True)
class RepeatedPictures:
    """A batch source that gives the same ten pictures again and again."""

    pictures: dataset.Pictures
    config: TrainConfig

    def read(self, step: int) -> tuple[Tensor, Tensor]:
        """The next of the ten pictures, as many as a batch has."""
        seeds = dataset.sample_seeds(self.config.seed, 0, PICTURES)
        first = step * self.config.batch
        return self.pictures.batch([seeds[(first + i) % PICTURES] for i in range(self.config.batch)])


def examine(config: TrainConfig, doing: Callable[[str], object] = lambda _: None) -> Iterator[Finding]:
    """Check what ``config`` needs, cheapest first; stops where nothing more can be checked.

    ``doing`` is told what is looked at now, and each step of the training on ten pictures. Raises ConfigError
    for settings that cannot work together.
    """
    config = checks.check_config(replace(config, out=config.out or "run"))
    check_installed(config)
    try:
        accelerator = make_accelerator(config)
    except ConfigError as error:
        yield Finding("device", False, str(error))
        return
    yield Finding("device", True, _device(accelerator.device, config))
    doing("reading all pictures")
    findings = list(_data(config))
    yield from findings
    if any(finding.ok is False for finding in findings):
        return
    doing("building the model")
    try:
        state = setup.initial_state(config, accelerator)
    except Pixel2StyleError as error:
        yield Finding("model", False, str(error))
        return
    yield Finding("model", True, _model(state))
    yield _disk(config, state)
    doing("building losses")
    yield from _overfit_check(config, state, accelerator, doing)


def _device(device: torch.device, config: TrainConfig) -> str:
    import psutil

    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, {properties.total_memory / 1e9:.0f} GB, {config.precision}"
    memory = psutil.virtual_memory()
    return (
        f"{device.type}, {torch.get_num_threads()} threads, {memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} "
        f"GB of memory free, {config.precision}"
    )


def _data(config: TrainConfig) -> Iterator[Finding]:
    """The pictures, and every file that is wrong."""
    task = find_task(config.task)
    for name, data, targets in (
        ("data", config.data, config.targets),
        ("validation", config.validation, config.validation_targets),
    ):
        if not data:
            yield Finding(name, None, "none, so the best model is not known; add --validation FOLDER")
            continue
        try:
            folders, problems = dataset.check_pairs(data, targets, task, config.source)
        except ConfigError as error:
            folders, problems = [], [str(error)]
        yield from (Finding(name, False, problem) for problem in problems)
        if not problems:
            aligned = "; that faces are aligned is not checked" if task.faces else ""
            count = sum(len(folder) for folder in folders)
            yield Finding(name, True, f"{count} pictures, all readable{' and in pairs' if targets else ''}{aligned}")


def _model(state: State) -> str:
    generator, encoder, detail = state.model.generator, state.model.encoder.config, state.model.detail
    weights = sum(weight.numel() for weight in state.network.parameters())
    if detail is not None:
        sides = " and ".join(map(str, detail.config.sides))
        return (
            f"detail encoder of {weights / 1e6:.1f} million weights at {detail.input_size} pixels, residuals for maps "
            f"of {sides} pixels of {generator.config.kind} at {generator.size} pixels"
        )
    return (
        f"encoder of {weights / 1e6:.1f} million weights, {encoder.input_channels} channels at {encoder.input_size} "
        f"pixels, {encoder.rows} rows into {generator.config.kind} at {generator.size} pixels"
    )


def _disk(config: TrainConfig, state: State) -> Finding:
    """Space for the states that are kept, the one being written, and two models."""
    weights = _bytes(state.network)
    copies = {"ranger": 4, "adam": 3, "adamw": 3, "muon": 3}[config.optimizer] + (config.ema > 0)
    frozen = _bytes(state.model.encoder) if state.model.detail is not None else 0
    needed = weights * (copies * (config.keep + 1) + 2) + 2 * frozen
    folder = Path(config.out).absolute()
    while not folder.exists():
        folder = folder.parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return Finding("disk", False, f"{folder} cannot be written into: choose another --out")
    free = shutil.disk_usage(folder).free
    advice = "" if free > needed else ": make room, or choose another --out"
    return Finding("disk", free > needed, f"{free / 1e9:.1f} GB free in {folder}, {needed / 1e9:.2f} GB needed{advice}")


def _bytes(network: nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in network.parameters())


def overfit_config(config: TrainConfig) -> TrainConfig:
    """The run as the check on ten pictures has it: nothing random, at most five pictures at once, and no full folder.

    Pictures are drawn, and at full size if those of any step are, since these steps need most memory and time.
    """
    batch = photographs_at(config, config.steps)
    part = min(max(1, batch // config.accumulate), PICTURES // 2)
    parts = max(1, min(config.accumulate, PICTURES // 2 // part))
    detail = replace(config.detail, full_size_from=0, full_batch=0, cache="")
    return replace(
        config, detail=detail, batch=part * parts, generated=0, accumulate=parts, mirror=False, augment=False, warmup=0,
        iterations=1, rows_until=0, schedule="constant", steps=STEPS, log_every=1, minutes=0,
    )  # fmt: skip


def _overfit_check(
    config: TrainConfig, state: State, accelerator: "Accelerator", doing: Callable[[str], object]
) -> Iterator[Finding]:
    """Some steps on ten pictures: what a step costs in memory and time, and whether the loss falls."""
    small = overfit_config(config)
    losses, ends = list[float](), list[float]()

    def record(step: int, values: Mapping[str, float]) -> None:
        losses.append(values["loss"])
        ends.append(time.monotonic())
        doing(f"training on ten pictures: step {len(losses)} of {STEPS}, loss {losses[-1]:.3f}")

    def train(context: TrainContext, steps: int) -> None:
        ends.append(time.monotonic())
        context = replace(context, config=replace(small, steps=steps))
        training_loop(state, context, Monitor(state, context, watch=record))

    try:
        pictures = setup.training_pictures(small, state.model)
        context = setup.build_context(small, state, pictures, accelerator)
        context = replace(context, batches=RepeatedPictures(pictures, small))
        before = memory_gb(accelerator.device)
        train(context, WARM_UP)
        after = memory_gb(accelerator.device)
        times = sorted(end - start for start, end in pairwise(ends))
        yield _memory(config, small, before, after, accelerator.device, len(pictures))
        yield Finding("time", None, _time(config, times[WARM_UP // 2] / small.batch))
        train(context, STEPS)
    except Pixel2StyleError as error:
        yield Finding("learning", False, str(error))
        return
    except torch.OutOfMemoryError:
        at_once = small.batch // small.accumulate
        yield Finding("memory", False, f"{at_once} pictures at once are too many: {LESS_MEMORY}")
        return
    epoch = PICTURES // small.batch
    first, last = sum(losses[:epoch]) / epoch, sum(losses[-epoch:]) / epoch
    learns = last < (1 - FALL) * first
    advice = "" if learns else "; it should have fallen by a tenth: try another --lr, and look at the pictures"
    yield Finding("learning", learns, f"loss on ten pictures {first:.3f} -> {last:.3f} in {STEPS} steps{advice}")


def _time(config: TrainConfig, per_picture: float) -> str:
    full = max(0, config.steps - (config.detail.full_size_from if config.full_size else 0))
    pictures = config.batch * (config.steps - full) + full * pictures_at(config, config.steps)
    seconds = per_picture * pictures * config.iterations
    total = f"{seconds / 60:.1f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} hours"
    share = 60 * config.minutes / max(seconds, 1e-9)
    ends = f"; --minutes {config.minutes:g} end at about step {config.steps * share:.0f}" if 0 < share < 1 else ""
    return f"{per_picture:.2f} s a picture here, about {total} for {config.steps} steps, without evaluations{ends}"


def _memory(
    config: TrainConfig, small: TrainConfig, before: float, after: float, device: torch.device, pictures: int
) -> Finding:
    """What a step of the whole batch will hold, if all that ``small`` added grows with its pictures.

    On a CPU, the decoded pictures that are kept come on top.
    """
    import psutil

    at_once = pictures_at(config, config.steps) / config.accumulate
    needed = before + (after - before) * max(1.0, at_once / (small.batch / small.accumulate))
    if device.type != "cuda":
        needed += min(config.memory, pictures * (3 * COMPARE_SIZE**2) * (2 if config.targets else 1) / 1e9)
    total = (
        torch.cuda.get_device_properties(device).total_memory
        if device.type == "cuda"
        else psutil.virtual_memory().total
    )
    message = f"a step holds up to {needed:.1f} of {total / 1e9:.1f} GB"
    fits = needed < 0.9 * total / 1e9
    return Finding("memory", fits, message if fits else f"{message}: {LESS_MEMORY}")
