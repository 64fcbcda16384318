"""The folder of a training run: its configuration, its log, its last state and its model's file.

What is written is whole or not there, so an interruption at any moment leaves the last good state. This module does not
know what a state is made of.
"""

import contextlib
import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from . import weights
from .config import TrainConfig
from .errors import ConfigError, OutputError

CONFIG, STATE, LOG, MODEL = "config.json", "state.pt", "log.jsonl", "model.safetensors"
MAY_CHANGE = frozenset(
    {"minutes", "steps", "out", "device", "compile", "save_every", "judge_every", "log_every", "data", "validation"}
)
"""What may differ when a run is taken up again: how long, where, and under which names its data lie now.

Resuming is exact only where ``steps`` (it shapes the learning rate) and the photographs themselves stay the same.
"""


class RunFolder:
    """A folder that belongs to one run; made if need be. Raises OutputError when it cannot be."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path}: cannot be made a folder ({error.strerror}); choose another --out") from error

    @property
    def model(self) -> Path:
        """The file of the run's model."""
        return self.path / MODEL

    def remember(self, config: TrainConfig) -> None:
        """Write the configuration. Raises ConfigError when the folder holds a run with another one, or a damaged one.

        Raises OutputError when it cannot be written.
        """
        adapter, file = TypeAdapter(TrainConfig), self.path / CONFIG
        if file.is_file():
            try:
                before, now = dict(json.loads(file.read_bytes())), json.loads(adapter.dump_json(config))
            except (ValueError, TypeError) as error:
                raise ConfigError(f"{file} is damaged: choose another --out, or restore it") from error
            if changed := sorted(key for key in now if key not in MAY_CHANGE and now[key] != before.get(key)):
                raise ConfigError(f"{self.path} holds a run with another {', '.join(changed)}: choose another --out")
        part = file.with_name(f"{CONFIG}.part")
        with self._writing(file):
            part.write_bytes(adapter.dump_json(config, indent=2))
            part.replace(file)

    def log(self, entry: dict[str, Any]) -> None:
        """Append a line to the log and print it. Raises OutputError when it cannot."""
        with self._writing(self.path / LOG), (self.path / LOG).open("a") as file:
            file.write(json.dumps(entry) + "\n")
        print(" ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in entry.items()), flush=True)

    def keep(self, state: dict[str, Any]) -> None:
        """Put ``state``, tensors and plain containers, in the last one's place. Raises OutputError if it cannot."""
        part = self.path / f"{STATE}.part"
        try:
            with self._writing(self.path / STATE):
                torch.save(state, part)
                part.replace(self.path / STATE)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self, file: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            reason = f"cannot be written ({_reason(error)}); make room, or choose another --out"
            raise OutputError(f"{file}: {reason}") from error

    def kept(self) -> dict[str, Any] | None:
        """The last state, on the CPU; None when there is none. Raises CheckpointError when it is damaged."""
        file = self.path / STATE
        # a copy: what is read is mapped from the file, and whoever overwrites that would end the process
        return copy.deepcopy(weights.read(file)) if file.exists() else None


def _reason(error: OSError | RuntimeError) -> str:
    code = getattr(error, "errno", None)
    return os.strerror(code) if code else str(error).partition("\n")[0]
