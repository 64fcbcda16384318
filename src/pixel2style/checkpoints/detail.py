"""Detail encoders as files of their own, as ``tools/bundle_detail.py`` bundles them: metadata ``detail_config``."""

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from .. import assets
from ..config import DetailConfig
from ..errors import CheckpointError
from ..formats import quantized, safetensors
from ..formats.state_dicts import tensors
from ..models.detail import DetailEncoder
from .loading import load
from .native import check_limits

_KEY = "detail_config"


def alone(source: str | Path) -> Path | None:
    """The file, where ``source`` is the bundled name or the file of a detail encoder by itself; None for all others."""
    file = assets.path(source) if isinstance(source, str) and source in assets.names() else Path(source)
    if not (file.is_file() and safetensors.is_safetensors(file)):
        return None
    return file if _KEY in safetensors.read_metadata(file) else None


def load_detail(source: str | Path) -> DetailEncoder:
    """The detail encoder in ``source``: one by itself, or that of a model. Raises CheckpointError where there is none.

    ``source`` is a bundled name or a file; a model may be given as to ``load``.
    """
    file = alone(source)
    if file is None:
        detail = load(source).detail
        if detail is None:
            raise CheckpointError(f"{source}: has no detail encoder; name a model that was trained with train detail")
        return detail
    state = quantized.complete(tensors(safetensors.read(file), str(file)), str(file))
    try:
        config = TypeAdapter(DetailConfig).validate_json(safetensors.read_metadata(file)[_KEY])
        check_limits(asdict(config), file)
        made = DetailEncoder(config)
        made.load_state_dict({key: value.float() for key, value in state.items()})
    except (ValidationError, RuntimeError) as error:
        raise CheckpointError(f"{file}: holds no detail encoder of this version; copy it again") from error
    return made


def metadata_of(detail: DetailEncoder) -> dict[str, str]:
    """The metadata of a file that ``load_detail`` reads."""
    return {_KEY: json.dumps(asdict(detail.config))}
