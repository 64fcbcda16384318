"""What an encoder is taught by: named, weighted terms of one reconstruction (pSp, section 3.2).

``Objective`` builds only the networks that its weights ask for and computes what is known of the targets once, however
often the encoder looks. Pictures are compared at 256 pixels and in float32, whatever precision the networks run in.

This module does not read files: networks that are not bundled are given to it loaded.

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row.
"""

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
    """Pictures to be reconstructed, ``[b 3 256 256]``, and what the judges see in them; None where nobody judges.

    ``codes`` are the rows of the last ``len(codes)`` pictures, which were generated and so have known rows.
    ``before`` is the cosine ``[b]`` of targets and sources, which a reconstruction should improve on.
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
    """What the encoder made of a target.

    ``away [b k d]`` is how far its rows are from the average, ``codes [b k d]`` the same in units of W's deviation;
    ``images [b 3 256 256]`` is the picture that they draw.
    """

    target: Target
    away: Tensor
    codes: Tensor
    images: Tensor


def l2(made: Reconstruction) -> Tensor:
    """Mean squared difference of pixels (equation 2)."""
    return (made.images.float() - made.target.images.float()).square().mean()


def l2_crop(made: Reconstruction) -> Tensor:
    """Mean squared difference of the face's pixels, rows 35 to 223 and columns 32 to 220."""
    return (face_window(made.images).float() - face_window(made.target.images).float()).square().mean()


def code_norm(made: Reconstruction) -> Tensor:
    """Mean squared code: how far rows are from the average (equation 5, squared and per number)."""
    return made.codes.float().square().mean()


def code_regression(made: Reconstruction) -> Tensor:
    """Mean squared difference from known rows; zero when none are known."""
    known = made.target.codes
    if known is None or len(known) == 0:
        return made.codes[:0].float().sum()
    return (made.codes[-len(known) :].float() - known.float()).square().mean()


def w_norm(ws: Tensor, w_avg: Tensor | None = None) -> Tensor:
    """The paper's regulariser as published (equation 5): batch mean of the Frobenius norm of its argument."""
    away: Tensor = torch.linalg.vector_norm((ws if w_avg is None else ws - w_avg).float().flatten(1), dim=1)
    return away.mean()


class Objective(nn.Module):
    """The weighted sum of the terms whose weight is not zero. Its networks are frozen.

    Whose eyes judge is in ``config``; networks that are not bundled come loaded, ``identity`` from faces
    ``[b 3 112 112]`` and ``similarity`` from pictures, both to ``[b d]``. Raises ConfigError when every weight is zero,
    and when identity and similarity both have one.
    """

    def __init__(self, config: LossConfig, identity: nn.Module | None = None, similarity: nn.Module | None = None):
        super().__init__()
        if not any(getattr(config, name) for name in TERMS):
            raise ConfigError("every loss has weight 0: give at least one of them a weight")
        if config.identity and config.similarity:
            raise ConfigError("identity and similarity exclude each other: give one of the two the weight 0")
        self.config = config
        perceptual = config.lpips or config.lpips_crop or config.detail
        self.lpips = LPIPS(config.lpips_net) if perceptual else None
        self.identity = Identity(config.identity_network, identity) if config.identity else None
        self.similarity = Similarity(config.similarity_network, similarity) if config.similarity else None

    @torch.no_grad()
    def look_at(self, images: Tensor, codes: Tensor | None = None, sources: Tensor | None = None) -> Target:
        """Compute what the judges see in targets ``[b 3 256 256]``, once.

        ``sources [b 3 256 256]``, given where they are photographs too, are what a reconstruction's identity (or
        similarity) is to improve on. Raises ValueError for other shapes.
        """
        for pictures in (images, sources):
            if pictures is not None and pictures.shape[1:] != (3, COMPARE_SIZE, COMPARE_SIZE):
                raise ValueError(
                    f"judges look at pictures [b 3 {COMPARE_SIZE} {COMPARE_SIZE}], got {list(pictures.shape)}"
                )
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

    def forward(self, made: Reconstruction) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its unweighted terms by name, detached, summed in the same order always.

        ``improvement`` is told beside them where the sources are known: by how much the reconstruction is nearer to the
        target, as a cosine, than the source is. It is no loss.
        """
        terms = {name: term(self, made) for name, term in TERMS.items() if getattr(self.config, name)}
        total = torch.stack([getattr(self.config, name) * value for name, value in terms.items()]).sum()
        told = {name: value.detach() for name, value in terms.items()}
        if made.target.before is not None:
            told["improvement"] = 1 - told["identity" if self.identity else "similarity"] - made.target.before.mean()
        return total, told

    def perceptual(self, images: Tensor, target: list[Tensor] | None) -> Tensor:
        """Mean LPIPS of pictures and of the features of others."""
        if self.lpips is None or target is None:
            raise ValueError("this target was looked at without LPIPS")
        return self.lpips.distance(self.lpips.features(images), target).mean()

    def cosine(self, images: Tensor, target: Target) -> Tensor:
        """How alike ``[b]`` the one of identity and similarity which has a weight finds pictures and target."""
        if self.identity and target.identity is not None:
            return self.identity.similarity(self.identity.features(images), target.identity)
        if self.similarity and target.similarity is not None:
            return self.similarity.similarity(self.similarity.features(images), target.similarity)
        raise ValueError("this target was looked at without identity or similarity")


TERMS: dict[str, Callable[[Objective, Reconstruction], Tensor]] = {
    "l2": lambda judges, made: l2(made),
    "lpips": lambda judges, made: judges.perceptual(made.images, made.target.lpips),
    "identity": lambda judges, made: 1 - judges.cosine(made.images, made.target).mean(),
    "w_norm": lambda judges, made: w_norm(made.away),
    "l2_crop": lambda judges, made: l2_crop(made),
    "lpips_crop": lambda judges, made: judges.perceptual(face_window(made.images), made.target.lpips_crop),
    "similarity": lambda judges, made: 1 - judges.cosine(made.images, made.target).mean(),
    "code_norm": lambda judges, made: code_norm(made),
    "code_regression": lambda judges, made: code_regression(made),
}
"""The terms of every picture, in the order in which they are summed; a term's name is its weight's in LossConfig."""


def detail(drawn: Tensor, full: Tensor, objective: Objective, rng: torch.Generator) -> Tensor:
    """LPIPS of one 256-pixel window of full-size pictures: what pooling to 256 pixels hides."""
    if objective.lpips is None or full.shape[-1] < COMPARE_SIZE:
        return drawn.new_zeros(())
    top, left = (int(torch.randint(full.shape[-1] - COMPARE_SIZE + 1, (), generator=rng)) for _ in range(2))
    window = (..., slice(top, top + COMPARE_SIZE), slice(left, left + COMPARE_SIZE))
    return cast(Tensor, objective.lpips(drawn[window], full[window])).mean()
