"""Our files: one ``.safetensors`` whose metadata is the configuration, so that loading needs no other file.

Metadata: ``format`` ("pixel2style 1"), ``config`` (JSON of a ModelConfig or a GeneratorConfig) and, in bundled models,
``generator``: the bundled generator that belongs to the model and is not stored twice; ``base``: the bundled model that
the file holds the difference to (``differences``). Whatever a file says is checked before anything is built from it.
Files that are not ours go to ``foreign``.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from .. import assets
from ..assets import cards
from ..config import GeneratorConfig, ModelConfig
from ..errors import CheckpointError, ConfigError
from ..files import replacing
from ..formats import metadata as headers
from ..formats import quantized
from ..formats.meta_device import shapes_only
from ..formats.metadata import Config
from ..formats.safetensors import is_safetensors, read_metadata, read_safetensors
from ..formats.state_dicts import fill, spell, tensors
from ..formats.torch_files import write
from ..generators import GENERATORS, Generator
from ..models import encoders
from ..models.psp import PSP
from . import detect, fetch, foreign

Layout = Literal["ours", "psp", "rosinality", "nvidia-state"]

DEFAULT_GENERATOR = "mobilestylegan_ffhq_1024"
SUFFIX = ".safetensors"

HALF_MAX = torch.finfo(torch.float16).max


def load(source: str | Path) -> PSP:
    """The model in ``source``, on the CPU and in eval mode: a bundled name, one of our files or an official checkpoint.

    Raises CheckpointError when it is no such thing or damaged, UnsafeFileError when it wants to run code.
    """
    path = find(source)
    if not _is_ours(path):
        return foreign.load_model(path)
    config, named, state = _read(path)
    if not isinstance(config, ModelConfig):
        raise CheckpointError(f"{path}: is a generator, not a model; load it with load_generator")
    generator = _named_generator(named, config, path)
    with shapes_only():
        model = _build(config, path)
    assert isinstance(model, PSP)
    given = {} if generator is None else {f"generator.{key}": value for key, value in generator.state_dict().items()}
    fill(model, state, str(path), given=given)
    return model.eval()


def load_generator(source: str | Path) -> Generator:
    """The generator in ``source``: a bundled name, one of our files, a rosinality file or a pSp checkpoint.

    Of a model only the generator is given. Raises as ``load`` does.
    """
    path = find(source)
    if not _is_ours(path):
        return foreign.load_generator(path)
    config, named, state = _read(path)
    if isinstance(config, ModelConfig):
        generator = _named_generator(named, config, path)
        if generator is not None:
            return generator
        config = config.generator
        prefix = "generator."
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    with shapes_only():
        made = _build(config, path)
    assert isinstance(made, Generator)
    fill(made, state, str(path))
    return made.eval()


def save(
    model: PSP | Generator,
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    generator: str | None = None,
    base: str | None = None,
    bits: int = 4,
) -> None:
    """Write a model or a generator as one file, whole or not at all.

    ``dtype`` float16 halves the file, int8 (times a step a channel) quarters it; vectors, averages and whatever exceeds
    float16's range stay float32. ``generator`` names a bundled generator to refer to instead of storing it; a path is
    ignored, so the file is complete either way. ``base`` names a bundled model: stored is the difference to it,
    ``bits`` (2 to 8) a number. Raises OutputError when it cannot be written, CheckpointError when no such model is
    bundled, ValueError when ``generator`` is not the model's, or for other ``bits``.
    """
    if dtype not in (torch.float32, torch.float16, torch.int8):
        raise ValueError(f"dtype must be float32, float16 or int8, got {dtype}")
    state = model.state_dict()
    config: Config = model.config
    metadata = headers.metadata(config)
    if isinstance(model, PSP) and generator in assets.names():
        bundled = {f"generator.{key}": value for key, value in load_generator(generator).state_dict().items()}
        rest = {key: value for key, value in state.items() if key not in bundled}
        same = all(torch.equal(state[key].cpu().to(value), value) for key, value in bundled.items() if key in state)
        if len(rest) + len(bundled) != len(state) or not same:
            raise ValueError(f"the model's generator is not the bundled {generator}")
        state, metadata["generator"] = rest, generator
    kept = torch.float16 if dtype == torch.int8 else dtype
    stored = {key: _stored(key, value, kept) for key, value in state.items()}
    if base is not None:
        stored, told = quantized.subtract(state, stored, read_base(base, base), base, bits)
        metadata |= told
    elif dtype == torch.int8:
        stored = quantized.in_bytes(state, stored)
    save_tensors(stored, path, metadata)


def save_tensors(values: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors as one ``.safetensors``, whole or not at all. Raises OutputError when it cannot be done."""
    with replacing(Path(path)) as part:
        try:
            save_file({key: value.cpu().contiguous() for key, value in values.items()}, part, dict(metadata or {}))
        except SafetensorError as error:  # on a full disk
            raise OSError(str(error)) from error


def bundled_generator(source: str | Path) -> str | None:
    """The bundled generator that ``source`` is or refers to, None where it holds its own. Raises as ``load`` does."""
    path = find(source)
    if not _is_ours(path):
        return None
    config, named = _header(path)
    if isinstance(config, ModelConfig):
        return named
    return path.stem if path.parent == assets.FOLDER else None


class Outline(NamedTuple):
    """A file that was looked at: what it holds, its networks on the meta device, what it says of itself."""

    path: Path
    kind: str
    about: str
    network: nn.Module
    told: Mapping[str, Any]


