"""The judges: what they say of equal, worse and other pictures, alone and in company."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pixel2style import images
from pixel2style.align import FaceAligner
from pixel2style.evaluate import Judges, Scores, pooled

ASTRONAUT = Path(__file__).parents[1] / "examples" / "astronaut.png"


@pytest.fixture(scope="module")
def face() -> Tensor:
    return images.to_tensor(FaceAligner().align(images.load(ASTRONAUT), 512))[None]


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges()


def noisy(face: Tensor, amount: float) -> Tensor:
    noise = torch.randn(face.shape, generator=torch.Generator().manual_seed(0))
    return (pooled(face) + amount * pooled(noise)).clamp(-1, 1)


def test_equal_pictures_score_perfectly(judges: Judges, face: Tensor) -> None:
    scores = judges(face, face)
    assert scores.l2.item() == 0 and scores.lpips.item() == 0
    assert scores.psnr.item() == float("inf")
    assert scores.identity.item() == pytest.approx(1, abs=1e-5)


def test_every_score_falls_with_noise(judges: Judges, face: Tensor) -> None:
    little, much = (judges(noisy(face, amount), face) for amount in (0.2, 2.0))
    assert little.l2 < much.l2 and little.lpips < much.lpips
    assert little.psnr > much.psnr and little.identity > much.identity


def test_psnr_is_of_the_full_range(judges: Judges) -> None:
    black = torch.full((1, 3, 256, 256), -1.0)
    scores = judges(black + 0.2, black)
    assert scores.l2.item() == pytest.approx(0.04, rel=1e-5)
    assert scores.psnr.item() == pytest.approx(20, abs=1e-4)


def test_a_larger_picture_is_judged_by_its_area_means(judges: Judges, face: Tensor) -> None:
    small = face.unflatten(2, (256, 2)).unflatten(4, (256, 2)).mean((3, 5))
    assert judges(face, small).l2.item() < 1e-12


def test_what_cannot_be_saved_is_not_judged(judges: Judges) -> None:
    white = torch.ones(1, 3, 256, 256)
    assert judges(white * 3, white).l2.item() == 0


def test_a_picture_is_judged_alike_alone_and_in_a_batch(judges: Judges, face: Tensor) -> None:
    made = torch.cat([noisy(face, 0.2), noisy(face, 0.5), face.flip(3)[..., ::2, ::2]])
    targets = pooled(face).expand(3, -1, -1, -1)
    together = judges(made, targets)
    alone = Scores.joined([judges(made[i : i + 1], targets[i : i + 1]) for i in range(3)])
    assert len(together) == len(alone) == 3
    for name in ("l2", "psnr", "lpips", "identity"):
        assert torch.allclose(getattr(together, name), getattr(alone, name), rtol=1e-4, atol=1e-6), name


def test_means_are_over_pictures() -> None:
    parts = [Scores(*(torch.full((count,), value) for _ in range(4))) for count, value in ((3, 1.0), (1, 5.0))]
    assert Scores.joined(parts).means() == dict.fromkeys(("l2", "psnr", "lpips", "identity"), 2.0)


def test_a_picture_without_its_target_is_refused(judges: Judges, face: Tensor) -> None:
    with pytest.raises(ValueError, match="target"):
        judges(face.expand(2, -1, -1, -1), face)
