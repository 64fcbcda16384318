"""Other people's files: recognised by their keys (``published``), sized by their tensors.

Known are StyleGAN2 generators in rosinality's layout and NVIDIA's, StyleGAN3's, checkpoints of pSp, e4e and ReStyle,
networks that judge (ArcFace IR-SE50, CurricularFace IR-101, MoCo-v2's ResNet-50) and trunks to start from (ArcFace's,
torchvision's ResNet-34); as PyTorch files and as safetensors of the same names. What a file says of itself (``opts``)
never decides a size. Every tensor of a network is used or known to be redundant, else the file is refused: a network
that is filled in part gives pictures, but wrong ones. What training left beside the networks is not looked at.

This module does not know our own format.
"""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from ..formats import torch_files
from ..formats.meta_device import shapes_only
from ..formats.safetensors import is_safetensors, read_metadata, read_safetensors
from ..formats.state_dicts import below, fill
from ..generators.base import Generator
from ..generators.stylegan2 import nvidia, rosinality
from ..generators.stylegan2.network import StyleGAN2
from ..generators.stylegan3 import nvidia as nvidia3
from ..generators.stylegan3.network import StyleGAN3
from ..metrics.similarity import MoCo
from ..models.backbones import resnet34
from ..models.backbones.ir_se import ArcFace, CurricularFace
from ..models.backbones.resnet34 import ResNet34
from ..models.psp import PSP
from . import fetch, nvidia_pickle
from .detect import DESCRIBED, Found, Kind, State, detect, find
from .layouts import official

__all__ = [
    "content", "detect", "layouts", "load_any", "load_arcface", "load_curricularface", "load_generator", "load_moco",
    "load_model", "load_resnet", "outline", "read",
]  # fmt: skip

MODELS: tuple[Kind, ...] = ("psp", "e4e", "restyle")


def load_model(path: str | Path) -> PSP:
    """The model in a checkpoint of pSp, e4e or ReStyle, whichever encoder it has, ready to encode.

    Raises CheckpointError when the file is something else or does not fit, UnsafeFileError when it wants to run code.
    """
    found = _open(path)
    if found.kind not in MODELS:
        raise CheckpointError(f"{path}: is {DESCRIBED[found.kind]}, not a model of pSp, e4e or ReStyle")
    return official.model(found, str(path))


def load_generator(path: str | Path) -> Generator:
    """The generator in a file of rosinality's or NVIDIA's layout, or the decoder of a pSp checkpoint.

    Where the file has no average, ``w_avg`` is that of 100,000 mapped samples. Raises as ``load_model`` does.
    """
    found = _open(path)
    if found.kind not in (*MODELS, *GENERATORS):
        raise CheckpointError(f"{path}: is {DESCRIBED[found.kind]}, not a generator")
    return _generator(found, str(path))


def load_any(path: str | Path) -> PSP | Generator:
    """The model where the file holds one, the generator where it holds no more. Raises as ``load_model`` does."""
    found = _open(path)
    if found.kind not in (*MODELS, *GENERATORS):
        raise CheckpointError(f"{path}: is {DESCRIBED[found.kind]}, neither a model nor a generator")
    return official.model(found, str(path)) if found.kind in MODELS else _generator(found, str(path))


class Outline(NamedTuple):
    """A file that was looked at: what it is, its networks on the meta device, what it says of how they were made."""

    kind: Kind
    network: nn.Module
    options: State
    built_with: State


def outline(path: str | Path) -> Outline:
    """What a file holds, without its numbers. Raises as ``load_model`` does for what does not fit."""
    found = _open(path, numbers=False)
    source = str(path)
    with shapes_only():
        if found.kind in JUDGES:
            network = _judge(found, source)
        else:
            network = official.model(found, source) if found.kind in MODELS else _generator(found, source)
    return Outline(found.kind, network, found.options, found.built_with)


def load_arcface(path: str | Path) -> ArcFace:
    """ArcFace IR-SE50, the identity network that pSp's loss uses. Raises as ``load_model`` does."""
    return cast(ArcFace, _load_judge("arcface", path))


def load_curricularface(path: str | Path) -> CurricularFace:
    """CurricularFace IR-101, behind pSp's published identity scores. Raises as ``load_model`` does."""
    return cast(CurricularFace, _load_judge("curricularface", path))


def load_moco(path: str | Path) -> MoCo:
    """MoCo-v2's ResNet-50, which pSp's similarity loss uses, without what is above its features. Raises as above."""
    return cast(MoCo, _load_judge("moco", path))


def load_resnet(path: str | Path) -> ResNet34:
    """torchvision's ResNet-34 as a trunk that reads pictures in [-1, 1]. Raises as ``load_model`` does."""
    network = cast(ResNet34, _load_judge("resnet", path))
    network.load_state_dict(resnet34.for_our_pictures(network.state_dict()), assign=True)
    return network


