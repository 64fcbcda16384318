"""Carry an inversion's features over to edited rows.

A residual was found for the rows of a photograph. Where an edit of these rows moves or changes what the generator
draws, the residual is in the wrong place or on the wrong thing: a turned head leaves its old outline behind, a closed
mouth the teeth of the open one. The generator's own maps before and after the edit say where that happens. The
residual is moved along with them (their optical flow), and faded where they differ even so (StyleRes, arXiv
2212.14359, trains a network for such a gate). What these rules miss, a trained network adds (``models.editor``), where
there is one for the generator.

Even so the next layers answer an edit of a map with a residual less than an edit of their own map: an older face shows
a third of the change that its rows alone show. What is missing is known on a finer map: the difference to the
generator's own map for the edited rows, with what the inversion adds to its own map, moved and faded. Of it, what a
blur takes away (wrinkles, teeth) is added; the rest are colours, which rows alone change more than they should.

Axes: ``b`` batch, ``c`` channels, ``s`` side of a map, ``k`` rows, ``d`` width of a row.
"""

from collections.abc import Collection, Mapping
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from ..generators.base import NO_RESIDUALS, Generator, Residuals, adding
from ..models.editor import Editor
from ..models.inversion import Inversion
from ..ops import variance
from .warp import blurred, in_rows, moved

FADE = 1.5
"""``strength`` by default."""
FINEST = 1 / 8
"""Side of the finest map that is carried over, in sides of the picture, where residuals are not of a finer one."""
FINE = 1 / 64
"""Standard deviation of the blur that fine changes are lost in, in sides of a map."""
REACH = 3 / 32
"""The farthest that detail is moved, in sides of a map."""
WINDOW = 5
"""Side of the windows that are compared to find where detail has moved, in pixels of the coarsest map."""
STIFFNESS = 0.03
"""What a window must match better by, in variances of a map, to be moved by one pixel; by four times that for two."""
SHARPNESS = 50.0
"""How much the best match counts more than others."""
BLUR = 1 / 32
"""Standard deviation of the blur of flow and fading, in sides of a map."""


def carried(
    generator: Generator, inversion: Inversion, ws_edited: Tensor, strength: float = FADE, editor: Editor | None = None
) -> Inversion:
    """An inversion with the rows ``ws_edited`` ``[b k d]``, and features that fit them; of one picture or of ``b``.

    See ``Carrier``, which is quicker where one inversion is edited several times.
    """
    return Carrier(generator, inversion, editor)(ws_edited, strength)


