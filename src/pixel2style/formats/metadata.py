"""What the header of one of our files says: its configuration, checked before anything is built from it.

This module does not know which networks a configuration describes.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..config import GeneratorConfig, ModelConfig
from ..errors import CheckpointError

Config = ModelConfig | GeneratorConfig

FORMAT, VERSION = "pixel2style", 1

LARGEST = 1 << 16
MOST = {
    "rows": 64, "mapping_layers": 64, "neck": 64, "iterations": 100,
    "layers": 62, "margin": 1024, "filter_size": 64, "lrelu_upsampling": 16,
}  # fmt: skip
"""No honest configuration has larger numbers; larger ones would build networks without end."""

_JSON: TypeAdapter[Any] = TypeAdapter(Config)


def metadata(config: Config) -> dict[str, str]:
    """What a file of a network so configured says of itself."""
    return {"format": f"{FORMAT} {VERSION}", "config": _JSON.dump_json(config).decode()}


def config(metadata: Mapping[str, str], path: Path) -> Config:
    """The configuration in a file's metadata. Raises CheckpointError for none, and for one without end."""
    form, _, version = metadata.get("format", "").partition(" ")
    if form != FORMAT or "config" not in metadata:
        raise CheckpointError(f"{path}: holds no configuration of a model; convert the original file again")
    if version != str(VERSION):
        raise CheckpointError(
            f"{path}: is of format {version[:20]!r}, this version reads {VERSION}; update pixel2style"
        )
    try:
        found: Config = _JSON.validate_json(metadata["config"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][-2:])[:60]
        raise CheckpointError(f"{path}: its configuration is wrong at {where!r}: {first['msg'][:120]}") from None
    _refuse_endless(asdict(found), path)
    return found


def _refuse_endless(values: Mapping[str, Any], path: Path) -> None:
    for name, value in values.items():
        if isinstance(value, dict):
            _refuse_endless(value, path)
        numbers = value if isinstance(value, tuple) else (value,)
        most = MOST.get(name, LARGEST)
        if len(numbers) > MOST["rows"] or any(isinstance(number, int | float) and number > most for number in numbers):
            raise CheckpointError(f"{path}: its configuration asks for {name} above {most}, or for too many")
