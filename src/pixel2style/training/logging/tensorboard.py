"""TensorBoard's event files in the run's folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ... import files
from ...config import TrainConfig
from . import Row, as_json, sheet
from .jsonl import finite

FOLDER = "tensorboard"


class TensorBoard:
    """Scalars, sheets of pictures and texts. The newest event file hides later steps of older ones."""

    def __init__(self, config: TrainConfig, folder: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter  # takes a second

        self._step = step
        with files.writing(folder / FOLDER):
            self._writer: Any = SummaryWriter(str(folder / FOLDER), purge_step=step + 1 if step else 0)
        self._writer.add_text("configuration", _code(as_json(config)), step)
        self._writer.flush()

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """One scalar for each of ``values``."""
        self._step = max(self._step, step)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # else a kill loses the last minutes, some of which are not trained again

    def pictures(self, step: int, name: str, rows: Sequence[Row]) -> None:
        """One sheet, and a table of the names and scores of its rows."""
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


def _code(values: Mapping[str, Any]) -> str:
    return f"```json\n{json.dumps(finite(values), indent=2)}\n```"
