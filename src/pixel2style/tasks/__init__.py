"""What an encoder can be taught: for each task, what it is shown, what should come out, and how files say both.

A task is one entry in ``TASKS`` and, where the source is made from the target, one function. The trainer, the data and
the command line know no task by name.

Axes: ``b`` batch, ``c`` channels of a source, ``s`` side. This module does not know folders, losses or networks.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import images
from ..config import SourceConfig
from ..errors import ConfigError
from . import degrade, label_maps

Option = TypeVar("Option")
Source = Callable[[Tensor, torch.Generator, SourceConfig], Tensor]
"""From a target ``[3 s s]`` in [-1, 1], on any device, to its source ``[c s s]``; what is random comes from the CPU."""
Read = Callable[[Path, int, SourceConfig], Tensor]
"""From a source's file, a side and the settings to the source: ``[c side side]``."""


def identity(target: Tensor, rng: torch.Generator, config: SourceConfig) -> Tensor:
    """The target itself."""
    return target


def sketched(target: Tensor, rng: torch.Generator, config: SourceConfig) -> Tensor:
    """The target drawn in one of ``config.sketches``: ``[1 s s]`` in [0, 1], 1 is paper."""
    return degrade.sketch(target, chosen(config.sketches, rng, "sketches"), rng)


def reduced(target: Tensor, rng: torch.Generator, config: SourceConfig) -> Tensor:
    """The target reduced by one of ``config.factors`` and enlarged again: ``[3 s s]``."""
    for factor in config.factors:  # all of them, so that a run does not stop at the first draw of a wrong one
        if target.shape[-1] % factor:
            raise ConfigError(f"{factor} does not divide {target.shape[-1]} pixels: choose other --source.factors")
    return degrade.low_resolution(target, chosen(config.factors, rng, "factors"))


def masked(target: Tensor, rng: torch.Generator, config: SourceConfig) -> Tensor:
    """The target with a part hidden, and which part is known: ``[4 s s]``."""
    known = degrade.mask(chosen(config.masks, rng, "masks"), target.shape[-1], rng)
    return degrade.hide(target, known)


def read_masked(path: Path, side: int, config: SourceConfig) -> Tensor:
    """A picture whose transparent parts are hidden: ``[4 side side]``; every other part is known."""
    picture = images.load_raw(path).convert("RGBA").resize((side, side), Image.Resampling.BOX)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()
    return degrade.hide(pixels[:3] / 127.5 - 1, (pixels[3:] > 254).float())


def class_count(config: SourceConfig) -> int:
    """One channel for each class."""
    return config.classes


@dataclass(frozen=True)
class Task:
    """What one task shows an encoder, and what it asks of it."""

    about: str
    """One sentence, for help and documents."""
    channels: int | Callable[[SourceConfig], int] = 3
    """Channels of a source."""
    source: Source | None = identity
    """How a target becomes its source; None where sources are files of their own."""
    read: Read | None = None
    """How a source's file is read; None for photographs (3 channels, [-1, 1]) and gray ones (1 channel, [0, 1])."""
    check: Callable[[Path, SourceConfig], object] | None = None
    """What decodes a source's file before training and raises ImageError; None where its header says enough."""
    mirror: Literal["together", "apart", "never"] = "together"
    """Whether source and target are mirrored as one, each by its own coin, or not at all."""
    classes: bool = False
    """Whether channels are classes, of which a pixel has one."""
    faces: bool = True
    """Whether targets are aligned faces, so that identity makes sense."""
    photograph: bool = True
    """Whether its users bring photographs, which are cut to the face; else files that are sources already."""
    spoilt: Literal["reduced", "masked"] | None = None
    """What a user may ask to be done to a photograph first."""
    shows_target: bool = False
    """Whether a source's first three channels are the target or a part of it, which an answer can be held to."""


TASKS: dict[str, Task] = {
    "invert": Task("a photograph of a face to the rows that draw it again", shows_target=True),
    "frontalize": Task("a face from any side to the same face from the front", mirror="apart"),
    "sketch": Task("a pencil sketch to a face", channels=1, source=sketched, photograph=False),
    # classes have sides (a left eye), so that a mirrored map would say the wrong one
    "segmentation": Task(
        "a label map to a face",
        channels=class_count,
        source=None,
        classes=True,
        read=label_maps.read,
        check=label_maps.classes_in,
        mirror="never",
        photograph=False,
    ),
    "superres": Task("a picture of few pixels to one of many", source=reduced, spoilt="reduced", shows_target=True),
    "inpaint": Task(
        "a picture with a hidden part to a whole one",
        channels=4,
        source=masked,
        read=read_masked,
        spoilt="masked",
        shows_target=True,
    ),
    "toonify": Task("a photograph of a face to the face that another domain's generator draws for it"),
    "domain": Task("a picture of anything but faces to the rows that draw it again", faces=False, shows_target=True),
}
"""The tasks of the paper (pSp, sections 4.1 to 4.4), and whatever its user adds."""


def find_task(name: str) -> Task:
    """The task called ``name``. Raises ConfigError, with the nearest name, when there is none."""
    if name in TASKS:
        return TASKS[name]
    near = difflib.get_close_matches(name, TASKS, 1)
    meant = f"did you mean {near[0]}?" if near else "if it is one of your own, start the script that defines it."
    raise ConfigError(f"there is no task {name}: {meant} There are {', '.join(TASKS)}")


def channels_of(task: str | Task, config: SourceConfig) -> int:
    """How many channels a source of ``task`` has under these settings. Raises ConfigError for an unknown name."""
    channels = (find_task(task) if isinstance(task, str) else task).channels
    return channels if isinstance(channels, int) else channels(config)


def read_source(task: Task, path: Path, side: int, config: SourceConfig) -> Tensor:
    """The source in a file, as ``task`` reads it: ``[c side side]``.

    Raises ImageError for a file that is no such source, and ConfigError where the task does not say how to read files.
    """
    if task.read is not None:
        return task.read(path, side, config)
    channels = channels_of(task, config)
    picture = images.load(path).resize((side, side), Image.Resampling.BICUBIC)
    if channels == 3:
        return images.to_tensor(picture)
    if channels == 1:
        return torch.from_numpy(np.array(picture.convert("L")))[None].float() / 255
    raise ConfigError(f"sources of {channels} channels are no pictures: give the task a function that reads them")


def made(task: Task, target: Tensor, rng: torch.Generator, source: SourceConfig) -> Tensor:
    """The source ``[c s s]`` that a task makes of a target ``[3 s s]``. Raises ConfigError where it makes none."""
    if task.source is None:
        raise ConfigError("this task makes no sources: give files of them, and no generated pictures")
    return task.source(target, rng, source)


def chosen(options: Sequence[Option], rng: torch.Generator, name: str) -> Option:
    """One of ``options``. Raises ConfigError when there are none."""
    if not options:
        raise ConfigError(f"there are no {name} to draw from: name at least one with --source.{name}")
    return options[int(torch.randint(len(options), (), generator=rng))]
