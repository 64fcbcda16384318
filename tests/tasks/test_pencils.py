"""A sketch is paper with darker lines, drawn by a pen that was asked for or by a random one."""

import pytest
import torch
from torch import Tensor

from pixel2style import images
from pixel2style.errors import ConfigError
from pixel2style.tasks.pencils import Pen, by_hand, crooked, draw, sketch, thicker
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")
STYLES = ["pencil", "lines", "shaded"]


@pytest.fixture(scope="module")
def astronaut() -> Tensor:
    return images.to_tensor(images.load(ASTRONAUT).resize((256, 256)))


def dice(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("style", STYLES)
def test_a_sketch_is_one_channel_of_paper_with_darker_lines(astronaut, style):
    drawing = sketch(astronaut, style, dice(0))
    assert drawing.shape == (1, 256, 256)
    assert 0 <= drawing.min() < 0.4
    assert drawing.max() <= 1
    assert drawing.median() > 0.5  # more paper than lead


@pytest.mark.parametrize("style", STYLES)
def test_a_sketch_follows_from_its_dice_and_no_two_lines_are_alike(astronaut, style):
    drawings = [sketch(astronaut, style, dice(seed)) for seed in range(4)]
    assert torch.equal(sketch(astronaut, style, dice(2)), drawings[2])
    for first in range(4):
        for second in range(first):
            assert (drawings[first] - drawings[second]).abs().max() > 0.05


@pytest.mark.parametrize("style", STYLES)
def test_a_batch_is_drawn_as_each_of_its_pictures_is(astronaut, style):
    batch = torch.stack([astronaut, astronaut.flip(2)])
    drawn = sketch(batch, style, dice(5))
    assert drawn.shape == (2, 1, 256, 256)
    for picture, drawing in zip(batch, drawn, strict=True):
        assert torch.allclose(sketch(picture, style, dice(5)), drawing, atol=1e-5)


@pytest.mark.parametrize("style", ["pencil", "lines"])
def test_where_a_picture_is_even_a_sketch_is_paper(style):
    even = torch.full((3, 64, 64), -0.3)
    assert sketch(even, style, dice(0)).min() > 0.99


@pytest.mark.parametrize("bright", [0.2, 0.5, 0.9])
def test_an_edge_becomes_a_line_on_its_dark_side_in_shadow_as_in_light(bright):
    """A line says where a thing ends, not how dark it is: the dark side beyond the line is paper."""
    edge = torch.full((3, 256, 256), bright)
    edge[..., 128:] *= 0.5
    drawn = sketch(edge * 2 - 1, "lines", dice(1))[0, 128]
    assert 128 <= int(drawn.argmin()) <= 131
    assert drawn.min() < 0.7
    assert drawn[:126].min() > 0.99
    assert drawn[140:].min() > 0.99


def test_shade_is_darker_where_the_picture_is():
    light = torch.linspace(-1, 1, 64).expand(3, 64, 64)
    drawn = sketch(light, "shaded", dice(0))[0, 32]
    assert drawn[8] < drawn[32] < drawn[56]


def test_an_unknown_style_is_named(astronaut):
    with pytest.raises(ConfigError, match="charcoal"):
        sketch(astronaut, "charcoal", dice(0))
    with pytest.raises(ConfigError, match="charcoal"):
        Pen("charcoal")  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [0.1, 40, float("nan")])
def test_a_line_has_a_width_that_can_be_drawn(width):
    with pytest.raises(ConfigError, match="pixels"):
        Pen("lines", width)


@pytest.mark.parametrize("style", [*STYLES, "outline"])
def test_a_pen_draws_paper_with_darker_lines_and_a_wider_one_more_of_them(astronaut, style):
    thin, wide = draw(astronaut, Pen(style)), draw(astronaut, Pen(style, 4))
    assert thin.shape == (1, 256, 256)
    assert 0 <= thin.min() < 0.4
    assert thin.median() > 0.5
    assert wide.mean() < thin.mean() - 0.01


def test_a_larger_picture_gets_the_same_drawing(astronaut):
    large = torch.nn.functional.interpolate(astronaut[None], scale_factor=2, mode="bicubic")[0].clamp(-1, 1)
    pooled = torch.nn.functional.avg_pool2d(draw(large, Pen("lines", 2)), 2)
    assert (pooled - draw(astronaut, Pen("lines", 2))).abs().mean() < 0.06


def test_a_line_becomes_wider_by_what_is_asked_for():
    paper = torch.ones(1, 256, 256)
    paper[:, :, 128] = 0
    assert (thicker(paper, 4)[0, 128] == 0).sum() == 5
    assert torch.equal(thicker(paper, 0.3), paper)


def test_a_bent_picture_keeps_its_values_and_moves_a_little():
    ramp = torch.linspace(0, 1, 256).expand(1, 256, 256)
    bent = crooked(ramp, 2.0, dice(1))
    assert bent.min() >= 0 and bent.max() <= 1
    moved = (bent - ramp).abs().mean() * 256
    assert 0.5 < moved < 4


def test_another_hand_draws_on_the_same_paper_each_time_differently(astronaut):
    drawing = draw(astronaut, Pen("lines"))
    hands = [by_hand(drawing, dice(seed)) for seed in range(12)]
    assert torch.equal(hands[3], by_hand(drawing, dice(3)))
    assert all(hand.min() >= 0 and hand.max() <= 1 for hand in hands)
    assert sum(not torch.equal(hand, drawing) for hand in hands) >= 6
