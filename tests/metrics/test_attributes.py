"""Age, gender, expression and landmarks: the bundled networks on a face, and their layers."""

import pytest
import torch
from torch import Tensor

from pixel2style import assets, images
from pixel2style.errors import CheckpointError, ConfigError
from pixel2style.faces.align import FaceAligner
from pixel2style.metrics import attributes
from pixel2style.metrics.attributes import EXPRESSIONS, Attributes, Dense, FaceAttributes, Reduction, SeparableConv
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network() -> FaceAttributes:
    return attributes.pretrained()


@pytest.fixture(scope="module")
def face() -> Tensor:
    return images.to_tensor(FaceAligner().align(images.load(ASTRONAUT), 256))[None]


@pytest.fixture(scope="module")
def found(network: FaceAttributes, face: Tensor) -> Attributes:
    return network(torch.cat([face, face.flip(3)]))


def test_the_astronaut_is_a_happy_woman_in_her_thirties(found: Attributes) -> None:
    assert (found.male < 0).all()
    assert ((found.age > 25) & (found.age < 45)).all()
    assert (found.expressions.argmax(1) == EXPRESSIONS.index("happy")).all()


def test_landmarks_lie_on_the_face_and_follow_it_when_mirrored(found: Attributes, face: Tensor) -> None:
    detected = torch.from_numpy(FaceAligner().find(images.to_picture(face[0])).landmarks).float()
    unit = (detected[1] - detected[0]).norm()
    eyes = found.landmarks[0, 36:48].view(2, 6, 2).mean(1)
    assert ((eyes - detected[:2]).norm(dim=1) < 0.15 * unit).all()
    assert ((found.landmarks[0, [48, 54]] - detected[3:]).norm(dim=1) < 0.2 * unit).all()
    nose, mirrored = found.landmarks[:, 30]
    assert abs(float(nose[0] + mirrored[0]) - 256) < 0.1 * unit


def test_probabilities_sum_to_one_and_log_odds_are_theirs(found: Attributes) -> None:
    total = torch.stack([found.expression(name) for name in EXPRESSIONS]).sum(0)
    assert total.tolist() == pytest.approx([1, 1], abs=1e-5)
    odds = found.log_odds("happy")
    assert torch.sigmoid(odds).tolist() == pytest.approx(found.expression("happy").tolist(), abs=1e-5)


def test_a_picture_is_judged_at_any_size(network: FaceAttributes, face: Tensor, found: Attributes) -> None:
    large = network(face.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert float(large.age) == pytest.approx(float(found.age[0]), abs=1e-3)
    assert torch.allclose(large.landmarks[0], found.landmarks[0], atol=1e-3)


def test_gradients_reach_the_picture_but_no_weights(network: FaceAttributes, face: Tensor) -> None:
    picture = face.clone().requires_grad_()
    judged = network(picture)
    (judged.age + judged.male + judged.log_odds("happy")).sum().backward()
    assert picture.grad is not None and picture.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in network.parameters())


def test_windows_at_stride_two_begin_at_the_first_pixel() -> None:
    conv = SeparableConv(1, 1, 2)
    with torch.no_grad():
        conv.depthwise.weight.zero_()
        conv.depthwise.weight[0, 0, 0, 0] = 1
        conv.pointwise.weight.fill_(1)
        conv.pointwise.bias.zero_()  # type: ignore[union-attr]
        out = conv(torch.arange(16.0).view(1, 1, 4, 4))
    assert out.flatten().tolist() == [0, 2, 8, 10]


@pytest.mark.parametrize("block", [Reduction(3, 5), Reduction(3, 5, first=True), Dense(3, 5), Dense(3, 5, first=True)])
def test_blocks_halve_the_side(block: torch.nn.Module) -> None:
    assert block(torch.randn(2, 3, 8, 8)).shape == (2, 5, 4, 4)


def test_kernels_are_bundled_as_the_published_bytes() -> None:
    stored = assets.read(attributes.NAME)
    kernels = {key: value for key, value in stored.items() if key.endswith("weight")}
    assert all(value.dtype == torch.uint8 and f"{key}.range" in stored for key, value in kernels.items())
    assert sum(value.numel() for value in kernels.values()) > 1_000_000


def test_other_weights_and_names_are_refused(found: Attributes) -> None:
    with pytest.raises(CheckpointError, match="attributes"):
        FaceAttributes().load({})
    with pytest.raises(ConfigError, match="smirking"):
        found.log_odds("smirking")
    with pytest.raises(ConfigError, match="smirking"):
        found.expression("smirking")
