"""What a run tells of itself, and to whom: lines in its own folder always; TensorBoard and Weights & Biases when asked.

Everybody is told the same on one axis, the run's own step, so train and validation curves lie above each other. A run
that was killed is taken up at its last saved state, some steps behind what it had already told; so each of these puts
the steps after that state right in its own way, and none is told twice or left out. Only the main process tells.

Axes: ``c`` channels, ``h`` height, ``w`` width. This module does not know what the numbers mean, nor how pictures were
made; whatever tells the network must never stop a run.
"""

import contextlib
import importlib.util
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from pydantic import TypeAdapter
from torch import Tensor

from ... import images
from ...config import TrainConfig
from ...errors import ConfigError, OutputError

LOG, PICTURES, BOARD = "log.jsonl", "pictures", "tensorboard"
"""In the folder of a run: lines, sheets of pictures, and TensorBoard's events."""
SHOWN = 32
"""Rows of a sheet: a JPEG must not be taller than 65,535 pixels, nor a page of them endless."""


@dataclass(frozen=True)
class Row:
    """One example: its ``name``, its ``pictures`` by name, [3 h w] RGB in [-1, 1] on the CPU, and its ``scores``."""

    name: str
    pictures: Mapping[str, Tensor]
    scores: Mapping[str, float]


class Tracker(Protocol):
    """Who is told how a run goes."""

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """What was measured at ``step``, by names such as ``train/l2``, ``validation/lpips``, ``lr``."""

    def pictures(self, step: int, name: str, rows: Sequence[Row]) -> None:
        """Examples at ``step``; ``name`` is "train" or "validation"; all rows have pictures of the same names."""

    def summary(self, values: Mapping[str, float | int | str]) -> None:
        """What the run amounts to: its best model's step, scores and file. A later summary replaces an earlier one."""

    def close(self, failed: bool = False) -> None:
        """Write what is left. ``failed``: the run did not end as it should."""


def trackers(config: TrainConfig, folder: Path, step: int) -> Tracker:
    """Everybody who is told of the run in ``folder``, at ``step``: lines always, and whom ``config.track`` names.

    Raises ConfigError when a package for that is missing, OutputError when the folder cannot be written.
    """
    check_installed(config)
    told: list[Tracker] = [Lines(folder, step)]
    if "tensorboard" in config.track:
        told.append(Board(config, folder, step))
    if "wandb" in config.track:
        from .wandb import Wandb  # needs the package

        told.append(Wandb(config, folder))
    return _All(told)


def check_installed(config: TrainConfig) -> None:
    """Raise ConfigError when a package that ``config.track`` needs is missing."""
    for package in config.track:
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f'--track {package} needs another package: pip install "pixel2style[track]"')


def sheet(rows: Sequence[Row]) -> Image.Image:
    """The first ``SHOWN`` rows, pictures side by side, all as large as the largest of the first row."""
    sizes = [(picture.shape[-2], picture.shape[-1]) for picture in rows[0].pictures.values()]
    size = max(height for height, _ in sizes), max(width for _, width in sizes)
    tiles = [images.resize(picture[None], size)[0] for row in rows[:SHOWN] for picture in row.pictures.values()]
    return images.grid(tiles, len(sizes))


