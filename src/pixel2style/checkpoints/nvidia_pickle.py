"""NVIDIA's networks out of their pickles, whose source texts and classes stay unread.

A file of stylegan2-ada-pytorch or stylegan3 is a dictionary of networks (``G``, ``D``, ``G_ema``); one of TensorFlow is
a tuple of three. Each network is a class that is named, the arguments it was built with and the state of a module:
parameters, buffers, modules below it. Keys are made as ``nn.Module.state_dict`` makes them.

This module does not know what the tensors of a generator mean (see ``nvidia``, ``nvidia3`` and ``tensorflow``).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..formats.pickle.reader import Name, Record, Stored, is_pickle, read
from ..formats.pickle.tensors import SHARED, is_tensor
from ..formats.state_dicts import spell, tensors
from ..generators.stylegan2 import tensorflow

__all__ = ["Family", "Network", "is_pickle", "networks", "state"]

Family = Literal["stylegan2", "stylegan3", "stylegan2-tf", "discriminator", "other"]

GENERATORS: tuple[Family, ...] = ("stylegan2", "stylegan3", "stylegan2-tf")
PREFERRED = ("G_ema", "Gs", "G")
"""Averaged generators before the one that was still learning."""
TUPLE = ("G", "D", "Gs")
"""What the networks of TensorFlow's files are, by their place."""
ARGUMENTS = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs", "synthesis_kwargs")
"""What a generator is built with, by its place."""

PERSISTENT = Name("torch_utils.persistence", "_reconstruct_persistent_obj")
TENSORFLOW = ("dnnlib.tflib.network", "tfutil")

NETWORKS, DEPTH, PARTS, LETTERS = 16, 32, 5_000, 200
"""Networks in a file, modules in modules, tensors and modules of a network, letters of a name: none comes near."""
VALUES, NESTED = 500, 3
"""Values among what a network was built with, and dictionaries in dictionaries there."""
PLACES = ("_parameters", "_buffers", "_modules")
"""Where a module keeps what its state consists of."""


@dataclass(frozen=True)
class Network:
    """A network in a file: what it is, the name of its class, its tensors (not read), what it was built with."""

    family: Family
    class_name: str
    stored: Mapping[str, Stored]
    told: Mapping[str, Any]
    source: str

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of its tensors by their keys; nothing is read."""
        return {key: value.shape for key, value in self.stored.items()}

    def weights(self, numbers: bool = True) -> dict[str, Tensor]:
        """Its state dict, TensorFlow's variables by PyTorch's names, floating-point numbers as float32.

        Without ``numbers`` tensors are PyTorch's meta ones. Raises CheckpointError where they say too much.
        """
        if not numbers:
            read = {
                key: torch.empty(value.shape, dtype=value.kind, device="meta") for key, value in self.stored.items()
            }
        elif sum(value.cost for value in self.stored.values()) > 2 * Path(self.source).stat().st_size + SHARED:
            raise CheckpointError(f"{self.source}: claims more numbers than the file holds; the file is damaged")
        else:
            read = tensors({key: value.tensor() for key, value in self.stored.items()}, self.source)
        return tensorflow.state(read, self.told, self.source) if self.family == "stylegan2-tf" else read

    def built_with(self) -> dict[str, Any]:
        """The arguments of NVIDIA's PyTorch network."""
        return tensorflow.arguments(self.told) if self.family == "stylegan2-tf" else dict(self.told)


def networks(path: str | Path) -> dict[str, Network]:
    """The networks in a pickle by their names there; no tensor is read.

    Raises CheckpointError for a file that holds none, UnsafeFileError for one that wants to run code.
    """
    return _networks(read(path), str(path))


def _networks(content: Any, source: str) -> dict[str, Network]:
    if isinstance(content, Record):
        content = {"network": content}
    elif isinstance(content, tuple | list):
        names = TUPLE if len(content) == len(TUPLE) else range(len(content))
        content = dict(zip(map(str, names), content, strict=True))
    if not isinstance(content, dict):
        raise CheckpointError(f"{source}: is a pickle of something else than networks; give a .pkl of a generator")
    found = {str(name): value for name, value in content.items() if isinstance(value, Record)}
    if not found:
        shown = ", ".join(spell(str(name)) for name in list(content)[:5]) or "nothing"
        raise CheckpointError(f"{source}: is a pickle without networks (it holds {shown}); give a .pkl of a generator")
    return {name: _network(record, name, source) for name, record in list(found.items())[:NETWORKS]}


