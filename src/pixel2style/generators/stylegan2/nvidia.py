"""StyleGAN2 generators in NVIDIA's layout, that of stylegan2-ada-pytorch (arXiv 2006.06676), read and written.

The network and its values are those of ``network``. Names differ, some tensors have other axes of one, and every layer
stores its constant filter, which is checked and left out. ``arguments``, those that the generator in a file was built
with, give the clamp, which no tensor shows; they decide no size.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...config import GeneratorConfig
from ...errors import CheckpointError, ConfigError
from ...formats.meta_device import shapes_only
from ...formats.state_dicts import fill, is_constant, printable
from ...ops import FIR
from ..sampling import average_w, noise_width
from . import sizes
from .network import MAPPING_LR_MUL, StyleGAN2, channels_of

_STYLED = {
    "weight": "conv.weight",
    "noise_strength": "noise.weight",
    "bias": "activate.bias",
    "affine.weight": "conv.modulation.weight",
    "affine.bias": "conv.modulation.bias",
}
_TO_RGB = {
    "weight": "conv.weight",
    "bias": "bias",
    "affine.weight": "conv.modulation.weight",
    "affine.bias": "conv.modulation.bias",
}
DEFAULT_CLAMP = 256
_FLAT = {"channel_base", "channel_max", "num_fp16_res", "conv_clamp", "fused_modconv_default"}
"""StyleGAN3's repository passes these arguments to its StyleGAN2 directly, and clamps by default."""
_FILTER = re.compile(r"synthesis\.b\d+\.(conv[01]\.)?resample_filter")


def stylegan2(weights: Mapping[str, Tensor], arguments: Mapping[str, Any], source: str) -> StyleGAN2:
    """The generator with these tensors, in eval mode; ``arguments`` are those it was built with, as far as known.

    Without noise in the file, its noise has strength 0; without an average, ``w_avg`` is that of 100,000 samples.
    Raises CheckpointError when the tensors do not fit or belong to an unsupported design.
    """
    _check_design(weights, source)
    names = _names(sizes.MAX_DOUBLINGS, sizes.MAX_MAPPING)
    renamed = {names.get(key, key): value.float() for key, value in _without_filters(weights, source).items()}
    config = replace(sizes.generator(renamed), clamp=_clamp(arguments, source))
    with shapes_only():
        generator = StyleGAN2(config)
    own = generator.state_dict()
    given = {} if "w_avg" in renamed else {"w_avg": torch.zeros(config.width)}
    noise = [key for key in own if key.startswith("noises.") or key.endswith(".noise.weight")]
    if not any(key in renamed for key in noise):
        given |= {key: torch.zeros(own[key].shape) for key in noise}
    theirs = {ours: key for key, ours in names.items()}
    reshaped = {theirs.get(key, key): _with_axes(value, own.get(key)) for key, value in renamed.items()}
    fill(generator, reshaped, source, lambda key: theirs[key], given)
    if "w_avg" in given:
        generator.w_avg.copy_(average_w(generator))
    return generator.eval()


def stylegan2_state(generator: StyleGAN2) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state dict of NVIDIA's generator with the same values, and the arguments that build it.

    Raises ConfigError for channels that NVIDIA's code cannot have.
    """
    config = generator.config
    base, maximum = _channel_rule(channels_of(config))
    own = generator.state_dict()
    names = _names(generator.rows // 2 - 1, config.mapping_layers)
    state = {key: _without_axes(key, own[ours]) for key, ours in names.items() if ours in own}
    convs = [key.removesuffix(".noise_const") for key in state if key.endswith(".noise_const")]
    for layer in {name: None for conv in convs for name in (conv.rpartition(".")[0], conv)}:
        state[f"{layer}.resample_filter"] = _kernel()
    synthesis = {"channel_base": base, "channel_max": maximum, "num_fp16_res": 0, "conv_clamp": config.clamp}
    return copied(state), {**common_arguments(config), "synthesis_kwargs": synthesis}


def file_content(state: dict[str, Tensor], arguments: dict[str, Any]) -> dict[str, Any]:
    """The dictionary in a file of a state dict and the arguments that build its generator."""
    return {"G_ema": state, "init_kwargs": arguments}


def copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of tensors for a file: float32, on the CPU."""
    return {key: value.detach().float().cpu().clone() for key, value in state.items()}


def common_arguments(config: GeneratorConfig) -> dict[str, Any]:
    """The arguments that all of NVIDIA's generators have."""
    return {
        "z_dim": noise_width(config),
        "c_dim": config.classes,
        "w_dim": config.width,
        "img_resolution": config.size,
        "img_channels": 3,
        "mapping_kwargs": {"num_layers": config.mapping_layers},
    }


