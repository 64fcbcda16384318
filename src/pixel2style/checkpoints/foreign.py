"""Read files of other projects: recognised by their keys (``detect``), sized by the shapes of their tensors.

Known are StyleGAN2 generators in rosinality's layout and NVIDIA's, StyleGAN3's, checkpoints of pSp, e4e and ReStyle,
and pretrained networks for losses and trunks (ArcFace IR-SE50, CurricularFace IR-101, MoCo-v2's ResNet-50,
torchvision's ResNet-34); as PyTorch files and as safetensors with the same names. Options in a file (``opts``) never
decide a size. Every tensor of a network is used or known to be redundant, else the file is refused: a network that is
filled in part draws wrong pictures. What training left beside the networks is ignored.
"""

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from ..errors import CheckpointError
from ..formats import pickle, safetensors, torch_files
from ..formats.meta_device import shapes_only
from ..formats.state_dicts import below, fill
from ..generators import PUBLISHED, Generator
from ..metrics.similarity import MoCo
from ..models.backbones import resnet34
from ..models.backbones.ir_se import ArcFace, CurricularFace
from ..models.backbones.resnet34 import ResNet34
from ..models.psp import PSP
from . import detect
from .detect import DESCRIBED, MODELS, Found, Kind
from .layouts import nvidia_pickle, psp
from .resolve import local

Network = TypeVar("Network", bound=nn.Module)


def load_model(path: str | Path, generator: Generator | None = None) -> PSP:
    """The model in a checkpoint of pSp, e4e or ReStyle, whichever encoder it has, ready to encode.

    ``generator`` completes an encoder that is there without its own. Raises CheckpointError when the file is something
    else or does not fit, UnsafeFileError when it contains code.
    """
    found = find(path)
    if found.kind not in MODELS:
        raise CheckpointError(f"{path}: is {DESCRIBED[found.kind]}, not a model of pSp, e4e or ReStyle")
    return psp.model(found, str(path), generator)


def load_generator(path: str | Path) -> Generator:
    """The generator in a file of rosinality's or NVIDIA's layout, or the decoder of a pSp checkpoint.

    Where the file has no average, ``w_avg`` is that of 100,000 mapped samples. Raises as ``load_model`` does.
    """
    found = find(path)
    if found.kind not in (*MODELS, *PUBLISHED):
        raise CheckpointError(f"{path}: is {DESCRIBED[found.kind]}, not a generator")
    if found.lacks_generator:
        raise CheckpointError(f"{path}: is an encoder without its generator; give a generator")
    return _generator(found, str(path))


def load_any(path: str | Path, generator: Generator | None = None) -> PSP | Generator:
    """The model where the file holds one, the generator where it holds no more. As ``load_model``."""
    found = find(path)
    if found.kind not in (*MODELS, *PUBLISHED):
        raise CheckpointError(f"{path}: is {DESCRIBED[found.kind]}, neither a model nor a generator")
    return psp.model(found, str(path), generator) if found.kind in MODELS else _generator(found, str(path))


def lacks_generator(path: str | Path) -> bool:
    """Whether a file holds an encoder without its generator. Raises as ``find`` does."""
    return find(path, numbers=False).lacks_generator


def outline(path: str | Path) -> tuple[Found, nn.Module]:
    """What a file holds, and its network on the meta device; no number is read. Raises as ``load_model`` does."""
    found, source = find(path, numbers=False), str(path)
    with shapes_only():
        if found.kind in PRETRAINED:
            return found, _pretrained(found, source)
        return found, psp.model(found, source) if found.kind in MODELS else _generator(found, source)


def load_arcface(source: str | Path) -> ArcFace:
    """ArcFace IR-SE50, the identity network of pSp's loss, from any source of ``local``. Raises as ``load_model``."""
    return _load_pretrained("arcface", ArcFace, source)


def load_curricularface(source: str | Path) -> CurricularFace:
    """CurricularFace IR-101, the network of pSp's published identity scores. As ``load_arcface``."""
    return _load_pretrained("curricularface", CurricularFace, source)


def load_moco(source: str | Path) -> MoCo:
    """MoCo-v2's ResNet-50, the network of pSp's similarity loss, up to its features. As ``load_arcface``."""
    return _load_pretrained("moco", MoCo, source)


def load_resnet(source: str | Path) -> ResNet34:
    """torchvision's ResNet-34 as a trunk for pictures in [-1, 1]. As ``load_arcface``."""
    network = _load_pretrained("resnet", ResNet34, source)
    network.load_state_dict(resnet34.without_normalization(network.state_dict()), assign=True)
    return network


PRETRAINED: dict[Kind, tuple[Callable[[], nn.Module], Callable[[dict[str, Tensor]], dict[str, Tensor]]]] = {
    "arcface": (ArcFace, dict),
    "curricularface": (CurricularFace, dict),
    "moco": (MoCo, lambda found: {f"trunk.{key}": value for key, value in found.items()}),
    "resnet": (ResNet34, resnet34.renamed),
}
"""Networks for losses and trunks, and how the tensors of their files are renamed."""


def _load_pretrained(wanted: Kind, network: type[Network], source: str | Path) -> Network:
    path = local(source)
    found = find(path)
    if found.kind != wanted:
        raise CheckpointError(f"{path}: is {DESCRIBED[found.kind]}, not {DESCRIBED[wanted]}")
    made = _pretrained(found, str(path))
    assert isinstance(made, network)
    return made


def _pretrained(found: Found, source: str) -> nn.Module:
    build, renamed = PRETRAINED[found.kind]
    with shapes_only():
        network = build()
    fill(network, renamed(found.weights(source)), source)
    return network.eval().requires_grad_(False)


def find(path: str | Path, numbers: bool = True) -> Found:
    """The network in a file. Raises as ``read`` does, and CheckpointError where there is none that is known."""
    state, networks = _read(path, numbers)
    try:
        return detect.find(state)._replace(networks=networks)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def read(path: str | Path, numbers: bool = True) -> dict[str, Any]:
    """The content of a file as one dictionary: of a PyTorch file what it holds, of a safetensors file its tensors and
    what of its metadata is JSON, of a pickle of NVIDIA's the generator alone.

    Without ``numbers`` its tensors are meta tensors. Raises as ``torch_files.read`` does.
    """
    return _read(path, numbers)[0]


def _read(path: str | Path, numbers: bool) -> tuple[dict[str, Any], Mapping[str, str]]:
    """The content of a file, and the networks of a pickle of NVIDIA's, the one that is read first."""
    if pickle.is_pickle(path):
        return nvidia_pickle.read(path, numbers)
    if not (Path(path).is_file() and safetensors.is_safetensors(path)):
        return torch_files.read(path, numbers), {}
    state: dict[str, Any] = dict(safetensors.read(path, numbers))
    for name, text in safetensors.read_metadata(path).items():
        with contextlib.suppress(ValueError, RecursionError):  # metadata of other projects may be any text
            state.setdefault(name, json.loads(text))
    return state, {}


def _generator(found: Found, source: str) -> Generator:
    weights = found.weights(source)
    if found.kind in PUBLISHED:
        return PUBLISHED[found.kind].read(weights, found.average, found.built_with, source)
    return PUBLISHED["stylegan2"].read(below(weights, "decoder."), found.average, found.built_with, source)
