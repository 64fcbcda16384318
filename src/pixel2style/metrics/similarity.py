"""Similarity of images that are not faces: the cosine of general features (pSp's MoCo similarity loss).

pSp uses MoCo-v2's ResNet-50 (arXiv 2003.04297), which is not bundled; ``checkpoints.foreign.load_moco`` reads its file.
The bundled substitute "alex" is the last map of LPIPS's AlexNet, averaged over the image. It was trained to classify,
so its cosines are on another scale than MoCo's.

Axes: ``b`` batch, ``c`` channels, ``h w`` sides of an image, ``d`` width of a feature vector.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .lpips import LPIPS

MOCO_SIDE = 224


class MoCo(nn.Module):
    """ResNet-50 up to its pooled last map: images ``[b 3 h w]`` in [-1, 1] ``-> [b 2048]``.

    The input is prepared as in pSp's loss: nearest-neighbour resized to 224x224, not normalised to ImageNet's mean.
    """

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet50  # type: ignore[import-untyped]  # slow to import, seldom needed

        self.trunk: nn.Module = resnet50()
        self.trunk.fc = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Non-negative features."""
        features: Tensor = self.trunk(F.interpolate(images, size=(MOCO_SIDE, MOCO_SIDE)))
        return features


class AlexFeatures(nn.Module):
    """AlexNet's last map averaged over the image: ``[b 3 h w] -> [b 256]``."""

    def __init__(self) -> None:
        super().__init__()
        self.lpips = LPIPS("alex")

    def forward(self, images: Tensor) -> Tensor:
        """Non-negative features."""
        *_, last = self.lpips.maps(images)
        return last.mean((2, 3))


class Similarity(nn.Module):
    """How similar two images are in general features: ``[b 3 h w]`` twice ``-> [b]``, a cosine.

    "alex" is bundled. Any other ``network`` is given loaded: a module from images to ``[b d]``, for example ``MoCo``.
    Raises ConfigError for another name without a network.
    """

    def __init__(self, name: str = "alex", network: nn.Module | None = None):
        super().__init__()
        if network is None:
            if name != "alex":
                raise ConfigError(f"similarity network {name!r} is not bundled: give alex, or the file of a MoCo-v2")
            network = AlexFeatures()
        self.name = name
        self.network = network.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "Similarity":
        """Always in eval mode: batch normalisation keeps its statistics inside a module that is trained."""
        return super().train(False)

    def features(self, images: Tensor) -> Tensor:
        """Feature vectors of unit length, ``[b d]``."""
        vectors: Tensor = self.network(images)
        return F.normalize(vectors.float(), dim=1)

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """The cosine ``[b]`` from the ``features`` of two batches of images."""
        return (a * b).sum(1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The cosine ``[b]`` of two batches of images."""
        return self.similarity(self.features(a), self.features(b))
