import pytest
import torch

from pixel2style.tasks import seam

SIDE = 256


def half() -> torch.Tensor:
    kept = torch.ones(1, SIDE, SIDE)
    kept[:, : SIDE // 2] = 0
    return kept


def test_a_wrong_colour_is_corrected_wherever_the_area_goes_on() -> None:
    photograph = torch.full((3, SIDE, SIDE), 0.4)
    photograph[:, :, SIDE // 2 :] = -0.4
    rows = photograph.clone()
    rows[0, :, : SIDE // 2] -= 0.2  # the left area is drawn too blue, the right one correctly
    found = seam.matched(rows, photograph, half())
    assert (found - photograph)[0, 100:128, 10:110].abs().max() < 0.06
    assert (found - rows)[:, :128, 150:].abs().max() < 0.05


def test_features_that_draw_only_known_pixels_right_are_no_reason_to_leave_the_others() -> None:
    photograph = torch.full((3, SIDE, SIDE), 0.3)
    rows = torch.zeros(3, SIDE, SIDE)
    drawn = photograph * half()
    assert (seam.matched(drawn, photograph, half()) - drawn).abs().max() < 0.01
    found = seam.matched(drawn, photograph, half(), rows)
    assert (found - photograph)[:, 110:128].abs().max() < 0.1


def test_the_offset_is_limited_and_the_result_in_range() -> None:
    photograph, drawn = torch.ones(3, SIDE, SIDE), -torch.ones(3, SIDE, SIDE)
    found = seam.matched(drawn, photograph, half())
    assert (found - drawn).max() == pytest.approx(seam.MOST_OFFSET, abs=1e-5)
    assert seam.matched(photograph, -photograph, half()).abs().max() <= 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_without_an_edge_nothing_changes(value: float) -> None:
    drawn = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    kept = torch.full((1, 64, 64), value)
    assert torch.equal(seam.matched(drawn, torch.zeros(3, 64, 64), kept), drawn)