def state(path: str | Path, numbers: bool = True) -> dict[str, Any]:
    """The generator as the dictionary of an "nvidia-state" file: its name, state dict and ``init_kwargs``.

    Of several it is the averaged one. A pickle of tensors alone is that dictionary itself, whatever they are of.
    Without ``numbers`` tensors are PyTorch's meta ones, and nothing is read. Raises as ``networks`` does, and
    CheckpointError for a file without generator.
    """
    content = read(path)
    if isinstance(content, dict) and (alone := _alone(content)):
        return dict(Network("other", "", alone, {}, str(path)).weights(numbers))
    name, network = preferred(_networks(content, str(path)), str(path))
    return {name: network.weights(numbers), "init_kwargs": network.built_with()}


def _alone(content: Mapping[Any, Any]) -> dict[str, Stored]:
    """Tensors and arrays in a dictionary, or in dictionaries in it, by dotted names; none where there are networks."""
    if any(isinstance(value, Record) for value in content.values()):
        return {}
    tables = [("", content), *((f"{name}.", table) for name, table in content.items() if isinstance(table, dict))]
    return {
        f"{prefix[:LETTERS]}{str(name)[:LETTERS]}": value
        for prefix, table in tables[:NETWORKS]
        for name, value in islice(table.items(), PARTS)
        if is_tensor(value)
    }


def preferred(found: Mapping[str, Network], source: str) -> tuple[str, Network]:
    """The generator that is meant where none is named, and its name. Raises CheckpointError where there is none."""
    names = sorted(found, key=lambda name: PREFERRED.index(name) if name in PREFERRED else len(PREFERRED))
    for name in names:
        if found[name].family in GENERATORS:
            return name, found[name]
    shown = ", ".join(f"{spell(name)} ({spell(found[name].class_name)})" for name in names[:5])
    raise CheckpointError(f"{source}: holds no StyleGAN2 or StyleGAN3 generator, but {shown}; give the file of one")


def _network(record: Record, name: str, source: str) -> Network:
    if record.name.module in TENSORFLOW:
        return _of_tensorflow(record, name, source)
    class_name, state = _class_and_state(record)
    stored = dict(_tensors(record, source))
    told = _told(state)
    family: Family = "other"
    if "synthesis.input.freqs" in stored:
        family = "stylegan3"
    elif any(key.startswith("synthesis.b4.") for key in stored):
        family = "stylegan2"
        told = _with_clamp(told, state)
    elif "discriminator" in class_name.lower():
        family = "discriminator"
    return Network(family, class_name, stored, told, source)


def _class_and_state(record: Record) -> tuple[str, Mapping[Any, Any]]:
    """The class that an object is of, and its attributes; empty where it has none."""
    name: Any = record.name.name
    state = record.state
    if record.name == PERSISTENT:
        about = record.args[0] if len(record.args) == 1 and isinstance(record.args[0], dict) else {}
        name, state = about.get("class_name"), about.get("state")
    return name if isinstance(name, str) else str(record.name), state if isinstance(state, dict) else {}


def _tensors(record: Record, source: str) -> Iterator[tuple[str, Stored]]:
    """Keys and tensors as ``nn.Module.state_dict`` gives them."""
    parts, waiting = 0, [("", record, 0)]
    while waiting:
        prefix, module, depth = waiting.pop()
        _, state = _class_and_state(module)
        passing = state.get("_non_persistent_buffers_set")
        passing = passing if isinstance(passing, set | frozenset) else ()
        buffers = {name: value for name, value in _entries(state, "_buffers") if name not in passing}
        below = dict(_entries(state, "_modules"))
        values = {**dict(_entries(state, "_parameters")), **buffers}
        parts += 1 + sum(len(held) for held in map(state.get, PLACES) if isinstance(held, dict))
        if parts > PARTS or depth > DEPTH or any(len(name) > LETTERS for name in (*values, *below)):
            raise CheckpointError(f"{source}: holds networks in networks without end; the file is damaged")
        for name, value in values.items():
            if not is_tensor(value):
                raise CheckpointError(f"{source}: {spell(prefix + name)} is no plain tensor; download the file again")
            yield prefix + name, value
        for name, value in reversed(below.items()):
            if not isinstance(value, Record):
                raise CheckpointError(f"{source}: {spell(prefix + name)} is no network; download the file again")
            waiting.append((f"{prefix}{name}.", value, depth + 1))


