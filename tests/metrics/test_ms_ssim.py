"""MS-SSIM against its formula written out in NumPy, in double precision."""

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from pixel2style.metrics.ms_ssim import LEAST_SIDE, ms_ssim
from tests.support.golden_rule import img

pytestmark = pytest.mark.usefixtures("one_thread")


def by_hand(a: np.ndarray, b: np.ndarray) -> float:
    """Two gray pictures [h w] in [0, 1] (Wang et al. 2003, equation 7, with the weights of section 3.2)."""
    x = np.arange(11) - 5.0
    window = np.exp(-(x[:, None] ** 2 + x[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(values: np.ndarray) -> np.ndarray:
        return (sliding_window_view(values, (11, 11)) * window).sum((-1, -2))

    index = 1.0
    for level, power in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333], 1):
        mu_a, mu_b = mean(a), mean(b)
        var_a, var_b = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2
        covariance = mean(a * b) - mu_a * mu_b
        contrast_structure = (2 * covariance + 0.03**2) / (var_a + var_b + 0.03**2)
        luminance = (2 * mu_a * mu_b + 0.01**2) / (mu_a**2 + mu_b**2 + 0.01**2)
        index *= np.mean(contrast_structure * luminance if level == 5 else contrast_structure) ** power
        a, b = (v.reshape(v.shape[0] // 2, 2, v.shape[1] // 2, 2).mean((1, 3)) for v in (a, b))
    return float(index)


def test_it_is_the_formula_of_the_paper_for_each_colour() -> None:
    a = img("picture", 1, 3, 192, 256)
    a = torch.nn.functional.avg_pool2d(a, 5, 1, 2)
    b = (0.8 * a + 0.1 + 0.2 * img("noise", 1, 3, 192, 256)).clamp(-1, 1)
    expected = np.mean([by_hand(*((p[0, c].double().numpy() + 1) / 2 for p in (a, b))) for c in range(3)])
    assert 0.5 < expected < 0.95
    assert ms_ssim(a, b).item() == pytest.approx(expected, abs=1e-6)


def test_equal_pictures_are_one_and_order_does_not_matter() -> None:
    a, b = img("a", 2, 3, 176, 176), img("b", 2, 3, 176, 176)
    assert torch.allclose(ms_ssim(a, a), torch.ones(2), atol=1e-6)
    assert torch.allclose(ms_ssim(a, b), ms_ssim(b, a), atol=1e-6)


def test_a_negative_shares_no_structure_and_is_no_nan() -> None:
    a = img("a", 1, 3, 176, 176)
    assert ms_ssim(a, -a).item() == 0


def test_flat_pictures_differ_by_their_lightness_alone() -> None:
    dark, light = torch.full((1, 3, 176, 176), -0.5), torch.full((1, 3, 176, 176), 0.5)
    expected = ((2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)) ** 0.1333
    assert ms_ssim(dark, light).item() == pytest.approx(expected, abs=1e-6)
    assert ms_ssim(dark, dark).item() == pytest.approx(1, abs=1e-6)


def test_a_picture_too_small_for_the_coarsest_window_is_refused() -> None:
    with pytest.raises(ValueError, match=str(LEAST_SIDE)):
        ms_ssim(torch.zeros(1, 3, 175, 256), torch.zeros(1, 3, 175, 256))
