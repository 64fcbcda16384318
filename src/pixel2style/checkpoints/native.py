"""Files of ours: one ``.safetensors`` whose metadata holds the configuration, so loading needs no other file.

Metadata: ``format`` ("pixel2style 1"); ``config``, JSON of a ModelConfig or a GeneratorConfig; optionally
``generator`` and ``detail``, the bundled generator and detail encoder of the model, which are not stored again;
optionally ``base`` and ``digest``, the bundled model that the tensors are the difference to (``formats.quantized``);
with ``detail_digest``, tensors of the detail encoder are the difference to the bundled one.
All of it is checked before anything is built from it.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from .. import assets, generators
from ..assets import cards
from ..config import GeneratorConfig, ModelConfig
from ..errors import CheckpointError, ConfigError
from ..formats import quantized, safetensors
from ..formats.meta_device import shapes_only
from ..formats.state_dicts import below, fill, printable, require_finite, tensors
from ..generators import Generator
from ..models import encoders
from ..models.detail import DetailEncoder
from ..models.psp import PSP

Config = ModelConfig | GeneratorConfig

FORMAT, VERSION = "pixel2style", 1
SUFFIX = ".safetensors"
DEFAULT_GENERATOR = "mobilestylegan_ffhq_1024"
"""The bundled generator that models are trained for unless another is named."""

MAX_NUMBER = 1 << 16
MAX_NUMBERS = {
    "rows": 64, "mapping_layers": 64, "neck": 64, "iterations": 100,
    "layers": 62, "margin": 1024, "filter_size": 64, "lrelu_upsampling": 16,
}  # fmt: skip
"""Limits of a configuration by field; larger ones would build networks that no memory holds."""
MAX_ITEMS = 64
"""Items of a tuple in a configuration."""

_DETAIL = "detail."
"""How keys of the detail encoder begin."""
_JSON: TypeAdapter[Any] = TypeAdapter(Config)
_HALF_MAX = torch.finfo(torch.float16).max


class Header(NamedTuple):
    """What a file of ours says in its metadata."""

    config: Config
    generator: str | None
    detail: str | None
    base: str | None


def is_ours(path: Path) -> bool:
    """Whether a file is safetensors whose metadata names our format, or has the other half of what ours have."""
    metadata = safetensors.read_metadata(path) if safetensors.is_safetensors(path) else {}
    return metadata.get("format", "").startswith(FORMAT) or "config" in metadata


def header(path: Path) -> Header:
    """What a file of ours says in its metadata. Raises CheckpointError for none, or one beyond the limits."""
    metadata = safetensors.read_metadata(path)
    return Header(_config(metadata, path), *(metadata.get(name) for name in ("generator", "detail", "base")))


def metadata_of(config: Config) -> dict[str, str]:
    """The metadata of a file that holds a network of this configuration."""
    return {"format": f"{FORMAT} {VERSION}", "config": _JSON.dump_json(config).decode()}


def _config(metadata: Mapping[str, str], path: Path) -> Config:
    form, _, version = metadata.get("format", "").partition(" ")
    if form != FORMAT or "config" not in metadata:
        raise CheckpointError(f"{path}: holds no configuration of a model; convert the original file again")
    if version != str(VERSION):
        raise CheckpointError(
            f"{path}: is of format {version[:20]!r}, this version reads {VERSION}; update pixel2style"
        )
    try:
        found: Config = _JSON.validate_json(metadata["config"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][-2:])[:60]
        raise CheckpointError(f"{path}: its configuration is wrong at {where!r}: {first['msg'][:120]}") from None
    check_limits(asdict(found), path)
    return found


def check_limits(values: Mapping[str, Any], path: Path) -> None:
    """Raise CheckpointError for a configuration, as a dictionary, that asks for more than ``MAX_NUMBERS``."""
    for name, value in values.items():
        if isinstance(value, dict):
            check_limits(value, path)
        numbers = value if isinstance(value, tuple) else (value,)
        most = MAX_NUMBERS.get(name, MAX_NUMBER)
        if len(numbers) > MAX_ITEMS or any(isinstance(number, int | float) and number > most for number in numbers):
            raise CheckpointError(f"{path}: its configuration asks for {name} above {most}, or for too many")


def load(path: Path, numbers: bool = True) -> PSP | Generator:
    """The model or generator in a file of ours, in eval mode; without ``numbers`` its own tensors are meta tensors.

    Raises CheckpointError when the file is damaged or does not fit this version.
    """
    found = header(path)
    generator = _bundled_generator(found, path)
    with shapes_only():
        made = _build(found.config, path)
    given = {} if generator is None else {f"generator.{key}": value for key, value in generator.state_dict().items()}
    state = _tensors(path, numbers)
    if "detail_digest" not in safetensors.read_metadata(path):
        given |= _bundled_detail(found, path)
    fill(made, state, str(path), given=given)
    return made.eval()


def load_model(path: Path) -> PSP:
    """The model in a file of ours. Raises as ``load`` does, and CheckpointError for a generator alone."""
    if not isinstance(header(path).config, ModelConfig):
        raise CheckpointError(f"{path}: is a generator, not a model; load it with load_generator")
    made = load(path)
    assert isinstance(made, PSP)
    return made


def load_generator(path: Path) -> Generator:
    """The generator in a file of ours, of a model only its generator. Raises as ``load`` does."""
    found = header(path)
    config, state = found.config, _tensors(path)
    generator = _bundled_generator(found, path)
    if generator is not None:
        return generator
    if isinstance(config, ModelConfig):
        config, state = config.generator, below(state, "generator.")
    with shapes_only():
        made = _build(config, path)
    assert isinstance(made, Generator)
    fill(made, state, str(path))
    return made.eval()


def _bundled_generator(found: Header, path: Path) -> Generator | None:
    """The bundled generator that a model's file refers to, None where it refers to none."""
    if found.generator is None or not isinstance(found.config, ModelConfig):
        return None
    if found.generator not in assets.names():
        raise CheckpointError(f"{path}: refers to a generator that is not bundled here; update pixel2style")
    generator = load_generator(assets.path(found.generator))
    if generator.config != found.config.generator:
        raise CheckpointError(f"{path}: was made for another generator than the bundled {found.generator}")
    return generator


