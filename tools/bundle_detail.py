"""Bundle a trained detail encoder: its weights in int8, with one step per channel, and a model that refers to it.

    python tools/bundle_detail.py runs/detail/detail.safetensors detail_ffhq faces

writes ``detail_ffhq.safetensors`` to the bundled files, and its name and shape to the metadata of
``faces.safetensors``, whose tensors stay as they are, byte for byte.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from pixel2style import assets
from pixel2style.checkpoints import native
from pixel2style.config import ModelConfig
from pixel2style.errors import CheckpointError
from pixel2style.formats import quantized, safetensors
from pixel2style.models.detail import DetailEncoder
from train_detail import load_detail, metadata_of


def bundle(detail: DetailEncoder, name: str, model: str, folder: Path = assets.FOLDER) -> None:
    """Write ``name`` and rewrite the metadata of ``model``, both files of ``folder``.

    Vectors, and tensors beyond the range of float16, stay float32. Raises CheckpointError where ``model`` is none.
    """
    state = detail.state_dict()
    largest = torch.finfo(torch.float16).max
    halves = {
        key: value if value.ndim < 2 or value.abs().max() > largest else value.half() for key, value in state.items()
    }
    safetensors.write(quantized.in_bytes(state, halves), folder / f"{name}.safetensors", metadata_of(detail))
    file = folder / f"{model}.safetensors"
    config = native.header(file).config
    if not isinstance(config, ModelConfig):
        raise CheckpointError(f"{file}: is a generator, not a model; name the model that the detail encoder is for")
    metadata = safetensors.read_metadata(file) | native.metadata_of(replace(config, detail=detail.config))
    tensors = {key: value.clone() for key, value in safetensors.read(file).items()}  # not mapped: the file is replaced
    safetensors.write(tensors, file, metadata | {"detail": name})


def main(source: str, name: str, model: str) -> None:
    bundle(load_detail(source), name, model)
    for file in (assets.path(name), assets.path(model)):
        print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
