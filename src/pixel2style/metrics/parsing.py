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
from ..ops import pooled

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
_NECK, _WIDTH = 6, 128


class Separable(nn.Sequential):
    """A 3x3 depthwise and a 1x1 convolution with an activation: ``[b c h w] -> [b c' h w]``."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.Conv2d(channels, out_channels, 1),
            nn.ReLU(inplace=True),
        )


class FaceParser(nn.Module):
    """Aligned faces to unnormalised log-probabilities of ``CLASSES``: ``[b 3 h w] -> [b 19 s/2 s/2]``.

    Weights are random; ``pretrained`` gives the network with its own, frozen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = MobileFaceNet(3, embed=False)
        channels = self.trunk.tap_channels
        self.neck = Neck(channels[-1], _NECK)
        self.pyramid = Pyramid(channels, _WIDTH)
        self.context = nn.Linear(_WIDTH, _WIDTH)
        self.coarse = nn.Sequential(Separable(_WIDTH, _WIDTH), Separable(_WIDTH, _WIDTH))
        self.middle = nn.Sequential(Separable(_WIDTH, _WIDTH), Separable(_WIDTH, _WIDTH))
        self.fine = nn.Sequential(Separable(_WIDTH, _WIDTH), Separable(_WIDTH, _WIDTH))
        self.finest = nn.Sequential(Separable(_WIDTH + channels[0], 96), Separable(96, 64))
        self.out = nn.Conv2d(64, len(CLASSES), 1)

    def forward(self, images: Tensor) -> Tensor:
        """``[b 3 h w]`` in [-1, 1] of any size to ``[b 19 s/2 s/2]``."""
        x = pooled(images)
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        stem = self.trunk.stem(x)
        fine = self.trunk.stage4(stem)
        middle = self.trunk.stage8(fine)
        coarse = self.neck(self.trunk.stage16(middle))
        p1, p2, p3 = self.pyramid(fine, middle, coarse)
        maps = self.coarse(p3 + self.context(p3.mean((2, 3)))[:, :, None, None])
        maps = self.middle(_enlarged(maps) + p2)
        maps = self.fine(_enlarged(maps) + p1)
        return cast(Tensor, self.out(self.finest(torch.cat([_enlarged(maps), stem], 1))))

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
    return F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)


@functools.cache
def pretrained() -> FaceParser:
    """The network with the bundled weights, frozen and in eval mode; the same one every time, on the CPU."""
    with torch.inference_mode(False):
        network = FaceParser()
        network.load(quantized.complete(assets.read(NAME), NAME))
        return network.eval().requires_grad_(False)


@torch.no_grad()
def regions(images: Tensor) -> Tensor:
    """The region of every pixel of aligned faces by the bundled parser: ``[b 3 h w]`` in [-1, 1] ``-> [b h w]``, int64.

    Numbers are those of ``CLASSES``. The network sees 256 pixels, whatever the size of the pictures.
    """
    return pretrained().to(images.device).regions(images)


def picture(labels: Tensor) -> Image.Image:
    """Regions ``[h w]`` as a palette picture whose numbers are classes and whose colours are ``PALETTE``."""
    image = Image.fromarray(labels.to("cpu", torch.uint8).numpy(), "P")
    image.putpalette(bytes.fromhex("".join(PALETTE).replace("#", "")))
    return image