class Lines:
    """``log.jsonl``, one object a line, and one sheet of pictures a JPEG, in the folder of the run.

    Lines after ``step``, the state from which the run goes on, are dropped: they come again.
    """

    def __init__(self, folder: Path, step: int):
        self._folder, self._step = folder, step
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._drop_after(step)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """One line of ``values``."""
        self._write(step, values)

    def pictures(self, step: int, name: str, rows: Sequence[Row]) -> None:
        """One JPEG of the first rows, and one line with every row's scores."""
        if not rows:
            return
        file = f"{PICTURES}/{name}-{step:08d}.jpg"
        images.save(sheet(rows), self._folder / file)
        scored = [{"name": row.name, **row.scores} for row in rows]
        self._write(step, {"pictures": name, "file": file, "columns": list(rows[0].pictures), "rows": scored})

    def summary(self, values: Mapping[str, float | int | str]) -> None:
        """One line of ``values`` under "summary"."""
        self._write(self._step, {"summary": dict(values)})

    def close(self, failed: bool = False) -> None:
        """Nothing is left to write."""

    def _write(self, step: int, values: Mapping[str, Any]) -> None:
        self._step = max(self._step, step)
        line = json.dumps(_plain({"step": step, **values}), allow_nan=False)
        with writing(self._folder), (self._folder / LOG).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _drop_after(self, step: int) -> None:
        file = self._folder / LOG
        before = file.read_bytes() if file.exists() else b""
        # without a state the run begins anew
        kept = b"".join(line for line in before.splitlines(keepends=True) if step and _is_up_to(step, line))
        if kept != before:
            part = file.with_name(f"{LOG}.part")
            part.write_bytes(kept)
            part.replace(file)


class Board:
    """TensorBoard's event files. The newest one says from which step on the older ones no longer count."""

    def __init__(self, config: TrainConfig, folder: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter  # a second to import

        self._step = step
        with writing(folder):
            self._writer: Any = SummaryWriter(str(folder / BOARD), purge_step=step + 1 if step else 0)
        self._writer.add_text("configuration", _code(described(config)), step)
        self._writer.flush()

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """One scalar for each of ``values``."""
        self._step = max(self._step, step)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # or a kill would cost the last minutes, of which some are never trained again

    def pictures(self, step: int, name: str, rows: Sequence[Row]) -> None:
        """One sheet, and a table of what its rows are called and score."""
        if not rows:
            return
        self._writer.add_image(f"{name}/pictures", np.array(sheet(rows)), step, dataformats="HWC")
        scores = list(dict.fromkeys(score for row in rows for score in row.scores))
        lines = [["name", *scores], ["---"] * (1 + len(scores))]
        lines += [[r.name, *(f"{r.scores[s]:.3f}" if s in r.scores else "" for s in scores)] for r in rows]
        self._writer.add_text(f"{name}/rows", "\n".join(f"| {' | '.join(line)} |" for line in lines), step)
        self._writer.flush()

    def summary(self, values: Mapping[str, float | int | str]) -> None:
        """A text."""
        self._writer.add_text("summary", _code(dict(values)), self._step)
        self._writer.flush()

    def close(self, failed: bool = False) -> None:
        """Close the event file."""
        self._writer.close()


class _All:
    def __init__(self, told: Sequence[Tracker]):
        self._told = tuple(told)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        for tracker in self._told:
            tracker.numbers(step, values)

    def pictures(self, step: int, name: str, rows: Sequence[Row]) -> None:
        for tracker in self._told:
            tracker.pictures(step, name, rows)

    def summary(self, values: Mapping[str, float | int | str]) -> None:
        for tracker in self._told:
            tracker.summary(values)

    def close(self, failed: bool = False) -> None:
        for tracker in self._told:
            tracker.close(failed)


def _is_up_to(step: int, line: bytes) -> bool:
    """Whether a line is whole, and of ``step`` or an earlier one."""
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        return line.endswith(b"\n") and bool(json.loads(line).get("step", 0) <= step)
    return False


def _plain(value: Any) -> Any:
    """What JSON can say: numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def described(config: TrainConfig) -> dict[str, Any]:
    """The whole configuration as JSON has it, nested."""
    return dict(TypeAdapter(TrainConfig).dump_python(config, mode="json"))


def _code(values: Mapping[str, Any]) -> str:
    return f"```json\n{json.dumps(_plain(values), indent=2)}\n```"


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the system says of a write in ``folder`` into an OutputError."""
    try:
        yield
    except OSError as error:
        reason = f"cannot be written ({error.strerror}); make room, or choose another --out"
        raise OutputError(f"{folder} {reason}") from error
