"""A source is made from its target by the generator it is given, on the scale and in the range that it says."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pixel2style import images
from pixel2style.errors import ConfigError
from pixel2style.ops import blurred
from pixel2style.tasks.degrade import (
    bicubic_down,
    enlargement,
    hide,
    low_resolution,
    luma,
    mask,
    reduction,
)
from tests.support.golden_rule import figures, img, relative_error
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")
MASKS = ["box", "half", "strokes"]


@pytest.fixture(scope="module")
def astronaut() -> Tensor:
    return images.to_tensor(images.load(ASTRONAUT).resize((256, 256)))


def dice(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("factor", [2, 4, 8, 16, 32])
def test_reductions_equal_the_published_ones(factor):
    photo = (img("photo", 1, 3, 256, 256) + 1) / 2
    assert relative_error(bicubic_down(photo, factor)[0], figures("bicubic_down")[f"x{factor}"]) < 1e-4


@pytest.mark.parametrize("lower", [bicubic_down, low_resolution])
def test_factor_one_changes_no_pixel(lower: Callable[[Tensor, int], Tensor]):
    photo = img("photo", 2, 3, 20, 30)
    assert torch.equal(lower(photo, 1), photo)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_a_reduction_moves_nothing_sideways(factor):
    ramp = torch.arange(60, dtype=torch.float64).expand(1, 1, 60, 60)
    expected = (torch.arange(60 // factor, dtype=torch.float64) + 0.5) * factor - 0.5
    inside = slice(2, -2)
    assert torch.allclose(bicubic_down(ramp, factor)[0, 0, 0, inside], expected[inside])


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_fewer_pixels_move_nothing_sideways(factor):
    ramp = torch.linspace(-0.9, 0.9, 128, dtype=torch.float64).expand(3, 128, 128)
    inside = slice(5 * factor, -5 * factor)
    assert torch.allclose(low_resolution(ramp, factor)[..., inside], ramp[..., inside])


@pytest.mark.parametrize(("length", "factor"), [(1, 1), (2, 2), (32, 32), (12, 3)])
@pytest.mark.parametrize("matrix", [reduction, enlargement])
def test_brightness_is_kept_even_where_the_picture_is_smaller_than_the_kernel(matrix, length, factor):
    sums = matrix(length, factor).sum(dim=1)
    assert torch.allclose(sums, torch.ones_like(sums))


def test_an_enlargement_goes_through_the_pixels_it_was_given():
    """At an odd factor every third pixel lies on one of the few, and an interpolating kernel gives that one back."""
    few = img("few", 3, 20, 20).double()
    matrix = enlargement(20, 3)
    assert torch.allclose((matrix @ few @ matrix.T)[..., 1::3, 1::3], few)


def test_the_two_sides_are_reduced_alike():
    photo = img("photo", 1, 1, 32, 48)
    assert bicubic_down(photo, 4).shape == (1, 1, 8, 12)
    assert torch.allclose(bicubic_down(photo.mT, 4), bicubic_down(photo, 4).mT, atol=1e-6)
    assert torch.allclose(low_resolution(photo.mT, 4), low_resolution(photo, 4).mT, atol=1e-6)


@pytest.mark.parametrize("lower", [bicubic_down, low_resolution])
@pytest.mark.parametrize("factor", [0, -2, 3])
def test_a_factor_that_does_not_fit_is_the_users_error(lower, factor):
    with pytest.raises(ConfigError, match="factor"):
        lower(torch.zeros(1, 3, 64, 60) if factor == 3 else torch.zeros(1, 3, 64, 64), factor)


def test_fewer_pixels_hold_less_detail_in_the_same_side_and_range(astronaut):
    detail = []
    for factor in (1, 2, 4, 8, 16, 32):
        picture = low_resolution(astronaut, factor)
        assert picture.shape == astronaut.shape
        assert picture.abs().max() <= 1
        detail.append(float(picture.diff(dim=-1).square().mean()))
    assert detail == sorted(detail, reverse=True)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 30.0])
def test_a_blur_keeps_brightness_and_spreads_a_point_by_its_sigma(sigma):
    assert torch.allclose(blurred(torch.full((1, 9, 12), 0.7), sigma), torch.tensor(0.7))
    if sigma == 2.0:
        point = torch.zeros(1, 41, 41)
        point[0, 20, 20] = 1
        line = blurred(point, sigma)[0].sum(0)
        spread = (line * (torch.arange(41) - 20.0).square()).sum().sqrt()
        assert float(spread) == pytest.approx(2.0, rel=0.03)


def test_gray_is_what_the_eye_sees():
    primaries = torch.eye(3).reshape(3, 3, 1).expand(3, 3, 2) * 2 - 1
    assert torch.allclose(luma(primaries)[0, :, 0], torch.tensor([0.299, 0.587, 0.114]), atol=1e-6)


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_hides_a_part_and_leaves_a_part_whatever_the_dice(kind):
    for seed in range(60):
        known = mask(kind, 64, dice(seed))
        assert known.shape == (1, 64, 64)
        assert set(known.unique().tolist()) == {0.0, 1.0}
        assert 0.01 < 1 - known.mean() < 0.8
        assert torch.equal(mask(kind, 64, dice(seed)), known)


def test_every_half_is_hidden_sometimes_and_nothing_else():
    halves = {tuple(mask("half", 8, dice(seed)).flatten().tolist()) for seed in range(40)}
    sides = torch.ones(4, 8, 8)
    sides[0, :4], sides[1, 4:], sides[2, :, :4], sides[3, :, 4:] = 0, 0, 0, 0
    assert halves == {tuple(side.flatten().tolist()) for side in sides}


@pytest.mark.parametrize("kind", ["box", "strokes"])
def test_masks_reach_every_part_of_a_picture(kind):
    known = torch.stack([mask(kind, 32, dice(seed)) for seed in range(400)]).mean(0)
    assert known.max() < 1  # no pixel is safe


def test_hidden_pixels_are_middle_gray_and_the_mask_comes_along():
    photo, known = img("photo", 2, 3, 8, 8), torch.ones(1, 8, 8)
    known[:, :3] = 0
    shown = hide(photo, known)
    assert shown.shape == (2, 4, 8, 8)
    assert torch.equal(shown[:, :3, 3:], photo[..., 3:, :])
    assert (shown[:, :3, :3] == 0).all()
    assert torch.equal(shown[0, 3:], known)
    assert torch.equal(hide(photo[0], known), shown[0])


def test_unknown_masks_are_named():
    with pytest.raises(ConfigError, match="hole"):
        mask("hole", 64, dice(0))
