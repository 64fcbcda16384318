"""Regions follow the face they are found in, and are exactly nothing elsewhere."""

import pytest
import torch
from torch import Tensor

from pixel2style import images
from pixel2style.editing import regions
from pixel2style.errors import ConfigError
from pixel2style.faces.align import FaceAligner
from pixel2style.metrics import attributes
from pixel2style.metrics.attributes import FaceAttributes
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def networks() -> FaceAttributes:
    return attributes.pretrained()


@pytest.fixture(scope="module")
def face() -> Tensor:
    return images.to_tensor(FaceAligner().align(images.load(ASTRONAUT)))[None]


@pytest.fixture(scope="module")
def masks(face: Tensor, networks: FaceAttributes) -> dict[str, Tensor]:
    return {name: regions.mask(name, face, networks) for name in regions.NAMES}


def test_regions_lie_where_their_parts_are(face: Tensor, networks: FaceAttributes, masks: dict[str, Tensor]) -> None:
    points = networks.points(face)[0].round().long()
    for name, inside, outside in (("eyes", 37, 62), ("mouth", 62, 37), ("nose", 30, 8), ("face", 30, None)):
        x, y = points[inside].tolist()
        assert masks[name][0, y, x] > 0.95
        if outside is not None:
            x, y = points[outside].tolist()
            assert masks[name][0, y, x] == 0
    assert all(mask.shape == (1, 256, 256) and mask.amin() >= 0 and mask.amax() <= 1 for mask in masks.values())


def test_parts_are_in_the_face_and_classes_exclude_each_other(masks: dict[str, Tensor]) -> None:
    for part in ("eyes", "mouth"):
        core = masks[part] > 0.9
        assert (masks["face"][core] > 0.5).float().mean() > 0.95
        assert masks["hair"][core].mean() < 0.1 and masks["background"][core].amax() == 0
    assert masks["face"].mean() < masks["head"].mean() < 0.8
    core = masks["hair"] > 0.9
    assert core.float().mean() > 0.1 and masks["skin"][core].mean() < 0.1
    assert masks["background"][0, 10, 5] == 1 and masks["clothes"][0, 250, 5] == 1, "a wall, a collar"


def test_a_region_of_two_pictures_holds_that_of_each(face: Tensor, networks: FaceAttributes) -> None:
    moved = face.roll(12, 3)
    both = regions.mask("mouth", torch.cat([face, moved]), networks)
    for one in (face, moved):
        assert (both - regions.mask("mouth", one, networks)).amin() > -0.01


def test_equal_pictures_have_not_changed_and_others_have_where_they_differ(face: Tensor) -> None:
    other = face[0].clone()
    other[:, 100:150, 100:150] += 0.5
    assert regions.changed(face[0], face[0]).amax() == 0
    found = regions.changed(face[0], other)[0]
    assert found[105:145, 105:145].amin() > 0.9 and found[:60].amax() == 0


def test_unknown_names_are_refused(face: Tensor, networks: FaceAttributes) -> None:
    with pytest.raises(ConfigError, match="elbow"):
        regions.mask("elbow", face, networks)