class Carrier:
    """Carries the features of an inversion over to edited rows; holds what all edits share, the maps before them.

    ``editor`` is one for maps of this generator; it is not used for features of other maps. Raises ConfigError where
    features do not fit the generator.
    """

    def __init__(self, generator: Generator, inversion: Inversion, editor: Editor | None = None):
        self.generator, self.inversion = generator, inversion
        fits = editor is not None and editor.channels.items() <= generator.map_channels().items()
        self.editor = editor if fits and editor and editor.channels.keys() <= inversion.features.keys() else None
        generator.check_residuals(inversion.features, inversion.ws)

    @cached_property
    def _sides(self) -> list[int]:
        """Of the maps that are carried over, from the coarsest."""
        own, finest = self.inversion.features, self.generator.size * FINEST
        return [side for side in sorted(self.generator.map_channels()) if min(own) <= side <= max(*own, finest)]

    @cached_property
    def _before(self) -> dict[int, Tensor]:
        """The generator's own maps."""
        return maps_of(self.generator, self.inversion.ws, self._sides)

    @cached_property
    def _residuals(self) -> dict[int, Tensor]:
        """The inversion's, in the layout of the generator's maps; sums of two layouts take many times as long."""
        layout = torch.channels_last if in_rows(self._before[self._sides[0]]) else torch.contiguous_format
        return {side: own.contiguous(memory_format=layout) for side, own in self.inversion.features.items()}

    @cached_property
    def _added(self) -> Tensor:
        """What the inversion adds to the finest of them."""
        finest = self._sides[-1]
        drawn = self.generator.features(self.inversion.ws, finest, residuals=self.inversion.features)
        return drawn.float() - self._before[finest]

    @cached_property
    def _still(self) -> Tensor:
        """The coarsest map's displacement to itself, see ``optical_flow``."""
        coarsest = self._before[self._sides[0]]
        return _weighted(coarsest, coarsest)

    def __call__(self, ws_edited: Tensor, strength: float = FADE) -> Inversion:
        """An inversion with the rows ``ws_edited`` ``[b k d]`` and features that fit them, of ``maps``.

        Rows that are not edited have the features of the inversion, to the bit. Raises what ``maps`` does.
        """
        self._check(ws_edited, strength)
        features = self.inversion.features
        edited = (self.inversion.ws != ws_edited).any(2).any(1).view(-1, 1, 1, 1)
        if not features or not edited.any():
            many = (len(ws_edited), -1, -1, -1)
            return Inversion(ws_edited, {side: part.expand(many) for side, part in features.items()})
        found = residuals_to(self.generator, ws_edited, self.maps(ws_edited, strength))
        kept = {side: features.get(side, residual.new_zeros(())) for side, residual in found.items()}
        return Inversion(ws_edited, {side: torch.where(edited, found[side], kept[side]) for side in found})

    def maps(self, ws_edited: Tensor, strength: float = FADE) -> dict[int, Tensor]:
        """The maps that ``ws_edited`` ``[b k d]`` are to be drawn with: ``[b c s s]`` by their side, from the coarsest.

        Residuals are moved as the edit moves the generator's own maps, then multiplied at each place by
        ``exp(-strength |dF|^2 / var F)``, where ``dF`` is what the edit changes in the moved map ``F``; 0 only moves
        them. To the finest map, if it is not the only one, fine changes that would be missing are added. Raises
        ConfigError where rows do not fit the inversion; ValueError for a negative ``strength``.
        """
        self._check(ws_edited, strength)
        if not self.inversion.features:
            return {}
        flow, factor, state = None, None, None
        wanted: dict[int, Tensor] = {}
        for side, after in maps_of(self.generator, ws_edited, self._sides).items():
            before, residual = self._before[side], self._residuals.get(side)
            flow = optical_flow(before, after, self._still) if flow is None else enlarged(flow, side)
            if factor is None or residual is not None:
                still = moved(before, flow)
                change = (after - still).square().mean(1, keepdim=True) / variance(before)
                factor = torch.exp(-strength * blurred(change, BLUR * side))
            else:  # on a finer map it is much the same
                factor = F.interpolate(factor, size=(side, side), mode="bilinear", align_corners=False)
            drawn = self._next(ws_edited, side, wanted) if wanted else after
            if residual is not None:
                own = moved(residual, flow) * factor
                if self.editor is not None and side in self.editor.channels:
                    added, state = self.editor(before, still, after, own, factor, state)
                    own = own + added
                drawn = drawn + own
            if wanted and side == self._sides[-1]:
                missing = torch.addcmul(after, moved(self._added, flow), factor) - drawn
                drawn = drawn + (missing - blurred(missing, FINE * side))
            wanted[side] = drawn
        return wanted

    def _next(self, ws: Tensor, side: int, wanted: Mapping[int, Tensor]) -> Tensor:
        """The map of ``side`` pixels that follows from the ``wanted`` one before it."""
        start = wanted[side // 2].to(next(self.generator.parameters()).dtype)
        return self.generator.through(ws, side, lambda _, maps: maps, start).float()

    def _check(self, ws_edited: Tensor, strength: float) -> None:
        if strength < 0:
            raise ValueError(f"strength must be at least 0, got {strength}")
        ws = self.inversion.ws
        if ws_edited.ndim != 3 or ws_edited.shape[1:] != ws.shape[1:] or len(ws) not in (1, len(ws_edited)):
            raise ConfigError(f"edited rows {list(ws_edited.shape)} are not of the inversion's rows {list(ws.shape)}")


def between(first: Carrier, last: Carrier, ws: Tensor, share: float) -> dict[int, Tensor]:
    """The maps that rows ``[b k d]`` between those of two inversions are to be drawn with: a ``share`` is of ``last``.

    Both are of one generator. Raises ConfigError where rows do not fit.
    """
    parts = first.maps(ws), last.maps(ws)
    sides = parts[0].keys() | parts[1].keys()
    if not sides:
        return {}
    own = maps_of(first.generator, ws, sides) if parts[0].keys() != parts[1].keys() else parts[0]
    one, other = ({**own, **part} for part in parts)
    return {side: torch.lerp(one[side], other[side], share) for side in sorted(sides)}


def maps_of(
    generator: Generator, ws: Tensor, sides: Collection[int], residuals: Residuals = NO_RESIDUALS
) -> dict[int, Tensor]:
    """The maps of ``sides`` that rows ``[b k d]`` with ``residuals`` are drawn with, in float32, from the coarsest."""
    found: dict[int, Tensor] = {}
    add = adding(residuals)

    def noted(side: int, maps: Tensor) -> Tensor:
        maps = add(side, maps)
        if side in sides:
            found[side] = maps.float()
        return maps

    generator.through(ws, max(sides), noted)
    return found


def residuals_to(generator: Generator, ws: Tensor, wanted: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """The residuals with which rows ``[b k d]`` are drawn with the maps ``wanted``, by their side; in float32."""
    found: dict[int, Tensor] = {}

    def replaced(side: int, maps: Tensor) -> Tensor:
        if side not in wanted:
            return maps
        found[side] = wanted[side] - maps.float()
        return wanted[side].to(maps.dtype)

    generator.through(ws, max(wanted), replaced)
    return found


def optical_flow(before: Tensor, after: Tensor, still: Tensor | None = None) -> Tensor:
    """Where each place of the map ``after`` was in ``before``: ``[b c s s]`` twice to ``[b 2 s s]``, in pixels from it.

    ``before`` may be one map for all. Channels are y and x. Windows around each place are compared with all within
    ``REACH``; the flow is the mean of these displacements, weighted by how well they match, less that of ``before`` to
    itself (``still``, if that is known): none where nothing moved, and where numbers are too large to compare.
    """
    return _weighted(before, after) - (_weighted(before, before) if still is None else still)


def enlarged(flow: Tensor, side: int) -> Tensor:
    """The same flow for maps of ``side`` pixels: ``[b 2 s s]`` to ``[b 2 side side]``."""
    ratio = side / flow.shape[-1]
    return F.interpolate(flow, size=(side, side), mode="bilinear", align_corners=False) * ratio


def _weighted(before: Tensor, after: Tensor) -> Tensor:
    """The mean displacement ``[b 2 s s]``, weighted by how well windows match."""
    side = before.shape[-1]
    reach = round(REACH * side)
    steps = [(down, across) for down in range(-reach, reach + 1) for across in range(-reach, reach + 1)]
    at = torch.arange(side, device=before.device)
    sources = [
        ((at + down).clamp(0, side - 1)[:, None] * side + (at + across).clamp(0, side - 1)).flatten()
        for down, across in steps
    ]
    places = torch.stack(sources, 1)
    # All pairs of places in one matrix product, of which those within reach are taken: [b s*s n].
    first, second = after.flatten(2), before.flatten(2)
    products = torch.matmul(first.transpose(1, 2), second).gather(2, places.expand(len(after), -1, -1))
    squares = first.square().sum(1)[:, :, None] + second.square().sum(1)[:, places] - 2 * products
    differences = squares / (before.shape[1] * variance(before).flatten(1)[:, :, None])
    maps = differences.transpose(1, 2).reshape(len(after), len(steps), side, side)
    costs = F.avg_pool2d(maps, WINDOW, 1, WINDOW // 2, count_include_pad=False)
    far = STIFFNESS * costs.new_tensor([down * down + across * across for down, across in steps])
    weights = (-SHARPNESS * (costs + far[:, None, None])).softmax(1)
    flow = torch.einsum("bnhw,nd->bdhw", weights, weights.new_tensor(steps))
    return blurred(flow.nan_to_num(), BLUR * side)
