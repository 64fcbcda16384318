"""Published checkpoints of pSp, e4e and ReStyle give the published numbers here, and go out to the same bits.

Weights come from the rule in ``golden_rule``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import pixel2style as p2s
from pixel2style.checkpoints import detect
from pixel2style.checkpoints.layouts import psp
from pixel2style.editing import latents
from pixel2style.generators.sampling import average_w
from pixel2style.generators.stylegan2 import rosinality
from tests.support.golden_rule import arr, figures, img, relative_error, small, weights

pytestmark = pytest.mark.usefixtures("one_thread")

slow = pytest.mark.slow
DEFAULT = ["psp_256", "e4e_256"]
"""In an order in which each shares most of its weights with the one before."""
SLOW = [
    "psp_w_256",
    "psp_wplus_256",
    "restyle_psp_256",
    "restyle_resnet_256",
    "psp_seg_256",
    "psp_ffhq_1024",
    "psp_sketch_256",
    "psp_noavg_64",
]
CASES = [*DEFAULT, *(pytest.param(name, marks=slow) for name in SLOW)]
OPTIONS: dict[str, dict[str, Any]] = {
    "e4e_256": {"encoder_type": "Encoder4Editing"},
    "restyle_resnet_256": {"n_iters_per_batch": 3},
    "restyle_psp_256": {"n_iters_per_batch": 3},
}

TOLERANCE = 1e-4
Case = tuple[str, dict[str, Any], p2s.PSP]


def average(name: str) -> dict[str, Tensor]:
    if name == "psp_noavg_64":
        return {}
    rows = figures(name)["latents" if "restyle" not in name else "latents2"].shape[1:]
    return {"latent_avg": arr("latent_avg", *((512,) if name == "psp_w_256" else rows), scale=0.3)}


def pictures(name: str) -> Tensor:
    if name == "psp_sketch_256":
        return (img("x", 2, 1, 256, 256) + 1) / 2
    if name == "psp_seg_256":
        labels = torch.from_numpy(np.random.Generator(np.random.Philox(key=7)).integers(0, 19, (2, 16, 16)))
        grid = functional.one_hot(labels, 19).permute(0, 3, 1, 2).float()
        return functional.interpolate(grid, scale_factor=16, mode="nearest")
    return img("x", 2, 3, 256, 256)


@pytest.fixture(scope="module")
def drawn() -> dict[str, Tensor]:
    """The weights of the case before: a name and a shape have the same numbers in every case."""
    return {}


@pytest.fixture(scope="module", params=CASES)
def case(
    request: pytest.FixtureRequest, drawn: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    """The name of a case, what its file holds, and its model, read from a file in the official layout."""
    name: str = request.param
    state = weights(name, drawn)
    drawn.clear()
    drawn.update(state)
    options = OPTIONS.get(name, {"output_size": 512, "encoder_type": "?"})
    content = {"state_dict": state, "opts": options, **average(name)}
    file = tmp_path_factory.mktemp("official") / f"{name}.pt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rosinality, "average_w", lambda generator: average_w(generator, samples=64))
        if name in OPTIONS:
            model = psp.model(detect.find(content), file.name)
        else:
            torch.save(content, file)
            model = p2s.load(file)
            file.unlink()
    yield name, content, model
    del model, content, state


@pytest.fixture(scope="module")
def encoded(case: Case) -> Tensor:
    name, _, model = case
    with torch.no_grad():
        return model.encode(pictures(name)[:1])


def first_figures(name: str) -> dict[str, Tensor]:
    """The figures of the first picture: that rows are a picture's own is tested in ``test_encoders``."""
    return {key: value[:1] for key, value in figures(name).items()}


def picture(model: p2s.PSP, ws: Tensor) -> Tensor:
    """What ws draw, at 256 pixels at most and then at 64, as the figures were made."""
    with torch.no_grad():
        return small(model.decode(ws, min(256, model.generator.size)))


def test_rows_and_pictures_equal_the_published_models(case: Case, encoded: Tensor) -> None:
    name, _, model = case
    expected = first_figures(name)
    if name.startswith("restyle"):
        assert model.config.feedback
        assert relative_error(small(model.average_image()), expected["average_image"]) < TOLERANCE
        assert relative_error(encoded, expected["latents2"]) < TOLERANCE
        assert relative_error(picture(model, encoded), expected["image2"]) < TOLERANCE
        return
    assert relative_error(encoded, expected["latents"]) < TOLERANCE
    codes = encoded - model.w_avg if model.config.add_average else encoded
    published = expected["codes"] if expected["codes"].ndim == 3 else expected["codes"][:, None].expand_as(codes)
    assert relative_error(codes, published) < TOLERANCE
    assert relative_error(picture(model, encoded), expected["image"]) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("stage", [0, 1, 5, 9])
def test_rows_beyond_the_stage_have_no_delta_yet(case: Case, stage: int) -> None:
    name, _, model = case
    if name != "e4e_256":
        pytest.skip("only e4e has stages")
    codes = figures(name)["codes"]
    model.encoder.deltas.stage = stage
    told = torch.cat([codes[:, :1], codes[:, 1:] - codes[:, :1]], 1)
    assert relative_error(model.encoder.deltas(told), figures(name)[f"codes_stage{stage}"]) < TOLERANCE
    model.encoder.deltas.stage = model.encoder.config.rows - 1


def test_a_model_that_was_read_is_written_to_the_same_bits(case: Case) -> None:
    name, content, model = case
    if name == "psp_noavg_64":
        pytest.skip("its average is computed when it is read")
    written = psp.state(model)
    ours, theirs = written["state_dict"], content["state_dict"]
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    assert torch.equal(written["latent_avg"], content["latent_avg"].reshape_as(written["latent_avg"]))


@pytest.mark.parametrize("variant", ["mixed", "alpha", "zeroed"])
def test_mixed_rows_equal_the_published_models(case: Case, encoded: Tensor, variant: str) -> None:
    name, _, model = case
    expected = first_figures(name)
    if f"{variant}_latents" not in expected:
        pytest.skip("upstream mixes rows of W+ encoders only")
    injected = model.generator.map(arr("inject", 1, 512))
    fine = slice(model.generator.rows // 2, None)
    ws = {
        "mixed": lambda: latents.mix(encoded, injected, fine),
        "alpha": lambda: latents.mix(encoded, injected, fine, alpha=0.3),
        "zeroed": lambda: latents.mix(encoded, None, [0, 1]),
    }[variant]()
    assert relative_error(ws, expected[f"{variant}_latents"]) < TOLERANCE
    if name in ("psp_256", "psp_ffhq_1024", "psp_noavg_64"):  # the others have psp_256's generator
        assert relative_error(picture(model, ws), expected[variant]) < TOLERANCE


@slow
def test_what_was_read_is_found_again_in_our_file(case: Case, tmp_path: Path) -> None:
    _, _, model = case
    file = tmp_path / "ours.safetensors"
    p2s.save(model, file)
    again = p2s.load(file)
    assert again.config == model.config
    ours, theirs = again.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    file.unlink()
