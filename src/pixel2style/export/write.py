"""Write graphs of models as files, compared with the model before they are kept.

A graph is traced once with an open batch axis, written into a temporary folder beside its destination, opened there by
the runtime that will run it, and compared with the model on example inputs. When both agree it is moved into place,
else it is deleted. ``benchmarks/onnx_speed.py`` measures how fast the files run.
"""

import importlib
import io
import math
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .. import __version__, checkpoints
from ..errors import CheckpointError, ConfigError, OutputError
from ..files import claim
from ..generators import Generator
from ..models.psp import PSP
from .graphs import PARTS, Graph, Part, graph_of

Form = Literal["onnx", "torch"]
Run = Callable[[Tensor], Sequence[Tensor]]

SUFFIXES: dict[Form, str] = {"onnx": ".onnx", "torch": ".pt2"}
OPSET = 18
"""ONNX's operator set: the oldest that PyTorch's exporter writes, so that most runtimes read it."""
TOLERANCE = 1e-3
"""Largest error of a graph, relative to the largest number that the model gives."""
BATCHES = (1, 3)
"""Batch sizes that a graph is compared at; it is traced with another."""
MAX_BATCH = 1 << 16
"""PyTorch below 2.7 requires a limit."""

_SUFFIX = re.compile(r"\.(safetensors|pt|pth|pkl)\b.*")


@dataclass(frozen=True)
class Difference:
    """The largest error of an output, and the largest number that the model gives there."""

    error: float = 0.0
    largest: float = 0.0

    @property
    def is_small(self) -> bool:
        """Whether rounding can explain it; NaN is never small."""
        return self.error <= TOLERANCE * self.largest


@dataclass(frozen=True)
class Exported:
    """A file that was written, and the differences of its outputs to the model's."""

    file: Path
    takes: str
    gives: dict[str, Difference]


def export_into(
    out: Path,
    source: str | Path,
    form: Form,
    parts: Sequence[Part] = PARTS,
    *,
    size: int | None = None,
    overwrite: bool = False,
) -> Iterator[Exported]:
    """Write ``NAME.PART.onnx`` or ``NAME.PART.pt2`` into ``out`` for each of ``parts``, one at a time.

    ``source`` is any source of ``load`` or ``load_generator``; of a generator alone only that part is written where all
    are asked for. ``size`` is the side of the output in pixels. Raises ConfigError for what is not installed or does
    not fit, OutputError when files exist or cannot be written, or when a graph gives other numbers than its model.
    """
    if form == "onnx":
        _require("onnx", "onnxscript", "onnxruntime")
    if size is not None and tuple(parts) == ("encoder",):
        raise ConfigError("an encoder draws nothing: leave out --size, or export another --part")
    name = _SUFFIX.sub("", Path(source).name)
    files = {part: out / f"{name}.{part}{SUFFIXES[form]}" for part in parts}
    claim(out, list(files.values()), [Path(source)], overwrite)
    model = _opened(source, parts)
    for part in parts if isinstance(model, PSP) else ("generator",):
        yield export_graph(graph_of(model, part, size), form, files[part])


def _require(*modules: str) -> None:
    try:
        for name in modules:
            importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"ONNX needs {error.name}, which is not installed: pip install 'pixel2style[onnx]'"
        ) from error


def _opened(source: str | Path, parts: Sequence[Part]) -> PSP | Generator:
    if tuple(parts) == ("generator",):
        return checkpoints.load_generator(source)
    try:
        return checkpoints.load(source)
    except CheckpointError as error:
        if "generator" not in parts:
            raise
        try:
            return checkpoints.load_generator(source)
        except CheckpointError:
            raise error from None


@torch.no_grad()
def export_graph(graph: Graph, form: Form, file: Path) -> Exported:
    """Trace, write, open again, compare, move into place. Raises OutputError where the graph gives other numbers."""
    write, open_again = FORMS[form]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters, about their internals
        program = torch.export.export(
            graph.network,
            (graph.example(2),),
            dynamic_shapes=({0: torch.export.Dim("batch", max=MAX_BATCH)},),
            strict=False,
        )
        try:
            with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder:
                part = Path(folder, file.name)
                write(program, graph, part)
                gives = differences(graph, open_again(part))
                for name, found in gives.items():
                    if not found.is_small:
                        raise OutputError(
                            f"{file.name} gives {name} up to {found.error:.1g} away from the model's, which go to "
                            f"{found.largest:.1g}: nothing was written; try other versions of torch and onnxruntime"
                        )
                for made in sorted(Path(folder).iterdir()):
                    made.replace(file.parent / made.name)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(f"{file} cannot be written ({reason}); choose a folder that has room") from error
    return Exported(file, graph.takes, gives)


def differences(graph: Graph, run: Run) -> dict[str, Difference]:
    """The largest difference between ``run`` and the model, by output."""
    gives = dict.fromkeys(graph.gives, Difference())
    for count in BATCHES:
        inputs = graph.example(count)
        expected = graph.network(inputs)
        wanted = (expected,) if isinstance(expected, Tensor) else expected
        for name, mine, theirs in zip(graph.gives, wanted, run(inputs), strict=True):
            fits = mine.shape == theirs.shape
            error = float((mine - theirs).abs().max()) if fits else math.nan
            before = gives[name]
            # numpy's maximum keeps NaN, Python's may not
            gives[name] = Difference(
                float(np.maximum(before.error, error)), max(before.largest, float(mine.abs().max()))
            )
    return gives


def _write_onnx(program: torch.export.ExportedProgram, graph: Graph, file: Path) -> None:
    made = torch.onnx.export(
        program, dynamo=True, input_names=[graph.takes], output_names=graph.gives, opset_version=OPSET, verbose=False
    )
    assert made is not None
    _describe(made.model, graph)
    made.save(file)


def _describe(model: Any, graph: Graph) -> None:
    """Add the graph's facts, name its open axis ``batch``, and remove where in our code each node comes from."""
    model.metadata_props.update(graph.facts)
    model.graph.name = graph.facts["part"]
    model.producer_name, model.producer_version = "pixel2style", __version__
    ends = [*model.graph.inputs, *model.graph.outputs]
    traced = str(ends[0].shape[0])
    values = [value for node in model.graph for value in node.outputs]
    for value in (*ends, *values):
        if value.shape is not None:
            for axis, length in enumerate(value.shape):
                if str(length) == traced:
                    value.shape[axis] = "batch"
    for value in ends:
        value.doc_string = graph.facts[value.name]
    for thing in (*model.graph, *values, *model.graph.initializers.values(), model.graph):
        thing.metadata_props.clear()


def _open_onnx(file: Path) -> Run:
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0].name
    return lambda inputs: [torch.from_numpy(found) for found in session.run(None, {taken: inputs.numpy()})]


def _write_torch(program: torch.export.ExportedProgram, graph: Graph, file: Path) -> None:
    content = io.BytesIO()  # its own writer of files ends the process when the disk is full
    torch.export.save(program, content, extra_files=dict(graph.facts))
    file.write_bytes(content.getbuffer())


def _open_torch(file: Path) -> Run:
    run = torch.export.load(file).module()

    def tensors(inputs: Tensor) -> Sequence[Tensor]:
        found = run(inputs)
        return (found,) if isinstance(found, Tensor) else found

    return tensors


Write = Callable[[torch.export.ExportedProgram, Graph, Path], None]
FORMS: dict[Form, tuple[Write, Callable[[Path], Run]]] = {
    "onnx": (_write_onnx, _open_onnx),
    "torch": (_write_torch, _open_torch),
}
