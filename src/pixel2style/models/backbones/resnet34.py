"""ResNet-34 without its max-pool, the trunk for other images than faces (ReStyle, arXiv 2104.02699, section 4).

Names of parameters are those of the published encoders, with one list of blocks; ``renamed`` converts torchvision's.
Without the max-pool, maps have the strides 4, 8 and 16 that heads need, and twice the side of a ResNet's.

Axes: ``b`` batch, ``c`` channels, ``s`` side.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .recompute import recompute

STAGES = (3, 4, 6, 3)
"""Blocks in each of the four stages."""

STAGE_CHANNELS = (64, 128, 256, 512)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalisation of images in [0, 1] in the training of torchvision's networks."""


class Block(nn.Module):
    """Two convolutions with a shortcut: ``[b c s s] -> [b c' s/stride s/stride]`` (arXiv 1512.03385, figure 2)."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module = nn.Identity()
        if in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """``[b c s s] -> [b c' s/stride s/stride]``."""
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(residual + self.downsample(x))


class ResNet34(nn.Module):
    """Trunk of an encoder: ``taps(x)`` gives the maps at strides 4, 8 and 16.

    These are the outputs of blocks 6, 12 and 15 counted from zero. With ``recompute`` every block keeps only its input
    for the backward pass and runs twice.
    """

    tap_channels: tuple[int, int, int] = STAGE_CHANNELS[1:]
    recompute = False

    def __init__(self, input_channels: int = 3):
        super().__init__()
        self.conv1 = nn.Conv2d(input_channels, STAGE_CHANNELS[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STAGE_CHANNELS[0])
        self.relu = nn.PReLU(STAGE_CHANNELS[0])
        blocks: list[nn.Module] = []
        before = STAGE_CHANNELS[0]
        for stage, (channels, count) in enumerate(zip(STAGE_CHANNELS, STAGES, strict=True)):
            for index in range(count):
                blocks.append(Block(before, channels, 2 if stage and index == 0 else 1))
                before = channels
        self.body = nn.Sequential(*blocks)
        self._taps = [sum(STAGES[: stage + 1]) - 1 for stage in (1, 2, 3)]

    def taps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[b c s s] -> ([b 128 s/4 s/4], [b 256 s/8 s/8], [b 512 s/16 s/16])``."""
        maps = []
        x = self.relu(self.bn1(self.conv1(x)))
        for index, block in enumerate(self.body):
            x = recompute(block, x) if self.recompute else block(x)
            if index in self._taps:
                maps.append(x)
        fine, middle, coarse = maps
        return fine, middle, coarse


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of torchvision's ResNet-34 with the names of ``ResNet34``, without its classifier.

    The published encoders have a PReLU in place of torchvision's ReLU; its slope is 0. Unknown names stay.
    """
    result = {"relu.weight": torch.zeros(STAGE_CHANNELS[0])}
    for key, value in weights.items():
        stage = re.fullmatch(r"layer([1-4])\.(\d{1,3})\.(.+)", key)
        if stage and int(stage[2]) < STAGES[int(stage[1]) - 1]:
            result[f"body.{sum(STAGES[: int(stage[1]) - 1]) + int(stage[2])}.{stage[3]}"] = value
        elif not key.startswith("fc."):
            result[key] = value
    return result


def without_normalization(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights for images in [-1, 1], from those of a trunk for images normalised by ``MEAN`` and ``DEVIATION``.

    Exact except at the border, because of the first layer's zero padding.
    """
    result = dict(weights)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    first = weights["conv1.weight"]
    result["conv1.weight"] = first / (2 * deviation)
    result["bn1.running_mean"] = weights["bn1.running_mean"] - (first * (0.5 - mean) / deviation).sum((1, 2, 3))
    return result
