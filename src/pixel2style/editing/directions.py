"""Directions in W: what is added to the rows of a picture so that one attribute changes.

Our files are safetensors with one tensor ``direction`` ``[k d]`` and metadata: the direction's name, the rows it is
meant for, the generator it belongs to, how it was found and figures on it. Its unit is one standard deviation of the
attribute where that was measured. Files of others are read, too: the ``.pt`` and ``.npy`` of InterFaceGAN
(arXiv 2005.09635), e4e, GANSpace (arXiv 2004.02546), LowRankGAN, ReSeFa and Chunkmogrify, which hold numbers only.

Axes: ``k`` rows, ``d`` width of a row.
"""

import json
import os
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError, ConfigError
from ..formats import safetensors, torch_files
from ..generators.base import Generator
from .latents import Rows, move, parse_rows

FORMAT = "pixel2style direction 1"
SUFFIXES = (".safetensors", ".pt", ".pth", ".npy", ".npz")
FULL_ROWS = 18
"""Rows of StyleGAN2 at 1024 pixels, which published directions are for."""
_BROKEN = (
    OSError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, RuntimeError, SyntaxError, MemoryError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy may raise for damaged bytes."""


@dataclass(frozen=True)
class Direction:
    """What is added to rows, ``vector`` ``[k d]``, to change the attribute ``name`` by ``unit``.

    ``rows`` are those it is meant for (``latents.parse_rows``), ``generator`` the kind and size of the generator that
    it belongs to ("mobilestylegan 1024"; empty: not known), ``source`` says how it was found, ``figures`` how good it
    is.
    """

    name: str
    vector: Tensor
    rows: str = "0-"
    generator: str = ""
    unit: str = ""
    source: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)

    def apply(self, ws: Tensor, amount: float, rows: Rows | None = None) -> Tensor:
        """``ws`` ``[b k d]`` moved by ``amount`` units in ``rows``, by default the direction's own.

        Raises ConfigError for rows of another shape than the direction's.
        """
        if self.vector.shape != ws.shape[1:]:
            raise ConfigError(
                f"direction {self.name} is {list(self.vector.shape)}, and these rows are {list(ws.shape[1:])}"
            )
        return move(ws, self.vector, amount, self.rows if rows is None else rows)


def id_of(generator: Generator) -> str:
    """The kind and the size of a generator, as directions name it."""
    return f"{generator.config.kind} {generator.config.size}"


def save(direction: Direction, path: str | Path) -> None:
    """Write a direction as one file of ours. Raises OutputError."""
    facts = {"name": direction.name, "rows": direction.rows, "generator": direction.generator, "unit": direction.unit}
    facts |= {"source": direction.source, "figures": json.dumps(dict(direction.figures))}
    safetensors.write({"direction": direction.vector.float()}, Path(path), {"format": FORMAT} | facts)


def load(path: str | Path, generator: Generator, component: int | None = None) -> Direction:
    """The direction in a file, ours or another's, for the rows of ``generator``.

    One vector is meant for all rows; 18 rows are mapped to those of a generator with fewer. Of GANSpace's files
    (``.pt`` with ``comp`` and ``std``, ``.npz`` with ``lat_comp`` and ``lat_stdev``) it is ``component``, from 0, a
    unit of which is one standard deviation along it. Raises CheckpointError for a file that is missing, damaged or
    holds no direction, ConfigError for one that belongs to another generator, and for a component that is not there, is
    missing or is not needed.
    """
    path = Path(path)
    if not os.path.isfile(path):  # noqa: PTH113 (Path.is_file raises for long names)
        raise CheckpointError(f"{path}: there is no such file; give the path of a direction")
    if path.suffix.lower() == ".safetensors":
        if component is not None:
            raise ConfigError(f"{path}: holds one direction: leave out :{component}")
        return _ours(path, generator)
    numbers = _numpy(path) if path.suffix.lower() in (".npy", ".npz") else torch_files.read_any(path)
    axes = _axes(numbers)
    if axes is not None:
        return _component(path, *axes, component, generator)
    if component is not None:
        raise ConfigError(f"{path}: is no file of GANSpace with components: leave out :{component}")
    if isinstance(numbers, Mapping):
        raise CheckpointError(
            f"{path}: holds {', '.join(map(str, list(numbers)[:4]))}, not one direction; save one tensor of it"
        )
    if not isinstance(numbers, Tensor) or not numbers.is_floating_point():
        raise CheckpointError(f"{path}: holds no direction; give a tensor of numbers")
    return Direction(path.stem, fitted(numbers.float(), generator, str(path)), source=f"the file {path.name}")


def load_many(path: Path, generator: Generator) -> dict[str, Direction]:
    """The directions in a file of several, by name; none where it belongs to another generator.

    Its tensors are named as the directions; the metadata ``directions`` has rows, unit and figures of each.
    """
    metadata = safetensors.read_metadata(path)
    if metadata.get("generator") != id_of(generator):
        return {}
    facts: dict[str, dict[str, Any]] = json.loads(metadata["directions"])
    tensors = safetensors.read(path)
    return {
        name: Direction(
            name,
            fitted(tensors[name].float(), generator, name),
            own["rows"],
            metadata["generator"],
            own["unit"],
            metadata.get("source", ""),
            own["figures"],
        )
        for name, own in facts.items()
    }


def fitted(numbers: Tensor, generator: Generator, name: str) -> Tensor:
    """A direction ``[k d]`` for a generator, of ``[d]``, ``[1 d]``, ``[k d]``, ``[1 k d]`` or ``[1 k*d]``.

    Of 18 rows a generator with fewer takes the first, and the last one for its last: the bundled one's rows 0 to 14 are
    StyleGAN2's, its row 15 colours the picture. Raises CheckpointError for other shapes and for numbers that are not
    finite or all zero.
    """
    width, count = generator.width, generator.rows
    if not numbers.numel() or numbers.numel() % width or (numbers.ndim > 1 and numbers.shape[-1] % width):
        raise CheckpointError(f"{name}: a direction of rows of {width} was expected, got {list(numbers.shape)}")
    if not bool(torch.isfinite(numbers).all()) or not bool(numbers.any()):
        raise CheckpointError(f"{name}: is zero or has numbers that are not finite; find the direction again")
    rows = numbers.reshape(-1, width)
    if len(rows) == 1:
        return rows.expand(count, width).clone()
    if len(rows) == FULL_ROWS and count < FULL_ROWS:
        return torch.cat([rows[: count - 1], rows[-1:]])
    if len(rows) != count:
        raise CheckpointError(
            f"{name}: has {len(rows)} rows, and this generator has {count}; it belongs to another one"
        )
    return rows.clone()


def _ours(path: Path, generator: Generator) -> Direction:
    metadata, tensors = safetensors.read_metadata(path), safetensors.read(path)
    if metadata.get("format") != FORMAT or "direction" not in tensors:
        raise CheckpointError(f"{path}: is no direction of ours; name one from pixel2style directions")
    own = metadata.get("generator", "")
    if own and own != id_of(generator):
        raise ConfigError(f"{path}: belongs to the generator {own}, and this one is {id_of(generator)}")
    try:
        figures = {str(key): float(value) for key, value in json.loads(metadata.get("figures", "{}")).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: its figures are damaged; copy the file again") from error
    vector = fitted(tensors["direction"].float(), generator, str(path))
    rows = metadata.get("rows", "0-")
    parse_rows(rows, generator.rows)
    texts = {key: metadata.get(key, "") for key in ("generator", "unit", "source")}
    return Direction(metadata.get("name", path.stem), vector, rows, figures=figures, **texts)


def _axes(content: Any) -> tuple[Tensor, Tensor] | None:
    """Components ``[n ...]`` and their deviations ``[n]`` in a file of GANSpace; None for other files."""
    for components, deviations in (("comp", "std"), ("lat_comp", "lat_stdev")):
        if isinstance(content, Mapping) and components in content and deviations in content:
            found = content[components], content[deviations]
            if all(isinstance(own, Tensor) and own.is_floating_point() and own.ndim for own in found):
                return found[0].float(), found[1].float().flatten()
    return None


def _component(path: Path, axes: Tensor, deviations: Tensor, component: int | None, generator: Generator) -> Direction:
    if len(axes) != len(deviations):
        raise CheckpointError(f"{path}: has {len(axes)} components and {len(deviations)} deviations; copy it again")
    if component is None or not 0 <= component < len(axes):
        raise ConfigError(
            f"{path}: holds {len(axes)} components of GANSpace: say which, from 0 to {len(axes) - 1}, as {path.name}:0"
        )
    vector = fitted(axes[component] * deviations[component], generator, f"{path}:{component}")
    return Direction(
        f"{path.stem}-{component}", vector, unit="one standard deviation along it", source=f"component of {path.name}"
    )


def _numpy(path: Path) -> Any:
    try:
        with path.open("rb") as file:  # NumPy leaves damaged archives open
            array: Any = np.load(file, allow_pickle=False)
            if isinstance(array, np.lib.npyio.NpzFile):
                return {name: torch.from_numpy(np.array(array[name], dtype=np.float32)) for name in array.files}
            return torch.from_numpy(np.array(array, dtype=np.float32))
    except _BROKEN as error:
        raise CheckpointError(
            f"{path}: is no array of numbers, or is damaged; save it again with numpy.save"
        ) from error


def scaled(direction: Direction, factor: float, **changes: Any) -> Direction:
    """The direction with ``factor`` times its length, and other fields changed."""
    return replace(direction, vector=direction.vector * factor, **changes)
