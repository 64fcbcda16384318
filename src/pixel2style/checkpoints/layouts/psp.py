"""Models in the layout of pSp's official code, which e4e's and ReStyle's share: read and written.

A file holds ``state_dict`` (an encoder, a decoder in rosinality's layout), ``opts`` (``options``) and, where training
started from it, ``latent_avg``. A written file loads in the unchanged code of those papers, so models that the code has
no room for are refused. Two entries are ours and ignored by that code: ``opts["pixel2style"]``, the task, and
``decoder_avg``, the generator's average where ``latent_avg`` is another.

Axes: ``k`` rows, ``d`` width of a row.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from ...config import EncoderConfig, GeneratorConfig, ModelConfig
from ...errors import CheckpointError, ConfigError
from ...formats.meta_device import shapes_only
from ...formats.state_dicts import below, fill
from ...generators import Generator
from ...generators.stylegan2 import rosinality, sizes
from ...generators.stylegan2.network import StyleGAN2
from ...models import encoders
from ...models.psp import PSP
from ..detect import DESCRIBED, Found
from . import options

NAMES = (("pyramid.middle.", "latlayer1."), ("pyramid.fine.", "latlayer2."), ("heads.", "styles."),
         ("output.", "output_layer_2."), ("trunk.", ""))  # fmt: skip
"""How names of an encoder's tensors begin here, and there."""

WIDTH, LAYERS, INPUT_SIZE, PYRAMID = 512, 8, 256, 512
"""Sizes that are fixed in the papers' code: rows, mapping layers, the encoder's input and its pyramid."""

MAX_STRIDES = 6
"""Strides of a head; an index beyond these is no real one (inputs of 1024 pixels)."""


def model(found: Found, source: str, generator: Generator | None = None) -> PSP:
    """The model that was found in a file, ready to encode; an encoder alone is completed with ``generator``.

    Raises CheckpointError when its parts do not fit, or when it has no generator and none is given.
    """
    return _completed(found, source, generator) if found.lacks_generator else _whole(found, source)


def _completed(found: Found, source: str, generator: Generator | None) -> PSP:
    """The encoder in a file with the generator from elsewhere."""
    if generator is None:
        raise CheckpointError(
            f"{source}: is the encoder of {DESCRIBED[found.kind]} without its generator: name a file of that with "
            "--generator (convert, train), or load it with p2s.load(FILE, generator=GENERATOR)"
        )
    weights = found.weights(source)
    config = _config(encoder_config(below(weights, "encoder."), generator.config), generator, found, source)
    with shapes_only():
        encoder = encoders.build(config.encoder)
    fill(encoder, weights, source, lambda key: _official_name(f"encoder.{key}"))
    average = generator.w_avg if found.average is None else rosinality.rows_of(found.average, generator, source)
    return PSP(encoder, generator, config, average).eval()


def _config(encoder: EncoderConfig, drawer: Generator, found: Found, source: str) -> ModelConfig:
    """The configuration of a model. Raises CheckpointError where encoder and generator do not fit."""
    encoder = _with_deltas(encoder, found)
    if encoder.kind == "single_w":
        encoder = replace(encoder, rows=drawer.rows)
    if (encoder.rows, encoder.width) != (drawer.rows, drawer.width):
        raise CheckpointError(
            f"{source}: its encoder writes {encoder.rows} rows of {encoder.width}, its {drawer.size}-pixel decoder "
            f"reads {drawer.rows} of {drawer.width}; the two do not belong together"
        )
    restyle = found.kind == "restyle"
    add_average = restyle or found.average is not None or found.options.get("start_from_latent_avg") is True
    return options.read(ModelConfig(encoder, drawer.config, add_average=add_average), found.options, restyle)


def _whole(found: Found, source: str) -> PSP:
    average = found.average
    weights = rosinality.plain(found.weights(source))
    generator = sizes.generator(below(weights, "decoder."))
    with shapes_only():
        drawer = StyleGAN2(generator)
        config = _config(encoder_config(below(weights, "encoder."), generator), drawer, found, source)
        made = PSP(encoders.build(config.encoder), drawer, config, torch.zeros(drawer.width))
    blank = {
        "w_avg": torch.zeros(drawer.rows, drawer.width),
        "w_unit": torch.ones(drawer.width),
        "generator.w_avg": torch.zeros(drawer.width),
    }
    noises = rosinality.noises(drawer, below(weights, "decoder."))
    blank |= {f"generator.{key}": noise for key, noise in noises.items()}
    fill(made, rosinality.without_kernels(weights, generator, "decoder.", source), source, _official_name, blank)
    rosinality.draw(noises)
    rosinality.set_average(drawer, average if found.decoder_average is None else found.decoder_average, source)
    made.w_avg.copy_(drawer.w_avg if average is None else rosinality.rows_of(average, drawer, source))
    return made.eval()


