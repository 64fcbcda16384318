"""Maps of classes are mirrored with their sides, and varied without losing what a pixel is: exactly one class."""

import pytest
import torch

from pixel2style.config import SourceConfig
from pixel2style.tasks import TASKS, label_maps

SIDED = SourceConfig(sided=(4, 5, 6, 7, 8, 9))


@pytest.fixture
def face() -> torch.Tensor:
    """Skin, a left eye (the person's: on the right), hair above, and a small ear: ``[19 64 64]``."""
    found = torch.zeros(64, 64, dtype=torch.long)
    found[20:56, 12:52] = 1
    found[:20] = 13
    found[28:32, 36:44] = 4
    found[30:40, 52:55] = 8
    return label_maps.one_hot(found, 19)


def test_a_mirrored_left_eye_is_the_right_one_on_the_other_side(face):
    turned = TASKS["segmentation"].mirrored(face, SIDED).argmax(0)
    assert (turned[28:32, 20:28] == 5).all()
    assert (turned == 4).sum() == 0
    again = TASKS["segmentation"].mirrored(label_maps.one_hot(turned, 19), SIDED)
    assert torch.equal(again, face)


def test_without_known_sides_a_map_is_not_mirrored(face):
    assert TASKS["segmentation"].mirrored(face, SourceConfig()) is None


def test_a_rough_map_has_one_class_for_each_pixel_and_most_of_them_are_right(face):
    varied = [label_maps.rough(face, torch.Generator().manual_seed(seed)) for seed in range(30)]
    for one in varied:
        assert torch.equal(one.sum(0), torch.ones(64, 64))
        assert set(one.unique().tolist()) <= {0.0, 1.0}
        assert (one.argmax(0) == face.argmax(0)).float().mean() > 0.85
    lost = [one for one in varied if not one[4].any()]
    assert 1 <= len(lost) < 20  # an eye may be missing, and then is skin
    assert all((one.argmax(0)[29:31, 38:42] != 0).all() for one in lost)


def test_large_classes_are_never_left_out(face):
    for seed in range(30):
        there = label_maps.rough(face, torch.Generator().manual_seed(seed)).sum((1, 2))
        assert there[1] > 0 and there[13] > 0
