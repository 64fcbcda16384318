"""Large maps, strip by strip: a picture drawn without ever holding a whole map.

A generator's late maps are larger than a processor's cache, so every operation fetches one from memory and puts it
back; and a system hands out memory above some 32 MB anew each time, page by page, which takes longer than the
arithmetic. Strips of a few rows stay in the cache and go into memory that was used a moment ago. The rows around a
strip are computed twice; numbers are those of whole maps, up to rounding.

Axes: ``b`` batch, ``c`` channels, ``h w`` map. This module does not know what is computed.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

STRIP = 2**21
"""Bytes of a map that a step is given at once, without the rows around them. Slower: half as many, or four times."""

Step = Callable[[Tensor, slice], Tensor]
"""``[b c h w] -> [b c' 2h 2w]``, the rows ``slice`` of a whole map; beyond them it may take zeros for what is there.

It may look two pixels of its result away, as two 3x3 convolutions do.
"""


class Strip(NamedTuple):
    """Rows of a map: those ``wanted``, by their places in the whole one, in ``maps``, which begins at row ``top``."""

    maps: Tensor
    wanted: range
    top: int

    def of(self, made: Tensor) -> Tensor:
        """The wanted rows of ``made``, which has the rows of ``maps`` or a multiple of them."""
        times = made.shape[2] // self.maps.shape[2]
        return made[:, :, times * (self.wanted.start - self.top) : times * (self.wanted.stop - self.top)]


def strips(images: Tensor, steps: Sequence[Step], around: int = 0) -> Iterator[Strip]:
    """``images`` after all ``steps``, strip by strip from the top; ``around`` more rows, at most 2, are right too."""
    return _strips(Strip(images, range(images.shape[2]), 0), steps, around)


def _strips(strip: Strip, steps: Sequence[Step], around: int) -> Iterator[Strip]:
    """The first step's strips, each taken through all other steps before the next: nothing large is ever whole."""
    if not steps:
        yield strip
        return
    (step, *rest), (maps, wanted, top) = steps, strip
    # A step spoils two rows of its result, so one of what it is given; what comes after wants its own margin right.
    margin = 1 + -(-(2 if rest else around) // 2)
    pieces = -(-len(wanted) * maps[:, :, :1].nbytes // STRIP)
    height = -(-len(wanted) // pieces)
    for low in range(wanted.start, wanted.stop, height):
        high = min(low + height, wanted.stop)
        first, last = max(top, low - margin), min(top + maps.shape[2], high + margin)
        made = step(maps[:, :, first - top : last - top], slice(2 * first, 2 * last))
        yield from _strips(Strip(made, range(2 * low, 2 * high), 2 * first), rest, around)
