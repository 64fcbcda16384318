"""From a target picture to the source an encoder must learn to undo.

Axes: ``b`` batch, ``c`` channels, ``h w`` height and width. This module does not know tasks, files or random choices:
whoever calls it says how much.
"""

import torch
from torch import Tensor

from .errors import ConfigError

CUBIC_A = -0.5


def cubic(distance: Tensor) -> Tensor:
    """Keys' cubic convolution kernel, a = -0.5: weight of a pixel at ``distance`` (1981, equation 4)."""
    t = distance.abs()
    near = ((CUBIC_A + 2) * t - (CUBIC_A + 3)) * t * t + 1
    far = CUBIC_A * (((t - 5) * t + 8) * t - 4)
    return torch.where(t < 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


def reduction(length: int, factor: int) -> Tensor:
    """The matrix ``[length/factor length]`` that reduces a line of pixels, float64; each of its rows sums to 1.

    The kernel is as many times wider as the line gets shorter, so that nothing aliases. Beyond the border the line is
    mirrored about its last pixel, as in pSp's published super-resolution (PIL would drop those taps instead).
    """
    count = length // factor
    centres = (torch.arange(count, dtype=torch.float64) + 0.5) * factor
    pixels = torch.arange(-2 * factor, length + 2 * factor)
    weights = cubic((pixels + 0.5 - centres[:, None]) / factor)
    weights = weights / weights.sum(dim=1, keepdim=True)
    period = max(2 * (length - 1), 1)
    mirrored = pixels % period
    mirrored = torch.minimum(mirrored, period - mirrored)
    return torch.zeros(count, length, dtype=torch.float64).index_add(1, mirrored, weights)


def bicubic_down(images: Tensor, factor: int) -> Tensor:
    """Reduce pictures bicubically, antialiased: ``[b c h w] -> [b c h/factor w/factor]``; factor 1 changes nothing.

    Values keep their range but for the kernel's slight overshoot at edges. Raises ConfigError when ``factor`` is below
    1 or does not divide the sides.
    """
    height, width = images.shape[-2:]
    if factor < 1 or height % factor or width % factor:
        raise ConfigError(f"a {width}x{height} picture cannot be reduced {factor} times: pick a factor of both sides")
    if factor == 1:
        return images
    rows, columns = reduction(height, factor).to(images), reduction(width, factor).to(images)
    return rows @ images @ columns.t()
