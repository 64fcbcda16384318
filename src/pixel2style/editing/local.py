"""Edits of a part of a face: in it the edited picture, outside the inversion, joined in the generator's own maps.

Two pictures that are cross-faded show both outlines where they differ. Joined on coarse maps, the layers above draw one
face from both, and only its fine detail and colours have to be cross-faded (in spirit of Suzuki et al., Spatially
Controllable Image Synthesis with Internal Representation Collaging, arXiv 1811.10153, for inversions with features).

Axes: ``k`` rows, ``d`` width of a row, ``c`` channels and ``s`` side of a map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..generators.base import Generator
from ..models.inversion import Inversion
from .carry import maps_of, residuals_to

FINEST = 64
"""Side of the finest map in which pictures are joined."""
COARSEST = 16
"""Side of the coarsest one: on coarser maps a region has no shape."""


def joined(generator: Generator, inversion: Inversion, edited: Inversion, mask: Tensor) -> Inversion:
    """An inversion ``[1 k d]`` with the rows of ``edited``, and features that give its maps where ``mask`` is 1.

    Where ``mask`` ``[1 s s]`` is 0, maps are those of ``inversion``, but for what layers carry over from beside it;
    rows of finer maps than ``FINEST`` are those of ``edited`` everywhere. A generator without maps gives ``edited``.
    """
    sides = [side for side in sorted(generator.map_channels()) if COARSEST <= side <= FINEST]
    if not sides:
        return edited
    after = maps_of(generator, edited.ws, sides, edited.features)
    targets: dict[int, Tensor] = {}

    def target(side: int, own: Tensor) -> Tensor:
        """What is drawn from the rows of the inversion, with the edit where the mask is 1."""
        if side not in after:
            return own
        kept = own + inversion.features[side] if side in inversion.features else own
        share = _at(mask, kept)
        targets[side] = share * after[side] + (1 - share) * kept
        return targets[side].to(own.dtype)

    generator.through(inversion.ws, sides[-1], target)
    features = residuals_to(generator, edited.ws, targets)
    for side in {*edited.features, *inversion.features} - targets.keys():
        parts = [one.features[side] for one in (edited, inversion) if side in one.features]
        none = torch.zeros_like(parts[0])
        inside, outside = (one.features.get(side, none) for one in (edited, inversion))
        share = _at(mask, none)
        features[side] = share * inside + (1 - share) * outside
    return Inversion(edited.ws, features)


def _at(mask: Tensor, maps: Tensor) -> Tensor:
    """The mask ``[1 s s]`` at the side of maps."""
    return F.interpolate(mask[None].to(maps), maps.shape[-2:], mode="area")
