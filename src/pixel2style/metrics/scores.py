"""Scores of reconstructions, image by image, at 256 pixels: the same in training, evaluation and benchmarks.

Images are clipped to [-1, 1], as a file would hold them, and resized to 256 pixels (``ops.pooled``), the size at which
pSp is evaluated.

Axes: ``b`` batch, ``h w`` sides of an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, cast

import torch
from torch import Tensor, nn

from ..models import given
from ..ops import pooled
from .identity import Identity
from .lpips import LPIPS, cached_weights, unit_length
from .ms_ssim import ms_ssim


@dataclass(frozen=True)
class Metric:
    """How a score is shown, and whether less or more is better."""

    title: str
    better: Literal["less", "more"]
    about: str


METRICS = {
    "l2": Metric("L2", "less", "Mean squared difference of pixels in [-1, 1]; 0 is equal."),
    "psnr": Metric("PSNR", "more", "The same in decibels below the full range."),
    "ms_ssim": Metric("MS-SSIM", "more", "Structure at five sizes; 1 is equal."),
    "lpips": Metric("LPIPS (alex)", "less", "Distance of AlexNet's features; 0 is equal."),
    "lpips_vgg": Metric("LPIPS (vgg)", "less", "Distance of VGG16's features; 0 is equal."),
    "identity": Metric(
        "identity",
        "more",
        "Cosine by MobileFaceNet, which encoders are trained with: .73 for one person, .01 for different people.",
    ),
    "identity_dlib": Metric(
        "identity (dlib)",
        "more",
        "Cosine by dlib's network, which nothing is trained with: .95 for one person, .84 for different people.",
    ),
}
"""Every score by name, in the order of tables. The typical cosines are measured on LFW (see the cards)."""


@dataclass(frozen=True)
class Scores:
    """The ``METRICS`` of ``b`` images: every field is ``[b]``, on the CPU, or None where it was not computed."""

    l2: Tensor
    psnr: Tensor
    lpips: Tensor
    identity: Tensor | None = None
    ms_ssim: Tensor | None = None
    lpips_vgg: Tensor | None = None
    identity_dlib: Tensor | None = None
    vgg: Tensor | None = None
    """Not a score: VGG16's last map of result and target, averaged over the image, ``[b 2 512]`` (for ``frechet``)."""

    def __len__(self) -> int:
        return len(self.l2)

    def each(self) -> dict[str, Tensor]:
        """The computed scores ``[b]`` by name."""
        return {name: score for name in METRICS if (score := getattr(self, name)) is not None}

    def means(self) -> dict[str, float]:
        """The mean of each score by name."""
        return {name: float(score.mean()) for name, score in self.each().items()}

    def of(self, index: int) -> dict[str, float]:
        """The scores of one image by name."""
        return {name: float(score[index]) for name, score in self.each().items()}

    @staticmethod
    def joined(parts: "Sequence[Scores]") -> "Scores":
        """Several batches with the same metrics as one, in order."""
        columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Scores)}
        return Scores(**{name: torch.cat(column) for name, column in columns.items() if column[0] is not None})


class Scorer(nn.Module):
    """Images and their targets, ``[b 3 h w]`` of any sizes, to ``Scores``, with frozen networks on one device.

    Images are RGB in [-1, 1]. ``faces`` adds identity, for faces aligned as in FFHQ. ``full`` adds the metrics that
    are too slow for training: MS-SSIM, identity by dlib's network, and LPIPS of VGG16 where its weights are in the
    cache folder. Raises CheckpointError when those are damaged.
    """

    def __init__(self, device: torch.device | str = "cpu", faces: bool = True, full: bool = False):
        super().__init__()
        self.device = torch.device(device)
        self.full = full
        self.lpips = LPIPS("alex")
        self.vgg = LPIPS("vgg") if full and cached_weights("vgg").is_file() else None
        self.identity = Identity() if faces else None
        self.identity_dlib = Identity("dlib") if faces and full else None
        self.to(self.device)

    @torch.no_grad()
    def forward(self, images: Tensor, target: Tensor) -> Scores:
        """Scores of ``images``, each against its target.

        Raises ValueError when their numbers differ, ConfigError for what is no image and for targets that are not in
        [-1, 1]; drawn images may go beyond and are clipped.
        """
        if len(images) != len(target):
            raise ValueError(f"every image needs a target, got {len(images)} images and {len(target)} targets")
        images, target = (given.images_of(batch, 3, torch.float32) for batch in (images, target))
        given.check_pixels(target)
        images, target = (pooled(batch.to(self.device).clamp(-1, 1)) for batch in (images, target))
        l2 = (images - target).square().mean((1, 2, 3))
        scores = {"l2": l2, "psnr": 10 * torch.log10(4 / l2), "lpips": self.lpips(images, target)}
        if self.identity is not None:
            scores["identity"] = self.identity(images, target)
        if self.full:
            scores["ms_ssim"] = ms_ssim(images, target)
        if self.identity_dlib is not None:
            scores["identity_dlib"] = self.identity_dlib(images, target)
        if self.vgg is not None:
            scores["lpips_vgg"], scores["vgg"] = _vgg_scores(self.vgg, images, target)
        return Scores(**{name: score.cpu() for name, score in scores.items()})

    def __call__(self, images: Tensor, target: Tensor) -> Scores:
        """See ``forward``."""
        return cast(Scores, super().__call__(images, target))


def _vgg_scores(vgg: LPIPS, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """LPIPS ``[b]`` and the averages of the last map ``[b 2 512]``, from one pass of each image."""
    maps = [list(vgg.maps(batch)) for batch in (images, target)]
    averages = torch.stack([levels[-1].mean((2, 3)) for levels in maps], 1)
    return vgg.distance(*([unit_length(level) for level in levels] for levels in maps)), averages
