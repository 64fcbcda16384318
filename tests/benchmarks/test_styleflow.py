"""The benchmark of a conditional flow: its solver returns, and a small flow learns what depends on a score."""

from collections.abc import Iterator

import pytest
import torch

import styleflow


def pairs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents ``[n 2]`` and scores ``[n 1]``: the first axis is mostly the score, the second is independent of it."""
    rng = torch.Generator().manual_seed(seed)
    scores = torch.randn(count, 1, generator=rng)
    noise = torch.randn(count, 2, generator=rng)
    return torch.cat([0.9 * scores + 0.45 * noise[:, :1], noise[:, 1:]], 1), scores


def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    seed = 10
    while True:
        seed += 1
        yield pairs(256, seed)


@pytest.mark.usefixtures("one_thread")
def test_a_flow_moves_latents_along_what_depends_on_the_score_and_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(styleflow, "WIDTH", 32)
    flow = styleflow.fitted_flow(batches(), pairs(100, 1), 400, "flow")
    x, scores = pairs(200, 2)
    noise = styleflow.carried(flow, x, scores, 1, 0)
    again = styleflow.carried(flow, noise, scores, 0, 1)
    moved = styleflow.carried(flow, noise, scores + 1, 0, 1)
    assert float((again - x).abs().max()) < 1e-2
    change = (moved - x).mean(0)
    assert abs(float(change[0]) - 0.9) < 0.15 and abs(float(change[1])) < 0.15


@pytest.mark.usefixtures("one_thread")
def test_the_loss_of_an_untrained_velocity_is_the_variance_that_is_left() -> None:
    velocity = styleflow.Velocity(8, 3)
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 8, generator=rng)
    loss = float(styleflow.matching_loss(velocity, x, torch.zeros(4000, 3), rng).detach())
    assert abs(loss - torch.pi / 2) < 0.05  # the integral of 1 / (t^2 + (1 - t)^2)
