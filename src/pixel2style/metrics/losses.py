"""Training losses: named, weighted terms of one reconstruction (pSp, section 3.2).

``Objective`` builds only the networks that its weights need, and computes the features of a target once for all
iterations of the encoder. Images are compared at 256 pixels and in float32, whatever precision the networks run in.

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from ..config import LossConfig
from ..errors import ConfigError
from ..ops import COMPARE_SIZE
from .identity import Identity, face_window
from .lpips import LPIPS
from .similarity import Similarity


@dataclass(frozen=True)
class Target:
    """Target images ``[b 3 256 256]`` and their features, None for those that no term needs.

    ``codes`` are the rows of the last ``len(codes)`` images, which were generated, so that their rows are known.
    ``before`` is the cosine ``[b]`` of sources and targets, which a reconstruction should exceed.
    """

    images: Tensor
    lpips: list[Tensor] | None = None
    lpips_crop: list[Tensor] | None = None
    identity: Tensor | None = None
    similarity: Tensor | None = None
    codes: Tensor | None = None
    before: Tensor | None = None


@dataclass(frozen=True)
class Reconstruction:
    """The result for a target.

    ``delta [b k d]`` is rows minus the average, ``codes [b k d]`` the same in units of W's deviation, and
    ``images [b 3 256 256]`` the generated images.
    """

    target: Target
    delta: Tensor
    codes: Tensor
    images: Tensor


def l2(result: Reconstruction) -> Tensor:
    """Mean squared difference of pixels (equation 2)."""
    return (result.images.float() - result.target.images.float()).square().mean()


def edges(error: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels of ``error [b 3 h w]``, horizontal plus vertical: ``[b]``.

    It grows with the square of the frequency, as the squared gain of the generator's maps falls with it.
    """
    across, down = (error.diff(dim=axis).square().mean((1, 2, 3)) for axis in (-1, -2))
    return across + down


def l2_crop(result: Reconstruction) -> Tensor:
    """Mean squared difference of the face's pixels, rows 35 to 223 and columns 32 to 220."""
    return (face_window(result.images).float() - face_window(result.target.images).float()).square().mean()


def code_norm(result: Reconstruction) -> Tensor:
    """Mean squared code, the distance of rows from the average (equation 5, squared, per number)."""
    return result.codes.float().square().mean()


def code_regression(result: Reconstruction) -> Tensor:
    """Mean squared difference from known rows; zero when none are known."""
    known = result.target.codes
    if known is None or len(known) == 0:
        return result.codes[:0].float().sum()
    return (result.codes[-len(known) :].float() - known.float()).square().mean()


def w_norm(ws: Tensor, w_avg: Tensor | None = None) -> Tensor:
    """The paper's regulariser as published (equation 5): batch mean of the Frobenius norm of rows minus ``w_avg``."""
    norms: Tensor = torch.linalg.vector_norm((ws if w_avg is None else ws - w_avg).float().flatten(1), dim=1)
    return norms.mean()


