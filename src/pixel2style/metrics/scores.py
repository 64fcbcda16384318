"""How good reconstructions are, picture by picture, at 256 pixels: the one judge for training and for everybody else.

Pictures are judged as they would be saved, so clipped to [-1, 1], and compared at the size at which the paper compares
them; larger ones are area-pooled to it. This module does not know what made a picture, nor in which files it lies.

Axes: ``b`` batch, ``h w`` sides of a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, cast

import torch
from torch import Tensor, nn

from ..ops import pooled
from .features import LPIPS, Identity, cached_lpips, unit_length
from .ms_ssim import ms_ssim


@dataclass(frozen=True)
class Metric:
    """What one score means."""

    title: str
    better: Literal["less", "more"]
    about: str


METRICS = {
    "l2": Metric("L2", "less", "Mean squared difference of pixels in [-1, 1]; 0 is equal."),
    "psnr": Metric("PSNR", "more", "The same in decibels below the full range."),
    "ms_ssim": Metric("MS-SSIM", "more", "Structure at five sizes; 1 is equal."),
    "lpips": Metric("LPIPS (alex)", "less", "How different it looks, by AlexNet's features; 0 is equal."),
    "lpips_vgg": Metric("LPIPS (vgg)", "less", "How different it looks, by VGG16's features; 0 is equal."),
    "identity": Metric(
        "identity", "more", "Cosine by MobileFaceNet, which also trains encoders: one person .73, strangers .01."
    ),
    "identity_dlib": Metric(
        "identity (dlib)", "more", "Cosine by dlib's network, which trains nothing: one person .95, strangers .84."
    ),
}
"""Every score by its name, in the order in which tables show them. What cosines mean is measured on LFW (the cards)."""


@dataclass(frozen=True)
class Scores:
    """What the judges say of each of ``b`` pictures (see ``METRICS``); every field is ``[b]``, on the CPU, or None."""

    l2: Tensor
    psnr: Tensor
    lpips: Tensor
    identity: Tensor | None = None
    ms_ssim: Tensor | None = None
    lpips_vgg: Tensor | None = None
    identity_dlib: Tensor | None = None
    vgg: Tensor | None = None
    """No score: VGG16's last map, averaged over the picture, of result and target ``[b 2 512]`` (see ``frechet``)."""

    def __len__(self) -> int:
        return len(self.l2)

    def each(self) -> dict[str, Tensor]:
        """The scores that there are, ``[b]``, by name."""
        return {name: score for name in METRICS if (score := getattr(self, name)) is not None}

    def means(self) -> dict[str, float]:
        """The mean of each score by its name."""
        return {name: float(score.mean()) for name, score in self.each().items()}

    def of(self, index: int) -> dict[str, float]:
        """The scores of one picture by their names."""
        return {name: float(score[index]) for name, score in self.each().items()}

    @staticmethod
    def joined(parts: "Sequence[Scores]") -> "Scores":
        """Scores of several batches by the same judges as one, in order."""
        columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Scores)}
        return Scores(**{name: torch.cat(column) for name, column in columns.items() if column[0] is not None})


class Judges(nn.Module):
    """The frozen judges on one device: pictures and what they should be, ``[b 3 h w]`` of any sizes, to ``Scores``.

    Pictures are RGB in [-1, 1] and show faces aligned as in FFHQ; else ``faces=False`` leaves identity out. ``full``
    adds what training has no time for: MS-SSIM, the independent judge of identity, and VGG16 where its weights lie in
    the cache folder. Raises CheckpointError when those are damaged.
    """

    def __init__(self, device: torch.device | str = "cpu", faces: bool = True, full: bool = False):
        super().__init__()
        self.device = torch.device(device)
        self.full = full
        self.lpips = LPIPS("alex")
        self.vgg = LPIPS("vgg") if full and cached_lpips("vgg").is_file() else None
        self.identity = Identity() if faces else None
        self.identity_dlib = Identity("dlib") if faces and full else None
        self.to(self.device)

    @torch.no_grad()
    def forward(self, made: Tensor, target: Tensor) -> Scores:
        """Scores of ``made``, each picture against the one at its place in ``target``. Raises ValueError for others."""
        if len(made) != len(target):
            raise ValueError(f"every picture needs its target, got {len(made)} and {len(target)}")
        made, target = (pooled(images.to(self.device).float().clamp(-1, 1)) for images in (made, target))
        l2 = (made - target).square().mean((1, 2, 3))
        found = {"l2": l2, "psnr": 10 * torch.log10(4 / l2), "lpips": self.lpips(made, target)}
        if self.identity is not None:
            found["identity"] = self.identity(made, target)
        if self.full:
            found["ms_ssim"] = ms_ssim(made, target)
        if self.identity_dlib is not None:
            found["identity_dlib"] = self.identity_dlib(made, target)
        if self.vgg is not None:
            found["lpips_vgg"], found["vgg"] = _by_vgg(self.vgg, made, target)
        return Scores(**{name: score.cpu() for name, score in found.items()})

    def __call__(self, made: Tensor, target: Tensor) -> Scores:
        """See ``forward``."""
        return cast(Scores, super().__call__(made, target))


def _by_vgg(vgg: LPIPS, made: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """LPIPS ``[b]`` and the averages of the last map ``[b 2 512]`` from one pass of each picture."""
    maps = [list(vgg.maps(images)) for images in (made, target)]
    averages = torch.stack([levels[-1].mean((2, 3)) for levels in maps], 1)
    return vgg.distance(*([unit_length(level) for level in levels] for levels in maps)), averages
