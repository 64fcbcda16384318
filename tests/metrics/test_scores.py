"""Scores of equal, worse and other images, alone and in batches."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pixel2style import images
from pixel2style.errors import CheckpointError, ConfigError
from pixel2style.faces.align import FaceAligner
from pixel2style.metrics.lpips import LPIPS, NETS
from pixel2style.metrics.scores import METRICS, Scorer, Scores
from pixel2style.ops import pooled
from tests.support.paths import ASTRONAUT


@pytest.fixture(scope="module")
def face() -> Tensor:
    return images.to_tensor(FaceAligner().align(images.load(ASTRONAUT), 512))[None]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer()


def noisy(face: Tensor, amount: float) -> Tensor:
    noise = torch.randn(face.shape, generator=torch.Generator().manual_seed(0))
    return (pooled(face) + amount * pooled(noise)).clamp(-1, 1)


def test_equal_pictures_score_perfectly(scorer: Scorer, face: Tensor) -> None:
    scores = scorer(face, face)
    assert scores.l2.item() == 0 and scores.lpips.item() == 0
    assert scores.psnr.item() == float("inf")
    assert scores.identity.item() == pytest.approx(1, abs=1e-5)


def test_every_score_falls_with_noise(scorer: Scorer, face: Tensor) -> None:
    little, much = (scorer(noisy(face, amount), face) for amount in (0.2, 2.0))
    assert little.l2 < much.l2 and little.lpips < much.lpips
    assert little.psnr > much.psnr and little.identity > much.identity


def test_psnr_is_of_the_full_range(scorer: Scorer) -> None:
    black = torch.full((1, 3, 256, 256), -1.0)
    scores = scorer(black + 0.2, black)
    assert scores.l2.item() == pytest.approx(0.04, rel=1e-5)
    assert scores.psnr.item() == pytest.approx(20, abs=1e-4)


def test_a_larger_picture_is_scored_by_its_area_means(scorer: Scorer, face: Tensor) -> None:
    small = face.unflatten(2, (256, 2)).unflatten(4, (256, 2)).mean((3, 5))
    assert scorer(face, small).l2.item() < 1e-12


def test_images_are_clipped_before_scoring(scorer: Scorer) -> None:
    white = torch.ones(1, 3, 256, 256)
    assert scorer(white * 3, white).l2.item() == 0


def test_a_picture_has_the_same_scores_alone_and_in_a_batch(scorer: Scorer, face: Tensor) -> None:
    made = torch.cat([noisy(face, 0.2), noisy(face, 0.5), face.flip(3)[..., ::2, ::2]])
    targets = pooled(face).expand(3, -1, -1, -1)
    together = scorer(made, targets)
    alone = Scores.joined([scorer(made[i : i + 1], targets[i : i + 1]) for i in range(3)])
    assert len(together) == len(alone) == 3
    for name in ("l2", "psnr", "lpips", "identity"):
        assert torch.allclose(getattr(together, name), getattr(alone, name), rtol=1e-4, atol=1e-6), name


def test_means_are_over_pictures() -> None:
    parts = [Scores(*(torch.full((count,), value) for _ in range(4))) for count, value in ((3, 1.0), (1, 5.0))]
    assert Scores.joined(parts).means() == dict.fromkeys(("l2", "psnr", "lpips", "identity"), 2.0)


def test_one_picture_s_scores_are_its_own(scorer: Scorer, face: Tensor) -> None:
    scores = scorer(torch.cat([pooled(face), noisy(face, 0.5)]), pooled(face).expand(2, -1, -1, -1))
    assert scores.of(0)["l2"] == 0 < scores.of(1)["l2"]
    assert scores.of(1) == pytest.approx({name: score[1].item() for name, score in scores.each().items()})


def test_pictures_that_are_no_faces_have_no_identity(face: Tensor) -> None:
    assert set(Scorer(faces=False)(face, face).means()) == {"l2", "psnr", "lpips"}
    with_all = Scorer(faces=False, full=True)(face, face).means()
    assert "ms_ssim" in with_all and not {"identity", "identity_dlib"} & set(with_all)


def test_where_there_is_time_more_is_said_and_the_rest_stays_the_same(
    scorer: Scorer, face: Tensor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIXEL2STYLE_CACHE", str(tmp_path))
    full = Scorer(full=True)(noisy(face, 0.5), face)
    means = full.means()
    assert list(means) == [name for name in METRICS if name != "lpips_vgg"]
    assert full.vgg is None
    for name, value in scorer(noisy(face, 0.5), face).means().items():
        assert means[name] == pytest.approx(value, abs=1e-6)
    assert 0 < means["ms_ssim"] < 1 and 0 < means["identity_dlib"] < 1


def test_vgg_is_used_where_its_weights_lie_in_the_cache(
    face: Tensor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    layers, taps = NETS["vgg"]
    torch.manual_seed(0)
    trunk = torch.nn.Sequential(*layers()).state_dict()
    weights = {f"trunk.{key}": value.half() for key, value in trunk.items()}
    weights |= {f"heads.{i}": torch.full((width,), 0.1).half() for i, width in enumerate(taps.values())}
    save_file(weights, tmp_path / "lpips_vgg.safetensors")
    monkeypatch.setenv("PIXEL2STYLE_CACHE", str(tmp_path))
    made, target = noisy(face, 0.5), pooled(face)
    scores = Scorer(faces=False, full=True)(made, target)
    vgg = LPIPS("vgg")
    with torch.no_grad():
        assert scores.means()["lpips_vgg"] == pytest.approx(vgg(made, target).item(), rel=1e-4)
        last = vgg.trunk((target - vgg.shift) / vgg.scale).mean((2, 3))
    assert scores.vgg is not None and scores.vgg.shape == (1, 2, 512)
    assert torch.allclose(scores.vgg[:, 1], last, rtol=1e-4, atol=1e-7)


def test_damaged_weights_of_vgg_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "lpips_vgg.safetensors").write_bytes(b"no tensors")
    monkeypatch.setenv("PIXEL2STYLE_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"lpips_vgg\.safetensors"):
        Scorer(faces=False, full=True)


def test_a_picture_without_its_target_is_refused(scorer: Scorer, face: Tensor) -> None:
    with pytest.raises(ValueError, match="target"):
        scorer(face.expand(2, -1, -1, -1), face)


def test_images_that_are_not_in_minus_one_to_one_get_no_scores(scorer: Scorer, face: Tensor) -> None:
    levels = (face + 1) * 127.5
    for made, target in ((levels.byte(), face), (face, levels.byte()), (face, levels), (face, face * float("nan"))):
        with pytest.raises(ConfigError):
            scorer(made, target)
    assert scorer(3 * face, face).lpips.isfinite().all(), "drawn images are clipped"
