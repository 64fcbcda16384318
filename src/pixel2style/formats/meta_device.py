"""Build networks on the meta device, without numbers: for networks whose numbers come from a file.

PyTorch's meta device alone runs the initialisers and imports its compiler, which takes seconds, for their shapes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

INITIALISERS = frozenset({Tensor.normal_, Tensor.uniform_})
SCALINGS = frozenset({Tensor.mul, Tensor.div})
"""Operations by which initialisers scale what they have drawn."""


class _SkipInitialisers(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.clone:
            return torch.empty(args[0].shape, dtype=args[0].dtype)
        if func in INITIALISERS or (func in SCALINGS and args[0].is_meta and isinstance(args[1], int | float)):
            return args[0]
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


@contextmanager
def shapes_only() -> Iterator[None]:
    """Networks that are built in this context have shapes and types, but no numbers."""
    with torch.device("meta"), _SkipInitialisers():
        yield