def _names(doublings: int, layers: int) -> dict[str, str]:
    """``{NVIDIA's name: our name}`` of all tensors."""
    names = {}
    for level in range(doublings + 1):
        block = f"synthesis.b{4 << level}"
        convs = {"conv1": "conv1"}
        if level:
            convs = {"conv0": f"convs.{2 * level - 2}", "conv1": f"convs.{2 * level - 1}"}
        else:
            names[f"{block}.const"] = "input.input"
        for place, (theirs, ours) in enumerate(convs.items(), start=max(0, 2 * level - 1)):
            names |= {f"{block}.{theirs}.{key}": f"{ours}.{own}" for key, own in _STYLED.items()}
            names[f"{block}.{theirs}.noise_const"] = f"noises.noise_{place}"
        ours = f"to_rgbs.{level - 1}" if level else "to_rgb1"
        names |= {f"{block}.torgb.{key}": f"{ours}.{own}" for key, own in _TO_RGB.items()}
    for key in ("weight", "bias"):
        names[f"mapping.embed.{key}"] = f"embed.{key}"
        names |= {f"mapping.fc{layer}.{key}": f"style.{layer + 1}.{key}" for layer in range(layers)}
    return {**names, "mapping.w_avg": "w_avg"}


def _with_axes(value: Tensor, like: Tensor | None) -> Tensor:
    """``value`` in the shape of ``like``, where the two differ in axes of one only."""
    if like is None or [n for n in value.shape if n != 1] != [n for n in like.shape if n != 1]:
        return value
    return value.reshape(like.shape)


def _without_axes(name: str, value: Tensor) -> Tensor:
    """``value`` in NVIDIA's shape."""
    if name.endswith((".const", ".noise_const")):
        return value[0] if name.endswith(".const") else value[0, 0]
    if name.endswith(".noise_strength"):
        return value.reshape(())
    return value.flatten() if name.endswith(".torgb.bias") else value


def _check_design(weights: Mapping[str, Tensor], source: str) -> None:
    """Raise CheckpointError for designs of NVIDIA's code that are not supported."""
    colours = [value for key, value in weights.items() if re.fullmatch(r"synthesis\.b\d+\.torgb\.weight", key)]
    blocks = {key.split(".")[1] for key in weights if re.fullmatch(r"synthesis\.b\d+\..*", key)}
    design = None
    if any(re.fullmatch(r"synthesis\.b\d+\.skip\.weight", key) for key in weights):
        design = "resnet"
    elif len(colours) == 1 < len(blocks):
        design = "orig"
    if design:
        raise CheckpointError(
            f'{source}: is of the architecture "{design}", with a single ToRGB layer; only "skip", the usual one, is '
            "supported"
        )
    channels = {value.shape[0] for value in colours if value.ndim}
    if len(channels) == 1 and channels != {3}:
        raise CheckpointError(
            f"{source}: generates images of {channels.pop()} channels; only those of 3, RGB, are supported"
        )


def _without_filters(weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The learned tensors. Raises CheckpointError for a filter that is not the one used here."""
    expected = _kernel()
    rest = {}
    for key, value in weights.items():
        if not _FILTER.fullmatch(key):
            rest[key] = value
        elif not is_constant(value, expected, 1e-4):
            raise CheckpointError(f"{source}: {printable(key)} is not [1, 3, 3, 1], the only supported filter")
    return rest


def _kernel() -> Tensor:
    taps = torch.tensor(FIR)
    return torch.outer(taps, taps)


def _clamp(arguments: Mapping[str, Any], source: str) -> float | None:
    """The clamp of convolutions. Raises CheckpointError for unsupported arguments."""
    mapping, synthesis = (nested(arguments, part) for part in ("mapping_kwargs", "synthesis_kwargs"))
    if not synthesis and not _FLAT.isdisjoint(arguments):
        synthesis = {"conv_clamp": DEFAULT_CLAMP, **arguments}
    fixed = {"activation": "lrelu", "lr_multiplier": MAPPING_LR_MUL}
    for name, value in [*mapping.items(), *synthesis.items()]:
        if name in fixed and isinstance(value, str | float | int) and value != fixed[name]:
            raise CheckpointError(
                f"{source}: was built with {name} {printable(str(value))}; only the usual {fixed[name]} is supported"
            )
    clamp = synthesis.get("conv_clamp")
    if clamp is None:
        return None
    if isinstance(clamp, bool) or not isinstance(clamp, int | float) or not 0 < clamp < float("inf"):
        raise CheckpointError(f"{source}: its conv_clamp is {printable(str(clamp))}, not a number above 0")
    return float(clamp)


def nested(arguments: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """The dictionary ``part`` of the arguments, empty where there is none."""
    value = arguments.get(part)
    return value if isinstance(value, Mapping) else {}


def refuse(generator: StyleGAN2) -> None:
    """Raise ConfigError for a generator that NVIDIA's code cannot build."""
    _channel_rule(channels_of(generator.config))


def _channel_rule(channels: Sequence[int]) -> tuple[int, int]:
    """``base, maximum``, from which NVIDIA's code computes the channels at a side as ``min(base // side, maximum)``.

    Raises ConfigError where no two numbers give these channels.
    """
    maximum = max(channels)
    sides = [4 << level for level in range(len(channels))]
    base = max(own * side for own, side in zip(channels, sides, strict=True))
    if any(min(base // side, maximum) != own for own, side in zip(channels, sides, strict=True)):
        raise ConfigError(
            f"NVIDIA's code halves channels with every doubling below a maximum, and this generator has "
            f"{', '.join(map(str, channels))}: keep it in our own format"
        )
    return base, maximum
