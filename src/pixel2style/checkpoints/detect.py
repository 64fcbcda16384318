"""Which network a file of another project holds, and under which prefix: recognised by the keys of its state dicts.

Training programs wrap a network's tensors in dictionaries (``state_dict``, ``g_ema``) and in prefixes (``module.``).
Both are the same here: a file is a flat table of dotted names, and a network is everything below one prefix.

Axes: ``n`` rows of an average, ``d`` width of a row, ``k`` rows of the generator.
"""

import argparse
import re
from collections import ChainMap
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor

from ..errors import CheckpointError
from ..formats.state_dicts import printable, tensors
from ..generators import PUBLISHED

State = Mapping[str, Any]
Kind = str
"""A key of ``DESCRIBED``."""

MODELS: tuple[Kind, ...] = ("psp", "e4e", "restyle")
DESCRIBED: dict[Kind, str] = {
    "psp": "a pSp model",
    "e4e": "an e4e model",
    "restyle": "a ReStyle model",
    **{kind: layout.about for kind, layout in PUBLISHED.items()},
    "arcface": "an ArcFace network",
    "curricularface": "a CurricularFace network",
    "moco": "a ResNet-50, as MoCo's",
    "resnet": "a ResNet, as torchvision's",
}

KEYS: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    ("restyle", ("encoder.conv1.weight", "encoder.body.0.conv1.weight")),
    ("psp", ("encoder.input_layer.0.weight",)),
    *((kind, layout.keys) for kind, layout in PUBLISHED.items()),
    ("arcface", ("body.0.res_layer.5.fc1.weight", "input_layer.0.weight", "output_layer.3.weight")),
    ("curricularface", ("output_layer.3.weight", "input_layer.0.weight")),
    ("moco", ("layer4.2.conv3.weight",)),
    ("resnet", ("layer1.0.conv1.weight", "conv1.weight")),
)
"""Keys that only such a network has, in the order in which they are searched."""

MAX_DEPTH, MAX_PREFIX = 4, 500
"""Levels of dictionaries, and letters before the names of a network; no known file has as many."""

WRAPPED_PART = re.compile(r"((?:^|\.)(?:encoder|decoder)\.)module\.")
"""The start of a part's names where DataParallel wraps the part, not the network."""

WITHOUT_TENSORS = ("opts", "init_kwargs")
"""Dictionaries of a file that hold no tensors."""

PARTS: dict[Kind, tuple[str, ...]] = {
    "psp": ("encoder.", "decoder."),
    "restyle": ("encoder.", "decoder."),
    **{kind: layout.parts for kind, layout in PUBLISHED.items()},
}
"""Parts of a network that may lie in dictionaries of their own."""


class Found(NamedTuple):
    """A network in a file: its kind, its entries by name, averages ``[n d]`` and options beside it."""

    kind: Kind
    entries: dict[str, Any]
    average: Tensor | None
    decoder_average: Tensor | None
    options: State
    built_with: State
    has_deltas: bool
    """Whether rows after the first are given as differences to it (e4e)."""
    networks: Mapping[str, str] = MappingProxyType({})
    """Of a pickle of NVIDIA's: its networks, this one first, and what they are."""

    @property
    def lacks_generator(self) -> bool:
        """Whether it is an encoder without its generator."""
        return self.kind in MODELS and not any(key.startswith("decoder.") for key in self.entries)

    def weights(self, source: str) -> dict[str, Tensor]:
        """The network's tensors. Raises CheckpointError for anything else among them."""
        return tensors(self.entries, source)


def find(state: State) -> Found:
    """The network in the content of a file; of several copies, the average over training steps (``g_ema``).

    Raises CheckpointError when there is none that is known.
    """
    holders: dict[str, State] = {}
    table = {_unwrapped(key): value for key, value in _named(state, "", MAX_DEPTH, holders, set())}
    for kind, keys in KEYS:
        starts = [key.removesuffix(keys[0]) for key in table if key.endswith(keys[0]) and len(key) < MAX_PREFIX]
        whole = [start for start in starts if start[-1:] in ("", ".") and all(start + key in table for key in keys)]
        if whole:
            return _found(holders, table, kind, min(whole, key=_rank))
    shown = ", ".join(printable(str(key)) for key in list(state)[:5]) or "none"
    raise CheckpointError(
        f"holds no network known here (its first keys: {shown}); give a StyleGAN generator, a pSp, e4e or ReStyle "
        "checkpoint, or ArcFace, CurricularFace, MoCo or ResNet-34 weights"
    )