JUDGES: dict[Kind, tuple[Callable[[], nn.Module], Callable[[dict[str, Tensor]], dict[str, Tensor]]]] = {
    "arcface": (ArcFace, dict),
    "curricularface": (CurricularFace, dict),
    "moco": (MoCo, lambda found: {f"trunk.{key}": value for key, value in found.items()}),
    "resnet": (ResNet34, resnet34.renamed),
}
"""Networks that judge or that encoders start from, and how the tensors of their files are called here."""


def _load_judge(wanted: Kind, source: str | Path) -> nn.Module:
    path = fetch.local(source)
    found = _open(path)
    if found.kind != wanted:
        raise CheckpointError(f"{path}: is {DESCRIBED[found.kind]}, not {DESCRIBED[wanted]}")
    return _judge(found, str(path))


def _judge(found: Found, source: str) -> nn.Module:
    build, renamed = JUDGES[found.kind]
    with shapes_only():
        network = build()
    fill(network, renamed(found.weights(source)), source)
    return network.eval().requires_grad_(False)


def _open(path: str | Path, numbers: bool = True) -> Found:
    state = read(path, numbers)
    try:
        return find(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def read(path: str | Path, numbers: bool = True) -> dict[str, Any]:
    """The dictionary in a PyTorch file; a safetensors file's tensors, and what its metadata says in JSON, as one; of a
    pickle of NVIDIA's, its generator alone.

    Without ``numbers`` its tensors are meta ones. Raises as ``torch_files.read`` does.
    """
    if nvidia_pickle.is_pickle(path):
        return nvidia_pickle.state(path, numbers)
    if not (Path(path).is_file() and is_safetensors(path)):
        return torch_files.read(path, numbers)
    state: dict[str, Any] = dict(read_safetensors(path, numbers))
    for name, told in read_metadata(path).items():
        with contextlib.suppress(ValueError, RecursionError):  # other people's metadata is any text
            state.setdefault(name, json.loads(told))
    return state


def _generator(found: Found, source: str) -> Generator:
    if found.kind in GENERATORS:
        return GENERATORS[found.kind](found, source)
    decoder = rosinality.plain(below(found.weights(source), "decoder."))
    return rosinality.generator(decoder, found.average, source)


def _rosinality(found: Found, source: str) -> StyleGAN2:
    return rosinality.generator(rosinality.plain(found.weights(source)), found.average, source)


GENERATORS: dict[Kind, Callable[[Found, str], Generator]] = {
    "stylegan2": _rosinality,
    "nvidia2": lambda found, source: nvidia.stylegan2(found.weights(source), found.built_with, source),
    "nvidia3": lambda found, source: nvidia3.stylegan3(found.weights(source), found.built_with, source),
}


def content(model: nn.Module, layout: Literal["psp", "rosinality", "nvidia-state"]) -> dict[str, Any]:
    """What a PyTorch file in somebody else's layout holds of a model; all but psp hold its generator alone.

    Raises ConfigError, in a sentence that says what would work, where that code has no room for it.
    """
    if layout == "psp":
        if not isinstance(model, PSP):
            others = " or ".join(f"--to {one}" for one in layouts(model)) or "ours"
            raise ConfigError(f"pSp's layout holds a whole model, and this is a generator: choose {others}")
        return official.state(model)
    generator = model.generator if isinstance(model, PSP) else model
    for kind, state in WRITTEN[layout].items():
        if isinstance(generator, kind):
            return state(generator)
    known = " and ".join(kind.__name__ for kind in WRITTEN[layout])
    raise ConfigError(
        f"{layout} is a layout for {known}, and this generator is a {type(generator).__name__}: "
        f"{' or '.join(f'choose --to {one}' for one in layouts(generator)) or 'keep it as ours'}"
    )


def layouts(model: nn.Module) -> list[str]:
    """The layouts that ``content`` has for a model, or for a model's outline."""
    return [layout for layout in ROOM if _has_room(model, layout)]


def _has_room(model: nn.Module, layout: str) -> bool:
    part = model.generator if isinstance(model, PSP) and layout != "psp" else model
    try:
        ROOM[layout][type(part)](part)
    except (ConfigError, KeyError):
        return False
    return True


ROOM: dict[str, dict[type[nn.Module], Callable[[Any], None]]] = {
    "psp": {PSP: official.refuse},
    "rosinality": {StyleGAN2: rosinality.refuse},
    "nvidia-state": {StyleGAN2: nvidia.refuse, StyleGAN3: nvidia3.refuse},
}


def _nvidia_file(parts: tuple[dict[str, Tensor], dict[str, Any]]) -> dict[str, Any]:
    state, told = parts
    return {"G_ema": state, "init_kwargs": told}


WRITTEN: dict[str, dict[type[nn.Module], Callable[[Any], dict[str, Any]]]] = {
    "rosinality": {StyleGAN2: rosinality.state},
    "nvidia-state": {
        StyleGAN2: lambda generator: _nvidia_file(nvidia.stylegan2_state(generator)),
        StyleGAN3: lambda generator: _nvidia_file(nvidia3.stylegan3_state(generator)),
    },
}
