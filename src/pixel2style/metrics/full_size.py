"""What pictures show at full size and lose when they are compared at 256 pixels: roughness, and windows of them.

Axes: ``b`` batch, ``r`` side of a full-size picture, ``s`` cells along a side, ``w`` side of a window.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

CELLS = 32
"""Cells of a picture along each side in which roughness is compared."""
OFFSET = 1e-4
"""Added to an energy before its logarithm: what is smoother than this is not told apart."""
WINDOWS = 3
MIN_WINDOW = 64
"""Least side of a window; networks of the losses need about half of it."""
FACE = (360, 300, 260, 170)
"""Where a window of 256 about eyes and mouth starts in 1024 pixels of an aligned face: first row and column, and how
many rows and columns there are to choose from."""


def roughness(images: Tensor) -> Tensor:
    """Energy above a 9-pixel mean, in 32 x 32 cells, of small pictures fewer: ``[b 3 r r] -> [b 1 s s]``."""
    images = images.contiguous()
    mean = F.avg_pool2d(images, (9, 1), 1, (4, 0), count_include_pad=False)
    mean = F.avg_pool2d(mean, (1, 9), 1, (0, 4), count_include_pad=False)
    return F.avg_pool2d((images - mean).square().mean(1, keepdim=True), max(1, images.shape[-1] // CELLS))


def excess(images: Tensor, allowed: Tensor) -> Tensor:
    """Mean squared log of the roughness of images ``[b 3 r r]`` beyond ``allowed [b 1 s s]``.

    One-sided, since photographs of 256 pixels do not say how rough skin is: what is smoother costs nothing, and so does
    what is as rough as a neighbouring cell may be.
    """
    allowed = F.max_pool2d(allowed, 3, 1, 1)
    return ((roughness(images) + OFFSET).log() - (allowed + OFFSET).log()).relu().square().mean()


def windows(images: Sequence[Tensor], rng: torch.Generator, faces: bool) -> list[Tensor]:
    """Three windows of a quarter of the side, the same of each of ``images [b 3 r r]``: ``[3*b 3 w w]``.

    Of ``faces``, aligned as in FFHQ, the first one is about eyes and mouth. Pictures below 64 pixels are their own
    windows.
    """
    size = images[0].shape[-1]
    side = min(size, max(MIN_WINDOW, size // 4))
    border = min(size // 16, (size - side) // 2)
    starts = torch.randint(border, size - side - border + 1, (WINDOWS, 2), generator=rng).tolist()
    if faces:
        (top, left, height, width), scale = FACE, (size - side) / (1024 - 256)
        near = [first + int(torch.randint(count, (), generator=rng)) for first, count in ((top, height), (left, width))]
        starts[0] = [int(start * scale) for start in near]
    return [torch.cat([batch[..., y : y + side, x : x + side] for y, x in starts]) for batch in images]
