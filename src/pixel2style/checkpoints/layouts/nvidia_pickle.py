"""NVIDIA's networks in their pickles; source text and classes in the file are not used.

A file of stylegan2-ada-pytorch or stylegan3 is a dictionary of networks (``G``, ``D``, ``G_ema``); one of TensorFlow is
a tuple of three. Each network is a class name, the arguments it was built with and the state of a module: parameters,
buffers and modules below it. Keys are made as ``nn.Module.state_dict`` makes them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ...errors import CheckpointError
from ...formats import pickle
from ...formats.pickle import Name, Record, Stored, is_tensor
from ...formats.state_dicts import MAX_SHARED, printable, tensors
from ...generators.stylegan2 import tensorflow

Family = Literal["stylegan2", "stylegan3", "stylegan2-tf", "discriminator", "other"]

GENERATORS: tuple[Family, ...] = ("stylegan2", "stylegan3", "stylegan2-tf")
PREFERRED = ("G_ema", "Gs", "G")
"""Names of generators: the averaged one before the one in training."""
TUPLE = ("G", "D", "Gs")
"""Names of the networks in TensorFlow's files, by position."""
ARGUMENTS = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs", "synthesis_kwargs")
"""Arguments of a generator, by position."""

PERSISTENT = Name("torch_utils.persistence", "_reconstruct_persistent_obj")
TENSORFLOW = ("dnnlib.tflib.network", "tfutil")

MAX_NETWORKS, MAX_DEPTH, MAX_PARTS, MAX_NAME = 16, 32, 5_000, 200
"""Networks in a file, levels of modules, tensors and modules of a network, letters of a name: far above any file."""
MAX_VALUES, MAX_NESTED = 500, 3
"""Values among the arguments of a network, and levels of dictionaries there."""
PLACES = ("_parameters", "_buffers", "_modules")
"""Attributes of a module that hold its state."""


@dataclass(frozen=True)
class Network:
    """A network in a file: its family, the name of its class, its tensors (not read), its constructor's arguments."""

    family: Family
    class_name: str
    stored: Mapping[str, Stored]
    built_with: Mapping[str, Any]
    source: str

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of its tensors by key; nothing is read."""
        return {key: value.shape for key, value in self.stored.items()}

    def weights(self, numbers: bool = True) -> dict[str, Tensor]:
        """Its state dict, TensorFlow's variables by PyTorch's names, floating-point numbers as float32.

        Without ``numbers`` they are meta tensors. Raises CheckpointError where they claim more than the file has.
        """
        if not numbers:
            read = {key: value.meta() for key, value in self.stored.items()}
        elif sum(value.cost for value in self.stored.values()) > 2 * Path(self.source).stat().st_size + MAX_SHARED:
            raise CheckpointError(f"{self.source}: claims more numbers than the file holds; the file is damaged")
        else:
            read = tensors({key: value.tensor() for key, value in self.stored.items()}, self.source)
        return tensorflow.state(read, self.built_with, self.source) if self.family == "stylegan2-tf" else read

    def arguments(self) -> dict[str, Any]:
        """The arguments of NVIDIA's PyTorch class."""
        return tensorflow.arguments(self.built_with) if self.family == "stylegan2-tf" else dict(self.built_with)


def networks(path: str | Path) -> dict[str, Network]:
    """The networks in a pickle by their names there; no tensor is read.

    Raises CheckpointError for a file that holds none, UnsafeFileError for one that contains code.
    """
    return _networks(pickle.read(path), str(path))


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
        shown = ", ".join(printable(str(name)) for name in list(content)[:5]) or "nothing"
        raise CheckpointError(f"{source}: is a pickle without networks (it holds {shown}); give a .pkl of a generator")
    return {name: _network(record, name, source) for name, record in list(found.items())[:MAX_NETWORKS]}


def read(path: str | Path, numbers: bool = True) -> tuple[dict[str, Any], dict[str, Family]]:
    """The generator as the dictionary of an "nvidia-state" file (its name, state dict and ``init_kwargs``), and what
    the networks of the file are by name, this one first.

    Of several generators it is the averaged one. A pickle of tensors alone is that dictionary itself, whatever they
    are of. Without ``numbers`` tensors are meta tensors and nothing is read. Raises as ``networks`` does, and
    CheckpointError for a file without generator.
    """
    content = pickle.read(path)
    if isinstance(content, dict) and (alone := _alone(content)):
        return dict(Network("other", "", alone, {}, str(path)).weights(numbers)), {}
    found = _networks(content, str(path))
    name = preferred(found, str(path))
    network = found[name]
    families = {name: network.family, **{other: found[other].family for other in found}}
    return {name: network.weights(numbers), "init_kwargs": network.arguments()}, families


def _alone(content: Mapping[Any, Any]) -> dict[str, Stored]:
    """Tensors and arrays in a dictionary, or one level below, by dotted name; none where there are networks."""
    if any(isinstance(value, Record) for value in content.values()):
        return {}
    tables = [("", content), *((f"{name}.", table) for name, table in content.items() if isinstance(table, dict))]
    return {
        f"{prefix[:MAX_NAME]}{str(name)[:MAX_NAME]}": value
        for prefix, table in tables[:MAX_NETWORKS]
        for name, value in islice(table.items(), MAX_PARTS)
        if is_tensor(value)
    }


def preferred(found: Mapping[str, Network], source: str) -> str:
    """The name of the generator to read where none is named. Raises CheckpointError where there is none."""
    names = sorted(found, key=lambda name: PREFERRED.index(name) if name in PREFERRED else len(PREFERRED))
    for name in names:
        if found[name].family in GENERATORS:
            return name
    shown = ", ".join(f"{printable(name)} ({printable(found[name].class_name)})" for name in names[:5])
    raise CheckpointError(f"{source}: holds no StyleGAN2 or StyleGAN3 generator, but {shown}; give the file of one")


