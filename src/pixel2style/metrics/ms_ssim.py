"""MS-SSIM: structural similarity at five scales (Wang, Simoncelli, Bovik 2003).

Contrast and structure are compared at every scale, each half of the one before, luminance at the coarsest; the product
of their powers is 1 for equal images. Channels are compared separately and averaged, as common implementations do (the
paper uses gray images).

Axes: ``b`` batch, ``c`` channels, ``h w`` sides of an image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

POWERS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, the finest first (section 3.2)."""
WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation of the Gaussian window, in pixels."""
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2
LEAST_SIDE = WINDOW * 2 ** (len(POWERS) - 1)
"""In smaller images the window does not fit at the coarsest scale."""


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """The index ``[b]`` of two batches of images ``[b c h w]`` in [-1, 1]: 1 for equal images, 0 is the worst.

    Negative similarities count as 0. Raises ValueError for sides below ``LEAST_SIDE``.
    """
    if a.shape != b.shape or min(a.shape[-2:]) < LEAST_SIDE:
        raise ValueError(
            f"images must have equal shapes and sides of at least {LEAST_SIDE}, got {list(a.shape)} and {list(b.shape)}"
        )
    # A variance is the difference of two means: float32 is not precise enough in flat regions.
    dtype = torch.float32 if a.device.type == "mps" else torch.float64
    a, b = ((images.to(dtype) + 1) / 2 for images in (a, b))
    index = a.new_ones(a.shape[:2])
    for level, power in enumerate(POWERS):
        luminance, structure = _compare(a, b)
        coarsest = level == len(POWERS) - 1
        similarity = (luminance * structure if coarsest else structure).mean((2, 3))
        index = index * similarity.clamp_min(0) ** power
        if not coarsest:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return index.mean(1).float()


def _compare(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance, and contrast times structure, at every position of the window (equations 1 to 3)."""
    products = torch.cat([a, b, a * a, b * b, a * b], 1)
    mean_a, mean_b, squares_a, squares_b, both = _gaussian_means(products).chunk(5, 1)
    variances = squares_a - mean_a**2 + squares_b - mean_b**2
    luminance = (2 * mean_a * mean_b + _LUMINANCE) / (mean_a**2 + mean_b**2 + _LUMINANCE)
    structure = (2 * (both - mean_a * mean_b) + _CONTRAST) / (variances + _CONTRAST)
    return luminance, structure


def _gaussian_means(x: Tensor) -> Tensor:
    """``[b c h w] -> [b c h-10 w-10]``. In float64 two matrix products are faster than a convolution."""
    return _matrix(x.shape[-2], x) @ x @ _matrix(x.shape[-1], x).T


def _matrix(side: int, like: Tensor) -> Tensor:
    """A row for each position of the window: ``[side-10 side]``."""
    distance = torch.arange(WINDOW, device=like.device, dtype=like.dtype) - WINDOW // 2
    window = torch.exp(-(distance**2) / (2 * SIGMA**2))
    matrix = like.new_zeros(side - WINDOW + 1, side)
    for offset, weight in enumerate(window / window.sum()):
        matrix.diagonal(offset).add_(weight)
    return matrix
