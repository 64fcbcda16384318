"""Generators in the layout of rosinality's code and its forks: reading, and writing for it."""

import json

import pytest
import torch
from torch import Tensor

from pixel2style.config import GeneratorConfig
from pixel2style.errors import CheckpointError, ConfigError
from pixel2style.generators.sampling import average_w
from pixel2style.generators.stylegan2 import rosinality, sizes
from pixel2style.generators.stylegan2.network import StyleGAN2
from tests.support.golden_rule import GOLDEN, arr, relative_error, weights

pytestmark = pytest.mark.usefixtures("one_thread")

AVERAGE = arr("latent_avg", 1, 24, scale=0.3)


def random(**sizes: object) -> StyleGAN2:
    """A generator whose every number is random."""
    config = GeneratorConfig(**{"size": 16, "width": 24, "mapping_layers": 2, "channels": (6, 5, 4), **sizes})
    generator = StyleGAN2(config)
    for key, value in generator.state_dict().items():
        value.copy_(arr(key, *value.shape))
    return generator.eval()


def written(generator: StyleGAN2) -> dict[str, Tensor]:
    """Its tensors in the layout, whether or not rosinality's code has room for such sizes."""
    state = {key: value for key, value in generator.state_dict().items() if key != "w_avg"}
    for level in range(generator.size.bit_length() - 3):
        kernel = torch.tensor([1.0, 3.0, 3.0, 1.0])
        state[f"convs.{2 * level}.conv.blur.kernel"] = torch.outer(kernel, kernel) / 16
        state[f"to_rgbs.{level}.upsample.kernel"] = torch.outer(kernel, kernel) / 16
    return {key: value[None] if rosinality.MODULATED.fullmatch(key) else value for key, value in state.items()}


def read(state: dict[str, Tensor], average: Tensor | None = AVERAGE) -> StyleGAN2:
    return rosinality.generator(rosinality.plain(state), average, "file.pt")


def same(a: StyleGAN2, b: StyleGAN2) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours if key != "w_avg")


ODD = {
    "a fork's narrow table": {"size": 64, "channels": (64, 64, 64, 64, 32)},
    "half of the table": {"size": 128, "channels": (8, 8, 8, 8, 4, 2)},
    "a cap": {"size": 64, "channels": (5, 5, 5, 5, 5)},
    "odd numbers": {"size": 32, "channels": (3, 5, 7, 9)},
    "the smallest": {"size": 8, "channels": (2, 1), "mapping_layers": 1},
    "the largest": {"size": 1024, "channels": (4, 4, 4, 4, 3, 3, 2, 2, 1), "mapping_layers": 10},
    "narrow noise": {"noise_width": 7},
}


@pytest.mark.parametrize("what", ODD)
def test_any_channels_sizes_and_depths_are_read_off_the_tensors(what):
    generator = random(**ODD[what])
    back = read(written(generator))
    assert back.config == generator.config
    assert same(back, generator) and torch.equal(back.w_avg, AVERAGE[0])


@pytest.mark.parametrize(
    ("size", "multiplier", "said"), [(8, 2, 2), (32, 1, 2), (64, 1, 1), (128, 3, 3), (256, 4, 4), (1024, 2, 2)]
)
def test_the_usual_table_is_recognised_as_a_multiplier(size, multiplier, said):
    with torch.device("meta"):
        generator = StyleGAN2(GeneratorConfig(size=size, width=24, channel_multiplier=multiplier))
    assert sizes.generator(generator.state_dict()) == GeneratorConfig(size=size, width=24, channel_multiplier=said)


@pytest.mark.parametrize("size", [8, 16, 64])
@pytest.mark.parametrize("layers", [1, 8])
def test_what_leaves_comes_back_bit_for_bit(size, layers):
    generator = random(size=size, channels=(), channel_multiplier=1 if size > 32 else 2, mapping_layers=layers, width=8)
    content = rosinality.state(generator)
    back = read(content["g_ema"], content["latent_avg"][None])
    assert back.config == generator.config
    assert same(back, generator) and torch.equal(back.w_avg, generator.w_avg)


def test_rosinalitys_files_are_written_as_they_were_read():
    state = weights("generator_64_cm2")
    content = rosinality.state(read(state, arr("mean_latent", 1, 512, scale=0.3)))
    assert content["g_ema"].keys() == state.keys()
    assert all(torch.equal(content["g_ema"][key], state[key]) for key in state)
    assert torch.equal(content["latent_avg"], arr("mean_latent", 512, scale=0.3))


@pytest.mark.parametrize("name", ["generator_256_cm1", "generator_256_cm2", "generator_1024_cm2"])
def test_every_published_name_and_shape_is_written(name):
    published = {
        key: tuple(how["shape"]) for key, how in json.loads((GOLDEN / f"{name}.manifest.json").read_text()).items()
    }
    plain = rosinality.plain({key: torch.empty(shape, device="meta") for key, shape in published.items()})
    with torch.device("meta"):
        generator = StyleGAN2(sizes.generator(plain))
    ours = {key: tuple(value.shape) for key, value in written(generator).items()}
    assert ours == published


REFUSED = {
    "takes labels": {"classes": 3},
    "clamps its features": {"clamp": 256},
    "maps 7 numbers to 24": {"noise_width": 7},
    "has 6, 5, 4 channels": {},
}


@pytest.mark.parametrize("what", REFUSED)
def test_generators_that_rosinalitys_code_cannot_build_are_not_written(what):
    sizes = REFUSED[what] or {"channels": (6, 5, 4)}
    with pytest.raises(ConfigError, match=f"this generator {what}, .* choose nvidia-state"):
        rosinality.state(random(**{"channels": (), **sizes}))


def test_channels_given_as_a_list_are_written_too():
    generator = random(size=8, channels=(512, 512))
    content = rosinality.state(generator)
    assert same(read(content["g_ema"]), generator)


def test_pictures_that_are_not_square_are_refused_in_one_sentence():
    state = written(random())
    state["input.input"] = arr("input", 1, 6, 4, 8)
    with pytest.raises(CheckpointError, match=r"^file\.pt: starts from a constant of 4x8"):
        read(state)


def test_a_file_without_noise_gets_the_same_noise_on_every_loading():
    generator = random()
    state = {key: value for key, value in written(generator).items() if not key.startswith("noises.")}
    once, twice = read(state), read(state)
    assert same(once, twice)
    noise = torch.cat([value.flatten() for value in once.noises.buffers()])
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
    w = arr("w", 1, 24)
    quiet = generator.synthesize(w, noise=False)
    assert torch.equal(once.synthesize(w, noise=False), quiet)
    assert relative_error(once.synthesize(w), quiet) > 1e-3


def test_a_file_that_lacks_some_of_its_noise_is_refused():
    state = {key: value for key, value in written(random()).items() if key != "noises.noise_1"}
    with pytest.raises(CheckpointError, match=r"1 missing \(noises\.noise_1\)"):
        read(state)


def test_another_filter_is_refused():
    state = {**written(random()), "to_rgbs.1.upsample.kernel": torch.full((4, 4), 0.25)}
    with pytest.raises(CheckpointError, match=r"to_rgbs\.1\.upsample\.kernel is not \[1, 3, 3, 1\]"):
        read(state)


def test_without_an_average_the_mapped_samples_have_one():
    generator = read(written(random()), None)
    assert torch.equal(generator.w_avg, average_w(generator))


def test_what_is_written_is_a_copy():
    generator = random(channels=(), size=8)
    for value in rosinality.state(generator)["g_ema"].values():
        value.zero_()
    assert generator.conv1.conv.weight.abs().max() > 0
