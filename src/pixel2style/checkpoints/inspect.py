"""What a model file is, without loading it: the command ``inspect``.

Files are opened by the same readers as for use, but without their numbers: networks are built on the meta device, which
has shapes and no memory. What does not fit is therefore found here too, in the same words. The numbers of files that
can be mapped are then read once, tensor by tensor, to find NaN; those of pickles would have to fit into memory.
"""

import itertools
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..config import DetailConfig, EncoderConfig, GeneratorConfig, ModelConfig
from ..formats import safetensors
from ..formats.state_dicts import require_finite
from ..generators import Generator
from ..generators.stylegan2 import network as stylegan2
from ..models.psp import PSP
from ..tasks import task_or_none
from . import foreign, native
from .detect import DESCRIBED
from .layouts import writers
from .resolve import find


@dataclass(frozen=True)
class Finding:
    """A file: what it is; facts worth a line, by name; its full configuration; what to do with it, by purpose."""

    source: str
    about: str
    facts: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    uses: Mapping[str, str] = field(default_factory=dict)


def examine(source: str | Path) -> Finding:
    """What the file that ``source`` names is. Raises as ``checkpoints.load`` does, for the same files.

    Only of pickles NaN and infinite numbers are not found.
    """
    path = find(source)
    found = _ours(path) if native.is_ours(path) else _foreign(path)
    network = found.network
    config = network.config if isinstance(network, PSP | Generator) else None
    facts = {"file": f"{_size(path.stat().st_size)}, {_container(path)}", **found.facts}
    if isinstance(network, PSP):
        facts |= _model_facts(network)
    elif isinstance(network, Generator):
        facts |= _generator_facts(network.config, network.rows)
    facts["weights"] = _weights(network)
    facts["numbers"] = _checked_numbers(path)
    facts |= {name: _short(value) for name, value in found.options.items() if name in SHOWN and value not in (None, "")}
    whole = asdict(config) if config else {}
    return Finding(str(source), found.about, facts, whole, _uses(network, found.kind, str(source)))


class _Outline(NamedTuple):
    """A file, read without numbers: what it is, its network, and options of the training that wrote it."""

    kind: str
    about: str
    network: nn.Module
    facts: Mapping[str, str]
    options: Mapping[str, Any]


def _ours(path: Path) -> _Outline:
    header = native.header(path)
    kind = "model" if isinstance(header.config, ModelConfig) else "generator"
    options = {"bundled generator": header.generator, "difference to": header.base}
    return _Outline(kind, f"a {kind} of ours", native.load(path, numbers=False), {}, options)


def _foreign(path: Path) -> _Outline:
    found, network = foreign.outline(path)
    about, facts = DESCRIBED[found.kind], {}
    if found.networks:
        chosen, *others = found.networks
        facts["networks"] = f"{chosen}, described here, beside {', '.join(sorted(others)) or 'no other'}"
        about = "a StyleGAN2 generator of TensorFlow's" if found.networks[chosen] == "stylegan2-tf" else about
    return _Outline(found.kind, about, network, facts, {**found.built_with, **found.options})


SHOWN = (
    "dataset_type", "encoder_type", "exp_dir", "checkpoint_path", "stylegan_weights", "stylegan_size", "output_size",
    "n_iters_per_batch", "max_steps", "batch_size", "learning_rate", "bundled generator", "difference to",
)  # fmt: skip
"""Which options of the training that wrote a file are shown."""


def lines(finding: Finding) -> list[str]:
    """A finding as lines for a terminal."""
    width = max(map(len, (*finding.facts, *finding.uses)), default=0)
    facts = [f"  {name:<{width}}  {value}" for name, value in finding.facts.items()]
    return [
        f"{finding.source}: {finding.about}",
        *facts,
        *(f"  {n:<{width}}  {use}" for n, use in finding.uses.items()),
    ]


def as_json(finding: Finding) -> str:
    """A finding as one line of JSON."""
    return json.dumps(asdict(finding))


def failure_as_json(source: str, sentence: str) -> str:
    """Why there is no finding, as one line of JSON."""
    return json.dumps({"source": source, "error": sentence})


def _container(path: str | Path) -> str:
    """How a file holds its tensors, in a few words."""
    if zipfile.is_zipfile(path):
        return "PyTorch zip"
    return "safetensors" if safetensors.is_safetensors(path) else "pickle"


