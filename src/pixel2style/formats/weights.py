"""Files into tensors without running anything, tensors into networks without leaving any over, tensors into files.

A PyTorch file is opened here only, and its pickle is read, never run (``archives``). The module does not know which
networks there are.
"""

import pickle
import pickletools
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import CheckpointError, UnsafeFileError
from ..files import replacing
from .pickle import archives
from .pickle.symbols import UnsafeNameError
from .pickle.tensors import REPEATED, SHARED

LISTED = 8
"""How many keys one error message spells out."""

_BROKEN = (
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, ValueError, LookupError,
    TypeError, AttributeError, AssertionError, ArithmeticError, ImportError, EOFError, MemoryError, OSError,
)  # fmt: skip
"""What reading damaged bytes may raise, and only that: our own mistakes must not pass for the file's."""


def read(path: str | Path, numbers: bool = True) -> dict[str, Any]:
    """The dictionary in a PyTorch file, on the CPU; its tensors are mapped from the file where the format allows.

    Without ``numbers`` its tensors are PyTorch's meta ones, which have shapes and nothing else. Only tensors, plain
    containers and ``argparse.Namespace`` are built. Raises UnsafeFileError when the file asks for anything that nothing
    of PyTorch's needs, CheckpointError when it is missing, damaged or no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file; give the path of a model file")
    try:
        if not archives.is_archive(path):
            _refuse(path)
        content = archives.read(path, numbers)
    except UnsafeNameError as error:
        raise UnsafeFileError(
            f"{path}: asks for {spell(str(error))}, which could run code; nothing was run; "
            "use a file that holds weights only"
        ) from error
    except _BROKEN as error:
        seen = archives.impostor(path)
        raise CheckpointError(
            f"{path}: is {seen}, not a file of weights; download the model itself"
            if seen
            else f"{path}: is no PyTorch file of weights, or is damaged; download it again and compare its size"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds {type(content).__name__}, not a dictionary of weights")
    return content


def is_safetensors(path: str | Path) -> bool:
    """Whether a file is safetensors, by the brace that opens its header or, where it has no such, by its name."""
    try:
        with Path(path).open("rb") as file:
            return file.read(9)[8:] == b"{" or Path(path).suffix == ".safetensors"
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def container(path: str | Path) -> str:
    """How a file holds its tensors, in a few words."""
    if zipfile.is_zipfile(path):
        return "PyTorch zip"
    return "safetensors" if is_safetensors(path) else "pickle"


def read_metadata(path: str | Path) -> dict[str, str]:
    """What a safetensors file says beside its tensors, not reading them. Raises CheckpointError for no such file."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, *_BROKEN) as error:
        raise _damaged(path) from error


def read_safetensors(path: str | Path, numbers: bool = True) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped from it, on the CPU, or without ``numbers`` meta ones.

    Raises CheckpointError for no such file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            if numbers:
                return {key: file.get_tensor(key) for key in keys}
            return {key: _outlined(file.get_slice(key)) for key in keys}
    except (SafetensorError, *_BROKEN) as error:
        raise _damaged(path) from error


def _outlined(part: Any) -> Tensor:
    """A tensor of a safetensors file without its numbers: it says whether these would be whole ones."""
    kind = torch.int64 if part.get_dtype()[0] in "IUB" and part.get_dtype() != "BF16" else torch.float32
    return torch.empty(part.get_shape(), dtype=kind, device="meta")


def _damaged(path: str | Path) -> CheckpointError:
    return CheckpointError(f"{path}: is no safetensors file, or is damaged; copy or convert it again")


def write(content: Mapping[str, Any], path: str | Path) -> None:
    """Write a dictionary of tensors and plain values as a PyTorch file, whole or not at all.

    The file is read again, by ``read``, and must hold the same bits before it takes its name. Raises OutputError when
    it cannot be written.
    """
    owned = _owned(content)
    with replacing(Path(path)) as part:
        try:
            torch.save(owned, part)
        except RuntimeError as error:  # PyTorch's own writer, on a full disk
            raise OSError(str(error).splitlines()[0]) from error
        if not _same(owned, read(part)):
            raise OSError("what was read again differs from what was written")


def _owned(value: Any) -> Any:
    """``value`` with tensors on the CPU that store their own numbers and no others."""
    if isinstance(value, Mapping):
        return {key: _owned(inner) for key, inner in value.items()}
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu().contiguous()
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()


def _same(a: Any, b: Any) -> bool:
    """Whether two values are equal, tensors bit for bit."""
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if not isinstance(a, Tensor):
        return bool(a == b)
    alike = isinstance(b, Tensor) and (a.shape, a.dtype) == (b.shape, b.dtype)
    return alike and torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def _refuse(path: Path) -> NoReturn:
    """Raise UnsafeNameError for what a pickle of another kind asks for, ValueError where it asks for nothing."""
    with path.open("rb") as file:
        content = file.read(1 << 24)
    names = _imports(content) if content[:1] in (pickle.PROTO, pickle.MARK) else iter(())
    raise next(map(UnsafeNameError, names), ValueError("no file of PyTorch's"))


