"""Edits of W+, as pure functions: rows in, new rows out (pSp, arXiv 2008.00951, sections 3 and 4).

In ``ws`` ``[b k d]``, row ``i`` is the generator's ``i``-th style input. Early rows set pose and shape, late rows
colour and texture. No function changes its arguments, and gradients pass through all.

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row. Rows are chosen by ``Rows``: an int, ints, a slice, or a string
such as ``"8-15"``, ``"0,3,8-"``; both ends of a range are included. ``GROUPS`` names some.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from ..errors import ConfigError
from ..generators.base import Generator
from ..generators.sampling import draw, seeded

Rows = int | str | slice | Iterable[int]
GROUPS = {"coarse": "0-3", "medium": "4-7", "fine": "8-"}
"""StyleGAN's names of rows: pose and shape, features of the face, colour (StyleGAN, arXiv 1812.04948, section 3.1)."""


def parse_rows(rows: Rows, total: int) -> list[int]:
    """The numbers of the chosen rows among ``total``: sorted, each once.

    Raises ConfigError for a row outside 0 to total - 1 and for text that is no list of rows.
    """
    if isinstance(rows, slice):
        for bound in (rows.start, rows.stop):
            if bound is not None and not -total <= bound <= total:
                raise ConfigError(f"rows go from 0 to {total - 1}: {bound} is outside")
        return sorted(range(total)[rows])
    if isinstance(rows, str):
        rows = _parse_text(GROUPS.get(rows, rows), total)
    chosen = sorted({rows} if isinstance(rows, int) else set(rows))
    outside = [row for row in chosen if not 0 <= row < total]
    if outside:
        raise ConfigError(f"rows go from 0 to {total - 1}: {', '.join(map(str, outside))} is outside")
    return chosen


def _parse_text(text: str, total: int) -> list[int]:
    chosen: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            start = int(first)
            stop = start if not dash else int(last) if last.strip() else total - 1
        except ValueError:
            raise ConfigError(f'rows are coarse, medium, fine, or like "8-15" or "0,3,8-", got {text!r}') from None
        if stop < start or stop >= total:
            raise ConfigError(f"rows go from 0 to {total - 1}, lower first: {part.strip()!r} does not fit")
        chosen += range(start, stop + 1)
    return chosen


def mix(ws: Tensor, other: Tensor | None, rows: Rows, alpha: float = 1.0) -> Tensor:
    """Take ``rows`` from ``other``: ``alpha * other + (1 - alpha) * ws`` there, ``ws`` elsewhere. ``-> [b k d]``.

    ``other`` is ``[b k d]`` or ``[b d]`` (the same latent for every row); a batch of one, on either side, is repeated.
    Without ``other`` the rows become zero. Raises ConfigError for rows outside the range or shapes that do not match.
    Source: pSp, section 4.3 (style mixing for multi-modal synthesis).
    """
    chosen = parse_rows(rows, _check(ws).shape[1])
    if other is None:
        return _replace(ws, chosen, torch.zeros_like(ws))
    return interpolate(ws, other, alpha, chosen)


def interpolate(ws: Tensor, other: Tensor, amount: float, rows: Rows | None = None) -> Tensor:
    """A point on the line from ``ws`` (amount 0) to ``other`` (amount 1): ``[b k d] -> [b k d]``.

    Amounts outside 0 to 1 extrapolate. ``rows`` limits the change; shapes and errors as in ``mix``.
    """
    chosen = parse_rows(slice(None) if rows is None else rows, _check(ws).shape[1])
    other = _match(other, ws)
    if ws.shape[0] == 1:
        ws = ws.expand_as(other)
    return _replace(ws, chosen, amount * other + (1 - amount) * ws)


def truncate(ws: Tensor, w_avg: Tensor, truncation: float, rows: Rows | None = None) -> Tensor:
    """Move rows towards the average: ``w_avg + truncation * (ws - w_avg)``; 1 changes nothing, 0 is the average.

    ``w_avg`` is ``[d]`` or ``[k d]``. Source: StyleGAN, arXiv 1812.04948, section B.
    """
    average = _per_row(w_avg, _check(ws), "the average")
    return interpolate(ws, average, 1 - truncation, rows)


def move(ws: Tensor, direction: Tensor, amount: float, rows: Rows | None = None) -> Tensor:
    """Add ``amount`` times ``direction`` (``[d]`` or ``[k d]``) to ``rows`` of ``ws``, or to all: ``[b k d]``."""
    chosen = parse_rows(slice(None) if rows is None else rows, _check(ws).shape[1])
    return _replace(ws, chosen, ws + amount * _per_row(direction, ws, "a direction"))


def resample(
    ws: Tensor, generator: Generator, rows: Rows, seed: int = 0, alpha: float = 1.0, truncation: float = 1.0
) -> Tensor:
    """Replace ``rows`` by newly drawn latents, one for each sample: many results for one input (pSp, section 4.3).

    They depend only on ``seed`` and the sample's index in the batch, not on the device.
    """
    _check(ws)
    return mix(ws, draw(generator, ws.shape[0], seeded(seed), ws, truncation), rows, alpha)


def _check(ws: Tensor) -> Tensor:
    if ws.ndim != 3:
        raise ConfigError(f"rows of W+ have the shape [batch, rows, width], got {list(ws.shape)}")
    return ws


def _match(other: Tensor, ws: Tensor) -> Tensor:
    """``other`` as ``[b k d]``, on the device and in the type of ``ws``."""
    if other.ndim == 2:
        other = other[:, None].expand(-1, ws.shape[1], -1)
    batches = {other.shape[0], ws.shape[0]} - {1}
    if other.ndim != 3 or other.shape[1:] != ws.shape[1:] or len(batches) > 1:
        raise ConfigError(f"latents of shape {list(other.shape)} do not go with rows of shape {list(ws.shape)}")
    return other.to(ws).expand(max(other.shape[0], ws.shape[0]), -1, -1)


def _per_row(vector: Tensor, ws: Tensor, what: str) -> Tensor:
    if vector.shape not in (ws.shape[2:], ws.shape[1:]):
        raise ConfigError(f"{what} is [{ws.shape[2]}] or {list(ws.shape[1:])}, got {list(vector.shape)}")
    return vector.to(ws).expand_as(ws)


def _replace(ws: Tensor, rows: list[int], by: Tensor) -> Tensor:
    """``ws`` with ``rows`` taken from ``by``, both ``[b k d]``; other rows are unchanged to the bit."""
    chosen = torch.zeros(ws.shape[1], 1, dtype=torch.bool)
    chosen[rows] = True
    return torch.where(chosen.to(ws.device), by, ws)
