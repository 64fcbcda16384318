"""The forward and backward passes of one training step, for each network that can be trained.

``loop`` does what all runs have in common: learning rate, averaging over processes, the update, skipped steps, logs. A
``Step`` computes the loss and adds its gradients to the network that is trained.

Axes: ``n`` codes, ``k`` rows, ``d`` width of a row.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ..memory import StepInBackward

if TYPE_CHECKING:
    from ...models.inversion import Inversion
    from ...models.psp import PSP
    from ..state import State, TrainContext


@dataclass(frozen=True)
class Passes:
    """The loss and its terms by name, of each part of this process's share of a batch; all are detached.

    ``codes [n k d]`` are those of its photographs, for the bank from which generated pictures are mixed; None where the
    network does not change them.
    """

    losses: list[dict[str, Tensor]]
    codes: Tensor | None = None


class Step(Protocol):
    """What a network does with pictures: the passes of a step, without the update, and inversion."""

    def __call__(self, state: "State", context: "TrainContext") -> Passes:
        """Add the gradients of this process's share of step ``state.step``. Raises ImageError, before any pass."""

    def invert(self, model: "PSP", sources: Tensor, targets: Tensor) -> "tuple[Tensor, Inversion]":
        """What ``model`` finds for pictures as they are evaluated, and the sources ``[b c s s]`` that it got.

        ``sources [b c s s]`` and ``targets [b 3 256 256]`` are those of ``Pictures``, on the CPU; results are on the
        device.
        """


def backward(loss: Tensor, state: "State", context: "TrainContext") -> None:
    """The backward pass of a part; in a frugal run, where it updates weights, a loss that is not finite has none."""
    if isinstance(state.optimizer, StepInBackward) and not torch.isfinite(loss):
        state.optimizer.skip()
    else:
        context.accelerator.backward(loss)
