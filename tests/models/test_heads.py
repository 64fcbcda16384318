"""Which level each row comes from, and that rows are independent."""

import pytest
import torch
from torch import nn

from pixel2style.models.heads import Pyramid, SharedHead, StyleHead, rows_of_levels
from tests.support.golden_rule import arr

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("size", "levels"),
    [
        (4, (2, 0, 0)),
        (8, (3, 1, 0)),
        (16, (3, 3, 0)),
        (32, (3, 4, 1)),
        (64, (3, 4, 3)),
        (128, (3, 4, 5)),
        (256, (3, 4, 7)),
        (512, (3, 4, 9)),
        (1024, (3, 4, 11)),
    ],
)
def test_coarse_and_middle_rows_stay_and_fine_ones_grow_with_the_picture(size, levels):
    rows = 2 * (size.bit_length() - 1) - 2  # two for every doubling from 4 pixels, two for 4 pixels
    assert rows_of_levels(rows) == levels


def test_mobilestylegans_sixteen_rows_fall_into_the_same_levels():
    assert rows_of_levels(16) == (3, 4, 9)


@pytest.mark.parametrize("side", [0, 1, 3, 12, 24])
def test_a_map_that_cannot_be_halved_to_one_pixel_is_refused(side):
    with pytest.raises(ValueError, match="power of two"):
        StyleHead(4, side, 8)
    with pytest.raises(ValueError, match="power of two"):
        SharedHead(4, side, 2, 8, 8, 8)


@pytest.mark.parametrize(("side", "convolutions"), [(2, 1), (16, 4), (64, 6)])
def test_a_head_halves_its_map_to_one_pixel(side, convolutions):
    head = StyleHead(4, side, 8)
    assert sum(isinstance(layer, nn.Conv2d) for layer in head.convs) == convolutions
    assert head.convs(arr("map", 2, 4, side, side)).shape == (2, 8, 1, 1)
    assert head(arr("map", 2, 4, side, side)).shape == (2, 8)


def test_a_row_depends_on_positions():
    head = StyleHead(4, 16, 8)
    level = arr("map", 1, 4, 16, 16)
    assert not torch.allclose(head(level), head(level.flip(3)), atol=1e-4)


def test_upsampling_aligns_corners():
    pyramid = Pyramid((2, 2, 2), 2)
    for layer in (pyramid.middle, pyramid.fine):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    coarse = arr("coarse", 1, 2, 4, 4)
    fine, middle, same = pyramid(torch.zeros(1, 2, 16, 16), torch.zeros(1, 2, 8, 8), coarse)
    assert torch.equal(same, coarse)
    ramp = torch.linspace(0, 3, 8)  # where the middle's pixels lie on the coarse map when corners coincide
    left = ramp.floor().clamp(max=2).long()
    across = torch.lerp(coarse[..., left], coarse[..., left + 1], ramp - left)
    expected = torch.lerp(across[..., left, :], across[..., left + 1, :], (ramp - left)[:, None])
    assert torch.allclose(middle, expected, atol=1e-6)
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert torch.allclose(fine[0, :, *corner], coarse[0, :, *corner], atol=1e-6)


def test_a_coarse_map_of_another_width_is_projected():
    assert isinstance(Pyramid((2, 2, 4), 4).top, nn.Identity)
    projected = Pyramid((2, 3, 5), 4)(torch.zeros(1, 2, 8, 8), torch.zeros(1, 3, 4, 4), torch.zeros(1, 5, 2, 2))
    assert [tuple(level.shape) for level in projected] == [(1, 4, 8, 8), (1, 4, 4, 4), (1, 4, 2, 2)]


def test_detail_flows_from_coarse_to_fine_and_never_back():
    pyramid = Pyramid((2, 2, 2), 2)
    maps = [arr(name, 1, 2, side, side) for name, side in (("fine", 16), ("middle", 8), ("coarse", 4))]
    before = pyramid(*maps)
    for changed in range(3):
        after = pyramid(*(level + (i == changed) for i, level in enumerate(maps)))
        differs = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert differs == [i <= changed for i in range(3)]


def test_a_shared_head_starts_near_zero():
    torch.manual_seed(0)
    head = SharedHead(128, 16, 5, 512, 384, 256)
    rows = head(arr("map", 4, 128, 16, 16))
    assert rows.shape == (4, 5, 512)
    assert 0 < rows.square().mean().sqrt() < 0.2


def test_a_shared_heads_rows_own_their_last_layers():
    head = SharedHead(4, 8, 3, 16, 8, 6)
    level = arr("map", 2, 4, 8, 8)
    before = head(level)
    with torch.no_grad():
        head.out[1] += 1
        head.hidden.weight[12:] *= 2  # the third row's hidden numbers
    changed = (head(level) - before).abs().amax((0, 2)) > 0
    assert changed.tolist() == [False, True, True]
