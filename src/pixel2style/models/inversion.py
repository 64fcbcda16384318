"""An inversion: the rows of a picture, and the residuals on the generator's maps that carry what rows cannot.

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row, ``c`` channels and ``s`` side of a map.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Inversion:
    """``ws`` ``[b k d]`` and ``features``: residuals ``[b c s s]`` by the side ``s`` of the map that they are added to.

    Without features it is what the rows alone draw.
    """

    ws: Tensor
    features: Mapping[int, Tensor] = field(default_factory=dict)

    def part(self, index: int) -> "Inversion":
        """The inversion of one picture of the batch: ``[1 k d]``."""
        one = slice(index, index + 1)
        return Inversion(self.ws[one], {side: residual[one] for side, residual in self.features.items()})
