"""The editor: what features that were carried over to an edit still need, as additions to residuals of maps.

``editing.carry`` moves and fades the features of an inversion as an edit moves and changes the generator's own maps.
This network sees the same maps and adds what these rules miss. It is trained on generated faces, whose edits are known
(``tools/train_editor.py``; StyleRes, arXiv 2212.14359, and StyleFeatureEditor, arXiv 2406.10601, train networks for the
whole step).

Axes: ``b`` batch, ``c`` channels, ``s`` side of a map.
"""

import functools
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import SLOPE, blurred, variance
from .detail import ResidualUnit

WIDTH = 128
"""Channels inside, of the coarsest map; half of them for others."""
UNITS = 3
"""Residual units of the coarsest map; others have two."""
CLEAR = 4.0
"""How fast additions grow with the change of a map; without a change there are none."""
BLUR = 1 / 32
"""Standard deviation of the blur of that change, and of the border of the face, in sides of a map."""
FACE = (0.5, 0.54), (0.31, 0.42)
"""The centre and the half axes, across and down, of the ellipse in which something is added, in sides of a picture
aligned as in FFHQ. What surrounds a face in photographs is not among the generated ones that it is trained on."""


class Editor(nn.Module):
    """Additions to carried residuals, map by map from the coarsest; ``channels`` of the maps by their side.

    Numbers inside are in units of the standard deviation of the generator's own map before the edit. The last layers
    start at zero, so an untrained network adds nothing.
    """

    def __init__(self, channels: Mapping[int, int]):
        super().__init__()
        self.inputs, self.units, self.outputs, self.up = (nn.ModuleDict() for _ in range(4))
        for number, (side, count) in enumerate(sorted(channels.items())):
            own = WIDTH if number == 0 else WIDTH // 2
            self.inputs[str(side)] = nn.Conv2d(3 * count + 1, own, 1)
            self.units[str(side)] = nn.Sequential(*(ResidualUnit(own) for _ in range(UNITS if number == 0 else 2)))
            self.outputs[str(side)] = output = nn.Conv2d(own, count, 1)
            if number:
                self.up[str(side)] = nn.Conv2d(WIDTH if number == 1 else WIDTH // 2, own, 1)
            nn.init.zeros_(output.weight)
            nn.init.zeros_(output.bias)  # type: ignore[arg-type]

    @property
    def channels(self) -> dict[int, int]:
        """Of the maps, by their side."""
        return {int(side): layer.out_channels for side, layer in self.outputs.items()}  # type: ignore[misc]

    def forward(
        self, before: Tensor, still: Tensor, after: Tensor, residual: Tensor, factor: Tensor, state: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What to add to the ``residual`` of a map, ``[b c s s]``, and the state for the next map.

        ``before`` and ``after`` are the generator's own maps, ``still`` is ``before`` moved as the edit moves it;
        ``residual`` is carried over already, with the ``factor`` ``[b 1 s s]``. ``before`` may be one map for all.
        """
        side = after.shape[-1]
        key, scale = str(side), variance(before)
        deviation = scale.sqrt()
        x = self._projected(key, still, after, residual, deviation, factor)
        if state is not None:
            x = x + F.interpolate(self.up[key](state), size=(side, side), mode="bilinear", align_corners=False)
        x = F.leaky_relu(self.units[key](x), SLOPE)
        change = (after - before).square().mean(1, keepdim=True) / scale
        clear = 1 - torch.exp(-CLEAR * blurred(change, BLUR * side))
        return self.outputs[key](x) * clear * _face(side).to(x) * deviation, x

    def _projected(
        self, key: str, still: Tensor, after: Tensor, residual: Tensor, deviation: Tensor, factor: Tensor
    ) -> Tensor:
        """``inputs`` of ``[still, after - still, residual]`` in units of the deviation, and the factor.

        Part by part, since to join and divide the maps would take longer than the convolutions.
        """
        layer = cast(nn.Conv2d, self.inputs[key])
        count = after.shape[1]
        own, change, carried, rest = torch.split(layer.weight, [count, count, count, 1], 1)
        pairs = ((still, own - change), (after, change), (residual, carried))
        maps = [F.conv2d(one, weight) for one, weight in pairs]
        return (maps[0] + maps[1] + maps[2]) / deviation + F.conv2d(factor, rest, layer.bias)


@functools.cache
def _face(side: int) -> Tensor:
    """1 in ``FACE``, 0 outside, with a soft border: ``[1 1 side side]``."""
    with torch.inference_mode(False):  # it is kept, also for calls that need gradients
        at = (torch.arange(side) + 0.5) / side
        y, x = torch.meshgrid(at, at, indexing="ij")
        (across, down), (half_across, half_down) = FACE
        inside = ((x - across) / half_across) ** 2 + ((y - down) / half_down) ** 2 < 1
        return blurred(inside[None, None].float(), BLUR * side)
