"""StyleGAN3: the published images, transforms, and reading and writing NVIDIA's files."""

import dataclasses
import json
from typing import Any

import pytest
import torch
from torch import Tensor

import pixel2style as p2s
from pixel2style.config import AliasFreeConfig, EncoderConfig, GeneratorConfig, ModelConfig
from pixel2style.errors import CheckpointError, ConfigError
from pixel2style.generators.stylegan3 import nvidia
from pixel2style.generators.stylegan3.network import StyleGAN3, bands, channels_of, placement
from pixel2style.models.encoders import build
from pixel2style.models.psp import PSP
from pixel2style.ops import area
from pixel2style.training import loop
from tests.support.golden_rule import GOLDEN, arr, figures, relative_error, weights
from tests.support.small_run import SHAPE, small_config

pytestmark = pytest.mark.usefixtures("one_thread")

R = AliasFreeConfig(kernel=1, radial=True)


def small(kind: str = "t", **changes: Any) -> GeneratorConfig:
    """32 pixels in six layers."""
    given = AliasFreeConfig(layers=6, kernel=1 if kind == "r" else 3, radial=kind == "r")
    config = GeneratorConfig(kind="stylegan3", size=32, width=16, mapping_layers=2, channels=(8,) * 7, clamp=256.0)
    return dataclasses.replace(config, **{"alias_free": given, **changes})


ODD = {
    "T": small(),
    "R": small("r"),
    "8": GeneratorConfig(
        kind="stylegan3", size=8, width=5, mapping_layers=1, channels=(7, 7, 7, 5),
        alias_free=AliasFreeConfig(layers=3, critical=1, first_cutoff=1.5, first_stopband=3.0, margin=3),
    ),
    "labels": small(channels=(9, 9, 9, 9, 7, 4, 4), noise_width=11, classes=3, clamp=0.5),
    "usual channels": GeneratorConfig(
        kind="stylegan3", size=32, width=6, mapping_layers=2, channel_multiplier=1,
        alias_free=AliasFreeConfig(layers=2, critical=1, kernel=1),
    ),
    "odd filters": GeneratorConfig(
        kind="stylegan3", size=16, width=6, mapping_layers=3, channels=(6,) * 5, clamp=256.0,
        alias_free=AliasFreeConfig(
            layers=4, critical=0, filter_size=4, lrelu_upsampling=4, margin=6, kernel=1, radial=True,
            last_stopband_rel=1.5, output_scale=0.5,
        ),
    ),
    "coarse non-linearity": small(alias_free=AliasFreeConfig(layers=6, lrelu_upsampling=1)),
}  # fmt: skip


