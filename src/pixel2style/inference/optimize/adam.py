"""Make rows fit one picture better than an encoder's single look does: descend on the rows themselves.

This is Image2StyleGAN's optimisation (arXiv 1904.03189, algorithm 1) with the losses of pSp. It needs no encoder, only
time: a hundred passes through the generator and back where an encoder needs none. Nothing here changes a weight.

Axes: ``b`` batch, ``h w`` sides of a picture, ``k`` rows, ``d`` width of a row.
"""

import contextlib
import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...config import LossConfig
from ...metrics.losses import Objective, Reconstruction
from ...models.psp import PSP
from ...ops import pooled

LOSS = LossConfig(l2=1.0, lpips=0.8, identity=0.0, code_norm=0.0, code_regression=0.0)
LR = 0.2
"""Step in units of W's deviation: the best of .1, .2 and .4 on the astronaut and on a generated face."""
_WARMUP, _COOLDOWN = 0.05, 0.25


def optimize_rows(
    model: PSP,
    images: Tensor,
    ws: Tensor | None = None,
    *,
    steps: int = 100,
    lr: float = LR,
    loss: LossConfig = LOSS,
    bf16: bool = False,
    shown: Callable[[Tensor], Tensor] | None = None,
    watch: Callable[[int, float], None] | None = None,
) -> Tensor:
    """Rows ``[b k d]`` that draw ``images [b 3 h w]`` (RGB, [-1, 1]), found by ``steps`` steps of Adam.

    They start from ``ws [b k d]``, an encoder's, or from the average. Pictures are compared at 256 pixels, and drawn at
    that size where the generator can. ``lr`` and the weight ``loss.code_norm``, which holds the rows near the average,
    count in the model's ``w_unit``. Where ``images`` show less than a whole picture, ``shown`` does the same to drawn
    ones, ``[b 3 256 256]``, before they are compared: makes them small, or hides a part (as PULSE, arXiv 2003.03808).
    ``watch`` is told each step's number and its mean loss. Every picture is optimised by itself, whatever else is in
    the batch, and nothing is random. Raises ValueError for shapes that do not fit.
    """
    generator = model.generator
    shape = (len(images), generator.rows, generator.width)
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"expected pictures [b 3 h w], got {list(images.shape)}")
    if ws is not None and ws.shape != shape:
        raise ValueError(f"expected ws {list(shape)}, got {list(ws.shape)}")
    device = model.w_avg.device
    precision = torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()

    def compared(pictures: Tensor) -> Tensor:
        if shown is None:
            return pictures
        with torch.autocast(device.type, enabled=False):  # what is known was made in float32
            return shown(pictures)

    with torch.inference_mode(False), torch.enable_grad():
        objective = Objective(loss).to(device)
        target = objective.target_of(pooled(images.to(device, torch.float32).clone()))
        start = model.w_avg.expand(shape) if ws is None else ws.to(device, torch.float32)
        codes = ((start - model.w_avg) / model.w_unit).detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([codes], lr)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = lr * pace(step / steps)
            with precision:
                away = codes * model.w_unit
                drawn = model.draw_to_compare(away + model.w_avg)
                total, _ = objective(Reconstruction(target, away, codes, compared(drawn)))
            (codes.grad,) = torch.autograd.grad(total * len(codes), [codes])
            optimizer.step()
            if watch:
                watch(step, float(total.detach()))
        return (codes * model.w_unit + model.w_avg).detach()


def pace(done: float) -> float:
    """The share of the learning rate when ``done`` of the steps are taken: a short ramp up, a cosine down at the end.

    The schedule of StyleGAN2's projector (arXiv 1912.04958, appendix D).
    """
    down = min(1.0, (1 - done) / _COOLDOWN)
    return min(1.0, (done + 0.01) / _WARMUP) * 0.5 * (1 - math.cos(math.pi * down))
