"""State dicts: check their tensors, and fill networks with exactly these."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError

MAX_LISTED = 8
"""Keys in one error message."""
MAX_REPEATED = 1 << 20
"""Numbers of a tensor that repeats fewer (an average for every row); a larger one could fill the memory."""
MAX_SHARED = 64 << 20
"""Bytes that the tensors of a file may take beyond twice its size: some share their numbers."""


def tensors(state: Mapping[Any, Any], source: str) -> dict[str, Tensor]:
    """The tensors of a state dict, floating-point ones as float32.

    Raises CheckpointError for anything else in it, for NaN and infinite numbers, and where tensors that share their
    numbers would take much more memory than these.
    """
    found = [value for value in state.values() if isinstance(value, Tensor) and value.device.type == "cpu"]
    plain = [value for value in found if value.layout is torch.strided]
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in plain}
    if sum(value.nbytes for value in plain) > 2 * sum(storages.values()) + MAX_SHARED:
        raise CheckpointError(f"{source}: its tensors claim more numbers than the file holds; the file is damaged")
    read = {str(key): _tensor(str(key), value, source) for key, value in state.items()}
    require_finite(read, source)
    return read


def require_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Raise CheckpointError where a tensor has NaN or infinite numbers: a network with one of them draws black."""
    broken = [key for key, value in state.items() if not is_finite(value)]
    if broken:
        raise CheckpointError(
            f"{source}: holds NaN or infinite numbers in {_listed('tensors', broken)}, as after a training that "
            "diverged; use an earlier file"
        )


def is_finite(value: Tensor) -> bool:
    """Whether a tensor has only finite numbers; True for whole numbers and for meta tensors."""
    if value.is_meta or not value.is_floating_point():
        return True
    # a sum takes a tenth of the time of isfinite; that of large numbers may be infinite, too
    return math.isfinite(float(value.float().sum())) or bool(value.isfinite().all())


def _tensor(key: str, value: Any, source: str) -> Tensor:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type not in ("cpu", "meta"):
        raise CheckpointError(f"{source}: {printable(key)} is no plain tensor; use a file that holds weights only")
    if value.is_quantized or value.is_complex():
        raise CheckpointError(f"{source}: {printable(key)} is quantised or complex; use a file of ordinary weights")
    repeated = value.numel() * value.element_size() > value.untyped_storage().nbytes()
    if repeated and value.numel() > MAX_REPEATED:
        raise CheckpointError(
            f"{source}: {printable(key)} claims more numbers than the file holds; the file is damaged"
        )
    plain: Tensor = value.detach().contiguous() if repeated else value.detach()
    return plain.to(torch.float32) if plain.is_floating_point() else plain


def fill(
    module: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    names: Callable[[str], str] = str,
    given: Mapping[str, Tensor] | None = None,
) -> None:
    """Fill ``module``, which may be on the meta device, with exactly the tensors of ``state`` and ``given``.

    ``names`` maps a name in the module to the one in ``state``; ``given`` holds tensors from elsewhere under the
    module's names. Raises one CheckpointError that lists what is missing, what is unknown and what has another shape
    or is integer instead of floating point. ``num_batches_tracked``, which no result depends on, may be missing.
    """
    given = given or {}
    own = module.state_dict()
    wanted = {names(key): key for key in own if key not in given}
    counts = {name: torch.zeros((), dtype=torch.int64) for name in wanted if name.endswith(".num_batches_tracked")}
    state = {**counts, **state}
    unlike = [name for name, key in wanted.items() if name in state and not _fits(state[name], own[key])]
    complaints = (
        _listed("missing", [name for name in wanted if name not in state]),
        _listed("not part of it", [name for name in state if name not in wanted]),
        _listed("of another kind", [f"{n} {_kind(state[n])} for {_kind(own[wanted[n]])}" for n in unlike]),
    )
    if any(complaints):
        raise CheckpointError(f"{source}: does not fit {type(module).__name__}: {'; '.join(filter(None, complaints))}")
    found = {key: state[name] for name, key in wanted.items()}
    module.load_state_dict({**found, **given}, strict=True, assign=True)


def _fits(found: Tensor, wanted: Tensor) -> bool:
    return found.shape == wanted.shape and found.is_floating_point() == wanted.is_floating_point()


def _kind(value: Tensor) -> str:
    return f"{'' if value.is_floating_point() else 'whole numbers '}{list(value.shape)}"


def is_constant(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether a stored constant equals the expected one; of a meta tensor only the shape is compared."""
    return found.shape == expected.shape and (
        found.is_meta or torch.allclose(found.to(expected), expected, atol=tolerance)
    )


def below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose keys begin with ``prefix``, under the rest of their keys."""
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def printable(key: str) -> str:
    """A name from a file, printable and short."""
    return ascii(key[:100])[1:-1]


def _listed(what: str, entries: list[str]) -> str:
    """Some of ``entries`` and their number, in one line of bounded length."""
    if not entries:
        return ""
    shown = ", ".join(printable(entry) for entry in entries[:MAX_LISTED])
    more = f" and {len(entries) - MAX_LISTED} more" if len(entries) > MAX_LISTED else ""
    return f"{len(entries)} {what} ({shown}{more})"
