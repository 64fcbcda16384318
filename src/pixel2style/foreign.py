"""Other people's files: recognised by their keys, sized by their tensors.

Known are StyleGAN2 generators in rosinality's layout, pSp checkpoints of the three published encoders, and networks
that judge: ArcFace IR-SE50, CurricularFace IR-101 and MoCo-v2's ResNet-50. What a file says of itself (``opts``) never
decides a size. Every tensor of a network is used or known to be redundant, else the file is refused: a network that is
filled in part gives pictures, but wrong ones. What training left beside the networks is not looked at.

Axes: ``k`` rows, ``d`` width of a row. This module does not know our own format.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from . import official, rosinality
from .errors import CheckpointError
from .irse import ArcFace, CurricularFace
from .model import PSP
from .similarity import MoCo
from .stylegan2 import StyleGAN2
from .weights import below, fill, read, spell, tensors

__all__ = [
    "detect", "load_any", "load_arcface", "load_curricularface", "load_generator", "load_moco", "load_model", "read",
]  # fmt: skip

State = Mapping[str, Any]
Kind = Literal["psp", "e4e", "restyle", "stylegan2", "arcface", "curricularface", "moco"]


def load_model(path: str | Path) -> PSP:
    """The model in an official pSp checkpoint, whichever of the three encoders it has, ready to encode.

    Raises CheckpointError when the file is something else or does not fit, UnsafeFileError when it wants to run code.
    """
    state, kind = _open(path)
    if kind != "psp":
        raise CheckpointError(f"{path}: is {_DESCRIBED[kind]}, not a pSp model")
    return _model(state, str(path))


def load_generator(path: str | Path) -> StyleGAN2:
    """The StyleGAN2 in a rosinality file, or the decoder of a pSp checkpoint.

    Where the file has no average, ``w_avg`` is that of 100,000 mapped samples. Raises as ``load_model`` does.
    """
    state, kind = _open(path)
    if kind in ("arcface", "curricularface", "moco"):
        raise CheckpointError(f"{path}: is {_DESCRIBED[kind]}, not a generator")
    return _generator(state, kind, str(path))


def load_any(path: str | Path) -> PSP | StyleGAN2:
    """The model where the file holds one, the generator where it holds no more. Raises as ``load_model`` does."""
    state, kind = _open(path)
    if kind not in ("psp", "stylegan2"):
        raise CheckpointError(f"{path}: is {_DESCRIBED[kind]}, neither a pSp model nor a generator")
    return _model(state, str(path)) if kind == "psp" else _generator(state, kind, str(path))


def load_arcface(path: str | Path) -> ArcFace:
    """ArcFace IR-SE50, the identity network that pSp's loss uses. Raises as ``load_model`` does."""
    network = ArcFace()
    _load_judge(network, "arcface", path)
    return network


def load_curricularface(path: str | Path) -> CurricularFace:
    """CurricularFace IR-101, behind pSp's published identity scores. Raises as ``load_model`` does."""
    network = CurricularFace()
    _load_judge(network, "curricularface", path)
    return network


def load_moco(path: str | Path) -> MoCo:
    """MoCo-v2's ResNet-50, which pSp's similarity loss uses, without what is above its features. Raises as above."""
    with torch.device("meta"):
        network = MoCo()
    _load_judge(network, "moco", path)
    return network


def _load_judge(network: nn.Module, wanted: Kind, path: str | Path) -> None:
    state, kind = _open(path)
    if kind != wanted:
        raise CheckpointError(f"{path}: is {_DESCRIBED[kind]}, not {_DESCRIBED[wanted]}")
    weights = _network(state, str(path))
    if kind == "moco":
        weights = {f"trunk.{key}": value for key, value in _query(weights).items() if not key.startswith("fc.")}
    fill(network, weights, str(path))
    network.eval().requires_grad_(False)