def golden(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return weights(name), json.loads((GOLDEN / f"{name}.init_kwargs.json").read_text())


def random(config: GeneratorConfig) -> StyleGAN3:
    """A generator whose every number is random, so that none can be exchanged for another unseen."""
    generator = StyleGAN3(config)
    for key, value in generator.state_dict().items():
        drawn = arr(key, *value.shape, 1)[..., 0]
        value.copy_(1 + drawn.abs() if key.endswith("magnitude_ema") else drawn)
    return generator.eval()


@pytest.fixture(scope="module", params=["t", "r"])
def drawn(request: pytest.FixtureRequest) -> tuple[str, StyleGAN3, Tensor]:
    """T or R with weights as training begins with, and rows."""
    torch.manual_seed(0)
    generator = StyleGAN3(small(request.param))
    return request.param, generator, generator.map(torch.randn(1, 16))


def decibels(one: Tensor, other: Tensor) -> float:
    """Peak signal-to-noise ratio, of the range of ``other``."""
    return float(10 * torch.log10((other.max() - other.min()) ** 2 / (one - other).square().mean()))


@pytest.mark.parametrize("kind", ["t", "r"])
def test_pictures_equal_the_published_ones(kind):
    generator = nvidia.stylegan3(*golden(f"stylegan3_{kind}_64"), "a file")
    published = figures(f"stylegan3_{kind}_64")
    w = generator.map(arr("z", 2, 512))
    assert relative_error(w, published["w"]) < 1e-5
    assert relative_error(generator.synthesize(w), published["image"]) < 1e-5


@pytest.mark.parametrize("kind", ["t", "r"])
def test_missing_arguments_follow_from_the_tensors(kind):
    state, told = golden(f"stylegan3_{kind}_64")
    assert nvidia.stylegan3(state, {}, "a file").config == nvidia.stylegan3(state, told, "a file").config


def test_truncation_pulls_towards_the_average():
    generator = random(small())
    z = arr("z", 2, 16)
    torch.testing.assert_close(
        generator.map(z, truncation=0.7), generator.w_avg + 0.7 * (generator.map(z) - generator.w_avg)
    )


def test_a_picture_does_not_depend_on_its_batch(drawn):
    _, generator, w = drawn
    others = torch.cat([w, 30 * torch.randn(2, 16)])
    torch.testing.assert_close(generator.synthesize(others)[:1], generator.synthesize(w), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("right", "down"), [(4, 0), (0, 4), (3, -5)])
def test_a_translation_moves_the_picture(drawn, right, down):
    _, generator, w = drawn
    moved = generator.synthesize(w, transform=placement((right / 32, down / 32)))
    expected = generator.synthesize(w).roll((down, right), (2, 3))
    inside = ..., slice(5, -5), slice(5, -5)
    assert decibels(moved[inside], expected[inside]) > 60


def test_a_quarter_turn_turns_the_picture_of_r_but_not_of_t(drawn):
    kind, generator, w = drawn
    turned = generator.synthesize(w, transform=placement(rotate=90))
    assert (decibels(turned, generator.synthesize(w).rot90(1, (2, 3))) > 60) == (kind == "r")


def test_a_picture_is_turned_before_it_is_moved():
    torch.manual_seed(0)
    generator = StyleGAN3(small("r"))
    w = generator.map(torch.randn(1, 16))
    both = generator.synthesize(w, transform=placement((4 / 32, 0), 90))
    expected = generator.synthesize(w).rot90(1, (2, 3)).roll(4, 3)
    assert decibels(both[..., 5:-5, 5:-5], expected[..., 5:-5, 5:-5]) > 60


def test_every_picture_may_have_a_place_of_its_own(drawn):
    _, generator, w = drawn
    places = torch.stack([placement(), placement((0.25, 0.1))])
    both = generator.synthesize(w.expand(2, -1), transform=places)
    for picture, place in zip(both, places, strict=True):
        torch.testing.assert_close(picture[None], generator.synthesize(w, transform=place))


def test_the_stored_place_holds_where_none_is_given(drawn):
    _, generator, w = drawn
    place = placement((0.1, 0.2), 10)
    expected = generator.synthesize(w, transform=place)
    generator.input.transform.copy_(place)
    torch.testing.assert_close(generator.synthesize(w), expected)
    generator.input.transform.copy_(torch.eye(3))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (3, 3, 3)])
def test_a_transform_that_does_not_fit_is_refused(drawn, shape):
    _, generator, w = drawn
    with pytest.raises(ConfigError, match=r"a transform is \[3, 3\]"):
        generator.synthesize(w, transform=torch.zeros(shape))


def test_smaller_pictures_average_areas(drawn):
    _, generator, w = drawn
    torch.testing.assert_close(generator.synthesize(w, 12), area(generator.synthesize(w), 12))


@pytest.mark.parametrize("kind", ["t", "r"])
def test_gradients_reach_every_row_and_no_weight(kind):
    generator = random(small(kind))
    ws = torch.randn(2, generator.rows, 16, requires_grad=True)
    generator.synthesize(ws).square().sum().backward()
    assert ws.grad is not None and bool((ws.grad.abs().sum((0, 2)) > 0).all())
    assert all(parameter.grad is None for parameter in generator.parameters())


def test_gradients_of_rows_are_slopes():
    generator = random(small()).double()
    ws = torch.randn(1, generator.rows, 16, dtype=torch.float64, requires_grad=True)
    way = torch.randn_like(ws)

    def value(ws: Tensor) -> Tensor:
        return generator.synthesize(ws).square().mean()

    (slope,) = torch.autograd.grad(value(ws), ws)
    step = 1e-6
    measured = (value(ws + step * way) - value(ws - step * way)) / (2 * step)
    assert float((slope * way).sum()) == pytest.approx(float(measured.detach()), rel=1e-4)


def test_weights_get_gradients_on_request():
    generator = random(small()).requires_grad_(True)
    generator.synthesize(generator.map(arr("z", 1, 16))).square().sum().backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())


def test_bfloat16_draws_about_the_same(drawn):
    _, generator, w = drawn
    exact = generator.synthesize(w)
    with torch.autocast("cpu", torch.bfloat16):
        rough = generator.synthesize(w)
    assert relative_error(rough.float(), exact) < 0.05


