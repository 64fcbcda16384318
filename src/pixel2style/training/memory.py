"""Training in less memory with the same numbers: what is kept for the backward pass, and how long gradients live.

A paper-size encoder has 209 million weights. Float32 training with Ranger keeps each weight, its gradient, two moments
and lookahead's slow copy, and mixed precision a 16-bit copy on top: 4.6 GB before the first feature map. Not all of it
is needed at the same time:

- ``recompute`` (``models.backbones``): maps inside a unit are computed again from its input (Chen et al., arXiv
  1604.06174);
- ``recast``: 16-bit copies of weights are made again from the weights;
- ``StepInBackward``: gradients are freed as soon as their weight has been updated (Lv et al., arXiv 2306.09782).
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn


def recast() -> contextlib.AbstractContextManager[None]:
    """Within it, 16-bit copies of convolution weights are made again in the backward pass instead of being kept.

    Use it with ``torch.autocast(..., cache_enabled=False)``: autocast's own cache would keep the copies. Parameters
    must not change between the two passes.
    """

    def pack(x: Tensor) -> Tensor | tuple[Tensor, torch.dtype]:
        parameter = _origin(x)
        return x if parameter is None else (parameter, x.dtype)

    def unpack(kept: Tensor | tuple[Tensor, torch.dtype]) -> Tensor:
        return kept if isinstance(kept, Tensor) else kept[0].detach().to(kept[1])

    return cast(contextlib.AbstractContextManager[None], torch.autograd.graph.saved_tensors_hooks(pack, unpack))


def _origin(x: Tensor) -> Tensor | None:
    """The parameter that ``x`` is a copy of in another precision, if it is one."""
    node = x.grad_fn
    if node is None or node.name() != "ToCopyBackward0":
        return None
    variable = getattr(node.next_functions[0][0], "variable", None)
    return variable if isinstance(variable, Tensor) and variable.shape == x.shape else None


class StepInBackward:
    """An optimiser that updates each weight as soon as its gradient is computed, and then frees the gradient.

    ``make`` gives the optimiser of one parameter, which must treat every parameter independently (Adam, Ranger); then
    the result equals that of a step after the backward pass to the bit. Clipping by the total norm and accumulation are
    impossible, since the gradients never exist together. A weight whose gradient is not finite is not updated.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        make: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    ):
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.optimizers = [make([parameter]) for parameter in self.parameters]
        self._squares = 0.0
        for index, parameter in enumerate(self.parameters):
            hook = functools.partial(self._update, index)
            parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all parameters, for learning-rate schedules."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _update(self, index: int, parameter: Tensor) -> None:
        gradient = parameter.grad
        assert gradient is not None
        square = float(gradient.float().square().sum())
        self._squares += square
        if math.isfinite(square):
            self.optimizers[index].step()
        parameter.grad = None

    def skip(self) -> None:
        """Record a backward pass that was not run, since its loss is not finite."""
        self._squares = math.inf

    def gradient_norm(self) -> Tensor:
        """The gradient norm since the last call; not finite where a weight was not updated."""
        norm, self._squares = math.sqrt(self._squares), 0.0
        return torch.tensor(norm)

    def step(self) -> None:
        """Nothing: the weights have been updated."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing: the gradients have been freed."""

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` takes, in the order of the parameters."""
        return {"rules": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Continue from a ``state_dict`` of the same parameters."""
        for optimizer, state in zip(self.optimizers, content["rules"], strict=True):
            optimizer.load_state_dict(state)
