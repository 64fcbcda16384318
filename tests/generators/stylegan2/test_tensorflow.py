"""TensorFlow's generators give the same images as a reference in TensorFlow's order of operations."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pixel2style.checkpoints import foreign
from pixel2style.checkpoints.layouts import nvidia_pickle
from pixel2style.errors import CheckpointError
from pixel2style.generators.stylegan2.network import StyleGAN2
from tests.support.tensorflow_pickles import WIDTH, variables, written

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 16


def opened(folder: Path, found: dict[str, Tensor], **static: Any) -> StyleGAN2:
    """The generator in a file of these variables."""
    made = foreign.load_generator(written(folder, found, **static))
    assert type(made) is StyleGAN2
    return made


def lrelu(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2) * math.sqrt(2)


def spread(x: Tensor) -> Tensor:
    """Zeros between pixels: ``[b c h w] -> [b c 2h 2w]``."""
    made = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    made[:, :, ::2, ::2] = x
    return made


def filtered(x: Tensor, before: int, after: int) -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(taps, taps) / 64 * 4
    x = functional.pad(x, (before, after, before, after))
    return functional.conv2d(x.flatten(0, 1)[:, None], kernel[None, None]).reshape(*x.shape[:2], x.shape[2] - 3, -1)


def modulated(x: Tensor, w: Tensor, part: dict[str, Tensor], demodulate: bool = True) -> tuple[Tensor, Tensor]:
    """Scaled features, and the scaled weight ``[b h w i o]`` in TensorFlow's axes."""
    kernel = part["weight"]
    kernel = kernel / math.sqrt(kernel[..., 0].numel())
    style = w @ (part["mod_weight"] / math.sqrt(WIDTH)) + part["mod_bias"] + 1
    scaled = kernel[None] * style[:, None, None, :, None]
    if demodulate:
        scaled = scaled * torch.rsqrt(scaled.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8)
    return x, scaled


