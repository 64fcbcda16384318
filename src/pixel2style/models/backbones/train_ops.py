"""Layers of trunks with faster backward passes on a CPU; values are those of the plain layers up to rounding.

PyTorch's backward kernels of PReLU in bfloat16 and of depthwise convolutions at stride 2 are not vectorised and took
half of a training step of a compact encoder (TRAINING.md).

Axes: ``b`` batch, ``c`` channels, ``h w`` sides of a map.
"""

from typing import Any

import torch
from torch import Tensor, nn


def is_usable(x: Tensor) -> bool:
    """Whether a map on a CPU will be differentiated, and nothing is being traced."""
    return x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling()


class PReLU(nn.PReLU):
    """``[b c h w]`` to the same: slopes of channels below zero."""

    def forward(self, x: Tensor) -> Tensor:
        """``[b c h w]`` to the same."""
        if not is_usable(x) or x.ndim != 4:
            return super().forward(x)
        result: Tensor = _PReLU.apply(x, self.weight.to(x.dtype)[:, None, None])
        return result


class _PReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return torch.addcmul(x.clamp(min=0), x.clamp(max=0), slope)  # torch.where is not vectorised in bfloat16

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        below = grad * x.clamp(max=0)
        slopes = below.sum((0, 2, 3), dtype=torch.promote_types(slope.dtype, torch.float32)).to(slope.dtype)
        above: Tensor = torch.ops.aten.threshold_backward(grad, x, 0)
        return torch.addcmul(above, grad - above, slope), slopes[:, None, None]