def test_a_label_decides_what_is_drawn():
    generator = random(ODD["labels"])
    z = arr("z", 2, 11)
    one, other = (generator.map(z, labels=torch.eye(3)[label].expand(2, -1)) for label in (0, 2))
    assert one.shape == (2, 16) and not torch.allclose(one, other)
    with pytest.raises(ConfigError, match="class-conditional"):
        generator.map(z)


@pytest.mark.parametrize("name", ODD)
def test_our_generators_round_trip_through_nvidias_layout(name):
    generator = random(ODD[name])
    state, told = nvidia.stylegan3_state(generator)
    back = nvidia.stylegan3(state, told, "a file")
    # a table that a multiplier says comes back as the multiplier
    assert channels_of(back.config) == channels_of(generator.config)
    like = {"channels": (), "channel_multiplier": 2, "alias_free": None}
    assert dataclasses.replace(back.config, **like) == dataclasses.replace(generator.config, **like)
    assert back.config.alias_free == (generator.config.alias_free or AliasFreeConfig())
    assert all(torch.equal(value, back.state_dict()[key]) for key, value in generator.state_dict().items())
    again, told_again = nvidia.stylegan3_state(back)
    assert told_again == told and again.keys() == state.keys()
    assert all(torch.equal(value, again[key]) for key, value in state.items())


@pytest.mark.parametrize("kind", ["t", "r"])
def test_published_files_round_trip(kind):
    state, told = golden(f"stylegan3_{kind}_64")
    back, told_back = nvidia.stylegan3_state(nvidia.stylegan3(state, told, "a file"))
    assert back.keys() == state.keys()
    assert all(torch.allclose(value, state[key], atol=1e-7) for key, value in back.items())
    assert told_back.items() >= told.items()


@pytest.mark.parametrize(
    ("size", "base", "most"), [(256, 32768, 512), (512, 32768, 512), (1024, 32768, 512), (1024, 65536, 1024)]
)
def test_published_sizes_have_the_channels_and_sides_that_files_of_theirs_have(size, base, most):
    config = GeneratorConfig(kind="stylegan3", size=size)
    cutoffs = [band.cutoff for band in bands(config)[:-1]]
    channels = [round(min(base / 2 / cutoff, most)) for cutoff in cutoffs]
    config = dataclasses.replace(config, channels=(channels[0], *channels))
    assert nvidia._channel_rule(config) == (base, most)
    if (size, most) == (1024, 512):
        assert channels == channels_of(GeneratorConfig(kind="stylegan3"))[1:]
        assert [band.size for band in bands(config)] == [
            36, 36, 52, 52, 84, 148, 148, 276, 276, 532, 1044, 1044, 1044, 1024, 1024
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told", "complaint"),
    [
        ({}, {"first_cutoff": 2.5}, "is another filter"),
        ({}, {"filter_size": 8}, "is another filter"),
        ({}, {"margin_size": 8}, "would have 32 pixels"),
        ({}, {"margin_size": "ten"}, "its margin_size is ten"),
        ({}, {"filter_size": 10**9}, "its filter_size is"),
        ({}, {"first_cutoff": float("nan")}, "its first_cutoff is nan"),
        ({}, {"first_cutoff": 64.0}, "no StyleGAN3 can have"),
        ({}, {"num_critical": 14}, "no StyleGAN3 can have"),
        ({}, {"mapping_kwargs": {"lr_multiplier": 1}}, "lr_multiplier"),
        ({"synthesis.L3_36_128.up_filter": torch.ones(12) / 12}, {}, "L3_36_128.up_filter is another filter"),
        ({"synthesis.L3_36_128.down_filter": torch.ones(3)}, {}, "L3_36_128.down_filter is another filter"),
        ({"synthesis.L3_36_128.bias": None}, {}, "missing"),
        ({"synthesis.L3_36_128.weight": torch.ones(2)}, {}, "of another kind"),
        ({"synthesis.input.phases": torch.ones(3)}, {}, "of another kind"),
        ({"synthesis.extra": torch.ones(2)}, {}, "not part of it"),
        ({"synthesis.L15_64_3.weight": torch.ones(2)}, {}, "would have"),
        ({"synthesis.L99_64_3.weight": torch.ones(2)}, {}, "no layers that a StyleGAN3 could have"),
        ({"synthesis.L15_64_4.weight": torch.ones(2)}, {}, "of 4 channels"),
    ],
)
def test_what_does_not_agree_is_refused_in_one_sentence(change, told, complaint):
    state, _ = golden("stylegan3_t_64")
    state = {key: value for key, value in {**state, **change}.items() if value is not None}
    with pytest.raises(CheckpointError, match=complaint) as caught:
        nvidia.stylegan3(state, told, "a file")
    assert "\n" not in str(caught.value)