def encoder_config(weights: Mapping[str, Tensor], drawer: GeneratorConfig) -> EncoderConfig:
    """The encoder with these tensors, for the generator ``drawer``; sizes are read off shapes, never off options.

    Keys have no prefix. A missing tensor or an impossible index gives a guess: filling the network then says what does
    not fit. Rows that are differences to the first (e4e) have the same shapes as others.
    """
    resnet = "conv1.weight" in weights
    stem = weights.get("conv1.weight" if resnet else "input_layer.0.weight")
    common: dict[str, Any] = {
        "trunk": "resnet34" if resnet else "ir_se50",
        "input_channels": max(1, stem.shape[1]) if stem is not None and stem.ndim == 4 else 3,
    }
    if "linear.weight" not in weights:
        strides = sizes.highest(weights, r"styles\.0\.convs\.(\d+)\..*") // 2 + 1
        return EncoderConfig(
            kind="pyramid" if "latlayer1.weight" in weights else "top",
            input_size=16 << min(max(strides, 1), MAX_STRIDES),
            rows=min(max(sizes.highest(weights, r"styles\.(\d+)\..*") + 1, 1), 2 * sizes.MAX_DOUBLINGS + 2),
            width=sizes.length_of(weights, "styles.0.linear.bias", drawer.width),
            pyramid_width=sizes.length_of(weights, "latlayer1.bias", EncoderConfig.pyramid_width),
            **common,
        )
    numbers = sizes.length_of(weights, "linear.bias", drawer.width)
    if any(key.startswith("output_layer_2.") for key in weights):
        rows = max(1, numbers // drawer.width)
        return EncoderConfig(kind="last_layer", rows=rows, width=drawer.width, **common)
    rows = 2 * (drawer.size.bit_length() - 1) - 2
    return EncoderConfig(kind="single_w", rows=rows, width=numbers, **common)


def _with_deltas(encoder: EncoderConfig, found: Found) -> EncoderConfig:
    if not found.has_deltas or encoder.kind not in ("pyramid", "top"):
        return encoder
    return replace(encoder, kind="top_e4e" if encoder.kind == "top" else "e4e")


def _official_name(key: str) -> str:
    """What a tensor of PSP is called in an official file."""
    network, _, rest = key.partition(".")
    if network == "generator":
        return f"decoder.{rest}"
    for ours, theirs in NAMES:
        if rest.startswith(ours):
            return f"encoder.{theirs}{rest.removeprefix(ours)}"
    return f"encoder.{rest}"


def state(model: PSP) -> dict[str, Any]:
    """The content of a file that the papers' code loads as this model.

    ``w_unit`` becomes part of the last linear layers. Raises ConfigError, in a sentence that says what would work, for
    a model that the code has no room for.
    """
    refuse(model)
    content = {"state_dict": layout(model), "opts": options.write(model.config)}
    if not model.config.add_average:
        return content | {"decoder_avg": model.generator.w_avg}
    same = torch.equal(model.w_avg, model.generator.w_avg.expand_as(model.w_avg))
    rows = model.w_avg[:1] if model.encoder.config.kind == "single_w" else model.w_avg
    return content | {"latent_avg": rows} | ({} if same else {"decoder_avg": model.generator.w_avg})


def layout(model: PSP) -> dict[str, Tensor]:
    """The tensors of a model under the official names, of whatever sizes it has."""
    encoder = {f"encoder.{key}": value for key, value in model.encoder.state_dict().items()}
    unit = None if bool((model.w_unit == 1).all()) else model.w_unit
    named = {_official_name(key): _scaled(key, value, unit) for key, value in encoder.items()}
    decoder = rosinality.state(cast(StyleGAN2, model.generator))["g_ema"]
    return named | {f"decoder.{key}": value for key, value in decoder.items()}


def _scaled(key: str, value: Tensor, unit: Tensor | None) -> Tensor:
    """A tensor of the encoder's last layers times the unit of the rows, which files do not have; others unchanged."""
    last = key.removeprefix("encoder.")
    if unit is None or not (last.startswith("linear.") or (last.startswith("heads.") and ".linear." in last)):
        return value
    factor = unit.repeat(len(value) // len(unit))
    return value * (factor[:, None] if value.ndim == 2 else factor)


def refuse(model: PSP) -> None:
    """Raise ConfigError where the papers' code has no room for a model."""
    config, encoder, generator = model.config, model.config.encoder, model.config.generator
    if generator.kind != "stylegan2":
        raise ConfigError(
            f"pSp's code draws with StyleGAN2 only, and this generator is a {generator.kind}: write --to psp what was "
            "trained into a StyleGAN2"
        )
    if config.detail is not None:
        raise ConfigError("pSp's code has no detail encoder, and this model has one: keep the model as ours")
    usual = GeneratorConfig(size=generator.size, width=WIDTH, mapping_layers=LAYERS)
    if replace(generator, noise_width=generator.noise_width % generator.width) != usual:
        raise ConfigError(
            f"pSp's decoder has rows of {WIDTH}, {LAYERS} mapping layers, twice the channels, no labels "
            "and no clamp, and this generator is another: write it alone, --to rosinality or --to nvidia-state"
        )
    if encoder.trunk == "mobilefacenet" or encoder.heads == "shared" or encoder.neck:
        raise ConfigError(
            "pSp's code has no compact encoders: write --to psp what was trained with --encoder.trunk ir_se50 or "
            "resnet34, --encoder.heads separate and --encoder.neck 0"
        )
    if (encoder.input_size, encoder.pyramid_width) != (INPUT_SIZE, PYRAMID):
        raise ConfigError(
            f"pSp's encoders read {INPUT_SIZE} pixels through a pyramid {PYRAMID} wide, and this one reads "
            f"{encoder.input_size} through {encoder.pyramid_width}: write --to psp what was trained with "
            f"--encoder.input-size {INPUT_SIZE} --encoder.pyramid-width {PYRAMID}"
        )
    family, _ = options.encoder_type(config)
    options.refuse_sources(config, family)
    options.refuse_shapes(config, family)
    if family == "restyle" and not config.add_average:
        raise ConfigError("ReStyle's code always adds the average, and this encoder has none: keep it as ours")
    one = encoder.kind == "single_w" and not model.w_avg.is_meta
    if one and not torch.equal(model.w_avg, model.w_avg[:1].expand_as(model.w_avg)):
        raise ConfigError("pSp's W encoder has one average for all rows, and this model has many: keep it as ours")
