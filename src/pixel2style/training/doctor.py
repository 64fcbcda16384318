"""Can this run work? Checked before it takes days: device, data, model, disk, memory, and whether it learns.

Nothing is written. Every check yields what it found, so that one that fails does not hide the others. This module does
not repair anything, and does not know how long the user is willing to wait.
"""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config import TrainConfig
from ..errors import ConfigError, Pixel2StyleError
from ..ops import COMPARE_SIZE
from ..runtime import memory_gb
from ..tasks import find_task
from . import checks, pairs, setup
from .dataset import Pictures, seeds
from .logging import check_installed
from .step import State, Teacher, steps

if TYPE_CHECKING:
    from accelerate import Accelerator

TEN = 10
LESSONS = 30
"""Steps in which the loss on ten pictures must fall by ``FALL``."""
FALL = 0.1
WARM = 4
"""Steps after which memory and time of the others are known."""
LESS = "lower --batch, or add --accumulate 2 or more, or --checkpointing"


@dataclass(frozen=True)
class Finding:
    """What one check found; ``ok`` None is a remark."""

    check: str
    ok: bool | None
    said: str


class TenPictures(Teacher):
    """A teacher who shows the same ten pictures again and again."""

    def read(self, step: int) -> tuple[Tensor, Tensor]:
        """The pictures of a step: the next of the ten."""
        count = self.config.batch
        places = [(step * count + i) % TEN for i in range(count)]
        numbers = seeds(self.config.seed, 0, TEN)
        return self.pictures.batch([numbers[place] for place in places])


def examine(config: TrainConfig) -> Iterator[Finding]:
    """Check what ``config`` needs, cheapest first; stops where nothing more can be checked.

    Raises ConfigError for settings that cannot work together.
    """
    config = checks.settled(replace(config, out=config.out or "run"))
    check_installed(config)
    try:
        accelerator = checks.accelerated(config)
    except ConfigError as error:
        yield Finding("device", False, str(error))
        return
    yield Finding("device", True, _device(accelerator.device, config))
    broken = list(_data(config))
    yield from broken
    if any(finding.ok is False for finding in broken):
        return
    try:
        state = setup.start(config, accelerator)
    except Pixel2StyleError as error:
        yield Finding("model", False, str(error))
        return
    yield Finding("model", True, _model(state))
    yield _disk(config, state)
    yield from _lessons(config, state, accelerator)


def _device(device: torch.device, config: TrainConfig) -> str:
    import psutil

    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        return f"{about.name}, {about.total_memory / 1e9:.0f} GB, {config.precision}"
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
            yield Finding(name, None, "none: nothing will tell the best model from the last; add --validation FOLDER")
            continue
        try:
            folders, wrong = pairs.examined(data, targets, task, config.source)
        except ConfigError as error:
            folders, wrong = [], [str(error)]
        yield from (Finding(name, False, sentence) for sentence in wrong)
        if not wrong:
            aligned = "; that faces are aligned is not checked" if task.faces else ""
            count = sum(len(folder) for folder in folders)
            yield Finding(name, True, f"{count} pictures, all readable{' and in pairs' if targets else ''}{aligned}")


def _model(state: State) -> str:
    generator = state.model.generator
    weights = sum(weight.numel() for weight in state.model.encoder.parameters())
    encoder = state.model.encoder.config
    return (
        f"encoder of {weights / 1e6:.1f} million weights, {encoder.input_channels} channels at {encoder.input_size} "
        f"pixels, {encoder.rows} rows into {generator.config.kind} at {generator.size} pixels"
    )


def _disk(config: TrainConfig, state: State) -> Finding:
    """Room for the states that are kept, the one being written, and two models."""
    weights = sum(weight.numel() * weight.element_size() for weight in state.model.encoder.parameters())
    copies = {"ranger": 4, "adam": 3, "adamw": 3}[config.optimizer] + (config.ema > 0)
    needed = weights * (copies * (config.keep + 1) + 2)
    place = Path(config.out).absolute()
    while not place.exists():
        place = place.parent
    if not (place.is_dir() and os.access(place, os.W_OK)):
        return Finding("disk", False, f"{place} cannot be written into: choose another --out")
    free = shutil.disk_usage(place).free
    said = f"{free / 1e9:.1f} GB free in {place}, {needed / 1e9:.2f} GB needed"
    return Finding("disk", free > needed, said if free > needed else f"{said}: make room, or choose another --out")


