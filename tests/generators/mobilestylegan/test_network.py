"""The bundled MobileStyleGAN against the published graph, and which maps depend on which rows."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pixel2style import checkpoints
from pixel2style.config import GeneratorConfig
from pixel2style.errors import ConfigError
from pixel2style.generators.mobilestylegan.adjoint import inverse_haar
from pixel2style.generators.mobilestylegan.network import HEAD_SIZE, MobileStyleGAN
from tests.support.golden_rule import arr, figures, relative_error, small

HALF_PRECISION = 5e-3
"""What storing the weights in fp16 may cost; the layout itself is exact. Found: 7e-4 to 1.6e-3."""


@pytest.fixture(scope="module")
def generator() -> MobileStyleGAN:
    found = checkpoints.load_generator("mobilestylegan_ffhq_1024")
    assert isinstance(found, MobileStyleGAN)
    return found


@pytest.fixture(scope="module")
def rows(generator: MobileStyleGAN) -> dict[str, Tensor]:
    """Two plain sets of rows, and the two whose rows from 6 on are another's."""
    w, other = generator.map(arr("z", 2, 512)), generator.map(arr("z2", 2, 512))
    plain = w[:, None].repeat(1, generator.rows, 1)
    mixed = plain.clone()
    mixed[:, 6:] = other[:, None]
    return {"plain": plain, "mixed": mixed}


@pytest.fixture(scope="module")
def pictures(generator: MobileStyleGAN, rows: dict[str, Tensor]) -> dict[str, Tensor]:
    """The whole pictures of ``rows``; the dearest figures here, so drawn once."""
    with torch.no_grad():
        return {name: generator.synthesize(ws) for name, ws in rows.items()}


def test_mapped_noise_equals_the_published_graph(generator):
    assert relative_error(generator.map(arr("z", 2, 512)), figures("random_face")["w"]) < HALF_PRECISION


@pytest.mark.parametrize(
    ("rows_of", "figure", "view"),
    [
        ("plain", "image", small),
        ("plain", "crop", lambda picture: picture[:, :, 496:528, 496:528]),
        ("mixed", "mixed", small),
        ("mixed", "mixed_crop", lambda picture: picture[:, :, 496:528, 496:528]),
    ],
)
def test_pictures_equal_the_published_graph(pictures, rows_of, figure, view):
    assert relative_error(view(pictures[rows_of]), figures("random_face")[figure]) < HALF_PRECISION


@pytest.mark.parametrize("rows_of", ["plain", "mixed"])
def test_the_small_head_draws_what_the_pooled_picture_shows(generator, rows, pictures, rows_of):
    with torch.no_grad():
        error = generator.synthesize(rows[rows_of], HEAD_SIZE) - functional.adaptive_avg_pool2d(pictures[rows_of], 256)
    assert 10 * math.log10(4 / float(error.square().mean())) > 29


@pytest.mark.parametrize("size", [HEAD_SIZE, 1024])
def test_a_picture_drawn_in_strips_is_the_one_that_whole_maps_give(generator, rows, pictures, size):
    ws = rows["mixed"]
    with torch.no_grad():
        if size == HEAD_SIZE:
            strips, whole = generator.synthesize(ws, HEAD_SIZE), generator.head(generator.features(ws, 128), ws)
        else:
            strips, whole = pictures["mixed"][:1], generator.to_rgb(generator.features(ws[:1], 512), ws[:1, -1])
    assert (strips - whole).abs().max() < 2e-5


def test_one_row_stands_for_all(generator, rows):
    w = rows["plain"][:, 0]
    with torch.no_grad():
        assert torch.equal(generator.synthesize(w, HEAD_SIZE), generator.synthesize(rows["plain"], HEAD_SIZE))


def test_sizes_below_the_head_are_its_areas_and_sizes_above_the_whole_pictures(generator, rows, pictures):
    ws = rows["plain"][:1]
    with torch.no_grad():
        drawn = generator.synthesize(ws, HEAD_SIZE)
        assert torch.equal(generator.synthesize(ws, 64), functional.adaptive_avg_pool2d(drawn, 64))
        larger = functional.adaptive_avg_pool2d(pictures["plain"][:1], 512)
        assert relative_error(generator.synthesize(ws, 512), larger) < 1e-5


@pytest.mark.parametrize("row", range(11))
def test_a_row_changes_its_own_block_and_no_map_before_it(generator, rows, row):
    ws = rows["plain"][:1]
    changed = ws.clone()
    changed[:, row] += 0.5
    own = (row + 1) // 2  # blocks drawn when the row has spoken
    with torch.no_grad():
        assert not torch.equal(generator.features(ws, 4 << own), generator.features(changed, 4 << own))
        if own:
            assert torch.equal(generator.features(ws, 2 << own), generator.features(changed, 2 << own))


