"""Input channels of encoders: sketches, label maps and masked images as linear functions of RGB.

Every kind of source is turned into RGB by a matrix and an offset: gray in [0, 1] is a gray image, each class of a label
map has a colour, a fourth channel (a mask) is ignored. Folded into the first convolution, this starts training from an
encoder of photographs; applied to a source, it gives an image to show.

Axes: ``b`` batch, ``c`` channels, ``o`` output channels, ``s`` side.
"""

import colorsys
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..config import EncoderConfig
from . import encoders
from .encoders import Encoder


def remap(weight: Tensor, matrix: Tensor) -> Tensor:
    """A first convolution's weight for inputs that ``matrix`` ``[3 c]`` turns into RGB.

    ``[o 3+n s s] -> [o c+n s s]``: inputs after the first three stay; a column of zeros ignores its input.
    """
    mapped = torch.einsum("opij,pc->ocij", weight[:, :3], matrix.to(weight))
    return torch.cat([mapped, weight[:, 3:]], 1)


def load_trunk(trunk: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights of a network of RGB images into ``trunk``, which ignores any further input channels at first.

    Weights that the trunk has no place for, such as those of an embedding, are left out.
    """
    own = trunk.state_dict()
    state = {name: value for name, value in weights.items() if name in own}
    first = next(name for name, value in own.items() if value.ndim == 4)
    state[first] = remap(state[first], torch.eye(3, own[first].shape[1]))
    trunk.load_state_dict(state)


def adapt(encoder: Encoder, config: EncoderConfig, classes: bool) -> Encoder:
    """An encoder of ``config`` that reads other sources as ``encoder`` reads the images that ``to_rgb`` shows of them.

    ``classes`` says whether the channels are one-hot classes. Channels of a reconstruction, which come last, stay.
    """
    channels = config.input_channels - encoder.config.input_channels + 3
    if channels == 3 and not classes:
        return encoder
    name = next(name for name, module in encoder.named_modules() if isinstance(module, nn.Conv2d))
    state = encoder.state_dict()
    weight = state[f"{name}.weight"]
    matrix, offset = _rgb_of(channels, classes)
    state[f"{name}.weight"] = remap(weight, matrix)
    if offset:
        shift = offset * weight[:, :3].sum((1, 2, 3))
        if f"{name}.bias" in state:
            state[f"{name}.bias"] = state[f"{name}.bias"] + shift
        else:  # without a bias, batch normalisation follows
            norm = next(name for name, module in encoder.named_modules() if isinstance(module, nn.BatchNorm2d))
            state[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] - shift
    adapted = encoders.build(config)
    adapted.load_state_dict(state)
    return adapted


def to_rgb(sources: Tensor, classes: bool) -> Tensor:
    """Sources ``[b c s s]`` as images to show: ``[b 3 s s]`` in [-1, 1]; ``classes`` says if channels are one-hot."""
    matrix, offset = _rgb_of(sources.shape[1], classes)
    return (torch.einsum("pc,bcij->bpij", matrix.to(sources), sources) + offset).clamp(-1, 1)


def _rgb_of(channels: int, classes: bool) -> tuple[Tensor, float]:
    """RGB is this matrix ``[3 c]`` times the channels, plus this offset."""
    if channels == 1 and not classes:
        return torch.full((3, 1), 2.0), -1.0
    if channels <= 4 and not classes:
        return torch.eye(3, channels), 0.0
    colours = [
        colorsys.hsv_to_rgb(0.618 * i % 1, 0.35 + 0.5 * (i % 2), 1 - 0.6 * i / channels) for i in range(channels)
    ]
    return 2 * torch.tensor(colours).T - 1, 0.0