def _checked_numbers(path: Path) -> str:
    """What is known of a file's numbers. Raises CheckpointError for NaN and infinite ones."""
    if not (zipfile.is_zipfile(path) or safetensors.is_safetensors(path)):
        return "not read: whether all are finite is seen when it is loaded"
    stored = safetensors.read(path) if native.is_ours(path) else foreign.find(path).entries
    require_finite({key: value for key, value in stored.items() if isinstance(value, Tensor)}, str(path))
    return "all finite"


def _model_facts(model: PSP) -> dict[str, str]:
    encoder, config = model.encoder.config, model.config
    feedback = f", with feedback, {config.iterations} iterations" if config.feedback else ""
    return {
        "task": config.task,
        "reads": f"pictures of {model.source_channels} channels, {_shape(encoder)} pixels{feedback}",
        "encoder": f"{_named(encoder)}, {encoder.rows} rows of {encoder.width}",
        "average": "added to what the encoder gives" if config.add_average else "not added",
        **({} if config.detail is None else {"detail": f"residuals for maps of {_sides(config.detail)} pixels"}),
        **_generator_facts(config.generator, encoder.rows),
    }


def _sides(detail: DetailConfig) -> str:
    return " and ".join(map(str, detail.sides))


def _shape(encoder: EncoderConfig) -> str:
    height, width = encoder.input_shape
    return f"{width}" if height == width else f"{width}x{height}"


def _named(encoder: EncoderConfig) -> str:
    return f"{encoder.kind} on {encoder.trunk}"


def _generator_facts(config: GeneratorConfig, rows: int) -> dict[str, str]:
    noise = f", from {config.noise_width} numbers" if config.noise_width not in (0, config.width) else ""
    facts = {
        "generator": f"{config.kind}, {config.size} pixels, {rows} rows of {config.width}",
        "mapping": f"{config.mapping_layers} layers{noise}",
    }
    if config.kind == "stylegan2":
        facts["channels"] = _in_a_row(stylegan2.channels_of(config))
    elif config.channels:
        facts["channels"] = _in_a_row(config.channels)
    if config.alias_free:
        facts["layers"] = f"{config.alias_free.layers}, {'R' if config.alias_free.radial else 'T'}"
    if config.classes:
        facts["labels"] = f"{config.classes} classes"
    if config.clamp:
        facts["clamp"] = f"{config.clamp:g}"
    return facts


def _in_a_row(channels: Sequence[int]) -> str:
    """Numbers, with a count where one is repeated."""
    runs = [(number, len(list(same))) for number, same in itertools.groupby(channels)]
    return ", ".join(f"{times} x {number}" if times > 1 else str(number) for number, times in runs)


def _weights(network: nn.Module) -> str:
    """How many numbers a network has, buffers included."""
    tensors: list[Tensor] = list(network.state_dict().values())
    return f"{sum(tensor.numel() for tensor in tensors) / 1e6:.1f} million numbers in {len(tensors)} tensors"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count} bytes"


def _short(value: Any) -> str:
    text = ascii(value) if not isinstance(value, str) else ascii(value)[1:-1]
    return text if len(text) <= 100 else f"{text[:97]}..."


def _uses(network: nn.Module, kind: str, source: str) -> dict[str, str]:
    """What to do with a file, as calls and commands."""
    if kind in PRETRAINED_USES:
        return (
            {"train": f"pixel2style train PRESET {PRETRAINED_USES[kind].format(source)}"}
            if PRETRAINED_USES[kind]
            else {}
        )
    uses = {}
    if isinstance(network, PSP):
        uses["load"] = f'pixel2style.load("{source}")'
        name = network.config.task
        task = task_or_none(name)
        if task is not None and not task.inverts:
            uses["translate"] = f"pixel2style translate {name} PICTURE... --out DIR --model {source}"
        elif network.source_channels == 3:
            uses["invert"] = f"pixel2style invert PHOTO... --out DIR --model {source}"
        uses["train"] = f"pixel2style train PRESET --start-from {source}"
    else:
        uses["load"] = f'pixel2style.load_generator("{source}")'
        uses["train"] = f"pixel2style train PRESET --generator {source}"
    uses["convert"] = f"pixel2style convert {source} OUT.safetensors"
    for layout in writers.layouts(network):
        uses[f"as {layout}"] = f"pixel2style convert {source} OUT.pt --to {layout}"
    uses["export"] = f"pixel2style export onnx {source} --out DIR"
    return uses


PRETRAINED_USES = {
    "arcface": "--loss.identity-network {0}, or --encoder.trunk ir_se50 --trunk-weights {0}",
    "curricularface": "",
    "moco": "--loss.similarity-network {0}",
    "resnet": "--encoder.trunk resnet34 --trunk-weights {0}",
}
"""What to do with networks for losses and trunks."""