def outline(source: str | Path) -> Outline:
    """What a file holds, whichever this package reads, without its numbers. Raises as ``load`` does."""
    path = find(source)
    if not _is_ours(path):
        kind, network, options, built_with = foreign.outline(path)
        return Outline(path, kind, detect.DESCRIBED[kind], network, {**built_with, **options})
    config, named = _header(path)
    with shapes_only():
        made = _build(config, path)
    model = isinstance(config, ModelConfig)
    generator = _named_generator(named, config, path) if isinstance(config, ModelConfig) else None
    given = {} if generator is None else {f"generator.{key}": value for key, value in generator.state_dict().items()}
    fill(made, _tensors(path, numbers=False), str(path), given=given)
    about = f"a {'model' if model else 'generator'} of ours"
    told = {"bundled generator": named, "difference to": read_metadata(path).get("base")}
    return Outline(
        path, "model" if model else "generator", about, made, {key: name for key, name in told.items() if name}
    )


def convert(source: str | Path, out: str | Path, to: Layout = "ours") -> str:
    """Rewrite any readable model or generator as one complete file, ours or another's; says in a few words what it is.

    Other layouts are PyTorch files: psp that of pSp, e4e or ReStyle, whichever family the model is of; rosinality and
    nvidia-state hold the generator alone. Raises as ``load`` and ``save`` do, and ConfigError where a layout has no
    room for the model.
    """
    path = find(source)
    model: PSP | Generator
    if _is_ours(path):
        model = load(path) if isinstance(_header(path)[0], ModelConfig) else load_generator(path)
    else:
        model = foreign.load_any(path)
    if to == "ours":
        save(model, out)
    else:
        write(foreign.content(model, to), out)
    whole = isinstance(model, PSP) and to in ("ours", "psp")
    return f"{_described(model if whole else getattr(model, 'generator', model))}{'' if to == 'ours' else f' for {to}'}"


def _described(model: PSP | Generator) -> str:
    """A model in a few words."""
    if isinstance(model, PSP):
        encoder = model.config.encoder
        return f"pSp model, {encoder.kind} encoder, {encoder.rows} rows, {model.config.generator.size} pixels"
    return f"{model.config.kind} generator, {model.rows} rows, {model.size} pixels"


def find(source: str | Path) -> Path:
    """The file meant by a bundled name, a path, a folder, an address or a place on the hub; fetched if need be."""
    if isinstance(source, str) and source in assets.names():
        if cards.role(assets.path(source)) == "part":
            raise CheckpointError(f"{source}: serves judges or the aligner, and is no model; {_bundled()}")
        return assets.path(source)
    path = fetch.local(source)
    if not path.is_file():
        near = difflib.get_close_matches(str(source), assets.names(), 1)
        meant = f"did you mean {near[0]}? Otherwise {_bundled()}" if near else _bundled()
        raise CheckpointError(f"{source}: there is no such file; {meant}, and one on the hub is hf://USER/REPO")
    return path


def _bundled() -> str:
    names = [name for name in assets.names() if cards.role(assets.path(name)) != "part"]
    return f"the bundled ones are {', '.join(names)}"


def _is_ours(path: Path) -> bool:
    """Whether a file is one of ours: safetensors whose metadata says so, or has lost half of what ours say."""
    metadata = read_metadata(path) if is_safetensors(path) else {}
    return metadata.get("format", "").startswith(headers.FORMAT) or "config" in metadata


def _header(path: Path) -> tuple[Config, str | None]:
    """Configuration of one of our files, and the bundled generator it refers to, without reading its tensors."""
    metadata = read_metadata(path)
    return headers.config(metadata, path), metadata.get("generator")


def _read(path: Path) -> tuple[Config, str | None, dict[str, Tensor]]:
    """Configuration, the bundled generator referred to, and tensors of one of our files."""
    config, named = _header(path)
    return config, named, _tensors(path)


def _tensors(path: Path, numbers: bool = True) -> dict[str, Tensor]:
    """Tensors of one of our files, complete where it holds a difference; without ``numbers`` its own are meta ones."""
    stored, told = tensors(read_safetensors(path, numbers), str(path)), read_metadata(path)
    if "base" not in told:
        return quantized.complete(stored, str(path))
    return quantized.add(stored, read_base(told["base"], str(path)), told, str(path))


def _build(config: Config, path: Path) -> nn.Module:
    """Networks of the right shapes. Raises CheckpointError for a configuration that describes none."""
    try:
        if isinstance(config, GeneratorConfig):
            return GENERATORS[config.kind](config)
        generator = GENERATORS[config.generator.kind](config.generator)
        return PSP(encoders.build(config.encoder), generator, config, torch.zeros(config.generator.width))
    except (ValueError, RuntimeError, ConfigError) as error:
        raise CheckpointError(f"{path}: its configuration describes no network: {error}") from error


def _named_generator(name: str | None, config: ModelConfig, path: Path) -> Generator | None:
    """The bundled generator that a file refers to, None where it refers to none."""
    if name is None:
        return None
    if name not in assets.names():
        raise CheckpointError(f"{path}: refers to a generator that is not bundled here; update pixel2style")
    generator = load_generator(name)
    if generator.config != config.generator:
        raise CheckpointError(f"{path}: was made for another generator than the bundled {name}")
    return generator


def _stored(key: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    """``value`` as it goes into the file."""
    if not value.is_floating_point():
        return value
    value = value.detach().float()
    small = value.ndim < 2 or key.endswith(("w_avg", "w_unit"))
    return value if small or value.abs().max() > HALF_MAX else value.to(dtype)


def read_base(name: str, source: str) -> dict[str, Tensor]:
    """The tensors of the bundled model ``name``. Raises CheckpointError where it is none or a difference itself."""
    file = assets.path(name) if name in assets.names() else None
    if file is not None and cards.role(file) == "model" and "base" not in read_metadata(file):
        return quantized.complete(assets.read(name), source)
    raise CheckpointError(
        f"{source}: is a difference to '{spell(name)}', which is no complete bundled model; update pixel2style"
    )
