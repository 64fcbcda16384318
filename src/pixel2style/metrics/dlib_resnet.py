"""dlib's face ResNet: an independent identity metric, from a network that no loss uses.

An encoder trained with one identity network may overfit to it, so it is evaluated with another. This is the network of
29 convolutions that Davis King describes with his public-domain weights (dlib-models, version 1): ResNet-34 (arXiv
1512.03385) with half the filters and fewer units, no padding at stride 2, average-pooled shortcuts padded with zero
channels, and batch normalisation as constant gains and shifts.

Axes: ``b`` batch, ``c`` channels, ``s`` side of a map.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import assets
from ..errors import CheckpointError

INPUT_SIZE = 150
EMBEDDING_WIDTH = 128
NAME = "dlib_face_resnet"

_MEAN = (122.782, 117.001, 104.298)
STAGES = {
    "conv32": (32, ("1", "2", "3")),
    "conv64": (64, ("down", "1", "2", "3")),
    "conv128": (128, ("down", "1", "2")),
    "conv256": (256, ("down", "1", "2", "down_out")),
}
"""Units in order, by their names in the published file: ``{prefix: (channels, endings)}``."""


class Unit(nn.Module):
    """Two 3x3 convolutions beside a shortcut: ``[b c s s] -> [b c' s s]``, or half the side when ``down``."""

    def __init__(self, channels: int, out_channels: int, down: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, 2, 0) if down else nn.Conv2d(channels, out_channels, 3, 1, 1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1)
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        """A pooled shortcut and the convolutions may differ in shape: the smaller one is padded with zeros."""
        out = self.conv2(F.relu(self.conv1(x)))
        if self.down:
            x = F.avg_pool2d(x, 2)
            shape = [max(a, b) for a, b in zip(x.shape[1:], out.shape[1:], strict=True)]
            x, out = _pad(x, shape), _pad(out, shape)
        return F.relu(x + out)


def _pad(x: Tensor, shape: list[int]) -> Tensor:
    """Append zeros to ``[b c h w]`` up to ``shape`` ``[c h w]``."""
    channels, height, width = (target - size for target, size in zip(shape, x.shape[1:], strict=True))
    return F.pad(x, (0, width, 0, height, 0, channels)) if channels or height or width else x


class FaceResNet(nn.Module):
    """Faces to identity vectors: ``[b 3 150 150]`` in [-1, 1] ``-> [b 128]`` (not normalised).

    It was trained so that vectors of one person have a Euclidean distance below .6. Weights are random;
    ``pretrained`` gives the network with its own.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, 2)
        self.units = nn.ModuleDict()
        channels = 32
        for prefix, (out_channels, endings) in STAGES.items():
            for ending in endings:
                self.units[f"{prefix}_{ending}"] = Unit(channels, out_channels, ending.startswith("down"))
                channels = out_channels
        self.head = nn.Linear(channels, EMBEDDING_WIDTH, bias=False)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Identity vectors ``[b 128]``. Raises ValueError for another size than 150."""
        if x.shape[-2:] != (INPUT_SIZE, INPUT_SIZE):
            raise ValueError(f"faces must be {INPUT_SIZE}x{INPUT_SIZE}, got {tuple(x.shape[-2:])}")
        levels = ((x + 1) * 127.5 - self.mean) / 256
        maps = F.max_pool2d(F.relu(self.stem(levels)), 3, 2)
        for unit in self.units.values():
            maps = unit(maps)
        vectors: Tensor = self.head(maps.mean((2, 3)))
        return vectors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Set all weights. Raises CheckpointError when keys or shapes do not fit."""
        try:
            self.load_state_dict(dict(tensors))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"these weights do not fit dlib's face ResNet: {reason}") from error


def dequantize(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stored weights as float32.

    An 8-bit ``KEY`` has a ``KEY.range`` ``[2]``: step and minimum. The gain of a convolution's normalisation is stored
    beside it (``KEY.gain`` ``[c]``), so that the 8-bit values stay the published ones.
    """
    tensors = {}
    for key, value in stored.items():
        if key.endswith((".range", ".gain")):
            continue
        if f"{key}.range" in stored:
            step, minimum = stored[f"{key}.range"]
            value = value.float() * step + minimum
        if f"{key}.gain" in stored:
            value = value * stored[f"{key}.gain"].view(-1, 1, 1, 1)
        tensors[key] = value.float()
    return tensors


def pretrained() -> FaceResNet:
    """The network with the bundled weights, not frozen."""
    network = FaceResNet()
    network.load(dequantize(assets.read(NAME)))
    return network
