"""The tasks: what an encoder sees, what should come out, and how files hold both. One module each.

To add a task, write ``tasks/NAME.py`` with its ``TASK`` and enter it in ``TASKS``; or, in a package of your own,
declare an entry point NAME of the group ``pixel2style.tasks`` (``examples/colourise``). docs/tasks.md explains both.

Axes: ``c`` channels of a source, ``s`` its side, ``n`` pictures. Nothing here imports torch before it is used.
"""

import difflib
import functools
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import SourceConfig
from ..errors import ConfigError
from . import domain, frontalize, inpaint, invert, segmentation, sketch, superres, toonify
from .task import OfficialDataset as OfficialDataset
from .task import Preset as Preset
from .task import Task as Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ENTRY_POINTS = "pixel2style.tasks"
TASKS: dict[str, Task] = {
    "invert": invert.TASK,
    "frontalize": frontalize.TASK,
    "sketch": sketch.TASK,
    "segmentation": segmentation.TASK,
    "superres": superres.TASK,
    "inpaint": inpaint.TASK,
    "toonify": toonify.TASK,
    "domain": domain.TASK,
}
"""The tasks of the paper (pSp, sections 4.1 to 4.6); ``load_installed`` adds those of other packages."""


@functools.cache
def load_installed() -> dict[str, str]:
    """Add the tasks of installed packages to ``TASKS`` and their presets to ``PRESETS``; done once.

    Returns a sentence by name for each task that cannot be used: its module raises an error, it is no ``Task``, or its
    name or the name of a preset is taken.
    """
    from .presets import PRESETS

    failures = {}
    for point in metadata.entry_points(group=ENTRY_POINTS):
        package = point.dist.name if point.dist else point.value
        try:
            task = point.load()
            if not isinstance(task, Task):
                raise TypeError(f"a {type(task).__name__}, not a Task")
            taken = {point.name} & TASKS.keys() | task.presets.keys() & PRESETS.keys()
            reason = f"the name {min(taken)} is taken" if taken else ""
        except Exception as error:  # noqa: BLE001 (another package's code may raise anything)
            reason = f"{type(error).__name__}: {error}"
        if reason:
            failures[point.name] = (
                f"the task {point.name} of {package} ({point.value}) cannot be used ({reason}): "
                "repair or uninstall that package"
            )
            continue
        TASKS[point.name] = task
        PRESETS.update(task.presets)
    return failures


def find_task(name: str) -> Task:
    """The task called ``name``. Raises ConfigError, with the nearest name, when there is none."""
    if name not in TASKS:  # looking for installed packages takes a tenth of a second
        failures = load_installed()
        if name in failures:
            raise ConfigError(failures[name])
    if name in TASKS:
        return TASKS[name]
    near = difflib.get_close_matches(name, TASKS, 1)
    hint = f"did you mean {near[0]}?" if near else "if it is a task of your own, install its package."
    raise ConfigError(f"there is no task {name}: {hint} There are {', '.join(TASKS)}")


def task_or_none(name: str) -> Task | None:
    """The task called ``name``, for models whose task may not be installed here."""
    try:
        return find_task(name)
    except ConfigError:
        return None


def channels_of(task: str | Task, config: SourceConfig) -> int:
    """How many channels a source of ``task`` has under these settings. Raises ConfigError for an unknown name."""
    channels = (find_task(task) if isinstance(task, str) else task).channels
    return channels if isinstance(channels, int) else channels(config)


def read_settings(task: Task, config: SourceConfig) -> SourceConfig:
    """Settings of sources with what they name outside themselves read. Raises ConfigError where that cannot be read."""
    return config if task.settings is None else task.settings(config)


def read_source(task: Task, path: Path, side: int, config: SourceConfig) -> "Tensor":
    """The source in a file, as ``task`` reads it: ``[c side side]``.

    Raises ImageError for a file that is no such source, and ConfigError where the task does not say how to read files.
    """
    if task.read is not None:
        return task.read(path, side, config)
    import numpy as np
    import torch
    from PIL import Image

    from .. import images

    channels = channels_of(task, config)
    picture = images.load(path).resize((side, side), Image.Resampling.BICUBIC)
    if channels == 3:
        return images.to_tensor(picture)
    if channels == 1:
        return torch.from_numpy(np.array(picture.convert("L")))[None].float() / 255
    raise ConfigError(f"sources of {channels} channels are no pictures: give the task a function that reads them")


def make_source(task: Task, target: "Tensor", rng: "torch.Generator", config: SourceConfig) -> "Tensor":
    """The source ``[c s s]`` that a task makes of a target ``[3 s s]``. Raises ConfigError where it makes none."""
    if task.source is None:
        raise ConfigError("this task makes no sources: give files of them, and no generated pictures")
    return task.source(target, rng, config)


def values_of(task: str, channels: int) -> str:
    """What the numbers of a source mean, in words; also for a task that is not installed."""
    known = task_or_none(task)
    if known is not None and known.values:
        return known.values
    return {3: "RGB in [-1, 1]", 1: "gray in [0, 1], 1 is white"}.get(channels, f"{channels} channels of {task}")


def example_sources(task: str, drawn: "Tensor", channels: int, config: SourceConfig) -> "Tensor":
    """Typical sources ``[n channels s s]`` of drawn pictures ``[n 3 s s]``, the same every time.

    Of a task that is not installed, or that has other channels than the model, every channel is the picture in gray.
    """
    import torch

    known = task_or_none(task)
    if channels == 3:
        return drawn
    if known is not None and channels_of(known, config) == channels:
        if known.example is not None:
            return known.example(drawn, config)
        if known.source is not None:
            rng = torch.Generator().manual_seed(0)
            return torch.stack([known.source(picture, rng, config) for picture in drawn])
    return (drawn.mean(1, keepdim=True) / 2 + 0.5).expand(-1, channels, -1, -1)
