"""Editors as files, as ``tools/train_editor.py --bundle`` writes them: weights in int8, metadata ``editor``."""

import json
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from .. import assets
from ..errors import CheckpointError
from ..formats import quantized, safetensors
from ..formats.state_dicts import tensors
from ..generators.base import Generator
from ..models.editor import Editor

_KEY = "editor"


class _Shape(BaseModel):
    """What the metadata say: whose maps these are, and their channels by side."""

    generator: str
    channels: dict[int, int] = Field(min_length=1, max_length=8)


def load_editor(path: Path, generator: Generator) -> Editor | None:
    """The editor in a file, for a generator; None where it belongs to another. Raises CheckpointError."""
    try:
        shape = _Shape.model_validate_json(safetensors.read_metadata(path).get(_KEY, "{}"))
        if shape.generator != generator.config.kind or not shape.channels.items() <= generator.map_channels().items():
            return None
        made = Editor(shape.channels)
        state = quantized.complete(tensors(safetensors.read(path), str(path)), str(path))
        made.load_state_dict({key: value.float() for key, value in state.items()})
    except (ValidationError, RuntimeError) as error:
        raise CheckpointError(f"{path}: holds no editor of this version; copy it again") from error
    return made.eval().requires_grad_(False).to(generator.w_avg.device)


def bundled_editor(generator: Generator) -> Editor | None:
    """The bundled editor of a kind of generator, also if that was fine-tuned; None if there is none."""
    found = (load_editor(assets.path(name), generator) for name in assets.names() if name.startswith("editor_"))
    return next((editor for editor in found if editor is not None), None)


def write_editor(editor: Editor, generator: Generator, path: Path) -> None:
    """Write a file that ``load_editor`` reads; vectors stay float32."""
    state = editor.state_dict()
    halves = {key: value if value.ndim < 2 else value.half() for key, value in state.items()}
    shape = _Shape(generator=generator.config.kind, channels=editor.channels)
    safetensors.write(quantized.in_bytes(state, halves), path, {_KEY: json.dumps(shape.model_dump())})
