"""Features of translated pictures: where they come from, and where there are none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pixel2style as p2s
from pixel2style import images
from pixel2style.config import DetailConfig
from pixel2style.inference.session import Result
from pixel2style.models.detail import DetailEncoder
from pixel2style.ops import COMPARE_SIZE, pooled
from pixel2style.tasks import degrade
from tests.support import bundled, stand_in
from tests.support.golden_rule import img

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def face() -> Image.Image:
    """An aligned face at 256 pixels."""
    return bundled.face(COMPARE_SIZE)


def small(picture: Image.Image) -> torch.Tensor:
    """``[1 3 256 256]``."""
    return pooled(images.to_tensor(picture)[None])


def with_detail(task: str, needs_task: bool, channels: int = 3) -> "p2s.PSP":
    """A model with random weights, also those of a detail encoder."""
    plain = stand_in.random_model(channels=channels)
    maps = plain.generator.map_channels()
    shape = DetailConfig(side=8, channels=(maps[8], maps[16]), width=16, units=1, fine_width=8, needs_task=needs_task)
    torch.manual_seed(0)
    detail = DetailEncoder(shape)
    torch.nn.init.normal_(detail.coarse.weight, std=0.3)
    config = replace(plain.config, task=task, detail=shape)
    return p2s.PSP(plain.encoder, plain.generator, config, plain.w_avg, detail=detail).eval()


def translated(model: "p2s.PSP", folder: Path, face: Image.Image, **options: object) -> Result:
    p2s.save(model, folder / "model.safetensors")
    return p2s.Session(folder / "model.safetensors", "cpu").translate(face, align=False, refine=0, **options)  # type: ignore[arg-type]


def test_inpaint_draws_the_known_pixels_better_than_rows_alone(face: Image.Image) -> None:
    session = bundled.session("inpaint")
    results = [session.translate(face, False, mask="box", seed=1, refine=0, detail=detail) for detail in (True, False)]
    known = degrade.mask("box", COMPARE_SIZE, torch.Generator().manual_seed(1))
    errors = [
        float(((small(one.reconstruction) - small(face)).square() * known).sum() / (3 * known.sum())) for one in results
    ]
    assert errors[0] < 0.5 * errors[1]
    assert torch.equal(results[0].ws, results[1].ws)
    assert (results[0].features.keys(), results[1].features) == ({32, 64}, {})


def test_superres_keeps_what_the_small_picture_shows(face: Image.Image) -> None:
    session = bundled.session("superres")
    seen = degrade.low_resolution(small(face), 8)
    errors = [
        float((degrade.low_resolution(small(one.reconstruction), 8) - seen).square().mean())
        for one in (session.translate(face, False, factor=8, refine=0, detail=detail) for detail in (True, False))
    ]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize(("task", "channels"), [("superres", 3), ("inpaint", 4)])
def test_variants_of_a_degraded_picture_have_features_of_their_own(
    task: str, channels: int, tmp_path: Path, face: Image.Image
) -> None:
    options = {"factor": 4} if task == "superres" else {"mask": "half"}
    model = with_detail(task, True, channels)
    result = translated(model, tmp_path, face, samples=1, rows="3-", **options)
    assert result.sample_ws is not None
    same = model.decode(result.sample_ws, features={side: part[None] for side, part in result.features.items()})
    assert not np.array_equal(np.asarray(result.samples[0]), np.asarray(images.to_picture(same[0])))


def test_variants_of_a_photograph_have_its_features(tmp_path: Path, face: Image.Image) -> None:
    model = with_detail("invert", False)
    result = translated(model, tmp_path, face, samples=1, rows="3-")
    assert result.sample_ws is not None
    same = model.decode(result.sample_ws, features={side: part[None] for side, part in result.features.items()})
    assert np.array_equal(np.asarray(result.samples[0]), np.asarray(images.to_picture(same.detach()[0])))


def test_frontalize_is_drawn_from_rows_alone(tmp_path: Path, face: Image.Image) -> None:
    model = with_detail("frontalize", True)
    p2s.save(model, tmp_path / "model.safetensors")
    result = p2s.Session(tmp_path / "model.safetensors", "cpu").translate(face, align=False)
    assert result.features == {}
    assert np.array_equal(
        np.asarray(result.reconstruction), np.asarray(images.to_picture(model.decode(result.ws[None]).detach()[0]))
    )


def test_a_model_without_a_detail_encoder_is_drawn_from_rows_alone(tmp_path: Path, face: Image.Image) -> None:
    plain = stand_in.random_model(channels=4)
    plain.config = replace(plain.config, task="inpaint")
    result = translated(plain, tmp_path, face, mask="box")
    assert result.features == {}
    assert np.array_equal(
        np.asarray(result.reconstruction), np.asarray(images.to_picture(plain.decode(result.ws[None]).detach()[0]))
    )


def test_the_model_alone_inverts_to_rows_where_a_task_has_to_complete_the_picture() -> None:
    source = img("source", 1, 4, 64, 64)
    model = with_detail("inpaint", True, 4)
    assert model.invert(source).features == {}
    shape = {
        side: part.shape[-1] for side, part in model.with_detail(source[:, :3], model.encode(source)).features.items()
    }
    assert shape == {8: 8, 16: 16}
