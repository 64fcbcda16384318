"""Find directions in W: from scores of pictures, from examples with and without, or from the generator alone.

Each function gives unit vectors; ``directions`` files carry them. Latents are ``w`` of the mapping network, as drawn by
``sampling.draw``, or rows of encoded photographs.

Axes: ``n`` latents, ``d`` width of a row, ``m`` directions, ``a`` attributes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..generators.base import Generator
from ..generators.sampling import draw, seeded
from .latents import Rows, parse_rows

BATCH = 5_000
"""Latents of a batch of ``ganspace``, so that its memory does not grow with their number."""


def regression(ws: Tensor, scores: Tensor, ridge: float = 1e-3) -> Tensor:
    """Directions ``[a d]`` along which scores ``[n a]`` of latents ``[n d]`` rise most, by linear (ridge) regression.

    The gradient of the fitted score, in W's own metric: the covariance of W times the regression's weights, which is
    the mean change of ``w`` with the score. ``ridge`` is in units of W's mean variance. Raises ConfigError for fewer
    than two latents, or other shapes.
    """
    if ws.ndim != 2 or scores.ndim != 2 or len(ws) != len(scores) or len(ws) < 2:
        raise ConfigError(
            f"latents [n d] and scores [n a] were expected, got {list(ws.shape)} and {list(scores.shape)}"
        )
    x, y = (values.double() - values.double().mean(0) for values in (ws, scores))
    covariance = x.T @ x / len(x)
    damped = covariance + ridge * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=x.dtype)
    weights = torch.linalg.solve(damped, x.T @ y / len(x))
    return unit_length((covariance @ weights).T.to(ws))


def conditional(ws: Tensor, scores: Tensor) -> Tensor:
    """The change ``[a d]`` of latents with each score, in its standard deviations, while the other scores stay.

    The linear regression of latents ``[n d]`` on all scores ``[n a]`` at once. Raises ConfigError for other shapes, and
    for fewer latents than scores.
    """
    if ws.ndim != 2 or scores.ndim != 2 or len(ws) != len(scores) or len(ws) <= scores.shape[1]:
        raise ConfigError(
            f"latents [n d] and scores [n a] were expected, got {list(ws.shape)} and {list(scores.shape)}"
        )
    x = ws.double() - ws.double().mean(0)
    y = scores.double() - scores.double().mean(0)
    y = y / y.std(0).clamp_min(1e-12)
    found: Tensor = torch.linalg.lstsq(y, x).solution.to(ws)
    return found


def boundary(ws: Tensor, labels: Tensor, seed: int = 0) -> Tensor:
    """The normal ``[d]`` of the plane between latents ``[n d]`` with and without an attribute (InterFaceGAN, 3.1).

    A linear support vector machine of scikit-learn (the extra ``directions``). ``labels`` ``[n]`` are true where the
    attribute is there. Raises ConfigError where all labels are equal, or scikit-learn is not installed.
    """
    try:
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise ConfigError("scikit-learn is not installed: pip install 'pixel2style[directions]'") from error
    flags = labels.bool().cpu().numpy()
    if flags.all() or not flags.any():
        raise ConfigError("all latents have the same label: a boundary needs some with the attribute and some without")
    scale = float(ws.std())
    machine = LinearSVC(dual="auto", random_state=seed).fit((ws / scale).cpu().numpy(), flags)
    return unit_length(torch.from_numpy(machine.coef_[0].astype(np.float32)).to(ws))


def difference(ws_with: Tensor, ws_without: Tensor) -> Tensor:
    """The direction from the mean of latents ``[n d]`` without an attribute to the mean of those with it: ``[d]``.

    Of rows ``[n k d]`` a direction for each row, ``[k d]``.
    """
    if ws_with.shape[1:] != ws_without.shape[1:] or not len(ws_with) or not len(ws_without):
        raise ConfigError(f"latents of one shape were expected, got {list(ws_with.shape)} and {list(ws_without.shape)}")
    return unit_length(ws_with.mean(0) - ws_without.mean(0))


def ganspace(generator: Generator, count: int, samples: int = 100_000, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Principal axes ``[m d]`` of W and the deviations ``[m]`` along them, largest first (GANSpace, section 3.1).

    From ``samples`` latents, whose covariance is summed batch by batch: the memory does not depend on their number.
    """
    rng = seeded(seed)
    if not 0 < count <= generator.width:
        raise ConfigError(f"W has {generator.width} axes: ask for 1 to {generator.width}, not {count}")
    if samples <= count:
        raise ConfigError(f"{count} axes are found from more samples than axes: give more than {count}, not {samples}")
    total = torch.zeros(generator.width, dtype=torch.float64)
    squares = torch.zeros(generator.width, generator.width, dtype=torch.float64)
    with torch.no_grad():
        for start in range(0, samples, BATCH):
            w = draw(generator, min(BATCH, samples - start), rng, generator.w_avg).double().cpu()
            total += w.sum(0)
            squares += w.T @ w
    mean = total / samples
    values, axes = torch.linalg.eigh(squares / samples - torch.outer(mean, mean))
    order = values.argsort(descending=True)[:count]
    return axes[:, order].T.to(generator.w_avg), values[order].clamp_min(0).sqrt().to(generator.w_avg)


def sefa(generator: Generator, count: int, rows: Rows | None = None) -> Tensor:
    """The directions ``[m d]`` that change the styles of ``rows`` most, from weights alone (SeFa, arXiv 2007.06600).

    They are eigenvectors of the sum of AᵀA over the matrices A that map a row to styles; each A is scaled to length 1.
    Raises ConfigError for a generator that does not list these matrices.
    """
    matrices = generator.style_matrices()
    if not matrices:
        raise ConfigError("this generator does not say which matrices make its styles: use ganspace")
    chosen = parse_rows(slice(None) if rows is None else rows, generator.rows)
    total = torch.zeros(generator.width, generator.width, dtype=torch.float64)
    for row in chosen:
        for matrix in matrices[row]:
            normal = matrix.detach().double().cpu()
            normal = normal / normal.norm()
            total += normal.T @ normal
    values, axes = torch.linalg.eigh(total)
    found: Tensor = axes[:, values.argsort(descending=True)[:count]].T.to(generator.w_avg)
    return found


def conditioned(direction: Tensor, others: Sequence[Tensor]) -> Tensor:
    """A direction ``[d]`` without what it has in common with ``others`` ``[d]`` (InterFaceGAN, 3.2): unit length.

    Raises ConfigError where nothing is left.
    """
    if not others:
        return unit_length(direction)
    basis, _ = torch.linalg.qr(torch.stack(list(others), 1).double())
    left = direction.double() - basis @ (basis.T @ direction.double())
    if float(left.norm()) < 1e-6 * float(direction.norm()):
        raise ConfigError("this direction lies in those it is to be conditioned on: leave one of them out")
    return unit_length(left.to(direction))


def unit_length(vectors: Tensor) -> Tensor:
    """Vectors ``[... d]`` scaled to length 1; of zero, zero."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / lengths.clamp_min(1e-12)
