"""Muon: steps for matrices whose singular values are all about equal."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Orthogonal steps for the weights of hidden convolutions (Jordan 2024), as long as Adam's (arXiv 2502.16982)."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Five Newton-Schulz iterations of the momentum of each weight, as a matrix ``[o n]``."""
        for group in self.param_groups:
            for weight in (weight for weight in group["params"] if weight.grad is not None):
                state = self.state[weight]
                buffer = state.setdefault("buffer", torch.zeros_like(weight))
                buffer.lerp_(weight.grad, 1 - group["momentum"])
                x = weight.grad.lerp(buffer, group["momentum"]).flatten(1).bfloat16()
                tall = x.shape[0] > x.shape[1]
                x = (x.T if tall else x) / (x.norm() + 1e-7)
                for _ in range(5):
                    a = x @ x.T
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
                x = (x.T if tall else x).float()
                weight.add_(x.reshape(weight.shape), alpha=-group["lr"] * 0.2 * math.sqrt(max(x.shape)))
