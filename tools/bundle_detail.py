"""Bundle a trained detail encoder: its weights in int8, with one step per channel, and a model that refers to it.

    python tools/bundle_detail.py runs/detail/best.safetensors detail_ffhq faces

writes ``detail_ffhq.safetensors`` to the bundled files, and its name and shape to the metadata of
``faces.safetensors``, whose tensors stay as they are, byte for byte. Models that have a detail encoder of their own, as
a difference to this one, keep it: their differences are written anew.

    python tools/bundle_detail.py runs/superres/best.safetensors detail_ffhq superres 3

adds the difference to the bundled ``detail_ffhq`` to ``superres.safetensors``, with 3 bits per number. The first file
is the model of a run of ``pixel2style train detail``, or a detail encoder alone.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from pixel2style import assets, tasks
from pixel2style.checkpoints import load_detail, native
from pixel2style.checkpoints.detail import metadata_of
from pixel2style.config import ModelConfig
from pixel2style.errors import CheckpointError
from pixel2style.formats import quantized, safetensors
from pixel2style.models.detail import DetailEncoder

BITS = 4
"""Of differences that are written anew: a little more than the 3 that they may have had, since each time loses some."""


def bundle(detail: DetailEncoder, name: str, model: str, folder: Path = assets.FOLDER) -> None:
    """Write ``name`` and rewrite the metadata of ``model``, both files of ``folder``, and differences to ``name``.

    Vectors, and tensors beyond the range of float16, stay float32. Raises CheckpointError where ``model`` is none.
    """
    differing = {file: load_detail(file) for file in sorted(folder.glob("*.safetensors")) if _differs(file, name)}
    state = detail.state_dict()
    largest = torch.finfo(torch.float16).max
    halves = {
        key: value if value.ndim < 2 or value.abs().max() > largest else value.half() for key, value in state.items()
    }
    safetensors.write(quantized.in_bytes(state, halves), folder / f"{name}.safetensors", metadata_of(detail))
    _attach(detail, folder / f"{model}.safetensors", {}, {"detail": name})
    for file, own in differing.items():
        bundle_difference(own, name, file.stem, BITS, folder)


def _differs(file: Path, name: str) -> bool:
    """Whether a model's file holds the difference of its detail encoder to the bundled ``name``."""
    metadata = safetensors.read_metadata(file)
    return metadata.get("detail") == name and "detail_digest" in metadata


def bundle_difference(detail: DetailEncoder, name: str, model: str, bits: int, folder: Path = assets.FOLDER) -> None:
    """Rewrite ``model``, a file of ``folder``, with the difference of ``detail`` to the bundled ``name``.

    Raises CheckpointError where ``model`` is none, ValueError where the two detail encoders have other shapes.
    """
    state = {f"detail.{key}": value for key, value in detail.state_dict().items()}
    _attach(detail, folder / f"{model}.safetensors", *native.differing_detail(state, name, bits))


def _attach(detail: DetailEncoder, file: Path, parts: dict[str, Tensor], reference: dict[str, str]) -> None:
    """Rewrite a model's file with these tensors and metadata of a detail encoder; its own tensors stay."""
    config = native.header(file).config
    if not isinstance(config, ModelConfig):
        raise CheckpointError(f"{file}: is a generator, not a model; name the model that the detail encoder is for")
    task = tasks.task_or_none(config.task)
    shape = replace(detail.config, needs_task=task is not None and not task.inverts)
    metadata = safetensors.read_metadata(file) | native.metadata_of(replace(config, detail=shape))
    metadata.pop("detail_digest", None)
    own = {key: value.clone() for key, value in safetensors.read(file).items() if not key.startswith("detail.")}
    safetensors.write(own | parts, file, metadata | reference)  # clones are not mapped: the file is replaced


def main(source: str, name: str, model: str, bits: str = "") -> None:
    if bits:
        bundle_difference(load_detail(source), name, model, int(bits))
    else:
        bundle(load_detail(source), name, model)
    for file in (assets.path(name), assets.path(model)):
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
