"""Yaw from five landmarks: of the model's own points at known angles, and of a photograph."""

import math

import pytest
import torch
from torch import Tensor

from pixel2style import images
from pixel2style.faces.align import FaceAligner
from pixel2style.faces.pose import FACE, rotation, yaw
from tests.support.paths import ASTRONAUT


def turned(degrees: float, pitch: float = 0.0, roll: float = 0.0) -> Tensor:
    """The rotation of a face that turns to the picture's right, then nods, then rolls."""
    y, p, r = (math.radians(angle) for angle in (degrees, pitch, roll))
    across = torch.tensor([[math.cos(y), 0, math.sin(y)], [0, 1, 0], [-math.sin(y), 0, math.cos(y)]])
    nod = torch.tensor([[1, 0, 0], [0, math.cos(p), -math.sin(p)], [0, math.sin(p), math.cos(p)]])
    tilt = torch.tensor([[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]])
    return (tilt @ nod @ across).double()


def seen(turn: Tensor, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """The model's points as an orthographic camera sees them: ``[1 5 2]``."""
    points = torch.tensor(FACE, dtype=torch.float64) @ turn.T
    return (points[:, :2] * scale + torch.tensor(shift))[None]


def mirrored(landmarks: Tensor, width: float = 256.0) -> Tensor:
    """The landmarks of the mirrored picture."""
    flipped = torch.stack([width - landmarks[..., 0], landmarks[..., 1]], -1)
    return flipped[:, [1, 0, 2, 4, 3]]


@pytest.mark.parametrize("degrees", [-70.0, -20.0, 0.0, 5.0, 45.0, 80.0])
@pytest.mark.parametrize(("pitch", "roll"), [(0.0, 0.0), (15.0, 0.0), (-25.0, 30.0), (0.0, -80.0), (10.0, 180.0)])
def test_a_known_angle_is_found_whatever_the_head_also_does(degrees: float, pitch: float, roll: float) -> None:
    landmarks = seen(turned(degrees, pitch, roll), scale=57.0, shift=(120.0, 99.0))
    assert float(yaw(landmarks)) == pytest.approx(degrees, abs=1e-4)


def test_the_rotation_itself_is_found() -> None:
    turn = turned(33.0, -12.0, 71.0)
    assert torch.allclose(rotation(seen(turn, 3.0)), turn[None], atol=1e-6)


def test_a_nose_to_the_right_is_a_positive_angle() -> None:
    landmarks = seen(turned(0.0), 100.0)
    landmarks[:, 2, 0] += 10
    assert 5 < float(yaw(landmarks)) < 20


def test_a_mirrored_picture_has_the_opposite_angle() -> None:
    noise = torch.randn(1, 5, 2, generator=torch.Generator().manual_seed(0))
    landmarks = seen(turned(25.0, 5.0, 10.0), 60.0, (128.0, 110.0)) + 3 * noise
    assert torch.allclose(yaw(mirrored(landmarks)), -yaw(landmarks))


def test_another_nose_changes_an_angle_by_degrees_only() -> None:
    long_nosed = torch.tensor(FACE, dtype=torch.float64)
    long_nosed[2, 2] += 0.07
    landmarks = (long_nosed @ turned(30.0).T)[None, :, :2]
    assert abs(float(yaw(landmarks)) - 30) < 5


def test_every_face_of_a_batch_is_independent() -> None:
    angles = [-40.0, 0.0, 15.0]
    landmarks = torch.cat([seen(turned(angle, roll=angle), 10 + angle / 5) for angle in angles])
    assert yaw(landmarks).tolist() == pytest.approx(angles, abs=1e-4)


def test_a_photograph_and_its_mirror_image_look_to_opposite_sides() -> None:
    aligner, photo = FaceAligner(), images.load(ASTRONAUT)
    flipped = images.to_picture(images.to_tensor(photo).flip(-1))
    found = torch.tensor([aligner.find(picture).landmarks.tolist() for picture in (photo, flipped)])
    one, other = yaw(found).tolist()
    assert abs(one) < 10  # she looks at the camera
    assert abs(one + other) < 4


def test_points_that_coincide_are_no_error() -> None:
    assert torch.isfinite(yaw(torch.full((1, 5, 2), 7.0))).all()


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[5, 2\]"):
        yaw(torch.zeros(5, 2))
