"""The folder of a training run: its configuration, its states, its models.

Every file is replaced as a whole, so an interruption at any moment leaves the last good state; a state that was damaged
afterwards is skipped for the one before it.
"""

import contextlib
import copy
import json
import re
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from .. import files
from ..config import RENAMED, TrainConfig
from ..errors import CheckpointError, ConfigError
from ..formats import torch_files

CONFIG, MODEL, BEST = "config.json", "model.safetensors", "best.safetensors"
STATE = re.compile(r"state-(\d{8})\.pt")
MAY_CHANGE = frozenset(
    {
        *("minutes", "steps", "out", "device", "compile", "data", "targets", "validation", "validation_targets"),
        *("save_every", "judge_every", "log_every", "keep", "track", "project", "readers", "memory"),
        *("accumulate", "checkpointing"),
    }
)
"""Fields that may differ when a run is resumed: its length, its machine, how a step is divided, where its data are.

Resuming is exact only where ``steps`` (which shapes a cosine schedule) and the pictures themselves stay the same.
"""

_ADAPTER: TypeAdapter[TrainConfig] = TypeAdapter(TrainConfig)
_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


def read_config(file: Path) -> TrainConfig:
    """The configuration in ``file``. Raises ConfigError when it is missing, damaged, or of another version."""
    try:
        content = _OBJECT.validate_json(file.read_bytes())
        content = {RENAMED.get(name, name): value for name, value in content.items()}
        return _ADAPTER.validate_python(content, strict=False)
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read ({error.strerror}); name a preset or the config.json of a run"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:80] or "its start"
        raise ConfigError(f"{file} is damaged or of another version at {where}: restore it, or start anew") from None


class RunFolder:
    """The folder of one run; created if need be. Raises OutputError when it cannot be."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        files.make_folder(self.path)

    @property
    def model(self) -> Path:
        """The file of the run's last model."""
        return self.path / MODEL

    @property
    def best(self) -> Path:
        """The file of the model with the lowest validation loss."""
        return self.path / BEST

    def check_config(self, config: TrainConfig) -> None:
        """Raise ConfigError when the folder holds a run with another configuration, or a damaged one."""
        file = self.path / CONFIG
        if file.exists():
            before, now = _fields(read_config(file)), _fields(config)
            changed = [key for key in now if key.partition(".")[0] not in MAY_CHANGE and now[key] != before.get(key)]
            if changed:
                raise ConfigError(f"{self.path} holds a run with another {', '.join(changed)}: choose another --out")

    def write_config(self, config: TrainConfig) -> None:
        """Write the configuration. Raises what ``check_config`` does, and OutputError when it cannot be written."""
        self.check_config(config)
        files.write_bytes(self.path / CONFIG, _ADAPTER.dump_json(config, indent=2))

    def states(self) -> list[Path]:
        """The files of saved states, the last one first."""
        return sorted((file for file in self.path.iterdir() if STATE.fullmatch(file.name)), reverse=True)

    def write_state(self, state: dict[str, Any], step: int, keep: int) -> None:
        """Save ``state``, tensors and plain containers, and delete all but the last ``keep``.

        Raises OutputError when it cannot be written.
        """
        file = self.path / f"state-{step:08d}.pt"
        with files.replacing(file, durable=True) as part:
            try:
                torch.save(state, part)
            except RuntimeError as error:  # what PyTorch raises for a full disk
                raise files.system_error(part, error) from error
        for old in [*self.states()[keep:], *self.path.glob(".*.part")]:  # parts: what killed processes were writing
            with contextlib.suppress(OSError):
                old.unlink(missing_ok=True)

    def read_state(self) -> dict[str, Any] | None:
        """The last readable state, on the CPU; None when none was saved. Damaged ones after it are deleted.

        Raises CheckpointError when there are some and all are damaged.
        """
        first: CheckpointError | None = None
        damaged: list[Path] = []
        for file in self.states():
            try:
                # a copy: the tensors are mapped from the file, and overwriting that would crash the process
                found = copy.deepcopy(torch_files.read(file))
            except CheckpointError as error:
                first = first or error
                damaged.append(file)
                continue
            for other in damaged:  # else they would count among those that are kept
                with contextlib.suppress(OSError):
                    other.unlink()
            return found
        if first:
            raise first
        return None


def _fields(config: TrainConfig) -> dict[str, Any]:
    """All fields as JSON values, those of groups with their group's name: ``loss.l2``."""
    return _flatten(json.loads(_ADAPTER.dump_json(config)))


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