def _entries(state: Mapping[Any, Any], what: str) -> Iterator[tuple[str, Any]]:
    """What a module has of one kind; places that are empty are left out."""
    found = state.get(what)
    for name, value in found.items() if isinstance(found, dict) else ():
        if value is not None:
            yield str(name), value


def _told(state: Mapping[Any, Any]) -> dict[str, Any]:
    """What a network was built with, by name."""
    given = state.get("_init_args")
    named = state.get("_init_kwargs")
    placed = zip(ARGUMENTS, given if isinstance(given, tuple | list) else (), strict=False)
    return _plain({**dict(placed), **(named if isinstance(named, dict) else {})})


def _with_clamp(told: dict[str, Any], state: Mapping[Any, Any]) -> dict[str, Any]:
    """``told`` with the clamp that the first convolution keeps: what the code clamps by default has changed."""
    layer = state
    for name in ("synthesis", "b4", "conv1"):
        inner = dict(_entries(layer, "_modules")).get(name)
        if not isinstance(inner, Record):
            return told
        _, layer = _class_and_state(inner)
    if "conv_clamp" not in layer:
        return told
    clamp = _plain({"": layer["conv_clamp"]})[""]
    if "synthesis_kwargs" in told:
        synthesis = told["synthesis_kwargs"] if isinstance(told["synthesis_kwargs"], dict) else {}
        return {**told, "synthesis_kwargs": {**synthesis, "conv_clamp": clamp}}
    return {**told, "conv_clamp": clamp}


def _plain(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Plain values of a file by their names; those of objects are left out, and so is what is deep, long or many."""
    left = VALUES

    def plain(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if isinstance(value, str):
            return value[:LETTERS]
        if value is None or isinstance(value, bool | int | float):
            return value
        if is_tensor(value) and value.shape == ():
            return value.tensor().item()
        if depth and isinstance(value, dict):
            return {str(n)[:LETTERS]: plain(v, depth - 1) for n, v in islice(value.items(), LETTERS) if left > 0}
        if depth and isinstance(value, tuple | list) and not isinstance(value, Name):
            return [plain(item, depth - 1) for item in islice(value, LETTERS) if left > 0]
        return {} if isinstance(value, dict) else None

    found: dict[str, Any] = plain(values, NESTED)
    return found


def _of_tensorflow(record: Record, name: str, source: str) -> Network:
    _, state = _class_and_state(record)
    variables = dict(_variables(record, source))
    static = state.get("static_kwargs")
    told = _plain(static if isinstance(static, dict) else {})
    told |= _plain({key: state.get(key) for key in ("version", "build_func_name")})
    built = str(told["build_func_name"] or "")
    family: Family = "other"
    if built.startswith("D_") or name == "D":
        family = "discriminator"
    elif built.startswith("G_") or any(key.startswith("synthesis/") for key in variables):
        family = "stylegan2-tf"
    return Network(family, built or record.name.name, variables, told, source)


def _variables(record: Record, source: str, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Stored]]:
    """Names and arrays of a network of TensorFlow's, those of its components below their names."""
    _, state = _class_and_state(record)
    own = state.get("variables")
    if depth > 1 or not isinstance(own, list | tuple) or len(own) > PARTS:
        raise CheckpointError(f"{source}: is a TensorFlow network without variables; download the file again")
    for entry in own:
        if not (isinstance(entry, tuple | list) and len(entry) == 2 and isinstance(entry[0], str)):
            raise CheckpointError(f"{source}: is a TensorFlow network of another layout; download the file again")
        if len(entry[0]) > LETTERS:
            raise CheckpointError(f"{source}: holds a variable whose name has no end; the file is damaged")
        if not is_tensor(entry[1]):
            raise CheckpointError(f"{source}: {spell(entry[0])} is no array of numbers; download the file again")
        yield prefix + entry[0], entry[1]
    for name, value in islice(_entries(state, "components"), 4):
        if isinstance(value, Record):
            yield from _variables(value, source, f"{prefix}{name[:LETTERS]}/", depth + 1)
