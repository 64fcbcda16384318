"""Face parsing: the region of every pixel of an aligned face, in the 19 classes of CelebAMask-HQ.

The network continues the trunk and the pyramid of the bundled encoder ``faces``, which knows faces framed as in FFHQ,
with a decoder to half the picture's side. It was trained on the photographs of CelebAMask-HQ (its card has the scores).

Axes: ``b`` batch, ``c`` channels, ``h w`` sides of a picture, ``s`` 256, to which pictures are resized.
"""

import functools
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from .. import assets
from ..errors import CheckpointError
from ..formats import quantized
from ..models.backbones.mobilefacenet import MobileFaceNet
from ..models.encoders import Neck
from ..models.heads import Pyramid
from ..ops import COMPARE_SIZE, pooled

NAME = "face_parser"
CLASSES = (
    "background", "skin", "nose", "eyeglasses", "left eye", "right eye", "left brow", "right brow", "left ear",
    "right ear", "mouth", "upper lip", "lower lip", "hair", "hat", "earring", "necklace", "neck", "cloth",
)  # fmt: skip
"""The regions by number, as in CelebAMask-HQ. Left is the person's left, on the right of the picture."""
PALETTE = (
    "#000000", "#cc0000", "#4c9900", "#cccc00", "#3333ff", "#cc00cc", "#00ffff", "#ffcccc", "#663300", "#ff0000",
    "#66cc00", "#ffff00", "#000099", "#0000cc", "#ff3399", "#00cccc", "#003300", "#ff9933", "#00cc00",
)  # fmt: skip
"""The colours of the regions in CelebAMask-HQ's pictures, in order."""
SIDED = ((4, 5), (6, 7), (8, 9))
"""Pairs of classes that change places when a picture is mirrored."""
_NECK, _WIDTH, _HIDDEN, _PLACES = 6, 128, 192, 16
CPU = torch.device("cpu")
_FORGIVING, _EVEN = 0.4, 0.25
"""The exponent q of ``disagreement`` (0: cross entropy), and that of the weight of small regions."""


