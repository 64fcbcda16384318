"""What a model file is, without loading it: the command ``inspect``.

Files are opened as they are for use, by the same readers, but for their numbers: networks are laid out on PyTorch's
meta device, which has shapes and no memory. What does not fit is therefore found here too, in the same words.
"""

import itertools
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from .. import checkpoints
from ..config import EncoderConfig, GeneratorConfig
from ..errors import CheckpointError
from ..formats.safetensors import is_safetensors
from ..generators.stylegan2 import network as stylegan2
from ..models.psp import PSP
from ..tasks import task_or_none
from . import foreign, nvidia_pickle


@dataclass(frozen=True)
class Finding:
    """A file: what it is; what is worth a line, by name; its configuration in full; what to do with it, by purpose."""

    source: str
    about: str
    facts: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    uses: Mapping[str, str] = field(default_factory=dict)


def examine(source: str | Path) -> Finding:
    """What the file that ``source`` names is. Raises as ``checkpoints.load`` does, for the same files."""
    opened = checkpoints.outline(source)
    network, path = opened.network, opened.path
    config = getattr(network, "config", None)
    about, beside = _in_pickle(path)
    facts = {"file": f"{_size(path.stat().st_size)}, {_container(path)}", **beside}
    if isinstance(network, PSP):
        facts |= _model_facts(network)
    elif isinstance(config, GeneratorConfig):
        facts |= _generator_facts(config, cast(int, network.rows))
    facts["weights"] = _weights(network)
    facts |= {name: _short(value) for name, value in opened.told.items() if name in TOLD and value not in (None, "")}
    whole = asdict(config) if config else {}
    return Finding(str(source), about or opened.about, facts, whole, _uses(network, opened.kind, str(source)))


TOLD = (
    "dataset_type", "encoder_type", "exp_dir", "checkpoint_path", "stylegan_weights", "stylegan_size", "output_size",
    "n_iters_per_batch", "max_steps", "batch_size", "learning_rate", "bundled generator", "difference to",
)  # fmt: skip
"""Which of the options of the training that wrote a file are worth a line."""


def lines(finding: Finding) -> list[str]:
    """A finding as it stands on a terminal."""
    width = max(map(len, (*finding.facts, *finding.uses)), default=0)
    told = [f"  {name:<{width}}  {value}" for name, value in finding.facts.items()]
    return [f"{finding.source}: {finding.about}", *told, *(f"  {n:<{width}}  {use}" for n, use in finding.uses.items())]


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
    return "safetensors" if is_safetensors(path) else "pickle"


def _in_pickle(path: Path) -> tuple[str, dict[str, str]]:
    """What the generator in one of NVIDIA's pickles is, where that is more than its layout says; and all networks."""
    if not nvidia_pickle.is_pickle(path):
        return "", {}
    try:
        found = nvidia_pickle.networks(path)
    except CheckpointError:
        return "", {}  # tensors alone
    name, network = nvidia_pickle.preferred(found, str(path))
    others = ", ".join(sorted(other for other in found if other != name)) or "no other"
    about = "a StyleGAN2 generator of TensorFlow's" if network.family == "stylegan2-tf" else ""
    return about, {"networks": f"{name}, described here, beside {others}"}


def _model_facts(model: PSP) -> dict[str, str]:
    encoder, config = model.encoder.config, model.config
    looks = f", {config.iterations} looks at what it drew" if config.feedback else ""
    return {
        "task": config.task,
        "reads": f"pictures of {model.source_channels} channels, {_shape(encoder)} pixels{looks}",
        "encoder": f"{_named(encoder)}, {encoder.rows} rows of {encoder.width}",
        "average": "added to what the encoder says" if config.add_average else "not added",
        **_generator_facts(config.generator, encoder.rows),
    }


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
    """Numbers, and how often each comes where it comes again and again."""
    runs = [(number, len(list(same))) for number, same in itertools.groupby(channels)]
    return ", ".join(f"{times} x {number}" if times > 1 else str(number) for number, times in runs)


def _weights(network: nn.Module) -> str:
    """How many numbers the networks have, buffers too."""
    tensors: list[Tensor] = list(network.state_dict().values())
    return f"{sum(tensor.numel() for tensor in tensors) / 1e6:.1f} million numbers in {len(tensors)} tensors"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count} bytes"


def _short(value: Any) -> str:
    text = ascii(value) if not isinstance(value, str) else ascii(value)[1:-1]
    return text if len(text) <= 100 else f"{text[:97]}..."


def _uses(network: nn.Module, kind: str, source: str) -> dict[str, str]:
    """What to do with a file, as calls and commands."""
    if kind in JUDGES:
        return {"train": f"pixel2style train PRESET {JUDGES[kind].format(source)}"} if JUDGES[kind] else {}
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
    for layout in foreign.layouts(network):
        uses[f"as {layout}"] = f"pixel2style convert {source} OUT.pt --to {layout}"
    uses["export"] = f"pixel2style export onnx {source} --out DIR"
    return uses


JUDGES = {
    "arcface": "--loss.identity-network {0}, or --encoder.trunk ir_se50 --trunk-weights {0}",
    "curricularface": "",
    "moco": "--loss.similarity-network {0}",
    "resnet": "--encoder.trunk resnet34 --trunk-weights {0}",
}
"""What else to do with networks that draw nothing."""
