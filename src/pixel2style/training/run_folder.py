"""The folder of a training run: its configuration, its states, its models.

What is written is whole or not there, so an interruption at any moment leaves the last good state; a state that was
damaged afterwards is passed over for the one before it. This module does not know what a state is made of, nor what is
logged (``track``).
"""

import contextlib
import copy
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from ..config import RENAMED, TrainConfig
from ..errors import CheckpointError, ConfigError, OutputError
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
"""What may differ when a run is taken up again: how long, where, how it is cut, and under which names its data lie now.

Resuming is exact only where ``steps`` (it shapes a cosine) and the pictures themselves stay the same.
"""

_JSON: TypeAdapter[TrainConfig] = TypeAdapter(TrainConfig)
_JSON_DICT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


def read_config(file: Path) -> TrainConfig:
    """The configuration in ``file``. Raises ConfigError when it is missing, damaged or none."""
    try:
        content = _JSON_DICT.validate_json(file.read_bytes())
        return _JSON.validate_python({RENAMED.get(name, name): value for name, value in content.items()}, strict=False)
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read ({error.strerror}); name a preset or the config.json of a run"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:80] or "its start"
        raise ConfigError(f"{file} is damaged or of another version at {where}: restore it, or start anew") from None


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
        """The file of the run's last model."""
        return self.path / MODEL

    @property
    def best(self) -> Path:
        """The file of the model whose validation loss was least."""
        return self.path / BEST

    def compare(self, config: TrainConfig) -> None:
        """Raise ConfigError when the folder holds a run with another configuration, or a damaged one."""
        file = self.path / CONFIG
        if file.exists():
            before, now = _flat(_plain(read_config(file))), _flat(_plain(config))
            changed = [key for key in now if key.partition(".")[0] not in MAY_CHANGE and now[key] != before.get(key)]
            if changed:
                raise ConfigError(f"{self.path} holds a run with another {', '.join(changed)}: choose another --out")

    def remember(self, config: TrainConfig) -> None:
        """Write the configuration. Raises what ``compare`` does, and OutputError when it cannot be written."""
        self.compare(config)
        file = self.path / CONFIG
        part = file.with_name(f"{CONFIG}.part")
        with _writing(file):
            part.write_bytes(_JSON.dump_json(config, indent=2))
            part.replace(file)

    def states(self) -> list[Path]:
        """The files of saved states, the last one first."""
        return sorted((file for file in self.path.iterdir() if STATE.fullmatch(file.name)), reverse=True)

    def keep(self, state: dict[str, Any], step: int, count: int) -> None:
        """Save ``state``, tensors and plain containers, and leave no more than the last ``count``.

        Raises OutputError when it cannot be written.
        """
        file = self.path / f"state-{step:08d}.pt"
        part = file.with_name(f"{file.name}.part")
        try:
            with _writing(file):
                torch.save(state, part)
                with part.open("rb+") as written:
                    os.fsync(written.fileno())
                part.replace(file)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        for old in [*self.states()[count:], *self.path.glob("state-*.pt.part")]:
            with contextlib.suppress(OSError):
                old.unlink(missing_ok=True)

    def kept(self) -> dict[str, Any] | None:
        """The last state that can be read, on the CPU; None when none was saved. Damaged ones after it are removed.

        Raises CheckpointError when there are some and all are damaged.
        """
        first: CheckpointError | None = None
        damaged: list[Path] = []
        for file in self.states():
            try:
                # a copy: what is read is mapped from the file, and whoever overwrites that would end the process
                found = copy.deepcopy(torch_files.read(file))
            except CheckpointError as error:
                first = first or error
                damaged.append(file)
                continue
            for other in damaged:  # it would count among those that are kept
                with contextlib.suppress(OSError):
                    other.unlink()
            return found
        if first:
            raise first
        return None


def _plain(config: TrainConfig) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(_JSON.dump_json(config))
    return plain


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        code = getattr(error, "errno", None)
        reason = os.strerror(code) if code else str(error).partition("\n")[0]
        raise OutputError(f"{file}: cannot be written ({reason}); make room, or choose another --out") from error
