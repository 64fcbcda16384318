"""Read the networks in the npm package @vladmandic/face-api, which is hash-checked and never run.

A network is a .bin file, one array after the other, in the order, shapes and types of a manifest beside it: most are
bytes with a step and a minimum for each array, and stay so.
"""

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

SHA256 = "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031"
Stored = tuple[Tensor, Tensor | None]
"""An array and, if it is stored as bytes, its step and minimum [2]."""


def read(archive: Path, network: str) -> dict[str, Stored]:
    """Every array of ``network``, by its published name."""
    content = verified(archive, SHA256, "@vladmandic/face-api 1.7.15")
    parts = []
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for ending in ("-weights_manifest.json", ".bin"):
            member = tar.extractfile(f"package/model/{network}{ending}")
            assert member is not None
            parts.append(member.read())
    return arrays(json.loads(parts[0])[0]["weights"], parts[1])


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


def matrix(key: str, stored: Stored) -> dict[str, Tensor]:
    """``KEY``, and ``KEY.range`` if it is stored as bytes (see ``dlib_resnet.dequantize``); else in fp16."""
    tensor, span = stored
    return {key: tensor.half()} if span is None else {key: tensor, f"{key}.range": span}
