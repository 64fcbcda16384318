"""Compute large maps strip by strip, so that no whole large map is ever in memory.

The late maps of a generator are larger than a CPU's cache, so every operation reads and writes main memory. Buffers
above about 32 MB are also requested from the system and zeroed page by page each time, which takes longer than the
arithmetic. Strips of a few rows stay in the cache and reuse memory. The rows around a strip (its halo) are computed
twice. Values equal those of whole maps up to rounding.

Axes: ``b`` batch, ``c`` channels, ``h w`` map.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

STRIP = 2**21
"""Bytes of a map that a step gets at once, without the halo. Half and four times as many are slower."""

Step = Callable[[Tensor, slice], Tensor]
"""``[b c h w] -> [b c' 2h 2w]``, the rows ``slice`` of a whole map; outside of its input it may assume zeros.

A result may depend on two pixels around it, as with two 3x3 convolutions.
"""


class Strip(NamedTuple):
    """``maps`` holds rows of a map from row ``top`` on; valid are the ``rows``, numbered as in the whole map."""

    maps: Tensor
    rows: range
    top: int

    def crop(self, result: Tensor) -> Tensor:
        """The valid rows of ``result``, which was computed from ``maps`` and is as high or a multiple of it."""
        factor = result.shape[2] // self.maps.shape[2]
        return result[:, :, factor * (self.rows.start - self.top) : factor * (self.rows.stop - self.top)]


def strips(images: Tensor, steps: Sequence[Step], halo: int = 0) -> Iterator[Strip]:
    """``images`` after all ``steps``, strip by strip from the top; ``halo`` rows (at most 2) around each are valid."""
    return _strips(Strip(images, range(images.shape[2]), 0), steps, halo)


def _strips(strip: Strip, steps: Sequence[Step], halo: int) -> Iterator[Strip]:
    """Depth first: each strip of the first step goes through all other steps before the next strip is computed."""
    if not steps:
        yield strip
        return
    (step, *rest), (maps, rows, top) = steps, strip
    # Two rows at each edge of a step's result are invalid, that is one row of its input; the next step needs its own
    # halo to be valid.
    margin = 1 + -(-(2 if rest else halo) // 2)
    count = -(-len(rows) * maps[:, :, :1].nbytes // STRIP)
    height = -(-len(rows) // count)
    for low in range(rows.start, rows.stop, height):
        high = min(low + height, rows.stop)
        first, last = max(top, low - margin), min(top + maps.shape[2], high + margin)
        result = step(maps[:, :, first - top : last - top], slice(2 * first, 2 * last))
        yield from _strips(Strip(result, range(2 * low, 2 * high), 2 * first), rest, halo)