def lessons(config: TrainConfig) -> TrainConfig:
    """The run with as many of its pictures at once as it will have, up to five: what doctor teaches."""
    part = min(max(1, config.batch // config.accumulate), TEN // 2)
    parts = max(1, min(config.accumulate, TEN // 2 // part))
    return replace(
        config, batch=part * parts, generated=0, accumulate=parts, mirror=False, augment=False, warmup=0, iterations=1,
        schedule="constant",
    )  # fmt: skip


def _lessons(config: TrainConfig, state: State, accelerator: "Accelerator") -> Iterator[Finding]:
    """A few steps on ten pictures: what a step costs in memory and time, and whether the loss falls."""
    small = lessons(config)
    losses, times = list[float](), list[float]()
    try:
        pictures = setup.training_pictures(small, state.model.encoder.config.input_size)
        learning = steps(state, _teacher(small, state, pictures, accelerator))
        before = memory_gb(accelerator.device)
        for step in range(1, LESSONS + 1):
            begun = time.monotonic()
            losses.append(float(next(learning)["loss"]))
            times.append(time.monotonic() - begun)
            if step == WARM:
                held = memory_gb(accelerator.device)
                yield _memory(config, small, before, held, accelerator.device, len(pictures))
                yield Finding("time", None, _time(config, sorted(times)[WARM // 2] / small.batch))
    except Pixel2StyleError as error:
        yield Finding("learning", False, str(error))
        return
    except torch.OutOfMemoryError:
        yield Finding("memory", False, f"{small.batch // small.accumulate} pictures at once are too many: {LESS}")
        return
    turn = TEN // small.batch
    first, last = sum(losses[:turn]) / turn, sum(losses[-turn:]) / turn
    learns = last < (1 - FALL) * first
    advice = "" if learns else "; it should have fallen by a tenth: try another --lr, and look at the pictures"
    yield Finding("learning", learns, f"loss on ten pictures {first:.3f} -> {last:.3f} in {LESSONS} steps{advice}")


def _time(config: TrainConfig, per_picture: float) -> str:
    seconds = per_picture * (config.batch + config.generated) * config.iterations * config.steps
    total = f"{seconds / 60:.1f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} hours"
    return f"{per_picture:.2f} s a picture here, about {total} for {config.steps} steps, and their judgements beside"


def _teacher(config: TrainConfig, state: State, pictures: Pictures, accelerator: "Accelerator") -> Teacher:
    usual = setup.appoint(config, state, pictures, accelerator)
    return TenPictures(config, usual.task, usual.objective, pictures, usual.draw, accelerator)


def _memory(
    config: TrainConfig, small: TrainConfig, before: float, held: float, device: torch.device, pictures: int
) -> Finding:
    """What a step of the whole batch will hold, as if all that ``small`` took grew with its pictures.

    Where the processor computes, the decoded pictures that are kept lie beside it.
    """
    import psutil

    at_once = (config.batch + config.generated) / config.accumulate
    needed = before + (held - before) * max(1.0, at_once / (small.batch / small.accumulate))
    if device.type != "cuda":
        needed += min(config.memory, pictures * (3 * COMPARE_SIZE**2) * (2 if config.targets else 1) / 1e9)
    there = (
        torch.cuda.get_device_properties(device).total_memory
        if device.type == "cuda"
        else psutil.virtual_memory().total
    )
    said = f"a step holds up to {needed:.1f} of {there / 1e9:.1f} GB"
    fits = needed < 0.9 * there / 1e9
    return Finding("memory", fits, said if fits else f"{said}: {LESS}")
