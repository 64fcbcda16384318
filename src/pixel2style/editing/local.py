"""Edits of a part of a face: in it the edited picture, outside the inversion, joined in the generator's own maps.

Two pictures that are cross-faded show both outlines where they differ. Joined on coarse maps, the layers above draw one
face from both, and only its fine detail and colours have to be cross-faded (in spirit of Suzuki et al., Spatially
Controllable Image Synthesis with Internal Representation Collaging, arXiv 1811.10153, for inversions with features).

Axes: ``k`` rows, ``d`` width of a row, ``c`` channels and ``s`` side of a map.
"""

import torch.nn.functional as F
from torch import Tensor

from ..generators.base import Generator, Residuals
from ..models.inversion import Inversion

FINEST = 64
"""Side of the finest map in which pictures are joined."""
COARSEST = 16
"""Side of the coarsest one: on coarser maps a region has no shape."""


def joined(generator: Generator, inversion: Inversion, edited: Inversion, mask: Tensor) -> Inversion:
    """An inversion ``[1 k d]`` with the rows of ``edited``, and features that give its maps where ``mask`` is 1.

    Where ``mask`` ``[1 s s]`` is 0, maps are those of ``inversion``, but for what layers carry over from beside it;
    rows of finer maps than ``FINEST`` are those of ``edited`` everywhere. A generator without maps gives ``edited``.
    """
    outside: dict[int, Tensor] = {}  # residuals of the joined maps from the rows of the inversion, and of the edit
    inside: dict[int, Tensor] = {}
    for side in (side for side in sorted(generator.map_channels()) if COARSEST <= side <= FINEST):
        share = F.interpolate(mask[None].to(inversion.ws), (side, side), mode="area")
        wanted = generator.features(edited.ws, side, residuals=_to(edited.features, side))
        own = generator.features(inversion.ws, side, residuals=outside)
        kept = own + inversion.features[side] if side in inversion.features else own
        target = share * wanted + (1 - share) * kept
        outside[side] = target - own
        inside[side] = target - generator.features(edited.ws, side, residuals=inside)
    return Inversion(edited.ws, {**edited.features, **inside})


def _to(features: Residuals, side: int) -> Residuals:
    """The residuals of maps up to ``side``."""
    return {own: residual for own, residual in features.items() if own <= side}
