"""Quantised tensors: a model as its difference to a bundled one, or complete with one byte per number.

A difference of 4 bits takes a quarter of the size of fp16. Metadata ``base`` names the bundled model and ``digest`` is
that of its numbers, since a difference is valid for these numbers only. In the file a tensor ``KEY`` is one of:

    KEY/codes, KEY/steps   matrices and convolutions: integers of 2 to 8 bits, packed, times one step per channel
    KEY/offset             vectors: the difference, fp16
    KEY/same               empty: the model has the base's numbers
    KEY                    the tensor itself, where the base has none of that name and shape

The number of bytes gives the number of bits. A complete file may have ``KEY/codes`` and ``KEY/steps`` too: one byte per
number, in the tensor's own shape.

Axes: ``o`` channels of a tensor, one step each, ``n`` numbers of a channel, ``m`` groups of ``GROUP`` numbers.
"""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CheckpointError
from .state_dicts import printable

GROUP = 8
"""Numbers that are packed together, into as many bytes as each has bits."""
MIN_BITS, MAX_BITS = 2, 8
SHARES = torch.linspace(1, 0.1, 19).tolist()
"""Ranges that are tried for a channel, as a share of its largest number: clipping outliers gives all finer steps."""

HALF_MAX = torch.finfo(torch.float16).max
EXACT = ("w_avg", "w_unit")
"""Averages, which every row depends on: the base's own, or stored whole."""
PARTS = ("codes", "steps", "offset", "same")


