"""An inversion: the rows of a picture, and the residuals on the generator's maps that carry what rows cannot.

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row, ``c`` channels and ``s`` side of a map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
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
        return self.parts(range(index, index + 1))

    def parts(self, indices: range) -> "Inversion":
        """The inversions of some pictures of the batch, in a row."""
        some = slice(indices.start, indices.stop)
        return Inversion(self.ws[some], {side: residual[some] for side, residual in self.features.items()})

    def to(self, device: torch.device) -> "Inversion":
        """The same on another device."""
        return Inversion(self.ws.to(device), {side: residual.to(device) for side, residual in self.features.items()})

    @staticmethod
    def joined(parts: "Sequence[Inversion]") -> "Inversion":
        """Several inversions, with features of the same maps, as one batch."""
        sides = parts[0].features
        features = {side: torch.cat([part.features[side] for part in parts]) for side in sides}
        return Inversion(torch.cat([part.ws for part in parts]), features)
