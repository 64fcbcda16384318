"""Gradient checkpointing of modules with batch normalisation (Chen et al., arXiv 1604.06174)."""

import contextlib
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@contextlib.contextmanager
def _keeping_buffers(module: nn.Module) -> Iterator[None]:
    """Let ``module`` work on copies of its buffers (running statistics), which are discarded at the end."""
    originals = [(layer, dict(layer.named_buffers(recurse=False))) for layer in module.modules()]
    for layer, buffers in originals:
        for name, buffer in buffers.items():
            setattr(layer, name, buffer.clone())
    try:
        yield
    finally:
        for layer, buffers in originals:
            for name, buffer in buffers.items():
                setattr(layer, name, buffer)


def recompute(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)`` that keeps only ``x`` and runs again in the backward pass.

    Gradients and buffers equal those of ``module(x)``: only the first pass updates running statistics. The module must
    not use random numbers.
    """
    if not torch.is_grad_enabled():
        return cast(Tensor, module(x))
    result = checkpoint(
        module,
        x,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (contextlib.nullcontext(), _keeping_buffers(module)),
    )
    return cast(Tensor, result)
