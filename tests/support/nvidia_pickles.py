"""Write files as NVIDIA's code writes them, with temporary classes of the same names.

The modules ``torch_utils``, ``dnnlib``, ``training`` and ``tfutil`` exist only while a file is written.
"""

import collections
import contextlib
import pickle
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

BUFFERS = {
    "noise_const", "resample_filter", "w_avg", "transform", "freqs", "phases", "up_filter", "down_filter",
    "magnitude_ema",
}  # fmt: skip


class EasyDict(dict):
    """Names as attributes, as in NVIDIA's code."""


class Network:
    """A network of TensorFlow's: its ``__getstate__`` is all that a file shows of it."""

    def __init__(self, state: Mapping[str, Any]):
        self.held = state

    def __getstate__(self) -> Mapping[str, Any]:
        return self.held


class Persistent(nn.Module):
    """A module of a decorated class: it pickles as its source text, its class's name and its state."""

    source = ""
    class_name = "Generator"

    def __reduce__(self) -> tuple[Any, ...]:
        about = {"type": "class", "version": 6, "module_src": self.source, "class_name": self.class_name}
        about["state"] = self.__dict__
        return _reconstruct_persistent_obj, (about,), None


def _reconstruct_persistent_obj(meta: Mapping[str, Any]) -> None:
    raise AssertionError("a file was run")


PLACES = {
    "torch_utils.persistence": (_reconstruct_persistent_obj,),
    "dnnlib.util": (EasyDict,),
    "dnnlib.tflib.network": (Network,),
}


@contextlib.contextmanager
def acted() -> Iterator[None]:
    """NVIDIA's names in Python's table of modules."""
    names = {part for module in PLACES for part in (module, module.split(".")[0], "dnnlib.tflib")}
    before = {name: sys.modules.get(name) for name in names}
    homes = {actor: actor.__module__ for actors in PLACES.values() for actor in actors}
    try:
        for name in sorted(names):
            sys.modules[name] = types.ModuleType(name)
        for module, actors in PLACES.items():
            for actor in actors:
                actor.__module__ = module
                setattr(sys.modules[module], actor.__name__, actor)
        yield
    finally:
        for actor, home in homes.items():
            actor.__module__ = home
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def pipe() -> Persistent:
    """What pictures are changed by in training; it is saved beside the networks."""
    made = _module("AugmentPipe", "")
    made._init_kwargs = EasyDict(xflip=1, rotate90=1)
    made.register_buffer("p", torch.ones(()))
    made.register_buffer("Hz_geom", torch.ones(12))
    return made


def module(
    state: Mapping[str, Tensor],
    class_name: str = "Generator",
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    source: str = "raise AssertionError('source text was run')\n",
) -> Persistent:
    """A tree of modules that holds ``state``, built as NVIDIA's code would have built it."""
    top = _module(class_name, source)
    top._init_args = args
    top._init_kwargs = EasyDict({k: EasyDict(v) if isinstance(v, dict) else v for k, v in (kwargs or {}).items()})
    for key, value in state.items():
        *path, name = key.split(".")
        inner = top
        for part in path:
            if part not in inner._modules:
                inner.add_module(part, _module(part.title(), source))
            inner = inner._modules[part]
        if name in BUFFERS:
            inner.register_buffer(name, value.detach())
        else:
            inner.register_parameter(name, nn.Parameter(value.detach(), requires_grad=False))
    return top


def _module(class_name: str, source: str) -> Persistent:
    """A module with what NVIDIA's layers keep beside their tensors, NumPy's numbers and arrays among it."""
    made = Persistent()
    made.class_name, made.source = class_name, source
    made._init_args, made._init_kwargs = (8, EasyDict(lr_multiplier=np.float64(0.01))), EasyDict()
    made.weight_gain = 1 / np.sqrt(8)
    made.size = np.broadcast_to(np.asarray(36), [2])
    made.bandwidth, made.use_fp16, made.padding, made.dtype = np.float32(2), np.bool_(False), [1, 2], torch.float16
    made.memory, made.activation, made.up_filter_size = None, "lrelu", np.int64(12)
    made._forward_hooks = collections.OrderedDict(made._forward_hooks)
    return made


def written(path: Path, content: Any, protocol: int = 4) -> Path:
    """A pickle of ``content``, which may hold modules of ours, ``EasyDict`` and ``Network``.

    A dictionary of modules gets what training saves beside them.
    """
    if isinstance(content, dict) and any(isinstance(value, Persistent) for value in content.values()):
        data = EasyDict(class_name="training.dataset.ImageFolderDataset", path="x.zip", max_size=None, xflip=True)
        beside = {"training_set_kwargs": data, "G": None, "D": None, "G_ema": None, "augment_pipe": pipe()}
        content = {**beside, **content}
    with acted(), path.open("wb") as file:
        pickle.dump(content, file, protocol)
    return path


def network(
    variables: Mapping[str, Tensor],
    components: Mapping[str, Network] | None = None,
    func: str = "G_main",
    version: int = 4,
    **static: Any,
) -> Network:
    """A network of TensorFlow's with these variables of its own: of no axes they are NumPy's numbers, not arrays."""
    return Network(
        {
            "version": version,
            "name": "G",
            "static_kwargs": EasyDict(static),
            "components": EasyDict(components or {}),
            "build_module_src": "raise AssertionError('source text was run')\n",
            "build_func_name": func,
            "variables": [(name, value.numpy()[()]) for name, value in variables.items()],
        }
    )


def marking(marker: Path) -> str:
    """Source text that leaves a mark if anybody runs it."""
    return f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n"
