"""Checks of what users give to ``PSP.encode`` and ``PSP.decode``: a mistake is a sentence, not a black picture.

Numbers are read only where a call is computed at once: never while a graph is compiled, exported or captured.

Axes: ``b`` batch, ``c`` channels, ``h w`` sides of an image, ``k`` rows, ``d`` width of a row.
"""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError

LIMIT = 1.5
"""Magnitude beyond which numbers are no pixels in [-1, 1]; drawn and resampled pictures lie a little outside."""
PICTURES = (1, 3, 4)
"""Channels whose numbers are pixels: gray, RGB, and RGB with a mask. Others may be anything finite."""
DARK = -0.1
"""Number below which gray is not in [0, 1]."""
CONTRAST = 0.25
"""Range of numbers from which on pictures without any dark pixel are taken to be in [0, 1]."""
ROUNDED = 0.01
"""How far the sum of a pixel's classes may be from 1: half precision and resizing round."""
MOST = 1e4
"""Magnitude beyond which numbers are no rows: those of W and of edits are below a hundred, and 1e20 draws NaN."""


def images_of(images: Any, channels: int, dtype: torch.dtype) -> Tensor:
    """``images`` ``[b c h w]`` in the model's type. Raises ConfigError for other types, shapes and channels."""
    if not isinstance(images, Tensor):
        raise ConfigError(
            f"encode takes a tensor [b {channels} h w], not {type(images).__name__}: convert a picture with "
            "images.to_tensor(picture)[None], or give it to Session.invert"
        )
    if images.ndim != 4 or images.shape[1] != channels:
        raise ConfigError(f"expected images [b {channels} h w], got {list(images.shape)}")
    if is_readable(images) and not images.numel():
        raise ConfigError(f"expected images [b {channels} h w], got an empty tensor {list(images.shape)}: give one")
    if not images.is_floating_point():
        raise ConfigError(f"images are floating-point numbers, not {images.dtype}: {_how_to_convert(channels)}")
    return images.to(dtype)


def check_pixels(images: Tensor, classes: bool = False) -> None:
    """Raise ConfigError for numbers of ``images`` ``[b c h w]`` that are NaN, infinite, no pixels or no label map.

    With ``classes`` channels are the shares of classes in a pixel: not below 0, and 1 together. RGB without any dark
    pixel is probably in [0, 1]: a warning says so.
    """
    if not is_readable(images):
        return
    least, most = (float(end) for end in images.detach().aminmax())
    channels = images.shape[1]
    if not math.isfinite(least + most):
        raise ConfigError("the images have NaN or infinite numbers: replace them")
    if classes:
        _check_classes(images, least)
        return
    if channels in PICTURES and max(-least, most) > LIMIT:
        raise ConfigError(f"the images have numbers from {least:g} to {most:g}: {_how_to_convert(channels)}")
    if channels == 1 and least < DARK:
        raise ConfigError(
            f"the images have numbers from {least:g} to {most:g}, and gray is in [0, 1], where 0 is black: "
            "for images in [-1, 1] give images / 2 + 0.5"
        )
    if channels == 3 and least >= 0 and most - least > CONTRAST:
        warnings.warn(
            f"the images have numbers from {least:g} to {most:g}, and RGB is in [-1, 1], where 0 is gray: "
            "for images in [0, 1] give images * 2 - 1",
            stacklevel=3,
        )


def _check_classes(maps: Tensor, least: float) -> None:
    """Raise ConfigError for label maps ``[b c h w]`` with a pixel of no class, of several, or with negative numbers."""
    fewest, most = (float(end) for end in maps.detach().float().sum(1).aminmax())
    if least < -ROUNDED or fewest < 1 - ROUNDED or most > 1 + ROUNDED:
        wrong = f"numbers from {least:g}" if least < -ROUNDED else f"pixels whose sum is {fewest:g} to {most:g}"
        raise ConfigError(
            f"the label maps of {maps.shape[1]} classes have {wrong}: each pixel is 1 in the channel of its class and "
            "0 in the others, or has probabilities whose sum is 1"
        )


def rows_of(ws: Any, rows: int, width: int) -> Tensor:
    """``ws`` ``[b k d]`` or ``[b d]``.

    Raises ConfigError for other types, for numbers that are NaN or beyond ``MOST``, and for ``[k d]``, which may mean
    both.
    """
    if not isinstance(ws, Tensor) or not ws.is_floating_point():
        what = ws.dtype if isinstance(ws, Tensor) else type(ws).__name__
        raise ConfigError(f"rows are a tensor [b {rows} {width}] of floating-point numbers, not {what}: convert them")
    if ws.ndim == 2 and ws.shape == (rows, width):  # by ndim first: exports have an open batch axis
        raise ConfigError(
            f"rows [{rows} {width}] may be one picture or {rows}: give ws[None] for one picture, or ws[:, None].expand"
            f"(-1, {rows}, -1) for a vector of W for each of {rows} pictures"
        )
    if is_readable(ws) and ws.numel():
        most = float(ws.detach().abs().max())
        if not math.isfinite(most):
            raise ConfigError("the rows have NaN or infinite numbers: they draw nothing")
        if most > MOST:
            raise ConfigError(
                f"the rows have numbers as large as {most:g}, and those of faces are below 100: check them"
            )
    return ws


def features_of(features: Any) -> Mapping[int, Tensor]:
    """``features``, tensors by the side of their map. Raises ConfigError for other types and NaN."""
    if not isinstance(features, Mapping) or not all(isinstance(part, Tensor) for part in features.values()):
        raise ConfigError(
            f"features are tensors by the side of their map, not {type(features).__name__}: give those of an inversion"
        )
    for side, part in features.items():
        if is_readable(part) and not math.isfinite(float(part.detach().float().sum())):
            raise ConfigError(
                f"the features of the map of {side} pixels have NaN or infinite numbers: they draw nothing"
            )
    return features


def is_readable(tensor: Tensor) -> bool:
    """Whether the numbers of a tensor are there: it is no symbol of a graph that is being traced, nor of torch.func."""
    traced = torch.compiler.is_compiling() or _is_functorch_active()
    captured = tensor.is_cuda and torch.cuda.is_current_stream_capturing()
    return not (traced or captured or tensor.is_meta) and type(tensor) in (Tensor, torch.nn.Parameter)


def _is_functorch_active() -> bool:
    query = getattr(torch._C, "_are_functorch_transforms_active", None)  # torch.func has no public query
    return query is not None and bool(query())


def _how_to_convert(channels: int) -> str:
    if channels == 1:
        return "gray is in [0, 1], so give images.float() / 255 for 0 to 255"
    if channels not in PICTURES:
        return "give images.float()"
    return "RGB is in [-1, 1], so give images.float() / 127.5 - 1 for 0 to 255"