def test_a_file_whose_filters_would_have_no_end_is_refused():
    first = {"weight": (8, 8, 1, 1), "bias": (8,)}
    state = {
        f"synthesis.L{n}_{side}_8.{key}": torch.ones(shape)
        for n, side in ((0, 22), (1, 4096))
        for key, shape in first.items()
    }
    state["synthesis.L2_4096_3.bias"] = torch.ones(3)
    told = {"margin_size": 10, "num_critical": 1, "first_cutoff": 0.5, "first_stopband": 1.0, "filter_size": 64}
    with pytest.raises(CheckpointError, match="taps, more than"):
        nvidia.stylegan3(state, told, "a file")


def test_channels_that_nvidias_code_cannot_have_are_not_written():
    with pytest.raises(ConfigError, match="keep it in our own format"):
        nvidia.stylegan3_state(random(small(channels=(8, 8, 4, 8, 3, 9, 2))))


def test_an_average_is_found_where_a_file_has_none():
    generator = random(small())
    state, told = nvidia.stylegan3_state(generator)
    del state["mapping.w_avg"]
    found = nvidia.stylegan3(state, told, "a file").w_avg
    expected = generator.map(torch.randn(4096, 16, generator=torch.Generator().manual_seed(5))).mean(0)
    assert relative_error(found, expected) < 0.2


@pytest.mark.parametrize(
    "config",
    [
        small(size=33),
        small(size=4),
        small(channels=(8, 8)),
        small(alias_free=AliasFreeConfig(layers=2, critical=2)),
        small(alias_free=AliasFreeConfig(first_cutoff=20)),
        small(alias_free=AliasFreeConfig(first_stopband=1e300)),
        small(alias_free=AliasFreeConfig(first_cutoff=1e-300, first_stopband=1e-200)),
        small(size=65536, channels=(), alias_free=AliasFreeConfig(layers=2, critical=1)),
        small(alias_free=AliasFreeConfig(last_stopband_rel=0.5)),
    ],
)
def test_configurations_of_no_network_are_refused(config):
    with pytest.raises(ConfigError):
        StyleGAN3(config)


@pytest.mark.parametrize("name", ODD)
def test_our_files_bring_a_stylegan3_back(name, tmp_path):
    generator = random(ODD[name])
    p2s.save(generator, tmp_path / "generator.safetensors")
    back = p2s.load_generator(tmp_path / "generator.safetensors")
    assert isinstance(back, StyleGAN3) and back.config == generator.config
    ws = torch.randn(1, generator.rows, generator.width)
    torch.testing.assert_close(back.synthesize(ws), generator.synthesize(ws), rtol=0, atol=0)


def test_psp_encodes_into_a_stylegan3_and_back_out_of_a_file(tmp_path):
    generator = random(small("r"))
    encoder = EncoderConfig(**{**dataclasses.asdict(SHAPE), "rows": generator.rows, "width": generator.width})
    config = ModelConfig(encoder=encoder, generator=generator.config)
    model = PSP(build(encoder), generator, config, generator.w_avg).eval()
    p2s.save(model, tmp_path / "model.safetensors")
    photograph = torch.rand(1, 3, 48, 48) * 2 - 1
    back = p2s.load(tmp_path / "model.safetensors")
    picture = model.decode(model.encode(photograph))
    assert picture.shape == (1, 3, 32, 32)
    torch.testing.assert_close(back.decode(back.encode(photograph)), picture)


@pytest.mark.slow
def test_a_run_trains_into_a_stylegan3(tmp_path):
    p2s.save(random(small()), tmp_path / "stylegan3.safetensors")
    config = small_config(tmp_path / "run", generator=str(tmp_path / "stylegan3.safetensors"), steps=2, save_every=2)
    before = {
        key: value.clone() for key, value in p2s.load_generator(tmp_path / "stylegan3.safetensors").state_dict().items()
    }
    model = loop.fit(config).model
    assert isinstance(model.generator, StyleGAN3) and model.encoder.config.rows == 8
    assert all(torch.equal(value, before[key]) for key, value in model.generator.state_dict().items())
