"""Refinement of an inversion within a budget: from one forward pass towards the photograph itself.

The steps, each started where the one before ended: the encoder, a Newton step on its rows, the detail encoder
(``session.py`` does these three), then L-BFGS on the residuals of the generator's maps, as long as the budget lasts.
The best picture so far is kept, so more time never gives a worse one.

Axes: ``b`` batch.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from numbers import Real

import torch
from torch import Tensor

from .. import runtime
from ..errors import ConfigError
from ..metrics.losses import Objective
from ..models.inversion import Inversion
from ..models.psp import PSP
from ..ops import pooled
from .optimize import Progress, closeness, maps

MOST_STEPS = 500
"""Steps after which a picture does not change visibly any more."""
MAX_SECONDS = 86_400.0
MAX_LPIPS = 2


@dataclass(frozen=True)
class Goal:
    """When a refinement ends: after ``seconds`` for each photograph, or at a distance ``lpips`` (AlexNet, 256 pixels).

    Raises ConfigError for numbers that are none of these.
    """

    seconds: float = math.inf
    lpips: float = 0.0
    steps: int = MOST_STEPS

    def __post_init__(self) -> None:
        if not _is_number(self.seconds) or not (0 < self.seconds <= MAX_SECONDS or self.seconds == math.inf):
            raise ConfigError(
                f"--budget is a number of seconds above 0, up to {MAX_SECONDS:.0f}, not {self.seconds!r}: try 10"
            )
        if not _is_number(self.lpips) or not 0 <= self.lpips <= MAX_LPIPS:
            raise ConfigError(f"--target is an LPIPS distance from 0 to {MAX_LPIPS}, not {self.lpips!r}: try .01")


def _is_number(given: object) -> bool:
    return isinstance(given, Real)


@dataclass(frozen=True)
class Fidelity:
    """How close a drawn picture is to its photograph, at 256 pixels: L2 and LPIPS, and identity by MobileFaceNet.

    ``identity`` is None where pictures are not faces.
    """

    l2: float
    lpips: float
    identity: float | None = None


Watch = Callable[[Progress], None]
Descent = Callable[[PSP, Tensor, Inversion, Objective], Iterator[Progress]]


def objective_of(faces: bool) -> Objective:
    """The loss of a refinement. ``faces``: whether pictures are faces, so that identity can be compared."""
    return Objective(closeness.LOSS if faces else replace(closeness.LOSS, identity=0.0))


@torch.no_grad()
def fidelity_of(drawn: Tensor, images: Tensor, objective: Objective) -> Fidelity:
    """How close one drawn picture is to its photograph, ``[3 h w]`` each."""
    device = next(iter(objective.buffers())).device
    made, wanted = (pooled(image[None].to(device).float().clamp(-1, 1)) for image in (drawn, images))
    target = objective.target_of(wanted)
    identity = float(objective.cosine(made, target)) if objective.identity else None
    lpips = float(objective.perceptual(made, target.lpips))
    return Fidelity(float((made - wanted).square().mean()), lpips, identity)


def require_maps(model: PSP) -> None:
    """Raise ConfigError for a model whose generator has no maps that residuals can be added to."""
    if not set(maps.SIDES) & set(model.generator.map_channels()):
        raise ConfigError("this model's generator has no maps to refine: use --refine, which changes its rows")


def refine(
    model: PSP,
    images: Tensor,
    inversion: Inversion,
    goal: Goal,
    objective: Objective,
    *,
    method: Descent = maps.descend,
    begun: float | None = None,
    watch: Watch | None = None,
) -> Progress:
    """The best inversion of ``images [b 3 h w]`` (RGB, [-1, 1]) that is found within ``goal``, from ``inversion`` on.

    ``method`` is ``maps.descend``, which changes features, or ``weights.tune``, which changes a copy of the generator.
    ``begun`` is when the budget began (``time.monotonic``; default: now). No step begins that would exceed it, judged
    by the slowest one so far. ``watch`` gets the state before the first step and after each. On Linux the process keeps
    freed memory from then on: steps take 1.6 times as long without.
    """
    begun = time.monotonic() if begun is None else begun
    runtime.keep_freed_memory()
    slowest, last = 0.0, time.monotonic()
    for progress in method(model, images, inversion, objective):
        now = time.monotonic()
        slowest, last = max(slowest, now - last), now
        if watch:
            watch(progress)
        late = now + slowest - begun > goal.seconds * len(images)
        if late or progress.step >= goal.steps or bool((progress.values.lpips <= goal.lpips).all()):
            return progress
    raise AssertionError("descent has no end of its own")
