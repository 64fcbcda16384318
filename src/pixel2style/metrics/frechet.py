"""Fréchet distances: how far apart two crowds of pictures are, whoever is in them.

Both are taken for normal distributions of feature vectors (Heusel et al. 2017, arXiv 1706.08500, equation 6). With
Inception's features it is FID, see ``fid``; with others, such as VGG16's, it is a number of its own and is not called
so. Both fall with the number of pictures: compare only what was measured on equally many. This module does not know
whose features they are.

Axes: ``n`` pictures, ``d`` features.
"""

import torch
from torch import Tensor

LEAST = 2
"""One picture has no spread."""


def distance(a: Tensor, b: Tensor) -> float | None:
    """|difference of means|² + trace(A + B - 2 (AB)^½) of two crowds of features ``[n d]``; None for less than two.

    The covariances A and B are never formed: with AᵀA = A', BᵀB = B' the last trace is the nuclear norm of A'B'ᵀ,
    which stays exact when there are fewer pictures than features.
    """
    if min(len(a), len(b)) < LEAST:
        return None
    a, b = a.double().cpu(), b.double().cpu()
    between = (a.mean(0) - b.mean(0)).square().sum()
    root_a, root_b = _root(a), _root(b)
    common = torch.linalg.svdvals(root_a @ root_b.T).sum()
    within = root_a.square().sum() + root_b.square().sum() - 2 * common
    return max(0.0, float(between + within))


def _root(features: Tensor) -> Tensor:
    """A matrix ``[min(n, d) d]`` whose square is the covariance."""
    away = (features - features.mean(0)) / (len(features) - 1) ** 0.5
    root: Tensor = torch.linalg.qr(away, mode="r").R
    return root