def _network(record: Record, name: str, source: str) -> Network:
    if record.name.module in TENSORFLOW:
        return _of_tensorflow(record, name, source)
    class_name, state = _class_and_state(record)
    stored = dict(_tensors(record, source))
    built_with = _arguments(state)
    family: Family = "other"
    if "synthesis.input.freqs" in stored:
        family = "stylegan3"
    elif any(key.startswith("synthesis.b4.") for key in stored):
        family = "stylegan2"
        built_with = _with_clamp(built_with, state)
    elif "discriminator" in class_name.lower():
        family = "discriminator"
    return Network(family, class_name, stored, built_with, source)


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
        if parts > MAX_PARTS or depth > MAX_DEPTH or any(len(name) > MAX_NAME for name in (*values, *below)):
            raise CheckpointError(f"{source}: nests networks too deeply; the file is damaged")
        for name, value in values.items():
            if not is_tensor(value):
                raise CheckpointError(
                    f"{source}: {printable(prefix + name)} is no plain tensor; download the file again"
                )
            yield prefix + name, value
        for name, value in reversed(below.items()):
            if not isinstance(value, Record):
                raise CheckpointError(f"{source}: {printable(prefix + name)} is no network; download the file again")
            waiting.append((f"{prefix}{name}.", value, depth + 1))


def _entries(state: Mapping[Any, Any], what: str) -> Iterator[tuple[str, Any]]:
    """The entries of one attribute of a module; empty ones are left out."""
    found = state.get(what)
    for name, value in found.items() if isinstance(found, dict) else ():
        if value is not None:
            yield str(name), value


def _arguments(state: Mapping[Any, Any]) -> dict[str, Any]:
    """The arguments that a network was built with, by name."""
    given = state.get("_init_args")
    named = state.get("_init_kwargs")
    placed = zip(ARGUMENTS, given if isinstance(given, tuple | list) else (), strict=False)
    return _plain({**dict(placed), **(named if isinstance(named, dict) else {})})


def _with_clamp(built_with: dict[str, Any], state: Mapping[Any, Any]) -> dict[str, Any]:
    """``built_with`` with the clamp that the first convolution keeps: what the code clamps by default has changed."""
    layer = state
    for name in ("synthesis", "b4", "conv1"):
        inner = dict(_entries(layer, "_modules")).get(name)
        if not isinstance(inner, Record):
            return built_with
        _, layer = _class_and_state(inner)
    if "conv_clamp" not in layer:
        return built_with
    clamp = _plain({"": layer["conv_clamp"]})[""]
    if "synthesis_kwargs" in built_with:
        synthesis = built_with["synthesis_kwargs"] if isinstance(built_with["synthesis_kwargs"], dict) else {}
        return {**built_with, "synthesis_kwargs": {**synthesis, "conv_clamp": clamp}}
    return {**built_with, "conv_clamp": clamp}


def _plain(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Plain values of a file by their names; those of objects are left out, and so is what is deep, long or many."""
    left = MAX_VALUES

    def plain(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if isinstance(value, str):
            return value[:MAX_NAME]
        if value is None or isinstance(value, bool | int | float):
            return value
        if is_tensor(value) and value.shape == ():
            return value.tensor().item()
        if depth and isinstance(value, dict):
            return {str(n)[:MAX_NAME]: plain(v, depth - 1) for n, v in islice(value.items(), MAX_NAME) if left > 0}
        if depth and isinstance(value, tuple | list) and not isinstance(value, Name):
            return [plain(item, depth - 1) for item in islice(value, MAX_NAME) if left > 0]
        return {} if isinstance(value, dict) else None

    found: dict[str, Any] = plain(values, MAX_NESTED)
    return found


def _of_tensorflow(record: Record, name: str, source: str) -> Network:
    _, state = _class_and_state(record)
    variables = dict(_variables(record, source))
    static = state.get("static_kwargs")
    built_with = _plain(static if isinstance(static, dict) else {})
    built_with |= _plain({key: state.get(key) for key in ("version", "build_func_name")})
    built = str(built_with["build_func_name"] or "")
    family: Family = "other"
    if built.startswith("D_") or name == "D":
        family = "discriminator"
    elif built.startswith("G_") or any(key.startswith("synthesis/") for key in variables):
        family = "stylegan2-tf"
    return Network(family, built or record.name.name, variables, built_with, source)


def _variables(record: Record, source: str, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Stored]]:
    """Names and arrays of a network of TensorFlow's, those of its components below their names."""
    _, state = _class_and_state(record)
    own = state.get("variables")
    if depth > 1 or not isinstance(own, list | tuple) or len(own) > MAX_PARTS:
        raise CheckpointError(f"{source}: is a TensorFlow network without variables; download the file again")
    for entry in own:
        if not (isinstance(entry, tuple | list) and len(entry) == 2 and isinstance(entry[0], str)):
            raise CheckpointError(f"{source}: is a TensorFlow network of another layout; download the file again")
        if len(entry[0]) > MAX_NAME:
            raise CheckpointError(f"{source}: holds a variable with too long a name; the file is damaged")
        if not is_tensor(entry[1]):
            raise CheckpointError(f"{source}: {printable(entry[0])} is no array of numbers; download the file again")
        yield prefix + entry[0], entry[1]
    for name, value in islice(_entries(state, "components"), 4):
        if isinstance(value, Record):
            yield from _variables(value, source, f"{prefix}{name[:MAX_NAME]}/", depth + 1)
