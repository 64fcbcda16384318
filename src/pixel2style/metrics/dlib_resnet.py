"""dlib's face ResNet: a second opinion on identity, by a network that nothing here was ever trained with.

An encoder that learned to please one identity network may please it more than anybody else; this one judges only. It
is the network of 29 convolutions that Davis King describes with his public-domain weights (dlib-models, version 1):
ResNet-34 (arXiv 1512.03385) with half the filters and fewer units, without padding where it strides, a shortcut by
averages that is filled up with zeros, and every normalisation frozen into gains and shifts. This module does not know
how a face is cropped for it: see ``features``.

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
"""Units in computing order, as the published file calls them: ``{prefix: (channels, endings)}``."""


class Unit(nn.Module):
    """Two 3x3 convolutions beside a shortcut: ``[b c s s] -> [b c' s s]``, or half the side when ``down``."""

    def __init__(self, channels: int, out_channels: int, down: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, 2, 0) if down else nn.Conv2d(channels, out_channels, 3, 1, 1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1)
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        """The unit. A halved shortcut and the convolutions may differ in size: the smaller is filled up with zeros."""
        out = self.conv2(F.relu(self.conv1(x)))
        if self.down:
            x = F.avg_pool2d(x, 2)
            sizes = [max(a, b) for a, b in zip(x.shape[1:], out.shape[1:], strict=True)]
            x, out = _filled_up(x, sizes), _filled_up(out, sizes)
        return F.relu(x + out)


def _filled_up(x: Tensor, sizes: list[int]) -> Tensor:
    channels, height, width = (wanted - there for wanted, there in zip(sizes, x.shape[1:], strict=True))
    return F.pad(x, (0, width, 0, height, 0, channels)) if channels or height or width else x


class FaceResNet(nn.Module):
    """Faces to identity vectors: ``[b 3 150 150]`` in [-1, 1] ``-> [b 128]`` (not normalised).

    Vectors of one person lie within .6 of each other (euclidean), as it was trained. The weights are random until
    ``load`` is called (or use ``pretrained``).
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
        """Take weights, strictly. Raises CheckpointError when keys or shapes do not fit."""
        try:
            self.load_state_dict(dict(tensors))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"these are not weights of dlib's face ResNet: {reason}") from error


def unpacked(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they are stored to weights as they compute.

    A ``KEY`` of bytes has a ``KEY.range`` [2], step and least value. A convolution's frozen normalisation is stored
    beside it (``KEY.gain`` [c]), since bytes that were multiplied by it would no longer be the published ones.
    """
    tensors = {}
    for key, value in stored.items():
        if key.endswith((".range", ".gain")):
            continue
        if f"{key}.range" in stored:
            step, least = stored[f"{key}.range"]
            value = value.float() * step + least
        if f"{key}.gain" in stored:
            value = value * stored[f"{key}.gain"].view(-1, 1, 1, 1)
        tensors[key] = value.float()
    return tensors


def pretrained() -> FaceResNet:
    """The bundled network; freeze it (``requires_grad_(False)``) to use it as a judge."""
    network = FaceResNet()
    network.load(unpacked(assets.read(NAME)))
    return network