def _imports(content: bytes) -> Iterator[str]:
    """Names that a pickle imports, PyTorch's own left out; found by reading its opcodes, none of which is run."""
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(content):
            name = ""
            if opcode.name == "GLOBAL":
                name = str(argument).replace(" ", ".")
            elif opcode.name == "STACK_GLOBAL":
                name = ".".join(strings[-2:])
            elif isinstance(argument, str):
                strings.append(argument)
            if re.fullmatch(r"[\w.]+", name) and not name.startswith(("torch.", "collections.")):
                yield name
    except _BROKEN:
        return


def tensors(state: Mapping[Any, Any], source: str) -> dict[str, Tensor]:
    """The tensors of a state dict, floating-point ones as float32. Raises CheckpointError for anything else in it.

    What many keys share is not unfolded without end.
    """
    found = [value for value in state.values() if isinstance(value, Tensor) and value.device.type == "cpu"]
    plain = [value for value in found if value.layout is torch.strided]
    there = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in plain}
    if sum(value.nbytes for value in plain) > 2 * sum(there.values()) + SHARED:
        raise CheckpointError(f"{source}: its tensors claim more numbers than the file holds; the file is damaged")
    return {str(key): _tensor(str(key), value, source) for key, value in state.items()}


def _tensor(key: str, value: Any, source: str) -> Tensor:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type not in ("cpu", "meta"):
        raise CheckpointError(f"{source}: {spell(key)} is no plain tensor; use a file that holds weights only")
    if value.is_quantized or value.is_complex():
        raise CheckpointError(f"{source}: {spell(key)} is quantised or complex; use a file of ordinary weights")
    repeated = value.numel() * value.element_size() > value.untyped_storage().nbytes()
    if repeated and value.numel() > REPEATED:
        raise CheckpointError(f"{source}: {spell(key)} claims more numbers than the file holds; the file is damaged")
    plain: Tensor = value.detach().contiguous() if repeated else value.detach()
    return plain.to(torch.float32) if plain.is_floating_point() else plain


def fill(
    module: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    names: Callable[[str], str] = str,
    given: Mapping[str, Tensor] | None = None,
) -> None:
    """Give ``module``, which may be on the meta device, exactly the tensors of ``state`` and ``given``.

    ``names`` says what a tensor of the module is called in ``state``; ``given`` holds tensors that come from elsewhere,
    under the module's names. Raises one CheckpointError that lists what is missing, what is unknown and what has
    another shape or holds whole numbers. The count of batches seen (``num_batches_tracked``), which no result depends
    on, may be missing.
    """
    given = given or {}
    own = module.state_dict()
    wanted = {names(key): key for key in own if key not in given}
    counts = {name: torch.zeros((), dtype=torch.int64) for name in wanted if name.endswith(".num_batches_tracked")}
    state = {**counts, **state}
    unlike = [name for name, key in wanted.items() if name in state and not _alike(state[name], own[key])]
    complaints = (
        _listed("missing", [name for name in wanted if name not in state]),
        _listed("not part of it", [name for name in state if name not in wanted]),
        _listed("of another kind", [f"{n} {_kind(state[n])} for {_kind(own[wanted[n]])}" for n in unlike]),
    )
    if any(complaints):
        raise CheckpointError(f"{source}: does not fit {type(module).__name__}: {'; '.join(filter(None, complaints))}")
    found = {key: state[name] for name, key in wanted.items()}
    module.load_state_dict({**found, **given}, strict=True, assign=True)


def _alike(found: Tensor, wanted: Tensor) -> bool:
    return found.shape == wanted.shape and found.is_floating_point() == wanted.is_floating_point()


def _kind(value: Tensor) -> str:
    return f"{'' if value.is_floating_point() else 'whole numbers '}{list(value.shape)}"


def is_constant(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether a stored constant is the one expected, as far as can be seen: a meta tensor has a shape only."""
    return found.shape == expected.shape and (
        found.is_meta or torch.allclose(found.to(expected), expected, atol=tolerance)
    )


def below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose keys begin with ``prefix``, without it."""
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def spell(key: str) -> str:
    """A name from a file, fit for one line of a terminal."""
    return ascii(key[:100])[1:-1]


def _listed(what: str, entries: list[str]) -> str:
    """Some of ``entries`` and how many there are, in one line of bounded length."""
    if not entries:
        return ""
    shown = ", ".join(spell(entry) for entry in entries[:LISTED])
    more = f" and {len(entries) - LISTED} more" if len(entries) > LISTED else ""
    return f"{len(entries)} {what} ({shown}{more})"