def _bundled_detail(found: Header, path: Path) -> dict[str, Tensor]:
    """The tensors of the bundled detail encoder that a model's file refers to; none where it refers to none."""
    if found.detail is None:
        return {}
    if found.detail not in assets.names():
        raise CheckpointError(f"{path}: refers to a detail encoder that is not bundled here; update pixel2style")
    state = quantized.complete(assets.read(found.detail), str(path))
    return {f"{_DETAIL}{key}": value for key, value in state.items()}


def _build(config: Config, path: Path) -> PSP | Generator:
    """A network of the right shapes. Raises CheckpointError for a configuration that describes none."""
    try:
        if isinstance(config, GeneratorConfig):
            return generators.build(config)
        generator = generators.build(config.generator)
        detail = None if config.detail is None else DetailEncoder(config.detail)
        w_avg = torch.zeros(config.generator.width)
        return PSP(encoders.build(config.encoder), generator, config, w_avg, detail=detail)
    except (ValueError, RuntimeError, ConfigError) as error:
        raise CheckpointError(f"{path}: its configuration describes no network: {error}") from error


def _tensors(path: Path, numbers: bool = True) -> dict[str, Tensor]:
    """Tensors of a file of ours, added to its base where it has one; without ``numbers`` its own are meta tensors."""
    stored = tensors(safetensors.read(path, numbers), str(path))
    metadata = safetensors.read_metadata(path)
    detail = {}
    if "detail_digest" in metadata:
        own = {key: stored.pop(key) for key in list(stored) if key.startswith(_DETAIL)}
        digest = {"base": str(metadata.get("detail")), "digest": metadata["detail_digest"]}
        detail = quantized.add(own, _bundled_detail(header(path), path), digest, str(path))
    if "base" not in metadata:
        return quantized.complete(stored, str(path)) | detail
    role = "model" if isinstance(_config(metadata, path), ModelConfig) else "generator"
    return quantized.add(stored, read_base(metadata["base"], str(path), role), metadata, str(path)) | detail


def read_base(name: str, source: str, role: str = "model") -> dict[str, Tensor]:
    """The tensors of a bundled model, or generator. Raises CheckpointError where it is none, or itself a difference."""
    file = assets.path(name) if name in assets.names() else None
    if file is not None and cards.role(file) == role and "base" not in safetensors.read_metadata(file):
        return quantized.complete(assets.read(name), source)
    raise CheckpointError(
        f"{source}: is a difference to '{printable(name)}', which is no complete bundled {role}; update pixel2style"
    )