def _named(
    state: State, prefix: str, depth: int, holders: dict[str, State], seen: set[int]
) -> Iterator[tuple[str, Any]]:
    """All entries by dotted name. A dictionary in several places is entered once; ``holders`` gets it by its prefix."""
    seen.add(id(state))
    holders[prefix.removesuffix(".")] = state
    for key, value in state.items():
        if not isinstance(key, str) or (key in WITHOUT_TENSORS and isinstance(value, Mapping | argparse.Namespace)):
            continue
        name = f"{prefix}{key}"
        if not isinstance(value, Mapping):
            yield name, value
        elif depth and len(name) < MAX_PREFIX and id(value) not in seen:
            yield from _named(value, f"{name}.", depth - 1, holders, seen)


def _unwrapped(key: str) -> str:
    """A name without the ``module`` that DataParallel adds to that of a part; one before the network is a prefix."""
    return WRAPPED_PART.sub(r"\1", key)


def _rank(prefix: str) -> tuple[bool, int, str]:
    return not ("ema" in prefix.lower() or "encoder_q" in prefix), len(prefix), prefix


def _found(holders: Mapping[str, State], table: Mapping[str, Any], kind: Kind, prefix: str) -> Found:
    state, parts = holders[""], PARTS.get(kind, ())
    held = table if prefix else {key: table[key] for key in table if key in state or key.startswith(parts)}
    entries = {key.removeprefix(prefix): value for key, value in held.items() if key.startswith(prefix)}
    above = [".".join(prefix.split(".")[:length]) for length in range(prefix.count("."), -1, -1)]
    averages = (table.get(f"{start}.latent_avg".lstrip(".")) for start in above)
    beside: State = ChainMap(*(dict(holders[start]) for start in above if start in holders))
    options = _options(beside)
    if kind in ("psp", "restyle"):
        kind = _family(options, entries, beside)
    built_with = beside.get("init_kwargs")
    return Found(
        kind,
        # tensors of a network have dots in their names; other entries (``epoch``) have none
        {key: value for key, value in entries.items() if "." in key and not _above_features(kind, key)},
        _average(next((value for value in averages if value is not None), None)),
        _average(beside.get("decoder_avg")),
        options,
        built_with if isinstance(built_with, Mapping) else {},
        _has_deltas(options, beside),
    )


def _above_features(kind: Kind, key: str) -> bool:
    """Whether a tensor belongs to the classifier on top of a network for features."""
    return kind in ("moco", "resnet") and key.startswith("fc.")


def _family(options: State, entries: Mapping[str, Any], state: State) -> Kind:
    """Which of the models in pSp's layout it is. e4e has the keys of pSp: only options and other entries differ."""
    pyramid = "encoder.latlayer1.weight" in entries
    single = "encoder.linear.weight" in entries
    if not (pyramid or single) or "encoder.conv1.weight" in entries or "n_iters_per_batch" in options:
        return "restyle"
    return "e4e" if pyramid and _has_deltas(options, state) else "psp"


def _has_deltas(options: State, state: State) -> bool:
    """Whether rows are differences to the first: by the encoder's name, else by entries that only e4e has."""
    named = options.get("encoder_type")
    if isinstance(named, str):
        return named in ("Encoder4Editing", "ProgressiveBackboneEncoder", "ResNetProgressiveBackboneEncoder")
    return "discriminator_state_dict" in state or "progressive_steps" in options


def _average(value: Any) -> Tensor | None:
    """An average as ``[n d]``, None where there is none."""
    if value is None:
        return None
    average = tensors({"latent_avg": value}, "its average")["latent_avg"]
    if average.ndim not in (1, 2) or not average.is_floating_point():
        raise CheckpointError(f"its latent_avg has shape {list(average.shape)}, not [d], [1 d] or [k d]")
    return average.reshape(-1, average.shape[-1])


def _options(state: State) -> State:
    """The options of the training that wrote the file; empty where there are none."""
    options = state.get("opts")
    if isinstance(options, argparse.Namespace):
        options = vars(options)
    return options if isinstance(options, Mapping) else {}
