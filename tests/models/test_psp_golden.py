"""Official pSp checkpoints, loaded from files, give the published numbers here.

Weights come from the rule in ``golden_rule``, so each file is drawn, written in the official layout, and read again.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import pixel2style as p2s
from pixel2style.editing import latents
from pixel2style.generators.sampling import average_w
from pixel2style.generators.stylegan2 import rosinality
from tests.support.golden_rule import arr, figures, img, relative_error, small, weights

slow = pytest.mark.slow
DEFAULT = ["psp_256", "psp_w_256", "psp_wplus_256"]
SLOW = ["psp_seg_256", "psp_ffhq_1024", "psp_sketch_256", "psp_noavg_64"]
CASES = [*DEFAULT, *(pytest.param(name, marks=slow) for name in SLOW)]

TOLERANCE = 1e-4


def average(name: str) -> dict[str, Tensor]:
    if name == "psp_noavg_64":
        return {}
    shape = (512,) if name == "psp_w_256" else tuple(figures(name)["latents"].shape[1:])
    return {"latent_avg": arr("latent_avg", *shape, scale=0.3)}


def pictures(name: str) -> Tensor:
    if name == "psp_sketch_256":
        return (img("x", 2, 1, 256, 256) + 1) / 2
    if name == "psp_seg_256":
        labels = torch.from_numpy(np.random.Generator(np.random.Philox(key=7)).integers(0, 19, (2, 16, 16)))
        grid = functional.one_hot(labels, 19).permute(0, 3, 1, 2).float()
        return functional.interpolate(grid, scale_factor=16, mode="nearest")
    return img("x", 2, 3, 256, 256)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, "p2s.PSP"]]:
    """The name of a case and its model, read from a file in the official layout."""
    name: str = request.param
    file = tmp_path_factory.mktemp("official") / f"{name}.pt"
    torch.save({"state_dict": weights(name), "opts": {"output_size": 512, "encoder_type": "?"}, **average(name)}, file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rosinality, "average_w", lambda generator: average_w(generator, samples=64))
        model = p2s.load(file)
    file.unlink()
    yield name, model
    del model


@pytest.fixture(scope="module")
def encoded(case: tuple[str, "p2s.PSP"]) -> Tensor:
    name, model = case
    with torch.no_grad():
        return model.encode(pictures(name)[:1])


def first_figures(name: str) -> dict[str, Tensor]:
    """The figures of the first picture: that rows are a picture's own is tested in ``test_encoders``."""
    return {key: value[:1] for key, value in figures(name).items()}


def picture(model: "p2s.PSP", ws: Tensor) -> Tensor:
    """What ws draw, at 256 pixels at most and then at 64, as the figures were made."""
    with torch.no_grad():
        return small(model.decode(ws, min(256, model.generator.size)))


def test_rows_and_pictures_equal_the_published_models(case: tuple[str, "p2s.PSP"], encoded: Tensor) -> None:
    name, model = case
    expected = first_figures(name)
    assert relative_error(encoded, expected["latents"]) < TOLERANCE
    codes = encoded - model.w_avg if model.config.add_average else encoded
    published = expected["codes"] if expected["codes"].ndim == 3 else expected["codes"][:, None].expand_as(codes)
    assert relative_error(codes, published) < TOLERANCE
    assert relative_error(picture(model, encoded), expected["image"]) < TOLERANCE


@pytest.mark.parametrize("variant", ["mixed", "alpha", "zeroed"])
def test_mixed_rows_equal_the_published_models(case: tuple[str, "p2s.PSP"], encoded: Tensor, variant: str) -> None:
    name, model = case
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
    if name != "psp_seg_256":  # its generator is psp_256's, whose pictures are compared
        assert relative_error(picture(model, ws), expected[variant]) < TOLERANCE


@slow
def test_what_was_read_is_found_again_in_our_file(case: tuple[str, "p2s.PSP"], tmp_path: Path) -> None:
    _, model = case
    file = tmp_path / "ours.safetensors"
    p2s.save(model, file)
    again = p2s.load(file)
    assert again.config == model.config
    ours, theirs = again.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    file.unlink()
