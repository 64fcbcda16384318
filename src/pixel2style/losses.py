"""What an encoder is taught by: named, weighted terms of one reconstruction (pSp, section 3.2).

A term is a function of a ``Reconstruction``; ``Objective`` builds only the networks that its weights ask for and
computes what is known of the targets once, however often the encoder looks. Pictures are compared at 256 pixels.

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from .config import LossConfig
from .data import SIDE
from .errors import ConfigError
from .features import LPIPS, Identity


@dataclass(frozen=True)
class Target:
    """Pictures to be reconstructed, ``[b 3 256 256]``, and what the judges see in them.

    ``codes`` are the rows of the last ``len(codes)`` pictures, which were generated and so have known rows.
    """

    images: Tensor
    lpips: list[Tensor] | None
    identity: Tensor | None
    codes: Tensor | None


@dataclass(frozen=True)
class Reconstruction:
    """What the encoder made of a target: codes ``[b k d]`` in units of W's deviation, and the picture they draw."""

    target: Target
    codes: Tensor
    images: Tensor


def l2(made: Reconstruction) -> Tensor:
    """Mean squared difference of pixels (equation 2)."""
    return (made.images - made.target.images).square().mean()


def code_norm(made: Reconstruction) -> Tensor:
    """Mean squared code: how far rows are from the average (equation 5, squared and per number)."""
    return made.codes.square().mean()


def code_regression(made: Reconstruction) -> Tensor:
    """Mean squared difference from known rows; zero when none are known."""
    known = made.target.codes
    if known is None or len(known) == 0:
        return made.codes.new_zeros(())
    return (made.codes[-len(known) :] - known).square().mean()


def w_norm(ws: Tensor, w_avg: Tensor | None = None) -> Tensor:
    """The paper's regulariser as published (equation 5): batch mean of the Frobenius norm of its argument."""
    away: Tensor = torch.linalg.vector_norm((ws if w_avg is None else ws - w_avg).flatten(1), dim=1)
    return away.mean()


class Objective(nn.Module):
    """The weighted sum of the terms whose weight is not zero. Its networks are frozen.

    Raises ConfigError when every weight is zero.
    """

    def __init__(self, config: LossConfig):
        super().__init__()
        if not any((config.l2, config.lpips, config.identity, config.code_norm, config.code_regression)):
            raise ConfigError("every loss has weight 0: give at least one of them a weight")
        self.config = config
        self.lpips = LPIPS("alex") if config.lpips else None
        self.identity = Identity() if config.identity else None

    @torch.no_grad()
    def look_at(self, images: Tensor, codes: Tensor | None = None) -> Target:
        """Compute what the judges see in targets ``[b 3 256 256]``, once."""
        return Target(
            images,
            self.lpips.features(images) if self.lpips else None,
            self.identity.features(images) if self.identity else None,
            codes,
        )

    def forward(self, made: Reconstruction) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its unweighted terms by name, detached."""
        terms: dict[str, Tensor] = {}
        if self.config.l2:
            terms["l2"] = l2(made)
        if self.lpips and made.target.lpips is not None:
            terms["lpips"] = self.lpips.distance(self.lpips.features(made.images), made.target.lpips).mean()
        if self.identity and made.target.identity is not None:
            cosine = self.identity.similarity(self.identity.features(made.images), made.target.identity)
            terms["identity"] = 1 - cosine.mean()
        if self.config.code_norm:
            terms["code_norm"] = code_norm(made)
        if self.config.code_regression:
            terms["code_regression"] = code_regression(made)
        total = torch.stack([getattr(self.config, name) * value for name, value in terms.items()]).sum()
        return total, {name: value.detach() for name, value in terms.items()}


def detail(drawn: Tensor, full: Tensor, objective: Objective, rng: torch.Generator) -> Tensor:
    """LPIPS of one 256-pixel window of full-size pictures: what pooling to 256 pixels hides."""
    if objective.lpips is None or full.shape[-1] < SIDE:
        return drawn.new_zeros(())
    top, left = (int(torch.randint(full.shape[-1] - SIDE + 1, (), generator=rng)) for _ in range(2))
    window = (..., slice(top, top + SIDE), slice(left, left + SIDE))
    return cast(Tensor, objective.lpips(drawn[window], full[window])).mean()
