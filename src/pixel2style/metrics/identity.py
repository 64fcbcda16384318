"""Identity: whether two aligned faces show the same person, as the cosine of two networks' vectors.

``features`` of one image are separate from the ``similarity`` of two, so that those of a target are computed once.
Weights are frozen; gradients for images are computed. Cosines are in float32 whatever precision the network runs in.
Images are faces aligned as in FFHQ (``faces.align``).

Axes: ``b`` batch, ``h w`` sides of an image, ``d`` width of an identity vector.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..models.backbones import mobilefacenet
from ..ops import area, pooled
from . import dlib_resnet

FACE_SIZE = 112


@dataclass(frozen=True)
class Crop:
    """A square of an FFHQ-aligned image, in pixels of a 256x256 one, and the input ``size`` of its network."""

    top: int
    left: int
    side: int
    size: int


ARCFACE = Crop(35, 32, 188, FACE_SIZE)
"""pSp's crop. MobileFaceNet too separates people best on it (`benchmarks/identity_crop.py`)."""
DLIB = Crop(64, 37, 182, dlib_resnet.INPUT_SIZE)
"""dlib's crop: eyes and chin at dlib's proportions. It is also the best by the same benchmark."""


def face_window(images: Tensor, crop: Crop = ARCFACE) -> Tensor:
    """The square ``crop`` of FFHQ-aligned images, resized to 256x256 first (``ops.pooled``).

    ``[b 3 h w] -> [b 3 side side]``.
    """
    images = pooled(images)
    return images[..., crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]


def face_crop(images: Tensor, crop: Crop = ARCFACE) -> Tensor:
    """The input of an identity network from FFHQ-aligned images: ``[b 3 h w] -> [b 3 size size]``."""
    return area(face_window(images, crop), crop.size)


BUNDLED: dict[str, tuple[Callable[[], nn.Module], Crop]] = {
    "mobilefacenet": (mobilefacenet.pretrained, ARCFACE),
    "dlib": (dlib_resnet.pretrained, DLIB),
}
"""Bundled identity networks and their crops."""


class Identity(nn.Module):
    """Whether two FFHQ-aligned images show the same person: ``[b 3 h w]`` twice ``-> [b]``, a cosine.

    "mobilefacenet" and "dlib" are bundled; "dlib" is an independent metric that no loss uses. Any other ``network`` is
    given loaded: a module from ``[b 3 112 112]`` in [-1, 1] to ``[b d]``, for example ArcFace's IR-SE50 or
    CurricularFace's IR-101. Cosines of different networks are on different scales (see the cards): do not compare them.
    Raises ConfigError for another name without a network.
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
        """Always in eval mode: batch normalisation keeps its statistics inside a module that is trained."""
        return super().train(False)

    def features(self, images: Tensor) -> Tensor:
        """Identity vectors of unit length, ``[b d]``."""
        vectors: Tensor = self.network(face_crop(images, self.crop))
        return F.normalize(vectors.float(), dim=1)

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """The cosine ``[b]`` from the ``features`` of two batches of images."""
        return (a * b).sum(1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The cosine ``[b]`` of two batches of images."""
        return self.similarity(self.features(a), self.features(b))
