"""Feature maps that are computed twice instead of being kept for the backward pass (Chen et al., arXiv 1604.06174)."""

import contextlib
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@contextlib.contextmanager
def _unrecorded(module: nn.Module) -> Iterator[None]:
    """What passes through ``module`` leaves its buffers (running statistics) as they were: it works on copies."""
    buffers = [(layer, dict(layer.named_buffers(recurse=False))) for layer in module.modules()]
    for layer, found in buffers:
        for name, buffer in found.items():
            setattr(layer, name, buffer.clone())
    try:
        yield
    finally:
        for layer, found in buffers:
            for name, buffer in found.items():
                setattr(layer, name, buffer)


def recompute(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)`` that keeps ``x`` alone and runs again in the backward pass.

    Gradients and buffers are those of ``module(x)``: running statistics are updated by the first pass only. The module
    draws no random numbers.
    """
    if not torch.is_grad_enabled():
        return cast(Tensor, module(x))
    made = checkpoint(
        module,
        x,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (contextlib.nullcontext(), _unrecorded(module)),
    )
    return cast(Tensor, made)
