"""Pivotal tuning: change the generator a little, so that rows alone draw one photograph (PTI, arXiv 2106.05744).

Rows stay where they can be edited, and what they cannot say goes into the weights of a copy of the generator. Slower
than features, which fit closer in the same time; edits of rows need no features to be moved along.

Axes: ``b`` batch, ``n`` numbers of all tuned weights.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ... import runtime
from ...generators.base import Generator, Residuals
from ...metrics.losses import Objective
from ...models.inversion import Inversion
from ...models.psp import PSP
from . import Progress
from .closeness import Closeness, Values
from .lbfgs import minimise

UNIT = 0.1
"""Unit of the variables, as a share of the root mean square of each tensor of weights."""


def tune(
    model: PSP, images: Tensor, inversion: Inversion, objective: Objective, bf16: bool | None = None
) -> Iterator[Progress]:
    """Improve a copy of the generator, so that an inversion draws ``images [b 3 h w]`` (RGB, [-1, 1]).

    All pictures share the copy, ``Progress.generator``; the model's own does not change. Yields before the first step
    and after each one, without an end. ``bf16`` as of ``newton.optimize``. Raises ValueError for an ``objective``
    without LPIPS.
    """
    problem = _Problem(model, images, inversion, objective, bf16)
    for best in minimise(problem.evaluate, problem.start()):
        yield Progress(best.step, inversion, best.values, problem.generator(best.x))


class _Problem:
    """The loss of changes of weights given as ``x [1 n]``, in units of each tensor's size."""

    def __init__(self, model: PSP, images: Tensor, inversion: Inversion, objective: Objective, bf16: bool | None):
        self.model, self.inversion = model, inversion
        device = model.w_avg.device
        enabled = runtime.fast_in_bf16(device) if bf16 is None else bf16
        self.precision = torch.autocast(device.type, torch.bfloat16, enabled=enabled)
        with torch.inference_mode(False):
            self.closeness = Closeness(images.to(device), objective)
        self.own = {name: weight.detach() for name, weight in model.generator.named_parameters()}
        self.units = {name: UNIT * weight.square().mean().sqrt().clamp_min(1e-6) for name, weight in self.own.items()}
        self.names = self._used()

    def _used(self) -> list[str]:
        """The weights that the picture depends on: those of the mapping network, among others, it does not."""
        with torch.inference_mode(False), torch.enable_grad():
            weights = {name: weight.clone().requires_grad_() for name, weight in self.own.items()}
            drawn = self._draw(weights)
            found = torch.autograd.grad(drawn.sum(), list(weights.values()), allow_unused=True)
        return [name for name, gradient in zip(weights, found, strict=True) if gradient is not None]

    def start(self) -> Tensor:
        """No change: ``[1 n]``."""
        return self.model.w_avg.new_zeros(1, sum(self.own[name].numel() for name in self.names))

    def weights(self, x: Tensor) -> dict[str, Tensor]:
        """All weights of the generator with the changes ``x [1 n]``."""
        parts = torch.split(x[0], [self.own[name].numel() for name in self.names])
        changed = {
            name: self.own[name] + part.view_as(self.own[name]) * self.units[name]
            for name, part in zip(self.names, parts, strict=True)
        }
        return self.own | changed

    def generator(self, x: Tensor) -> Generator:
        """A frozen copy of the generator with the changes ``x [1 n]``."""
        made = copy.deepcopy(self.model.generator)
        made.load_state_dict(self.weights(x), strict=False)  # buffers are the copy's own
        return made

    def evaluate(self, x: Tensor) -> tuple[Values, Tensor]:
        """The mean values over all pictures ``[1]``, and the gradient of the loss ``[1 n]``."""
        with torch.inference_mode(False), torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            values = self.closeness(self.model.framed(self._draw(self.weights(x))).float())
            (gradient,) = torch.autograd.grad(values.losses.mean(), x)
        return Values(*(value.detach().mean()[None] for value in values)), gradient

    def _draw(self, weights: dict[str, Tensor]) -> Tensor:
        generator, inversion = self.model.generator, self.inversion
        with self.precision:
            drawn: Tensor = functional_call(
                _Synthesis(generator), {f"generator.{name}": weight for name, weight in weights.items()},
                (inversion.ws, inversion.features),
            )  # fmt: skip
        return drawn


class _Synthesis(nn.Module):
    """A generator's ``synthesize`` as ``forward``, which is what ``functional_call`` calls."""

    def __init__(self, generator: Generator):
        super().__init__()
        self.generator = generator

    def forward(self, ws: Tensor, features: Residuals) -> Tensor:
        """Rows ``[b k d]`` to images."""
        return self.generator.synthesize(ws, residuals=features)
