"""Maps that are moved and blurred: both layouts give the same."""

import pytest
import torch
from torch import Tensor

from pixel2style import ops
from pixel2style.editing.warp import blurred, moved
from tests.support.golden_rule import arr

CHANNELS, SIDE = 24, 16


def in_rows(maps: Tensor) -> Tensor:
    return maps.contiguous(memory_format=torch.channels_last)


def test_a_move_by_whole_pixels_takes_their_numbers_and_at_the_border_its_own() -> None:
    maps, flow = in_rows(arr("map", 1, CHANNELS, SIDE, SIDE)), torch.zeros(1, 2, SIDE, SIDE)
    flow[:, 0], flow[:, 1] = 3, -2
    found = moved(maps, flow)
    assert torch.allclose(found[..., :-3, 2:], maps[..., 3:, :-2])
    assert torch.equal(found[..., -4:, 5], maps[..., -1:, 3].expand(-1, -1, 4))


def test_both_layouts_are_moved_alike_and_half_pixels_are_means() -> None:
    maps, flow = arr("map", 3, CHANNELS, SIDE, SIDE), 4 * arr("flow", 3, 2, SIDE, SIDE)
    assert torch.allclose(moved(in_rows(maps), flow), moved(maps, flow), atol=1e-5)
    half = torch.zeros(3, 2, SIDE, SIDE)
    half[:, 1] = 0.5
    between = (maps[..., :-1] + maps[..., 1:]) / 2
    assert torch.allclose(moved(in_rows(maps), half)[..., :-1], between, atol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_one_map_serves_for_many_flows_and_what_stays_is_equal_to_the_bit(layout: torch.memory_format) -> None:
    maps, flow = arr("map", 1, CHANNELS, SIDE, SIDE).contiguous(memory_format=layout), arr("flow", 2, 2, SIDE, SIDE)
    flow[1] = 0
    found = moved(maps, flow)
    assert torch.equal(found[1:], maps) and torch.allclose(found[:1], moved(maps, flow[:1]), atol=1e-6)


def test_both_layouts_pass_the_same_gradients() -> None:
    flow = arr("flow", 2, 2, SIDE, SIDE)
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        maps = arr("map", 2, CHANNELS, SIDE, SIDE).contiguous(memory_format=layout).requires_grad_()
        along = flow.clone().requires_grad_()
        moved(blurred(maps, 1.0), along).square().sum().backward()
        assert maps.grad is not None and along.grad is not None
        gradients.append((maps.grad, along.grad))
    (first, of_first), (second, of_second) = gradients
    assert torch.allclose(first, second, atol=1e-4) and torch.allclose(of_first, of_second, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("deviation", [0.25, 1.0, 4.0])
def test_rows_are_blurred_as_pictures_are(deviation: float) -> None:
    maps = arr("map", 2, CHANNELS, SIDE, SIDE)
    assert torch.allclose(blurred(in_rows(maps), deviation), ops.blurred(maps, deviation), atol=1e-6)
    assert torch.equal(blurred(maps, deviation), ops.blurred(maps, deviation))
