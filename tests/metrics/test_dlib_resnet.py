"""dlib's face ResNet: the bundled network against dlib itself, and as an identity metric."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pixel2style import assets, images
from pixel2style.errors import CheckpointError, ConfigError
from pixel2style.faces.align import FaceAligner
from pixel2style.metrics import dlib_resnet
from pixel2style.metrics.dlib_resnet import FaceResNet, Unit
from pixel2style.metrics.identity import DLIB, Identity, face_crop
from tests.support.golden_rule import figures, img, relative_error
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def face() -> Tensor:
    return images.to_tensor(FaceAligner().align(images.load(ASTRONAUT), 256))[None]


def in_bytes(picture: Tensor) -> Tensor:
    """As dlib takes pictures."""
    return ((picture + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def test_it_gives_the_vectors_of_dlib_itself_up_to_the_published_bytes(face: Tensor) -> None:
    # The figures are dlib 20.0.1's with its own float32 file. 3 to 4 % is what bytes for weights cost (the card says
    # so): another mean colour, scale, padding or shortcut is off by more.
    pictures = torch.cat([img("face", 2, 3, 150, 150), face_crop(face, DLIB)])
    with torch.no_grad():
        found = dlib_resnet.pretrained()(in_bytes(pictures))
    known = torch.cat([figures("dlib_face_resnet")[key] for key in ("noise", "astronaut")])
    for ours, theirs in zip(found, known, strict=True):
        assert relative_error(ours, theirs) < 0.045
        assert functional.cosine_similarity(ours, theirs, 0) > 0.999


def test_a_shortcut_is_filled_up_where_the_convolutions_are_larger_or_wider() -> None:
    unit = Unit(3, 5, down=True)
    with torch.no_grad():
        unit.conv2.weight.zero_()
        unit.conv2.bias.zero_()
        out = unit(torch.ones(1, 3, 8, 8))
    # Eight pixels: the convolution without padding gives three, the average four.
    assert out.shape == (1, 5, 4, 4)
    assert torch.equal(out[0, :3], torch.ones(3, 4, 4)) and not out[0, 3:].any()


def test_one_person_is_above_the_threshold_and_another_person_below(face: Tensor) -> None:
    identity = Identity("dlib")
    other = functional.avg_pool2d(face, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    upside_down = face.flip(2)
    assert identity(face, face).item() == pytest.approx(1, abs=1e-5)
    assert identity(face, face.flip(3)).item() > 0.95
    assert identity(face, other).item() > identity(face, upside_down).item()
    assert identity(face, upside_down).item() < 0.909


def test_the_crop_lies_inside_and_is_symmetric() -> None:
    assert DLIB.left * 2 + DLIB.side == 256
    assert DLIB.top + DLIB.side <= 256
    assert face_crop(torch.zeros(1, 3, 512, 512), DLIB).shape == (1, 3, 150, 150)


def test_kernels_are_bundled_as_the_published_bytes() -> None:
    stored = assets.read(dlib_resnet.NAME)
    kernels = [key for key in stored if key.endswith("conv1.weight") and "conv64" not in key]
    assert kernels and all(stored[key].dtype == torch.uint8 for key in kernels)
    assert sum(value.numel() for key, value in stored.items() if key.endswith("weight")) > 5_500_000


def test_a_gain_multiplies_its_own_channel() -> None:
    stored = {
        "w": torch.tensor([0, 2], dtype=torch.uint8).view(2, 1, 1, 1),
        "w.range": torch.tensor([0.5, -1.0]),
        "w.gain": torch.tensor([2.0, 3.0]),
    }
    assert dlib_resnet.dequantize(stored)["w"].flatten().tolist() == [-2.0, 0.0]
    assert dlib_resnet.dequantize({"w": stored["w"], "w.gain": stored["w.gain"]})["w"].flatten().tolist() == [0.0, 6.0]


def test_other_sizes_weights_and_names_are_refused() -> None:
    with pytest.raises(ValueError, match="150x150"):
        FaceResNet()(torch.zeros(1, 3, 112, 112))
    with pytest.raises(CheckpointError, match="dlib"):
        FaceResNet().load({})
    with pytest.raises(ConfigError, match="not bundled"):
        Identity("arcface")