class Objective(nn.Module):
    """The weighted sum of all terms whose weight is not zero. Its networks are frozen.

    ``config`` names the networks; those that are not bundled are given loaded: ``identity`` takes faces
    ``[b 3 112 112]``, ``similarity`` images, and both give ``[b d]``. Raises ConfigError when all weights are zero, and
    when both identity and similarity have one.
    """

    def __init__(self, config: LossConfig, identity: nn.Module | None = None, similarity: nn.Module | None = None):
        super().__init__()
        if not any(getattr(config, name) for name in TERMS):
            raise ConfigError("every loss has weight 0: give at least one of them a weight")
        if config.identity and config.similarity:
            raise ConfigError("identity and similarity exclude each other: give one of the two the weight 0")
        self.config = config
        perceptual = config.lpips or config.lpips_crop or config.detail or config.windows
        self.lpips = LPIPS(config.lpips_net) if perceptual else None
        self.identity = Identity(config.identity_network, identity) if config.identity else None
        self.similarity = Similarity(config.similarity_network, similarity) if config.similarity else None

    def weighted(self, config: LossConfig) -> "Objective":
        """The same networks with other weights of terms. Raises ConfigError where a term needs one that is missing."""
        terms = ("lpips", "identity", "similarity")
        missing = [name for name in terms if getattr(config, name) and getattr(self, name) is None]
        if missing:
            raise ConfigError(f"this objective has no network for {', '.join(missing)}")
        other = copy.copy(self)
        other.config = config
        return other

    @torch.no_grad()
    def target_of(self, images: Tensor, codes: Tensor | None = None, sources: Tensor | None = None) -> Target:
        """Target images ``[b 3 256 256]`` with the features that the terms need.

        ``sources`` ``[b 3 256 256]`` are given where they are photographs too, for the metric "improvement". Raises
        ValueError for other shapes.
        """
        for batch in (images, sources):
            if batch is not None and batch.shape[1:] != (3, COMPARE_SIZE, COMPARE_SIZE):
                raise ValueError(f"losses need images [b 3 {COMPARE_SIZE} {COMPARE_SIZE}], got {list(batch.shape)}")
        target = Target(
            images,
            lpips=self.lpips.features(images) if self.lpips and self.config.lpips else None,
            lpips_crop=self.lpips.features(face_window(images)) if self.lpips and self.config.lpips_crop else None,
            identity=self.identity.features(images) if self.identity else None,
            similarity=self.similarity.features(images) if self.similarity else None,
            codes=codes,
        )
        if sources is None or not (self.identity or self.similarity):
            return target
        return replace(target, before=self.cosine(sources, target))

    def forward(self, result: Reconstruction) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its unweighted terms by name, detached. The order of the sum is fixed.

        Where the sources are known, the terms include the metric ``improvement``, which is not part of the loss: the
        cosine of reconstruction and target minus that of source and target.
        """
        terms = {name: term(self, result) for name, term in TERMS.items() if getattr(self.config, name)}
        total = torch.stack([getattr(self.config, name) * value for name, value in terms.items()]).sum()
        values = {name: value.detach() for name, value in terms.items()}
        if result.target.before is not None:
            after = 1 - values["identity" if self.identity else "similarity"]
            values["improvement"] = after - result.target.before.mean()
        return total, values

    def perceptual(self, images: Tensor, target: list[Tensor] | None) -> Tensor:
        """Mean LPIPS of images and the LPIPS features of their targets."""
        if self.lpips is None or target is None:
            raise ValueError("this target has no LPIPS features")
        return self.lpips.distance(self.lpips.features(images), target).mean()

    def cosine(self, images: Tensor, target: Target) -> Tensor:
        """The cosine ``[b]`` of images and target by identity or similarity, whichever has a weight."""
        if self.identity and target.identity is not None:
            return self.identity.similarity(self.identity.features(images), target.identity)
        if self.similarity and target.similarity is not None:
            return self.similarity.similarity(self.similarity.features(images), target.similarity)
        raise ValueError("this target has neither identity nor similarity features")


TERMS: dict[str, Callable[[Objective, Reconstruction], Tensor]] = {
    "l2": lambda objective, result: l2(result),
    "lpips": lambda objective, result: objective.perceptual(result.images, result.target.lpips),
    "edges": lambda objective, result: edges(result.images.float() - result.target.images.float()).mean(),
    "identity": lambda objective, result: 1 - objective.cosine(result.images, result.target).mean(),
    "w_norm": lambda objective, result: w_norm(result.delta),
    "l2_crop": lambda objective, result: l2_crop(result),
    "lpips_crop": lambda objective, result: objective.perceptual(face_window(result.images), result.target.lpips_crop),
    "similarity": lambda objective, result: 1 - objective.cosine(result.images, result.target).mean(),
    "code_norm": lambda objective, result: code_norm(result),
    "code_regression": lambda objective, result: code_regression(result),
}
"""The terms in the order of the sum. A term's name is that of its weight in LossConfig."""


def detail(drawn: Tensor, full: Tensor, objective: Objective, rng: torch.Generator) -> Tensor:
    """LPIPS of one random 256-pixel window of full-size images, for the detail that resizing to 256 pixels removes."""
    if objective.lpips is None or full.shape[-1] < COMPARE_SIZE:
        return drawn.new_zeros(())
    top, left = (int(torch.randint(full.shape[-1] - COMPARE_SIZE + 1, (), generator=rng)) for _ in range(2))
    window = (..., slice(top, top + COMPARE_SIZE), slice(left, left + COMPARE_SIZE))
    return cast(Tensor, objective.lpips(drawn[window], full[window])).mean()
