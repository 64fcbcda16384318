"""Training in less memory, with the same numbers: what is kept for the backward pass, and how long gradients live.

A paper-size encoder has 209 million weights. Of each, float32 training with Ranger keeps the weight, its gradient, two
moments and lookahead's slow copy, and mixed precision a 16-bit copy on top: 4.6 GB before the first feature map. Three
things need not be kept at the same time:

- ``recompute``: maps inside a unit, which its input gives again (Chen et al., arXiv 1604.06174);
- ``recast``: 16-bit copies of weights, which the weights give again;
- ``StepInBackward``: gradients, once their weight has taken its step (Lv et al., arXiv 2306.09782), and, on disk
  instead of in memory, state that is read every few steps only.

This module does not know what is trained, nor by which rule.
"""

import contextlib
import functools
import math
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn


def _origin(x: Tensor) -> Tensor | None:
    """The parameter that ``x`` is a copy of in another precision, if it is one."""
    node = x.grad_fn
    if node is None or node.name() != "ToCopyBackward0":
        return None
    variable = getattr(node.next_functions[0][0], "variable", None)
    return variable if isinstance(variable, Tensor) and variable.shape == x.shape else None


def recast() -> contextlib.AbstractContextManager[None]:
    """Within it, 16-bit copies of convolutions' weights are made again in the backward pass instead of being kept.

    Enter ``torch.autocast(..., cache_enabled=False)`` with it: autocast's own cache would keep them all the same.
    Parameters must not change between the two passes.
    """

    def pack(x: Tensor) -> Tensor | tuple[Tensor, torch.dtype]:
        parameter = _origin(x)
        return x if parameter is None else (parameter, x.dtype)

    def unpack(kept: Tensor | tuple[Tensor, torch.dtype]) -> Tensor:
        return kept if isinstance(kept, Tensor) else kept[0].detach().to(kept[1])

    return cast(contextlib.AbstractContextManager[None], torch.autograd.graph.saved_tensors_hooks(pack, unpack))


class Shelf:
    """Tensors in a temporary file of ``folder`` instead of in memory; the file goes when the process does."""

    def __init__(self, folder: Path | str | None = None):
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it is to live as long as its tensors
        weakref.finalize(self, self._file.close)
        self._size = 0
        self._maps: list[mmap.mmap] = []

    def put(self, x: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """A tensor equal to ``x`` that lies in the file, and what makes memory forget the pages it has read of it.

        ``x`` is dense and lies on the CPU.
        """
        start, size = self._size, x.numel() * x.element_size()
        self._size += -(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        if hasattr(os, "posix_fallocate"):  # a disk that is full says so here, and not by a signal later
            os.posix_fallocate(self._file.fileno(), start, self._size - start)
        else:
            self._file.truncate(self._size)
        pages = mmap.mmap(self._file.fileno(), size, offset=start)
        self._maps.append(pages)
        shelved = torch.frombuffer(pages, dtype=x.dtype).as_strided(x.shape, x.stride()).copy_(x)

        def forget() -> None:
            if hasattr(mmap, "MADV_DONTNEED"):
                pages.madvise(mmap.MADV_DONTNEED)

        forget()
        return shelved, forget


class StepInBackward:
    """An optimiser whose weights take their step as soon as their gradient is there, which is then freed.

    ``make`` gives the rule for one parameter, which must be one that treats every parameter by itself (Adam, Ranger);
    then the result is, to the bit, that of a step after the backward pass. There is no clipping by the joint length
    and no accumulation, since the gradients never exist together. A gradient that is not finite is left out; ``taken``
    says so.

    ``shelved`` names state that lies in ``shelf`` between steps: Ranger's "slow_buffer" is read every sixth step.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        make: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
        shelf: Shelf | None = None,
        shelved: Sequence[str] = ("slow_buffer",),
    ):
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.rules = [make([parameter]) for parameter in self.parameters]
        self._squares = 0.0
        self._shelf, self._shelved = shelf, tuple(shelved)
        self._forget: dict[tuple[int, str], Callable[[], None]] = {}
        for index, parameter in enumerate(self.parameters):
            hook = functools.partial(self._update, index)
            parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Every parameter's group, for learning-rate schedules."""
        return [group for rule in self.rules for group in rule.param_groups]

    def _update(self, index: int, parameter: Tensor) -> None:
        gradient = parameter.grad
        assert gradient is not None
        square = float(gradient.float().square().sum())
        self._squares += square
        if math.isfinite(square):
            self.rules[index].step()
            self._put_away(index)
        parameter.grad = None

    def refuse(self) -> None:
        """Say of a backward pass that is better left out that its gradient is not finite."""
        self._squares = math.inf

    def taken(self) -> Tensor:
        """The length of the gradient since the last call: not finite where a part of it was left out."""
        length, self._squares = math.sqrt(self._squares), 0.0
        return torch.tensor(length)

    def _put_away(self, index: int) -> None:
        if self._shelf is None:
            return
        state = self.rules[index].state[self.parameters[index]]
        for name in self._shelved:
            if (index, name) in self._forget:
                self._forget[index, name]()
            elif name in state:
                state[name], self._forget[index, name] = self._shelf.put(state[name])

    def step(self) -> None:
        """Nothing: the steps have been taken."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing: the gradients are gone."""

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` takes, in the order of the parameters."""
        return {"rules": [rule.state_dict() for rule in self.rules]}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Go on from a ``state_dict`` of the same parameters."""
        for index, (rule, state) in enumerate(zip(self.rules, content["rules"], strict=True)):
            rule.load_state_dict(state)
            for name in self._shelved:
                self._forget.pop((index, name), None)
            self._put_away(index)
