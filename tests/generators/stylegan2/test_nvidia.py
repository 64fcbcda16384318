"""NVIDIA's StyleGAN2 files: the same images, and round trips."""

import dataclasses
import json
from typing import Any

import pytest
import torch
from torch import Tensor

from pixel2style.config import GeneratorConfig
from pixel2style.errors import CheckpointError, ConfigError
from pixel2style.generators.sampling import average_w
from pixel2style.generators.stylegan2 import nvidia, sizes
from pixel2style.generators.stylegan2.network import StyleGAN2
from tests.support.golden_rule import GOLDEN, arr, figures, relative_error, small, weights

pytestmark = pytest.mark.usefixtures("one_thread")

TOLD = GeneratorConfig(size=16, width=24, mapping_layers=3, channels=(7, 5, 2), noise_width=12, classes=5, clamp=256)
CONFIGS = {
    "8": GeneratorConfig(size=8, width=24, mapping_layers=1, channels=(3, 3)),
    "16 with labels": TOLD,
    "32": GeneratorConfig(size=32, width=24, mapping_layers=10, channels=(7, 7, 7, 3), noise_width=512),
    "64": GeneratorConfig(size=64, width=16, mapping_layers=2, channel_multiplier=1),
    "256": GeneratorConfig(size=256, width=8, mapping_layers=4, channels=(9, 9, 9, 9, 9, 8, 4), clamp=0.5),
    "1024": GeneratorConfig(size=1024, width=8, mapping_layers=8, channels=(5, 5, 5, 5, 5, 5, 4, 2, 1), classes=2),
}


