"""MS-SSIM: how much of a picture's structure another one keeps, from fine to coarse (Wang, Simoncelli, Bovik 2003).

Contrast and structure are compared at five sizes, each half of the one before, lightness at the coarsest; the product
of powers is 1 for equal pictures. Colours are compared one by one and averaged, as the common implementations do (the
paper's pictures are gray). This module does not know what a picture shows.

Axes: ``b`` batch, ``c`` colours, ``h w`` sides of a picture.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

POWERS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of each size, the finest first (section 3.2)."""
WINDOW, SPREAD = 11, 1.5
"""Side of the Gaussian window and its standard deviation, pixels."""
_LIGHTNESS, _CONTRAST = 0.01**2, 0.03**2
LEAST_SIDE = WINDOW * 2 ** (len(POWERS) - 1)
"""Smaller pictures have no coarsest size that a window fits into."""


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """The index ``[b]`` of two batches of pictures ``[b c h w]`` in [-1, 1]; 1 is equal, 0 the worst.

    Raises ValueError for sides under ``LEAST_SIDE``. Structure that is reversed counts as none.
    """
    if a.shape != b.shape or min(a.shape[-2:]) < LEAST_SIDE:
        raise ValueError(f"two batches with sides of at least {LEAST_SIDE}, got {list(a.shape)} and {list(b.shape)}")
    # In single precision a variance, the difference of two means, loses what a flat region needs.
    exact = torch.float32 if a.device.type == "mps" else torch.float64
    a, b = ((images.to(exact) + 1) / 2 for images in (a, b))
    index = a.new_ones(a.shape[:2])
    for level, power in enumerate(POWERS):
        lightness, structure = _compared(a, b)
        coarsest = level == len(POWERS) - 1
        similarity = (lightness * structure if coarsest else structure).mean((2, 3))
        index = index * similarity.clamp_min(0) ** power
        if not coarsest:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return index.mean(1).float()


def _compared(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Lightness, and contrast times structure, wherever a window fits (equations 1 to 3)."""
    products = torch.cat([a, b, a * a, b * b, a * b], 1)
    mean_a, mean_b, squares_a, squares_b, both = _windowed(products).chunk(5, 1)
    variances = squares_a - mean_a**2 + squares_b - mean_b**2
    lightness = (2 * mean_a * mean_b + _LIGHTNESS) / (mean_a**2 + mean_b**2 + _LIGHTNESS)
    structure = (2 * (both - mean_a * mean_b) + _CONTRAST) / (variances + _CONTRAST)
    return lightness, structure


def _windowed(x: Tensor) -> Tensor:
    """Gaussian means wherever the window fits: ``[b c h w] -> [b c h-10 w-10]``."""
    return _means(x.shape[-2], x) @ x @ _means(x.shape[-1], x).T


def _means(side: int, like: Tensor) -> Tensor:
    """A row for each place of the window ``[side-10 side]``: in double precision faster than a convolution."""
    distance = torch.arange(WINDOW, device=like.device, dtype=like.dtype) - WINDOW // 2
    window = torch.exp(-(distance**2) / (2 * SPREAD**2))
    means = like.new_zeros(side - WINDOW + 1, side)
    for place, weight in enumerate(window / window.sum()):
        means.diagonal(place).add_(weight)
    return means
