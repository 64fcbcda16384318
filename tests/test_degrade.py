import pytest
import torch

from golden_rule import figures, img, relative_error
from pixel2style.degrade import bicubic_down, reduction
from pixel2style.errors import ConfigError


@pytest.mark.parametrize("factor", [2, 4, 8, 16, 32])
def test_reductions_equal_the_published_ones(factor):
    photo = (img("photo", 1, 3, 256, 256) + 1) / 2
    assert relative_error(bicubic_down(photo, factor)[0], figures("bicubic_down")[f"x{factor}"]) < 1e-4


def test_factor_one_changes_no_pixel():
    photo = img("photo", 2, 3, 20, 30)
    assert torch.equal(bicubic_down(photo, 1), photo)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_a_reduction_moves_nothing_sideways(factor):
    ramp = torch.arange(60, dtype=torch.float64).expand(1, 1, 60, 60)
    expected = (torch.arange(60 // factor, dtype=torch.float64) + 0.5) * factor - 0.5
    inside = slice(2, -2)
    assert torch.allclose(bicubic_down(ramp, factor)[0, 0, 0, inside], expected[inside])


@pytest.mark.parametrize(("length", "factor"), [(1, 1), (2, 2), (32, 32), (12, 3)])
def test_brightness_is_kept_even_where_the_picture_is_smaller_than_the_kernel(length, factor):
    sums = reduction(length, factor).sum(dim=1)
    assert torch.allclose(sums, torch.ones_like(sums))


def test_the_two_sides_are_reduced_alike():
    photo = img("photo", 1, 1, 32, 48)
    assert bicubic_down(photo, 4).shape == (1, 1, 8, 12)
    assert torch.allclose(bicubic_down(photo.mT, 4), bicubic_down(photo, 4).mT, atol=1e-6)


@pytest.mark.parametrize("factor", [0, -2, 3])
def test_a_factor_that_does_not_fit_is_the_users_error(factor):
    with pytest.raises(ConfigError, match="factor"):
        bicubic_down(torch.zeros(1, 3, 64, 60) if factor == 3 else torch.zeros(1, 3, 64, 64), factor)
