"""Networks as shapes without numbers, for those whose numbers come from a file.

PyTorch's meta device alone draws initial numbers that nobody sees, and brings its compiler, seconds to import, to work
out their shape. This module does not know which networks there are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

DRAWS = frozenset({Tensor.normal_, Tensor.uniform_})
"""What initialisers fill tensors with."""
SCALINGS = frozenset({Tensor.mul, Tensor.div})
"""What they scale them with."""


class _Undrawn(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is Tensor.clone:
            return torch.empty(args[0].shape, dtype=args[0].dtype)
        if func in DRAWS or (func in SCALINGS and args[0].is_meta and isinstance(args[1], int | float)):
            return args[0]
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


@contextmanager
def shapes_only() -> Iterator[None]:
    """What is built here has shapes and types, and no numbers."""
    with torch.device("meta"), _Undrawn():
        yield
