"""The Fréchet distance between two sets of feature vectors, as in FID (Heusel et al. 2017, arXiv 1706.08500, eq. 6).

Both sets are modelled as normal distributions. With Inception's features the distance is FID (``fid``); with other
features, for example VGG16's, it is another metric and must not be called FID. It falls with the number of images:
compare only values of equally many.

Axes: ``n`` images, ``d`` features.
"""

import torch
from torch import Tensor

LEAST = 2
"""Images in a set: one image has no covariance."""


def distance(a: Tensor, b: Tensor) -> float | None:
    """|difference of means|² + trace(A + B - 2 (AB)^½) of two sets ``[n d]``; None for fewer than two images.

    The covariances A and B are never computed: with A = X'X and B = Y'Y the trace of (AB)^½ is the nuclear norm of XY',
    which is exact for fewer images than features too.
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
    """X ``[min(n, d) d]`` for which X'X is the covariance."""
    centred = (features - features.mean(0)) / (len(features) - 1) ** 0.5
    root: Tensor = torch.linalg.qr(centred, mode="r").R
    return root
