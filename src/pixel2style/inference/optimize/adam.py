"""Adam on the rows of pictures (Image2StyleGAN, arXiv 1904.03189, algorithm 1), with the losses of pSp.

It needs no encoder, but about a hundred passes through the generator and back.

Axes: ``b`` batch, ``h w`` sides of a picture, ``k`` rows, ``d`` width of a row.
"""

import contextlib
import math

import torch
from torch import Tensor

from ...config import LossConfig
from ...metrics.losses import Objective
from ...models.psp import PSP
from ...ops import pooled
from . import Callback, Degradation, loss_of

LOSS = LossConfig(l2=1.0, lpips=0.8, identity=0.0, code_norm=0.0, code_regression=0.0)
LR = 0.2
"""Step in units of W's standard deviation: the best of .1, .2 and .4 on the astronaut and on a generated face."""
_WARMUP, _COOLDOWN = 0.05, 0.25


def optimize(
    model: PSP,
    images: Tensor,
    ws: Tensor | None = None,
    steps: int = 100,
    *,
    degradation: Degradation | None = None,
    callback: Callback | None = None,
    objective: Objective | None = None,
    lr: float = LR,
    bf16: bool = False,
) -> Tensor:
    """Rows ``[b k d]`` that draw ``images [b 3 h w]``, by ``steps`` steps of Adam; see the contract in ``optimize``.

    They start from ``ws``, or from the average. Pictures do not influence each other; ``callback`` gets their mean
    loss. ``objective`` is the loss (default: ``LOSS``); ``lr`` and its ``code_norm`` are in units of the model's
    ``w_unit``. Raises ValueError for shapes that do not fit.
    """
    shape = (len(images), *model.w_avg.shape)
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"expected pictures [b 3 h w], got {list(images.shape)}")
    if ws is not None and ws.shape != shape:
        raise ValueError(f"expected ws {list(shape)}, got {list(ws.shape)}")
    device = model.w_avg.device
    precision = torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()
    with torch.inference_mode(False), torch.enable_grad():
        objective = (Objective(LOSS) if objective is None else objective).to(device)
        target = objective.target_of(pooled(images.to(device, torch.float32).clone()))
        start = model.w_avg.expand(shape) if ws is None else ws.to(device, torch.float32)
        codes = ((start - model.w_avg) / model.w_unit).detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([codes], lr)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = lr * schedule(step / steps)
            with precision:
                loss, _ = loss_of(codes, model, objective, target, degradation)
            (codes.grad,) = torch.autograd.grad(loss * len(codes), [codes])
            optimizer.step()
            if callback:
                callback(step, float(loss.detach()))
        return (codes * model.w_unit + model.w_avg).detach()


def schedule(done: float) -> float:
    """The factor of the learning rate when the share ``done`` of the steps is taken: a short ramp up, a cosine down.

    The schedule of StyleGAN2's projector (arXiv 1912.04958, appendix D).
    """
    down = min(1.0, (1 - done) / _COOLDOWN)
    return min(1.0, (done + 0.01) / _WARMUP) * 0.5 * (1 - math.cos(math.pi * down))