class FaceParser(nn.Module):
    """Aligned faces to unnormalised log-probabilities of ``CLASSES``: ``[b 3 h w] -> [b 19 s/2 s/2]``.

    Maps of every scale are projected to one width, enlarged and added, then classified pixel by pixel (the decoder of
    SegFormer, arXiv 2105.15203, section 3.2, and a map of places, since faces are aligned). Weights are random;
    ``pretrained`` gives the network with its own, frozen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = MobileFaceNet(3, embed=False)
        fine, middle, coarse = self.trunk.tap_channels
        self.neck = Neck(coarse, _NECK)
        self.pyramid = Pyramid((fine, middle, coarse), _WIDTH)
        channels = (fine, fine, _WIDTH, _WIDTH, _WIDTH)
        self.project = nn.ModuleList(nn.Conv2d(own, _HIDDEN, 1, bias=False) for own in channels)
        self.whole = nn.Linear(_WIDTH, _HIDDEN)
        self.place = nn.Parameter(torch.zeros(1, _HIDDEN, _PLACES, _PLACES))
        self.spread = nn.Conv2d(_HIDDEN, _HIDDEN, 5, padding=2, groups=_HIDDEN)
        nn.init.dirac_(self.spread.weight, _HIDDEN)
        nn.init.zeros_(cast(Tensor, self.spread.bias))
        self.mix = nn.Conv2d(_HIDDEN, _WIDTH, 1)
        self.out = nn.Conv2d(_WIDTH, len(CLASSES), 1)

    def forward(self, images: Tensor) -> Tensor:
        """``[b 3 h w]`` in [-1, 1] of any size to ``[b 19 s/2 s/2]``."""
        maps, whole = self.features(images)
        total = _enlarged(self.place) + self.whole(whole)[:, :, None, None]
        for project, own in zip(self.project, maps, strict=True):
            total = total + _enlarged(project(own))
        return cast(Tensor, self.out(F.relu(self.mix(F.relu(self.spread(total))))))

    def features(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps ``[b c h w]`` with 128, 64, 64, 32 and 16 pixels a side, and the mean of the last one ``[b c]``."""
        x = pooled(images)
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        stem = self.trunk.stem(x)
        fine = self.trunk.stage4(stem)
        middle = self.trunk.stage8(fine)
        p1, p2, p3 = self.pyramid(fine, middle, self.neck(self.trunk.stage16(middle)))
        return [stem, fine, p1, p2, p3], p3.mean((2, 3))

    def regions(self, images: Tensor) -> Tensor:
        """The number of the region of every pixel: ``[b 3 h w]`` in [-1, 1] ``-> [b h w]``, int64."""
        logits = F.interpolate(self(images).float(), images.shape[-2:], mode="bilinear", align_corners=False)
        return logits.argmax(1)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Set all weights. Raises CheckpointError when keys or shapes do not fit."""
        try:
            self.load_state_dict(dict(tensors))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"these weights do not fit the face parser: {reason}") from error


def _enlarged(maps: Tensor) -> Tensor:
    return F.interpolate(maps, (COMPARE_SIZE // 2, COMPARE_SIZE // 2), mode="bilinear", align_corners=False)


def pretrained(device: torch.device = CPU) -> FaceParser:
    """The network with the bundled weights, frozen and in eval mode; the same one every time for a device."""
    return _loaded(device)


@functools.cache
def _loaded(device: torch.device) -> FaceParser:
    with torch.inference_mode(False):
        network = FaceParser()
        network.load(quantized.complete(assets.read(NAME), NAME))
        return network.eval().requires_grad_(False).to(device)


@torch.no_grad()
def regions(images: Tensor) -> Tensor:
    """The region of every pixel of aligned faces by the bundled parser: ``[b 3 h w]`` in [-1, 1] ``-> [b h w]``, int64.

    Numbers are those of ``CLASSES``. The network sees 256 pixels, whatever the size of the pictures.
    """
    return pretrained(images.device).regions(images)


def disagreement(images: Tensor, labels: Tensor) -> Tensor:
    """How little the regions of aligned faces agree with a map of ``CLASSES``: ``[b 3 h w], [s s] -> [b]``.

    It goes from 0 to 2.5 and has a gradient. A pixel counts (1 - p^q) / q, where p is the probability that the parser
    gives its class (the generalised cross entropy of Zhang and Sabuncu, NeurIPS 2018, for noisy labels): a region that
    a picture cannot have, a hat where the generator knows none, hardly pulls. Regions count by the 3/4th power of their
    size.
    """
    logits = pretrained(images.device)(images).float()
    wanted = F.interpolate(labels[None, None].float(), logits.shape[-2:], mode="nearest")[0].long().to(images.device)
    shares = torch.bincount(wanted.flatten(), minlength=len(CLASSES)) / wanted.numel()
    weights = shares.clamp(min=1 / wanted.numel()).pow(-_EVEN)[wanted[0]]
    found = logits.log_softmax(1).gather(1, wanted.expand(len(logits), -1, -1)[:, None])[:, 0]
    losses = (1 - (_FORGIVING * found).exp()) / _FORGIVING
    return cast(Tensor, (losses * weights).mean((1, 2)) / weights.mean())


def borders(images: Tensor) -> Tensor:
    """How likely the border of two regions runs through each place: ``[b 3 h w] -> [b 1 s/2 s/2]``, from 0 to 1.

    It has a gradient.
    """
    shares = pretrained(images.device)(images).float().softmax(1)
    near = F.avg_pool2d(shares, 3, 1, 1, count_include_pad=False)
    alike = F.avg_pool2d(shares.square(), 3, 1, 1, count_include_pad=False).sum(1, keepdim=True)
    return 1 - near.square().sum(1, keepdim=True) / alike.clamp(min=1e-4)


def confusion(found: Tensor, true: Tensor) -> Tensor:
    """How many pixels of each class (lines) were found as each other (columns), in maps of one shape: ``[19 19]``."""
    pairs = true.flatten().long() * len(CLASSES) + found.flatten()
    return torch.bincount(pairs, minlength=len(CLASSES) ** 2).view(len(CLASSES), len(CLASSES)).float()


def scores(table: Tensor) -> tuple[float, float, Tensor]:
    """Mean intersection over union, share of right pixels, and the first by class, of a table as of ``confusion``.

    The mean is that of the classes that occur.
    """
    right, there = table.diagonal(), table.sum(1)
    overlap = right / (table.sum(0) + there - right).clamp(min=1)
    return float(overlap[there > 0].mean()), float(right.sum() / table.sum()), overlap


def picture(labels: Tensor) -> Image.Image:
    """Regions ``[h w]`` as a palette picture whose numbers are classes and whose colours are ``PALETTE``."""
    image = Image.fromarray(labels.to("cpu", torch.uint8).numpy(), "P")
    image.putpalette(bytes.fromhex("".join(PALETTE).replace("#", "")))
    return image
