"""What a run logs, and where: lines in its own folder always, TensorBoard and Weights & Biases on request.

All trackers get the same values on one axis, the run's own step, so curves of training and validation line up. A run
that was killed continues from its last saved state, some steps before the last that it logged; each tracker drops or
ignores the repeated steps in its own way. Only the main process has a tracker.

Axes: ``c`` channels, ``h w`` height and width.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from pydantic import TypeAdapter
from torch import Tensor

from ... import images
from ...config import TrainConfig
from ...errors import ConfigError

MAX_ROWS = 32
"""Rows of a sheet: a JPEG must not be taller than 65,535 pixels."""


@dataclass(frozen=True)
class Row:
    """One example: its ``name``, its ``pictures`` by name, [3 h w] RGB in [-1, 1] on the CPU, and its ``scores``."""

    name: str
    pictures: Mapping[str, Tensor]
    scores: Mapping[str, float]


class Tracker(Protocol):
    """Receives what a run measures."""

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Measurements at ``step``, by names such as ``train/l2``, ``validation/lpips``, ``lr``."""

    def pictures(self, step: int, name: str, rows: Sequence[Row]) -> None:
        """Examples at ``step``; ``name`` is "train" or "validation"; all rows have pictures of the same names."""

    def summary(self, values: Mapping[str, float | int | str]) -> None:
        """The run's best model: its step, scores and file. A later summary replaces an earlier one."""

    def close(self, failed: bool = False) -> None:
        """Write what is left. ``failed``: the run ended with an error."""


class Trackers:
    """Several trackers as one."""

    def __init__(self, trackers: Sequence[Tracker]):
        self._trackers = tuple(trackers)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """See ``Tracker``."""
        for tracker in self._trackers:
            tracker.numbers(step, values)

    def pictures(self, step: int, name: str, rows: Sequence[Row]) -> None:
        """See ``Tracker``; without rows nothing is logged."""
        for tracker in self._trackers if rows else ():
            tracker.pictures(step, name, rows)

    def summary(self, values: Mapping[str, float | int | str]) -> None:
        """See ``Tracker``."""
        for tracker in self._trackers:
            tracker.summary(values)

    def close(self, failed: bool = False) -> None:
        """See ``Tracker``."""
        for tracker in self._trackers:
            tracker.close(failed)


def make_tracker(config: TrainConfig, folder: Path, step: int) -> Tracker:
    """The trackers of the run in ``folder`` that is at ``step``: ``log.jsonl``, and those in ``config.track``.

    Raises ConfigError when a package is missing, OutputError when the folder cannot be written.
    """
    from .jsonl import JsonLines

    check_installed(config)
    trackers: list[Tracker] = [JsonLines(folder, step)]
    if "tensorboard" in config.track:
        from .tensorboard import TensorBoard

        trackers.append(TensorBoard(config, folder, step))
    if "wandb" in config.track:
        from .wandb import Wandb

        trackers.append(Wandb(config, folder))
    return Trackers(trackers)


def check_installed(config: TrainConfig) -> None:
    """Raise ConfigError when a package that ``config.track`` needs is missing."""
    for package in config.track:
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f'--track {package} needs another package: pip install "pixel2style[track]"')


def sheet(rows: Sequence[Row]) -> Image.Image:
    """The first ``MAX_ROWS`` rows, pictures side by side, all as large as the largest of the first row."""
    sizes = [(picture.shape[-2], picture.shape[-1]) for picture in rows[0].pictures.values()]
    size = max(height for height, _ in sizes), max(width for _, width in sizes)
    tiles = [images.resize(picture[None], size)[0] for row in rows[:MAX_ROWS] for picture in row.pictures.values()]
    return images.grid(tiles, len(sizes))


def as_json(config: TrainConfig) -> dict[str, Any]:
    """The whole configuration as JSON values, nested."""
    return dict(TypeAdapter(TrainConfig).dump_python(config, mode="json"))
