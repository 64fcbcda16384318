"""Improved residual networks for faces (ArcFace, arXiv 1801.07698, section 3.2.2; squeeze-excite, arXiv 1709.01507).

The same units make the encoder's trunk (pSp, section 3: three taps) and, with an output layer, identity networks. Names
of parameters are those of the published files.

Axes: ``b`` batch, ``c`` channels, ``s`` side.
"""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from .recompute import recompute

STAGES: dict[int, tuple[int, int, int, int]] = {50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 152: (3, 8, 36, 3)}
"""Units in each of the four stages, by nominal depth."""

STAGE_CHANNELS = (64, 128, 256, 512)
STEM_CHANNELS = 64
REDUCTION = 16
FACE_SIDE = 112
FEATURES = 512


class SqueezeExcite(nn.Module):
    """Weight every channel by a function of the averages of all channels: ``[b c s s] -> [b c s s]``."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // REDUCTION, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Each channel times a number in (0, 1): ``[b c s s] -> [b c s s]``."""
        pooled = x.mean(dim=(2, 3), keepdim=True)
        weights: Tensor = self.fc2(F.relu(self.fc1(pooled))).sigmoid()
        return x * weights


class Subsample(nn.Module):
    """Keep every ``stride``-th pixel: ``[b c s s] -> [b c s/stride s/stride]``.

    The published networks use a max-pool of size 1, which would store an index for every element.
    """

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """A view of ``x``."""
        return x[:, :, :: self.stride, :: self.stride]


class Unit(nn.Module):
    """A residual unit that normalises before its convolutions: ``[b c s s] -> [b c' s/stride s/stride]``."""

    def __init__(self, in_channels: int, channels: int, stride: int, squeeze: bool):
        super().__init__()
        layers: list[nn.Module] = [
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        ]
        if squeeze:
            layers.append(SqueezeExcite(channels))
        self.res_layer = nn.Sequential(*layers)
        self.shortcut_layer: nn.Module
        if in_channels == channels:
            self.shortcut_layer = Subsample(stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """The sum of shortcut and layers: ``[b c s s] -> [b c' s/stride s/stride]``."""
        total: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return total


def _stem(input_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(input_channels, STEM_CHANNELS, 3, padding=1, bias=False),
        nn.BatchNorm2d(STEM_CHANNELS),
        nn.PReLU(STEM_CHANNELS),
    )


def _run(module: nn.Module, x: Tensor) -> Tensor:
    return cast(Tensor, module(x))


def _body(depth: int, squeeze: bool) -> nn.Sequential:
    """All units in order; the first one of every stage halves the side."""
    units: list[nn.Module] = []
    before = STEM_CHANNELS
    for channels, count in zip(STAGE_CHANNELS, STAGES[depth], strict=True):
        for index in range(count):
            units.append(Unit(before, channels, 2 if index == 0 else 1, squeeze))
            before = channels
    return nn.Sequential(*units)


class IRSE(nn.Module):
    """Trunk of an encoder: ``taps(x)`` gives the maps at strides 4, 8 and 16.

    At depth 50 these are the outputs of units 6, 20 and 23 counted from zero (pSp, section 3). ``squeeze=False`` is the
    plain IR network. With ``recompute`` every unit keeps only its input for the backward pass and runs twice. Raises
    ValueError for a depth that is not in ``STAGES``.
    """

    tap_channels: tuple[int, int, int] = STAGE_CHANNELS[1:]
    recompute = False

    def __init__(self, depth: int = 50, input_channels: int = 3, squeeze: bool = True):
        if depth not in STAGES:
            raise ValueError(f"depth must be one of {sorted(STAGES)}, got {depth}")
        super().__init__()
        self.input_layer = _stem(input_channels)
        self.body = _body(depth, squeeze)
        first, second, third, fourth = STAGES[depth]
        self._tap_units = (first + second - 1, first + second + third - 1, first + second + third + fourth - 1)

    def taps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[b c s s] -> ([b 128 s/4 s/4], [b 256 s/8 s/8], [b 512 s/16 s/16])``."""
        maps = []
        run = recompute if self.recompute else _run
        x = run(self.input_layer, x)
        for index, unit in enumerate(self.body):
            x = run(unit, x)
            if index in self._tap_units:
                maps.append(x)
        fine, middle, coarse = maps
        return fine, middle, coarse


class FaceEmbedding(nn.Module):
    """Identity network: aligned faces ``[b 3 112 112]`` in [-1, 1] to unit vectors ``[b 512]``."""

    def __init__(self, depth: int, squeeze: bool, affine: bool):
        super().__init__()
        side = FACE_SIDE // 2 ** len(STAGE_CHANNELS)
        channels = STAGE_CHANNELS[-1]
        self.input_layer = _stem(3)
        self.body = _body(depth, squeeze)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(channels * side * side, FEATURES),
            nn.BatchNorm1d(FEATURES, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Vectors of length 1. Raises ValueError for another shape than ``[b 3 112 112]``."""
        if x.shape[1:] != (3, FACE_SIDE, FACE_SIDE):
            raise ValueError(f"faces must be [b 3 {FACE_SIDE} {FACE_SIDE}], got {list(x.shape)}")
        return F.normalize(self.output_layer(self.body(self.input_layer(x))))


class ArcFace(FaceEmbedding):
    """IR-SE50, the network of the identity loss (pSp, equation 4)."""

    def __init__(self) -> None:
        super().__init__(depth=50, squeeze=True, affine=True)


class CurricularFace(FaceEmbedding):
    """IR-101, the network of pSp's published identity scores (CurricularFace, arXiv 2004.00288)."""

    def __init__(self) -> None:
        super().__init__(depth=100, squeeze=False, affine=False)
