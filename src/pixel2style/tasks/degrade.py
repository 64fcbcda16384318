"""Degradations of pictures, from which encoders learn the way back: fewer pixels, a drawing, a hidden part.

Axes: ``b`` batch, ``c`` channels, ``h w`` height and width, ``r`` or ``s`` side. Random numbers come from a generator
on the CPU, so that every device makes the same source.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError

Option = TypeVar("Option")

CUBIC_A = -0.5
MASKS = ("box", "half", "strokes")
"""The kinds of masks that ``mask`` draws."""
SEAM = 1 / 64
"""How wide the seam between known and drawn pixels is, as a share of the picture's side; it lies on the known ones."""


def cubic(distance: Tensor) -> Tensor:
    """Keys' cubic convolution kernel, a = -0.5: weight of a pixel at ``distance`` (1981, equation 4)."""
    t = distance.abs()
    near = ((CUBIC_A + 2) * t - (CUBIC_A + 3)) * t * t + 1
    far = CUBIC_A * (((t - 5) * t + 8) * t - 4)
    return torch.where(t < 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


def reduction(length: int, factor: int) -> Tensor:
    """The matrix ``[length/factor length]`` that reduces a line of pixels, float64; each of its rows sums to 1.

    The kernel gets wider by ``factor``, so that nothing aliases. Beyond the border the line is mirrored about its last
    pixel, as in pSp's published super-resolution (PIL drops those taps instead).
    """
    count = length // factor
    centres = (torch.arange(count, dtype=torch.float64) + 0.5) * factor
    pixels = torch.arange(-2 * factor, length + 2 * factor)
    return _gathered(cubic((pixels + 0.5 - centres[:, None]) / factor), pixels, length)


def _gathered(weights: Tensor, pixels: Tensor, length: int) -> Tensor:
    """Weights ``[n m]`` of pixels ``[m]``, of which some lie beyond the border, as weights ``[n length]`` of a line."""
    period = max(2 * (length - 1), 1)
    mirrored = pixels % period
    mirrored = torch.minimum(mirrored, period - mirrored)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return torch.zeros(len(weights), length, dtype=torch.float64).index_add(1, mirrored, weights)


def bicubic_down(images: Tensor, factor: int) -> Tensor:
    """Reduce pictures bicubically, antialiased: ``[b c h w] -> [b c h/factor w/factor]``; factor 1 changes nothing.

    Values keep their range except for the kernel's slight overshoot at edges. Raises ConfigError when ``factor`` is
    below 1 or does not divide the sides.
    """
    height, width = images.shape[-2:]
    if factor < 1 or height % factor or width % factor:
        raise ConfigError(f"a {width}x{height} picture cannot be reduced {factor} times: pick a factor of both sides")
    if factor == 1:
        return images
    rows, columns = reduction(height, factor).to(images), reduction(width, factor).to(images)
    return rows @ images @ columns.t()


def enlargement(length: int, factor: int) -> Tensor:
    """The matrix ``[length*factor length]`` that enlarges a line of pixels, float64; each of its rows sums to 1."""
    places = (torch.arange(length * factor, dtype=torch.float64) + 0.5) / factor - 0.5
    pixels = torch.arange(-2, length + 2)
    return _gathered(cubic(pixels - places[:, None]), pixels, length)


def low_resolution(images: Tensor, factor: int) -> Tensor:
    """Pictures ``[... h w]`` in [-1, 1] as if they had ``factor`` times fewer pixels a side; factor 1 changes nothing.

    They are reduced, clipped to the range of a file, and enlarged back, bicubically and without a shift. Raises
    ConfigError when ``factor`` is below 1 or does not divide the sides.
    """
    few = bicubic_down(images, factor)
    if factor == 1:
        return images
    height, width = few.shape[-2:]
    rows, columns = enlargement(height, factor).to(images), enlargement(width, factor).to(images)
    return (rows @ few.clamp(-1, 1) @ columns.t()).clamp(-1, 1)


def resized_down(images: Tensor, side: int) -> Tensor:
    """Pictures ``[b 3 s s]`` as if they had ``side`` pixels a side: reduced and enlarged bicubically."""
    if images.device.type == "mps":  # antialiased bicubic resizing has no gradient there in older PyTorch
        return resized_down(images.cpu(), side).to(images.device)
    few = F.interpolate(images, (side, side), mode="bicubic", antialias=True, align_corners=False)
    return F.interpolate(few.clamp(-1, 1), images.shape[-2:], mode="bicubic", align_corners=False).clamp(-1, 1)


def luma(images: Tensor) -> Tensor:
    """The luma (BT.601) of pictures ``[... 3 h w]`` in [-1, 1]: ``[... 1 h w]`` in [0, 1]."""
    weights = torch.tensor([0.299, 0.587, 0.114]).to(images)
    return ((images * weights[:, None, None]).sum(-3, keepdim=True) + 1) / 2


def mask(kind: str, side: int, rng: torch.Generator) -> Tensor:
    """Which pixels are known: ``[1 side side]``, 1 where they are, 0 where they are hidden.

    ``kind``: "box" (one to four of them), "strokes" (of a thick brush) or "half" (left, right, top or bottom).
    """
    if kind == "half":
        return _half(side, rng)
    canvas = Image.new("L", (side, side), 1)
    brush = ImageDraw.Draw(canvas)
    if kind == "box":
        for _ in range(whole(1, 4, rng)):
            _box(brush, side, rng)
    elif kind == "strokes":
        for _ in range(whole(3, 7, rng)):
            _stroke(brush, side, rng)
    else:
        raise ConfigError(f"there is no mask {kind}: choose box, half or strokes")
    return torch.from_numpy(np.array(canvas))[None].float()


def hide(images: Tensor, known: Tensor) -> Tensor:
    """Pictures ``[... 3 h w]`` with hidden pixels 0, then the mask ``[... 1 h w]`` itself: ``[... 4 h w]``."""
    known = known.to(images)
    return torch.cat([images * known, known.expand(*images.shape[:-3], -1, -1, -1)], -3)


def soften(known: Tensor) -> Tensor:
    """A mask ``[1 r r]`` of known pixels, 1, whose borders fall to 0 within the known part: ``[1 r r]``."""
    reach = max(1, round(known.shape[-1] * SEAM / 2))
    width, grown = 2 * reach + 1, 1 - known[None]
    for kernel, padding in (((width, 1), (reach, 0)), ((1, width), (0, reach))):
        grown = F.max_pool2d(grown, kernel, 1, padding)
    for kernel, padding in (((width, 1), (reach, 0)), ((1, width), (0, reach))):
        grown = F.avg_pool2d(grown, kernel, 1, padding, count_include_pad=False)
    return 1 - grown[0]


def continued(values: Tensor, known: Tensor) -> Tensor:
    """Known values ``[b c h w]`` (0 elsewhere) continued smoothly: ``known`` ``[b 1 h w]`` is 1 where they are known.

    Means over ever larger blocks of known pixels fill what smaller ones leave open (pull-push: Gortler et al., The
    Lumigraph, 1996, section 3.4). Where nothing is known at all, values are 0.
    """
    size = values.shape[-2:]
    means = values / known.clamp(min=1e-6)
    if max(size) == 1:
        return means
    fewer = (F.avg_pool2d(maps, 2, ceil_mode=True) for maps in (values, known))
    wide = F.interpolate(continued(*fewer), size, mode="bilinear", align_corners=False)
    return known * means + (1 - known) * wide


def _half(side: int, rng: torch.Generator) -> Tensor:
    known = torch.ones(1, side, side)
    known[:, : side // 2] = 0
    return torch.rot90(known, whole(0, 3, rng), (1, 2)).contiguous()


def _box(brush: ImageDraw.ImageDraw, side: int, rng: torch.Generator) -> None:
    width, height = (round(side * between(0.15, 0.5, rng)) for _ in range(2))
    left, top = (whole(-length // 4, side - length + length // 4, rng) for length in (width, height))
    brush.rectangle((left, top, left + width - 1, top + height - 1), fill=0)


def _stroke(brush: ImageDraw.ImageDraw, side: int, rng: torch.Generator) -> None:
    x, y = (side * between(0.1, 0.9, rng) for _ in range(2))
    heading, width = between(0, 2 * math.pi, rng), side * between(0.05, 0.13, rng)
    points = [(x, y)]
    for _ in range(whole(3, 8, rng)):
        heading += between(-1, 1, rng)
        reach = side * between(0.06, 0.2, rng)
        x = min(max(x + reach * math.cos(heading), 0), side)
        y = min(max(y + reach * math.sin(heading), 0), side)
        points.append((x, y))
    brush.line(points, fill=0, width=round(width))
    for x, y in points:
        brush.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=0)


def choose(options: Sequence[Option], rng: torch.Generator, name: str) -> Option:
    """One of ``options``, the setting ``--source.name``. Raises ConfigError if there are none."""
    if not options:
        raise ConfigError(f"there are no {name} to draw from: name at least one with --source.{name}")
    return options[int(torch.randint(len(options), (), generator=rng))]


def between(low: float, high: float, rng: torch.Generator) -> float:
    """A number from ``low`` to ``high``, uniformly distributed."""
    return low + (high - low) * float(torch.rand((), generator=rng))


def often(share: float, rng: torch.Generator) -> bool:
    """Whether something that happens in this share of all cases happens."""
    return bool(torch.rand((), generator=rng) < share)


def whole(low: int, high: int, rng: torch.Generator) -> int:
    """An integer from ``low`` to ``high``, both included, uniformly distributed."""
    return int(torch.randint(low, high + 1, (), generator=rng))