def subtract(
    state: Mapping[str, Tensor], whole: Mapping[str, Tensor], base: Mapping[str, Tensor], name: str, bits: int = 4
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file that holds ``state`` as its difference to the bundled model ``name``.

    ``whole`` has the tensors as they are stored where they cannot be differences. Raises CheckpointError where no such
    model is bundled, ValueError for other numbers of bits than 2 to 8.
    """
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ValueError(f"a difference has {MIN_BITS} to {MAX_BITS} bits, got {bits}")
    parts: dict[str, Tensor] = {}
    for key, value in state.items():
        found = between(value.detach().cpu(), base[key], bits) if key in base else None
        if found and key.endswith(EXACT) and "same" not in found:
            found = None
        parts |= {key: whole[key]} if found is None else {f"{key}/{part}": stored for part, stored in found.items()}
    return parts, {"base": name, "digest": digest(base)}


def add(
    parts: Mapping[str, Tensor], base: Mapping[str, Tensor], metadata: Mapping[str, str], source: str
) -> dict[str, Tensor]:
    """The tensors of the model whose ``parts`` and metadata a file holds, float32; meta parts give meta tensors.

    Nothing larger than the base is allocated. Raises CheckpointError where the base has other numbers than the file
    was made for, and for parts that do not belong together.
    """
    name = metadata["base"]
    if metadata.get("digest") != digest(base):
        raise CheckpointError(
            f"{source}: is a difference to another {name} than the bundled one; convert it to a complete file with the "
            "version of pixel2style that wrote it"
        )
    state: dict[str, Tensor] = {}
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in parts.items():
        start, _, part = key.rpartition("/")
        if part in PARTS:
            found.setdefault(start, {})[part] = value
        else:
            state[key] = value
    for key, these in found.items():
        if key not in base or key in state:
            raise CheckpointError(f"{source}: differs in '{printable(key)}', which {name} has not; it is damaged")
        restored = together(these, base[key])
        if restored is None:
            raise CheckpointError(f"{source}: its difference in {printable(key)} is damaged; copy the file again")
        state[key] = restored
    return state


def in_bytes(state: Mapping[str, Tensor], halves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a complete file in which those that are fp16 in ``halves`` have one byte per number."""
    parts: dict[str, Tensor] = {}
    for key, value in halves.items():
        if value.dtype != torch.float16:
            parts[key] = value
            continue
        codes, steps = quantised(_by_channel(state[key].detach().cpu().float()), 8)
        parts |= {f"{key}/codes": codes.reshape(value.shape).to(torch.int8), f"{key}/steps": steps}
    return parts


def complete(parts: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors of a complete file, those from ``in_bytes`` as float32, others unchanged. Raises CheckpointError."""
    state: dict[str, Tensor] = {}
    for key, value in parts.items():
        start, _, part = key.rpartition("/")
        codes, steps = parts.get(f"{start}/codes"), parts.get(f"{start}/steps")
        if part not in ("codes", "steps") or codes is None or steps is None:
            state[key] = value
        elif part == "codes":
            kinds = codes.is_floating_point(), steps.is_floating_point()
            if (
                codes.ndim < 2
                or start in parts
                or kinds != (False, True)
                or steps.shape != _by_channel(codes).shape[:1]
            ):
                raise CheckpointError(f"{source}: its numbers of '{printable(start)}' are damaged; copy it again")
            state[start] = (_by_channel(codes).float() * steps[:, None]).reshape(codes.shape)
    return state


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, types and numbers, in the order of names."""
    seen = hashlib.sha256()
    for key in sorted(tensors):
        value = tensors[key].contiguous()
        seen.update(f"{key} {list(value.shape)} {value.dtype}\n".encode())
        seen.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return seen.hexdigest()


def between(value: Tensor, base: Tensor, bits: int) -> dict[str, Tensor] | None:
    """The difference of two tensors as it is stored, None where ``value`` must be stored whole."""
    if value.shape != base.shape or value.is_floating_point() != base.is_floating_point():
        return None
    if torch.equal(value.to(base.dtype), base):
        return {"same": torch.empty(0, dtype=torch.uint8)}
    difference = value.float() - base
    if not value.is_floating_point() or not difference.abs().max() <= HALF_MAX:
        return None
    if value.ndim < 2:
        return {"offset": difference.half()}
    codes, steps = quantised(_by_channel(difference), bits)
    return {"codes": packed(codes, bits), "steps": steps}


def together(parts: Mapping[str, Tensor], base: Tensor) -> Tensor | None:
    """``base`` plus the difference that ``between`` stored, None where the parts are not valid for such a tensor."""
    if parts.keys() == {"same"}:
        return base if parts["same"].numel() == 0 else None
    if not base.is_floating_point() or not all(part.is_floating_point() for n, part in parts.items() if n != "codes"):
        return None
    if parts.keys() == {"offset"}:
        offset = parts["offset"]
        return base.to(offset.device) + offset if offset.shape == base.shape and base.ndim < 2 else None
    if parts.keys() != {"codes", "steps"} or base.ndim < 2:
        return None
    codes, steps, like = parts["codes"], parts["steps"], _by_channel(base)
    bits, rest = divmod(len(codes) if codes.ndim == 1 else 0, -(-base.numel() // GROUP))
    if rest or not MIN_BITS <= bits <= MAX_BITS or steps.shape != like.shape[:1] or codes.is_floating_point():
        return None
    if codes.is_meta:
        return base.to(codes.device)
    if codes.dtype != torch.uint8:
        return None
    found = unpacked(codes, bits, base.numel()).reshape(like.shape)
    return found.mul_(steps[:, None].to(found)).add_(like).reshape(base.shape)


def _by_channel(value: Tensor) -> Tensor:
    """``[o n]``: output channels of matrices and convolutions; of stacked matrices, the rows of each."""
    return value.flatten(0, 1) if value.ndim == 3 else value.flatten(1)


def quantised(difference: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Integers ``[o n]`` and fp16 steps ``[o]`` whose product has the least squared error to ``difference`` ``[o n]``.

    For each channel the best of several ranges is chosen; its step is fitted to the rounded numbers by least squares.
    """
    top = 2 ** (bits - 1) - 1
    widest = difference.abs().amax(1) / top
    best, least = widest, torch.full_like(widest, torch.inf)
    for share in SHARES:
        codes = _rounded(difference, widest * share, top)
        steps = (difference * codes).sum(1) / codes.square().sum(1).clamp_min(1)
        error = (difference - codes * steps[:, None]).square().sum(1)
        best, least = torch.where(error < least, steps, best), torch.minimum(error, least)
    best = best.half()
    return _rounded(difference, best.float(), top), best


def _rounded(difference: Tensor, steps: Tensor, top: int) -> Tensor:
    return (difference / steps.clamp_min(1e-12)[:, None]).round().clamp(-top, top)


def packed(codes: Tensor, bits: int) -> Tensor:
    """Integers of ``bits`` bits, lowest bits first: ``[...] -> [m * bits]`` bytes; the last group is padded."""
    flat = codes.reshape(-1).to(torch.int64)
    groups = F.pad(flat, (0, -len(flat) % GROUP)).reshape(-1, GROUP) & ((1 << bits) - 1)
    words = (groups << (bits * torch.arange(GROUP))).sum(1)
    return ((words[:, None] >> (8 * torch.arange(bits))) & 255).to(torch.uint8).reshape(-1)


def unpacked(stored: Tensor, bits: int, count: int) -> Tensor:
    """The first ``count`` numbers that ``packed`` packed, as float32: ``[m * bits] -> [count]``."""
    words = (stored.reshape(-1, bits).to(torch.int64) << (8 * torch.arange(bits))).sum(1)
    codes = ((words[:, None] >> (bits * torch.arange(GROUP))) & ((1 << bits) - 1)).reshape(-1)[:count]
    return (codes - ((codes >> (bits - 1)) << bits)).float()