def save(
    model: PSP | Generator,
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    generator: str | None = None,
    detail: str | None = None,
    base: str | None = None,
    bits: int = 4,
) -> None:
    """Write a model or a generator as one file, whole or not at all.

    ``dtype`` float16 halves the file, int8 (times one step per channel) quarters it; vectors, averages and tensors that
    exceed the range of float16 stay float32. ``generator`` names a bundled generator to refer to instead of storing it;
    a path is ignored, so the file is complete either way. ``detail`` names a bundled detail encoder likewise, to whose
    tensors the difference is stored where they are others. ``base`` names a bundled model, or for a generator a bundled
    generator: the difference to it is stored. Differences have ``bits`` (2 to 8) per number. Raises OutputError when
    the file cannot be written, CheckpointError when no such model is bundled or where weights are NaN or infinite,
    ValueError when ``generator`` is not the model's, when ``detail`` has other shapes than the model's, or for other
    ``bits``.
    """
    if dtype not in (torch.float32, torch.float16, torch.int8):
        raise ValueError(f"dtype must be float32, float16 or int8, got {dtype}")
    state = model.state_dict()
    require_finite(state, f"the model for {path}")
    metadata = metadata_of(model.config)
    if isinstance(model, PSP) and generator is not None and generator in assets.names():
        own = load_generator(assets.path(generator)).state_dict()
        state, metadata["generator"] = _without(state, "generator", own, generator), generator
    role = "model" if isinstance(model, PSP) else "generator"
    base_state = None if base is None else read_base(base, base, role)
    if detail is None and base is not None and isinstance(model, PSP) and model.detail is not None:
        detail = _detail_of(base, model.detail)
    differing: dict[str, Tensor] = {}
    if detail is not None:
        differing, found = differing_detail(state, detail, bits)
        state, metadata = {key: value for key, value in state.items() if not key.startswith(_DETAIL)}, metadata | found
    kept = torch.float16 if dtype == torch.int8 else dtype
    stored = {key: _stored(key, value, kept) for key, value in state.items()}
    if base is not None and base_state is not None:
        stored, difference = quantized.subtract(state, stored, base_state, base, bits)
        metadata |= difference
    elif dtype == torch.int8:
        stored = quantized.in_bytes(state, stored)
    safetensors.write(stored | differing, path, metadata)


def differing_detail(state: Mapping[str, Tensor], name: str, bits: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata by which a model's file refers to the bundled detail encoder ``name``.

    Of the model's ``state`` only the detail encoder is used. There are no tensors if it is the bundled one; else they
    are the difference, with ``bits`` per number. Raises ValueError where shapes differ.
    """
    bundled = {f"{_DETAIL}{key}": value for key, value in quantized.complete(assets.read(name), name).items()}
    own = {key: value.detach().cpu() for key, value in state.items() if key.startswith(_DETAIL)}
    if {key: value.shape for key, value in own.items()} != {key: value.shape for key, value in bundled.items()}:
        raise ValueError(f"the model's detail encoder has other shapes than the bundled {name}")
    if all(torch.equal(value.to(bundled[key]), bundled[key]) for key, value in own.items()):
        return {}, {"detail": name}
    parts, found = quantized.subtract(own, own, bundled, name, bits)
    return parts, {"detail": name, "detail_digest": found["digest"]}


def bundled_like(generator: Generator) -> str | None:
    """The bundled generator of the same configuration, to which another's weights can be stored as a difference."""
    return DEFAULT_GENERATOR if header(assets.path(DEFAULT_GENERATOR)).config == generator.config else None


def _detail_of(base: str, detail: DetailEncoder) -> str | None:
    """The bundled detail encoder of the bundled model ``base``, where ``detail`` is that one."""
    name = header(assets.path(base)).detail
    if name is None:
        return None
    bundled, state = quantized.complete(assets.read(name), name), detail.state_dict()
    same = bundled.keys() == state.keys() and all(torch.equal(state[key].cpu(), bundled[key]) for key in state)
    return name if same else None


def _without(state: Mapping[str, Tensor], part: str, own: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """``state`` without its ``part``, which must be that of the bundled file ``name``. Raises ValueError if not."""
    bundled = {f"{part}.{key}": value for key, value in own.items()}
    rest = {key: value for key, value in state.items() if not key.startswith(f"{part}.")}
    same = all(key in state and torch.equal(state[key].cpu().to(value), value) for key, value in bundled.items())
    if len(rest) + len(bundled) != len(state) or not same:
        raise ValueError(f"the model's {part} is not the bundled {name}")
    return rest


def _stored(key: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor in the type in which it is stored."""
    if not value.is_floating_point():
        return value
    value = value.detach().float()
    small = value.ndim < 2 or key.endswith(("w_avg", "w_unit"))
    return value if small or value.abs().max() > _HALF_MAX else value.to(dtype)
