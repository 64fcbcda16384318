"""How good reconstructions are, picture by picture: L2, PSNR, LPIPS and identity, all at 256 pixels.

Pictures are judged as they would be saved, so clipped to [-1, 1], and compared at the size at which the paper compares
them; larger ones are area-pooled to it. This module does not know what made a picture.

Axes: ``b`` batch, ``h w`` sides of a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .features import LPIPS, Identity

SIDE = 256


def pooled(images: Tensor) -> Tensor:
    """At 256 pixels: ``[b 3 h w] -> [b 3 256 256]``, larger ones by area, smaller ones bilinear."""
    if images.shape[-2:] == (SIDE, SIDE):
        return images
    if min(images.shape[-2:]) >= SIDE:
        return F.adaptive_avg_pool2d(images, SIDE)
    return F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)


@dataclass(frozen=True)
class Scores:
    """What the judges say of each of ``b`` pictures; every field is ``[b]``, on the CPU."""

    l2: Tensor
    """Mean squared difference of pixels in [-1, 1]; 0 is equal."""
    psnr: Tensor
    """The same in decibels below the full range."""
    lpips: Tensor
    """LPIPS-alex; 0 is equal."""
    identity: Tensor
    """Cosine of MobileFaceNet's vectors; 1 is the same person."""

    def __len__(self) -> int:
        return len(self.l2)

    def means(self) -> dict[str, float]:
        """The mean of each score by its name."""
        return {field.name: float(getattr(self, field.name).mean()) for field in fields(self)}

    @staticmethod
    def joined(parts: "Sequence[Scores]") -> "Scores":
        """Scores of several batches as one, in order."""
        return Scores(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Scores)))


class Judges(nn.Module):
    """The frozen judges on one device: pictures and what they should be, ``[b 3 h w]`` of any sizes, to ``Scores``.

    Pictures are RGB in [-1, 1] and show faces aligned as in FFHQ.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        super().__init__()
        self.device = torch.device(device)
        self.lpips, self.identity = LPIPS("alex"), Identity()
        self.to(self.device)

    @torch.no_grad()
    def forward(self, made: Tensor, target: Tensor) -> Scores:
        """Scores of ``made``, each picture against the one at its place in ``target``. Raises ValueError for others."""
        if len(made) != len(target):
            raise ValueError(f"every picture needs its target, got {len(made)} and {len(target)}")
        made, target = (pooled(images.to(self.device).float().clamp(-1, 1)) for images in (made, target))
        l2 = (made - target).square().mean((1, 2, 3))
        found = (l2, 10 * torch.log10(4 / l2), self.lpips(made, target), self.identity(made, target))
        return Scores(*(score.cpu() for score in found))

    def __call__(self, made: Tensor, target: Tensor) -> Scores:
        """See ``forward``."""
        return cast(Scores, super().__call__(made, target))
