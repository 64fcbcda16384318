"""A frozen judge for pictures that are no faces: how alike two are in general features (pSp's MoCo similarity loss).

The published judge is MoCo-v2's ResNet-50 (arXiv 2003.04297), which is not bundled: ``foreign.load_moco`` reads the
file where the user has one. "alex" stands in for it: the last map of the AlexNet that LPIPS compares, averaged over the
picture. It was taught to name things, not to tell pictures apart, so its cosines are on another scale than MoCo's.

As in ``features``, what is known of a target is computed once and comparisons are made in float32. This module does not
read files.

Axes: ``b`` batch, ``c`` channels, ``h w`` sides of a picture, ``d`` width of a feature vector.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .features import LPIPS

MOCO_SIDE = 224


class MoCo(nn.Module):
    """ResNet-50 up to its pooled last map: pictures ``[b 3 h w]`` in [-1, 1] ``-> [b 2048]``.

    It sees what pSp's loss shows it: 224x224 pixels, the nearest of each, in [-1, 1] and not in ImageNet's statistics.
    """

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet50  # type: ignore[import-untyped]  # as heavy as torch, and seldom needed

        self.trunk: nn.Module = resnet50()
        self.trunk.fc = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Features, none below zero."""
        features: Tensor = self.trunk(F.interpolate(images, size=(MOCO_SIDE, MOCO_SIDE)))
        return features


class AlexFeatures(nn.Module):
    """The stand-in: AlexNet's last map averaged over the picture, ``[b 3 h w] -> [b 256]``."""

    def __init__(self) -> None:
        super().__init__()
        self.lpips = LPIPS("alex")

    def forward(self, images: Tensor) -> Tensor:
        """Features, none below zero."""
        *_, last = self.lpips.maps(images)
        return last.mean((2, 3))


class Similarity(nn.Module):
    """How alike two pictures are in general: ``[b 3 h w]`` twice ``-> [b]``, a cosine.

    "alex" is bundled. Any other network is given by the caller, loaded: a module from pictures to ``[b d]``, ``MoCo``
    for example. Raises ConfigError for another name without a network.
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
        """A judge stays a judge: its batch normalisation never learns, whatever mode the training around it is in."""
        return super().train(False)

    def features(self, images: Tensor) -> Tensor:
        """Feature vectors of unit length, ``[b d]``."""
        vectors: Tensor = self.network(images)
        return F.normalize(vectors.float(), dim=1)

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """The cosine ``[b]`` of two pictures from their ``features``."""
        return (a * b).sum(1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The cosine ``[b]`` of two batches of pictures."""
        return self.similarity(self.features(a), self.features(b))