def convolved(x: Tensor, kernels: Tensor, up: bool = False) -> Tensor:
    """TensorFlow's convolution is correlation with ``[h w i o]``; doubling spreads the pixels first."""
    out = []
    for picture, kernel in zip(x, kernels, strict=True):
        picture, turned = picture[None], kernel.permute(3, 2, 0, 1)
        if up:
            full = functional.conv2d(functional.pad(spread(picture), (2, 1, 2, 1)), turned)
            out.append(filtered(full, 1, 1))
        else:
            out.append(functional.conv2d(picture, turned, padding=kernel.shape[0] // 2))
    return torch.cat(out)


def reference(found: dict[str, Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and picture as TensorFlow's StyleGAN2 defines them (arXiv 1912.04958, section 2.2 and appendix B)."""

    def part(name: str) -> dict[str, Tensor]:
        prefix = f"synthesis/{name}/"
        return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}

    w = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
    for n in range(3):
        kernel, bias = found[f"mapping/Dense{n}/weight"], found[f"mapping/Dense{n}/bias"]
        w = lrelu(w @ (kernel * 0.01 / math.sqrt(WIDTH)) + bias * 0.01)

    def styled(x: Tensor, name: str, noise: int, up: bool = False) -> Tensor:
        own = part(name)
        x = convolved(*modulated(x, w, own), up=up)
        return lrelu(x + found[f"synthesis/noise{noise}"] * own["noise_strength"] + own["bias"][:, None, None])

    def colours(x: Tensor, name: str) -> Tensor:
        own = part(name)
        return convolved(*modulated(x, w, own, demodulate=False)) + own["bias"][:, None, None]

    x = found["synthesis/4x4/Const/const"].expand(len(z), -1, -1, -1)
    x = styled(x, "4x4/Conv", 0)
    image = colours(x, "4x4/ToRGB")
    for n, side in enumerate((8, 16)):
        x = styled(x, f"{side}x{side}/Conv0_up", 2 * n + 1, up=True)
        x = styled(x, f"{side}x{side}/Conv1", 2 * n + 2)
        image = filtered(spread(image), 2, 1) + colours(x, f"{side}x{side}/ToRGB")
    return w, image


@torch.no_grad()
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_generator_draws_what_tensorflows_definition_draws(protocol: int, tmp_path: Path) -> None:
    found = variables()
    generator = opened(tmp_path, found, protocol=protocol)
    z = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(1))
    ws, image = reference(found, z)
    torch.testing.assert_close(generator.map(z), ws, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(generator.synthesize(ws), image, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(generator.w_avg, found["dlatent_avg"])
    assert (generator.size, generator.width, generator.rows) == (SIZE, WIDTH, 6)


def test_a_weight_that_were_not_turned_would_draw_something_else(tmp_path: Path) -> None:
    found = variables()
    turned = {key: value.flip(0, 1) if key.endswith("Conv0_up/weight") else value for key, value in found.items()}
    z = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(1))
    ours = opened(tmp_path, turned)
    assert (ours.synthesize(ours.map(z)) - reference(found, z)[1]).abs().max() > 0.1


def test_the_three_networks_of_a_file_are_identified_with_their_arguments(tmp_path: Path) -> None:
    path = written(tmp_path, variables(), fmap_base=16 << 10, resample_kernel=[1, 3, 3, 1])
    assert {name: network.family for name, network in nvidia_pickle.networks(path).items()} == {
        "G": "stylegan2-tf", "D": "discriminator", "Gs": "stylegan2-tf"
    }  # fmt: skip
    told = nvidia_pickle.networks(path)["Gs"].built_with
    assert (told["fmap_base"], told["synthesis_func"]) == (16 << 10, "G_synthesis_stylegan2")
    assert foreign.load_generator(path).size == SIZE


def test_numbers_of_no_axes_are_variables_like_others(tmp_path: Path) -> None:
    found = variables()
    network = nvidia_pickle.networks(written(tmp_path, found))["Gs"]
    assert network.shapes() == {name: tuple(value.shape) for name, value in found.items()}
    key = "synthesis/8x8/Conv1/noise_strength"
    assert torch.equal(network.weights()["synthesis.b8.conv1.noise_strength"], found[key])


@pytest.mark.parametrize("version", [4, 5])
def test_adas_labels_and_clamp_are_kept(version: int, tmp_path: Path) -> None:
    generator = opened(tmp_path, variables(labels=4), version=version, conv_clamp=256)
    assert (generator.config.classes, generator.config.clamp) == (4, 256)


def changed(**changes: Tensor) -> dict[str, Tensor]:
    return {**variables(), **{key.replace("__", "/"): value for key, value in changes.items()}}


def renamed(old: str, new: str) -> dict[str, Tensor]:
    return {key.replace(old, new): value for key, value in variables().items()}


REFUSED: dict[str, tuple[dict[str, Tensor], dict[str, Any], str]] = {
    "StyleGAN": (variables(), {"version": 3}, "before StyleGAN2"),
    "configurations that grow": (renamed("16x16/ToRGB", "ToRGB_lod0"), {}, "configuration A to D"),
    "labels that are not embedded": (changed(mapping__LabelConcat__weight=torch.ones(2, 2)), {}, "labels"),
    "another slope": (variables(), {"nonlinearity": "relu"}, "nonlinearity relu"),
    "another filter": (variables(), {"resample_kernel": [1, 2, 1]}, "resample_kernel"),
    "noise that is not normalised": (variables(), {"normalize_latents": False}, "normalize_latents False"),
    "another rate of mapping": (variables(), {"mapping_lrmul": 0.1}, "lr_multiplier"),
    "residual designs": (changed(synthesis__8x8__Skip__weight=torch.ones(1, 1, 8, 5)), {}, "resnet"),
    "unknown variables": (changed(synthesis__8x8__Extra__weight=torch.ones(1)), {}, "Extra"),
    "variables of other axes": (changed(synthesis__8x8__Conv1__weight=torch.ones(3)), {}, "axes"),
    "lacking one": (
        {key: value for key, value in variables().items() if key != "synthesis/8x8/Conv1/bias"},
        {},
        "missing",
    ),
    "nothing": ({}, {}, "no network known"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_drawn_otherwise_is_refused_by_name(name: str, tmp_path: Path) -> None:
    found, told, sentence = REFUSED[name]
    with pytest.raises(CheckpointError, match=f"network\\.pkl: .*{sentence}"):
        opened(tmp_path, found, **told)


@pytest.mark.parametrize("version", [2, 3])
def test_files_of_older_networks_say_so(version: int, tmp_path: Path) -> None:
    path = written(tmp_path, {"lod": torch.zeros(())}, build="G_style", version=version)
    with pytest.raises(CheckpointError, match=r"network\.pkl: is a TensorFlow network from before StyleGAN2"):
        foreign.load_generator(path)
