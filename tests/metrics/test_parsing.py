"""The bundled parser finds the regions of a face where they are."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pixel2style import images
from pixel2style.config import SourceConfig
from pixel2style.errors import CheckpointError
from pixel2style.faces.align import FaceAligner
from pixel2style.metrics import parsing
from pixel2style.metrics.parsing import CLASSES, PALETTE, SIDED
from pixel2style.tasks import TASKS, label_maps
from pixel2style.tasks.request import Frame
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def face() -> Tensor:
    """The astronaut's face: ``[1 3 256 256]``."""
    photograph = images.load(ASTRONAUT)
    return images.to_tensor(Frame.around(FaceAligner().detect(photograph)[0].landmarks).cut(photograph, 256))[None]


@pytest.fixture(scope="module")
def found(face) -> Tensor:
    return parsing.regions(face)[0]


def centre(found: Tensor, name: str) -> tuple[float, float]:
    """Row and column of a class's middle, as shares of the side."""
    places = (found == CLASSES.index(name)).nonzero().float()
    assert len(places) > 20, name
    row, column = (places.mean(0) / len(found)).tolist()
    return row, column


def test_the_parts_of_a_face_lie_as_in_every_face(found):
    rows = {
        name: centre(found, name)[0] for name in ("hair", "left brow", "left eye", "nose", "upper lip", "lower lip")
    }
    assert list(rows.values()) == sorted(rows.values())
    for part in ("eye", "brow"):  # the person's left is on the right of the picture
        assert centre(found, f"right {part}")[1] < 0.47 < 0.53 < centre(found, f"left {part}")[1]
    assert centre(found, "neck")[0] > centre(found, "lower lip")[0]
    assert 0.15 < (found == CLASSES.index("skin")).float().mean() < 0.5


def test_a_mirrored_face_has_mirrored_regions_with_their_sides_changed(face, found):
    turned = parsing.regions(face.flip(-1))[0].flip(-1)
    order = list(range(len(CLASSES)))
    for first, second in SIDED:
        order[first], order[second] = second, first
    assert (torch.tensor(order)[turned] == found).float().mean() > 0.9


def test_regions_have_the_size_of_the_picture(face, found):
    large = torch.nn.functional.interpolate(face, (512, 512), mode="bicubic").clamp(-1, 1)
    regions = parsing.regions(large)[0]
    assert regions.shape == (512, 512)
    assert (regions[::2, ::2] == found).float().mean() > 0.95


def test_what_gets_gradients_elsewhere_gets_none_here(face):
    assert not parsing.regions(face.clone().requires_grad_()).requires_grad
    assert not any(weight.requires_grad for weight in parsing.pretrained().parameters())


def test_a_palette_picture_is_read_again_as_the_same_classes(found, tmp_path):
    images.save(parsing.picture(found), tmp_path / "map.png")
    read = label_maps.read(tmp_path / "map.png", 256, SourceConfig())
    assert torch.equal(read.argmax(0), found)
    Image.open(tmp_path / "map.png").convert("RGB").save(tmp_path / "coloured.png")
    coloured = label_maps.read(tmp_path / "coloured.png", 256, SourceConfig(colours=PALETTE))
    assert torch.equal(coloured, read)


def test_a_label_map_is_made_of_a_photograph(face, found):
    source = TASKS["segmentation"].source(face[0], torch.Generator(), SourceConfig())
    assert source.shape == (19, 256, 256)
    assert np.array_equal(source.argmax(0).numpy(), found.numpy())


def test_weights_of_another_network_are_refused():
    with pytest.raises(CheckpointError, match="face parser"):
        parsing.FaceParser().load({"out.weight": torch.zeros(1)})