_DESCRIBED: dict[Kind, str] = {
    "psp": "a pSp model",
    "e4e": "an e4e model, which this version does not read",
    "restyle": "a ReStyle model, which this version does not read",
    "stylegan2": "a StyleGAN2 generator",
    "arcface": "an ArcFace network",
    "curricularface": "a CurricularFace network",
    "moco": "a ResNet-50, as MoCo's",
}


def _open(path: str | Path) -> tuple[dict[str, Any], Kind]:
    state = read(path)
    try:
        return state, detect(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _model(state: State, source: str) -> PSP:
    return official.model(_network(state, source), _average(state, source), _options(state), source)


def _generator(state: State, kind: Kind, source: str) -> StyleGAN2:
    weights = _network(state, source)
    return rosinality.generator(
        weights if kind == "stylegan2" else below(weights, "decoder."), _average(state, source), source
    )


def detect(state: State) -> Kind:
    """What the dictionary of a file is: see ``Kind``. Raises CheckpointError when it is nothing known."""
    networks = _inner(state)
    if "encoder.conv1.weight" in networks:
        return "restyle"
    if "encoder.input_layer.0.weight" in networks:
        return _family(state, networks)
    if "conv1.conv.weight" in networks and "to_rgb1.conv.weight" in networks:
        return "stylegan2"
    if "input_layer.0.weight" in networks and "output_layer.3.weight" in networks:
        return "arcface" if "body.0.res_layer.5.fc1.weight" in networks else "curricularface"
    if "layer4.2.conv3.weight" in _query(networks):
        return "moco"
    shown = ", ".join(spell(str(key)) for key in list(networks)[:5]) or "none"
    raise CheckpointError(
        f"holds no network known here (its first keys: {shown}); give a StyleGAN2 generator in rosinality's layout, "
        "a pSp checkpoint, or ArcFace, CurricularFace or MoCo weights"
    )


def _family(state: State, networks: State) -> Kind:
    """Which of the models in pSp's layout: e4e's keys are exactly pSp's, only its options tell the two apart."""
    if _options(state).get("encoder_type") == "Encoder4Editing":
        return "e4e"
    pyramid = "encoder.styles.0.linear.weight" in networks
    return "restyle" if pyramid and "encoder.latlayer1.weight" not in networks else "psp"


def _inner(state: State) -> State:
    """The state dict inside the file's dictionary, or the dictionary itself where it is bare."""
    for name in ("state_dict", "g_ema"):
        if isinstance(state.get(name), Mapping):
            return state[name]  # type: ignore[no-any-return]
    return state


def _network(state: State, source: str) -> dict[str, Tensor]:
    """The network's tensors, modulated weights without their leading axis of one."""
    inner = _inner(state)
    weights = tensors({key: value for key, value in inner.items() if inner is not state or key != "latent_avg"}, source)
    return rosinality.plain(weights)


def _query(networks: State) -> dict[str, Any]:
    """The network that MoCo's training keeps, where others learn beside it; what there is, where it is alone."""
    for prefix in ("module.encoder_q.", "encoder_q.", "module."):
        if any(str(key).startswith(prefix) for key in networks):
            return below({str(key): value for key, value in networks.items()}, prefix)
    return {str(key): value for key, value in networks.items()}


def _options(state: State) -> Mapping[str, Any]:
    """What the training that wrote the file was told; empty where it does not say."""
    options = state.get("opts")
    if isinstance(options, argparse.Namespace):
        options = vars(options)
    return options if isinstance(options, Mapping) else {}


def _average(state: State, source: str) -> Tensor | None:
    """The file's average as ``[n d]``, None where it has none."""
    if state.get("latent_avg") is None:
        return None
    value = tensors({"latent_avg": state["latent_avg"]}, source)["latent_avg"]
    if value.ndim not in (1, 2) or not value.is_floating_point():
        raise CheckpointError(f"{source}: latent_avg has shape {list(value.shape)}, not [d], [1 d] or [k d]")
    return value.reshape(-1, value.shape[-1])