def golden(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return weights(name), json.loads((GOLDEN / f"{name}.init_kwargs.json").read_text())


def random(config: GeneratorConfig) -> StyleGAN2:
    """A generator whose every number is random, so that none can be exchanged for another unseen."""
    generator = StyleGAN2(config)
    for key, value in generator.state_dict().items():
        value.copy_(arr(key, *value.shape))
    return generator.eval()


def shapes(arguments: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the state of NVIDIA's ``Generator(**arguments)``."""
    z, c, w, size = (arguments[name] for name in ("z_dim", "c_dim", "w_dim", "img_resolution"))
    rule = arguments["synthesis_kwargs"]
    layers = arguments["mapping_kwargs"]["num_layers"]
    found: dict[str, tuple[int, ...]] = {"mapping.w_avg": (w,)}
    if c:
        found |= {"mapping.embed.weight": (w, c), "mapping.embed.bias": (w,)}
    for layer in range(layers):
        inputs = z + (w if c else 0) if layer == 0 else w
        found |= {f"mapping.fc{layer}.weight": (w, inputs), f"mapping.fc{layer}.bias": (w,)}
    before, side = 0, 4
    while side <= size:
        channels = min(rule["channel_base"] // side, rule["channel_max"])
        block = f"synthesis.b{side}"
        found[f"{block}.resample_filter"] = (4, 4)
        convs = {"conv0": before, "conv1": channels} if before else {"conv1": channels}
        if not before:
            found[f"{block}.const"] = (channels, 4, 4)
        for conv, inputs in convs.items():
            found |= {
                f"{block}.{conv}.weight": (channels, inputs, 3, 3),
                f"{block}.{conv}.bias": (channels,),
                f"{block}.{conv}.noise_strength": (),
                f"{block}.{conv}.noise_const": (side, side),
                f"{block}.{conv}.resample_filter": (4, 4),
                f"{block}.{conv}.affine.weight": (inputs, w),
                f"{block}.{conv}.affine.bias": (inputs,),
            }
        found |= {
            f"{block}.torgb.weight": (arguments["img_channels"], channels, 1, 1),
            f"{block}.torgb.bias": (arguments["img_channels"],),
            f"{block}.torgb.affine.weight": (channels, w),
            f"{block}.torgb.affine.bias": (channels,),
        }
        before, side = channels, 2 * side
    return found


@pytest.mark.parametrize("name", ["ada_64", "ada_128_auto"])
def test_pictures_equal_nvidias(name):
    generator = nvidia.stylegan2(*golden(name), "file.pkl")
    z = arr("z", 2, 512)
    w = generator.map(z)
    with torch.no_grad():
        ours = {
            "w": w,
            "truncated_w": generator.map(z, truncation=0.7),
            "image": small(generator.synthesize(w)),
            "none_noise": small(generator.synthesize(w, noise=False)),
        }
    published = figures(name)
    assert published.keys() == ours.keys()
    assert max(relative_error(ours[key], published[key]) for key in ours) < 1e-5


@pytest.mark.parametrize("name", ["ada_64", "ada_128_auto"])
def test_nvidias_files_are_written_as_they_were_read(name):
    state, told = golden(name)
    written, arguments = nvidia.stylegan2_state(nvidia.stylegan2(state, told, "file.pkl"))
    assert written.keys() == state.keys() == shapes(told).keys()
    assert all(torch.equal(written[key], state[key]) for key in state)
    told["synthesis_kwargs"]["num_fp16_res"] = 0
    assert arguments == told


@pytest.mark.parametrize("name", CONFIGS)
def test_what_leaves_comes_back_bit_for_bit(name):
    generator = random(CONFIGS[name])
    state, arguments = nvidia.stylegan2_state(generator)
    back = nvidia.stylegan2(state, arguments, "file.pt")
    assert back.config == generator.config
    ours, theirs = generator.state_dict(), back.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", CONFIGS)
def test_nvidias_code_builds_what_was_written_from_the_arguments_beside_it(name):
    state, arguments = nvidia.stylegan2_state(random(CONFIGS[name]))
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes(arguments)
    assert json.loads(json.dumps(arguments)) == arguments


def test_what_is_written_is_a_copy():
    generator = random(CONFIGS["8"])
    state, _ = nvidia.stylegan2_state(generator)
    for value in state.values():
        value.zero_()
    assert generator.w_avg.abs().min() > 0 and generator.conv1.conv.weight.abs().max() > 0


@pytest.mark.parametrize("channels", [(3, 5, 7), (8, 4, 4), (8, 7, 4), (4, 8, 4)])
def test_channels_that_nvidias_code_cannot_have_are_refused(channels):
    with pytest.raises(ConfigError, match=f"this generator has {channels[0]}, {channels[1]}, .* our own format"):
        nvidia.stylegan2_state(StyleGAN2(GeneratorConfig(size=16, width=8, mapping_layers=1, channels=channels)))


def test_the_arguments_say_nothing_of_sizes():
    state, _ = nvidia.stylegan2_state(random(TOLD))
    lies = {"z_dim": 3, "c_dim": 9, "img_resolution": 1024, "synthesis_kwargs": {"channel_base": 1, "conv_clamp": 256}}
    assert nvidia.stylegan2(state, lies, "file.pt").config == TOLD
    assert nvidia.stylegan2(state, {}, "file.pt").config == dataclasses.replace(TOLD, clamp=None)


@pytest.mark.parametrize(
    ("told", "clamp"),
    [
        ({"channel_base": 32768, "fused_modconv_default": "inference_only"}, 256),
        ({"channel_base": 32768, "conv_clamp": None}, None),
        ({"channel_base": 32768, "conv_clamp": 17}, 17),
        ({"channel_base": 32768, "synthesis_kwargs": {"channel_max": 512}}, None),
        ({"synthesis_kwargs": None, "mapping_kwargs": 3}, None),
    ],
)
def test_stylegan3s_code_clamps_by_default_and_adas_does_not(told, clamp):
    state, _ = nvidia.stylegan2_state(random(CONFIGS["8"]))
    assert nvidia.stylegan2(state, told, "file.pkl").config.clamp == clamp


@pytest.mark.parametrize("clamp", [0, -1, True, "256", float("nan"), float("inf"), [256]])
def test_a_clamp_that_is_none_is_refused(clamp):
    state, _ = nvidia.stylegan2_state(random(CONFIGS["8"]))
    with pytest.raises(CheckpointError, match=r"file\.pkl: its conv_clamp is .*, not a number above 0"):
        nvidia.stylegan2(state, {"synthesis_kwargs": {"conv_clamp": clamp}}, "file.pkl")


@pytest.mark.parametrize(
    ("part", "name", "value"), [("mapping", "lr_multiplier", 1), ("synthesis", "activation", "elu")]
)
def test_arguments_that_no_tensor_shows_are_refused_where_they_are_unusual(part, name, value):
    state, _ = nvidia.stylegan2_state(random(CONFIGS["8"]))
    with pytest.raises(CheckpointError, match=f"was built with {name} {value}; only"):
        nvidia.stylegan2(state, {f"{part}_kwargs": {name: value}}, "file.pkl")


def test_half_precision_becomes_float32():
    state, told = nvidia.stylegan2_state(random(TOLD))
    generator = nvidia.stylegan2({key: value.half() for key, value in state.items()}, told, "file.pkl")
    assert {value.dtype for value in generator.state_dict().values()} == {torch.float32}
    assert torch.equal(generator.embed.weight, state["mapping.embed.weight"].half().float())


def test_a_network_without_noise_or_average_is_read():
    state, told = nvidia.stylegan2_state(random(CONFIGS["32"]))
    lean = {key: value for key, value in state.items() if ".noise_" not in key and key != "mapping.w_avg"}
    generator = nvidia.stylegan2(lean, told, "file.pkl")
    w = arr("w", 1, 24)
    assert torch.equal(generator.synthesize(w), generator.synthesize(w, noise=False))
    assert torch.equal(generator.w_avg, average_w(generator))


REFUSED = {
    "a resnet": ({"synthesis.b8.skip.weight": arr("s", 5, 7, 1, 1)}, r'"resnet"'),
    "an orig": (
        {f"synthesis.b{side}.torgb.{part}": None for side in (4, 8) for part in ("weight", "bias")},
        r'"orig"',
    ),
    "grey": (
        {f"synthesis.b{side}.torgb.weight": arr("t", 1, c, 1, 1) for side, c in ((4, 7), (8, 5), (16, 2))},
        "of 1 channels; only those of 3, RGB",
    ),
    "another filter": (
        {"synthesis.b8.conv0.resample_filter": torch.full((4, 4), 1 / 16)},
        r"synthesis\.b8\.conv0\.resample_filter is not",
    ),
    "one lost": ({"synthesis.b8.conv0.weight": None}, r"1 missing \(synthesis\.b8\.conv0\.weight\)"),
    "one noise lost": ({"synthesis.b8.conv0.noise_const": None}, r"1 missing \(synthesis\.b8\.conv0\.noise_const\)"),
    "one too many": ({"synthesis.b8.conv2.weight": arr("x", 3)}, r"1 not part of it \(synthesis\.b8\.conv2\.weight\)"),
    "another shape": (
        {"synthesis.b16.conv1.affine.bias": arr("x", 3)},
        r"of another kind \(synthesis\.b16\.conv1\.affine\.bias \[3\] for \[2\]\)",
    ),
    "a wide constant": (
        {"synthesis.b4.const": arr("x", 7, 4, 8)},
        r"synthesis\.b4\.const \[7, 4, 8\] for \[1, 7, 4, 4\]",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_drawn_here_is_refused_by_name(what):
    changes, message = REFUSED[what]
    state, told = nvidia.stylegan2_state(random(TOLD))
    state = {key: value for key, value in {**state, **changes}.items() if value is not None}
    with pytest.raises(CheckpointError, match=f"^file\\.pkl: .*{message}"):
        nvidia.stylegan2(state, told, "file.pkl")


def test_every_level_that_sizes_reads_has_a_name():
    names = nvidia._names(sizes.MAX_DOUBLINGS, sizes.MAX_MAPPING)
    assert len(set(names.values())) == len(names)
    assert names["synthesis.b4096.torgb.bias"] == "to_rgbs.9.bias" and names["mapping.fc63.bias"] == "style.64.bias"