def test_late_rows_change_the_small_picture_and_none_of_the_features_under_it(generator, rows):
    ws = rows["plain"][:1].repeat(3, 1, 1)
    ws[1, 11] += 0.5  # the first picture stays as it was
    ws[2, 15] += 0.5
    with torch.no_grad():
        features = generator.features(ws, 128)
        drawn = generator.synthesize(ws, HEAD_SIZE)
    assert torch.allclose(features, features[:1].expand_as(features), atol=1e-4)
    assert (drawn[1:] - drawn[:1]).abs().mean((1, 2, 3)).min() > 1e-3


def test_gradients_reach_the_rows_and_no_weight(generator, rows):
    ws = rows["plain"][:1].clone().requires_grad_()
    generator.synthesize(ws, HEAD_SIZE).square().mean().backward()
    assert ws.grad is not None
    assert (ws.grad.flatten(2).norm(dim=2) > 0).all()
    assert not any(weight.requires_grad or weight.grad is not None for weight in generator.parameters())


def test_truncation_pulls_towards_the_average(generator):
    z = arr("z", 2, 512)
    halfway = generator.map(z, truncation=0.5)
    assert torch.allclose(halfway, (generator.map(z) + generator.w_avg) / 2, atol=1e-5)
    assert torch.allclose(generator.map(z, truncation=0.0), generator.w_avg.expand(2, -1), atol=1e-6)


def test_the_stored_average_and_deviation_are_those_of_mapped_noise(generator):
    w = generator.map(torch.randn(4000, 512, generator=torch.Generator().manual_seed(1)))
    assert relative_error(w.mean(0), generator.w_avg) < 0.05
    assert relative_error(w.std(0), generator.w_std) < 0.05


@pytest.mark.parametrize("shape", [(1, 15, 512), (1, 16, 511), (2, 511), (1, 1, 16, 512)])
def test_rows_of_another_shape_are_refused(generator, shape):
    with pytest.raises(ConfigError, match=r"\[batch, 16, 512\]"):
        generator.synthesize(torch.zeros(shape))


@pytest.mark.parametrize("size", [0, -1, 1025])
def test_a_size_it_cannot_draw_is_refused(generator, size):
    with pytest.raises(ConfigError, match="up to 1024 pixels"):
        generator.synthesize(torch.zeros(1, 512), size)


def test_another_output_size_is_refused():
    with pytest.raises(ValueError, match="1024"):
        MobileStyleGAN(GeneratorConfig(kind="mobilestylegan", size=512))


def test_the_inverse_haar_step_keeps_energy_and_its_low_band_is_twice_the_mean():
    bands = arr("bands", 2, 12, 4, 4)
    picture = inverse_haar(bands)
    assert torch.allclose(picture.square().sum(), bands.square().sum(), rtol=1e-5)
    assert torch.allclose(functional.avg_pool2d(picture, 2) * 2, bands[:, :3], atol=1e-6)


def test_no_rows_draw_no_pictures(generator):
    with torch.no_grad():
        assert generator.synthesize(torch.zeros(0, 16, 512), HEAD_SIZE).shape == (0, 3, HEAD_SIZE, HEAD_SIZE)


def test_a_generator_of_another_precision_takes_the_same_rows(generator, rows):
    with torch.no_grad():
        drawn = copy.deepcopy(generator).bfloat16().synthesize(rows["plain"][:1], HEAD_SIZE)
        assert drawn.dtype == torch.bfloat16
        assert relative_error(drawn.float(), generator.synthesize(rows["plain"][:1], HEAD_SIZE)) < 0.05


@torch.no_grad()
def test_mixed_precision_changes_pictures_by_four_levels_at_most(generator, rows, pictures):
    mixed, plain = copy.deepcopy(generator), pictures["plain"][:1].clamp(-1, 1)
    mixed.mix_precision()
    difference = 127.5 * (mixed.synthesize(rows["plain"][:1]).clamp(-1, 1) - plain).abs()
    assert 0 < difference.mean() < 0.3 and difference.max() < 4.5
    together, alone = (mixed.features(ws, 64)[:1] for ws in (rows["plain"], rows["plain"][:1]))
    assert relative_error(together, alone) < 0.2 * relative_error(generator.features(rows["plain"][:1], 64), alone)
    low, small = (copy.deepcopy(generator).to(dtype) for dtype in (torch.bfloat16, torch.float32))
    first, second = (own.synthesize(rows["plain"][:1], HEAD_SIZE).float().clamp(-1, 1) for own in (low, small))
    difference = 127.5 * (first - second).abs()
    assert generator.fits_bf16 and 0 < difference.mean() < 0.8 and difference.max() < 24


def test_mixed_precision_leaves_gradients_as_they_are(generator, rows):
    mixed = copy.deepcopy(generator)
    mixed.mix_precision()
    gradients = []
    for network in (generator, mixed):
        ws = rows["mixed"][:1].clone().requires_grad_()
        network.synthesize(ws, 64).square().sum().backward()
        gradients.append(ws.grad)
    assert torch.equal(*gradients)
