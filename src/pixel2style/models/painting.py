"""How an encoder of pictures comes to read what are no pictures: sketches, label maps, pictures with a mask.

Every kind of source is a linear function away from a picture: gray in [0, 1] is a gray picture, a class is painted in a
colour of its own, a fourth channel (a mask) is left out. Folded into the first layer, that lets training start from a
model that has learned to see; applied to a source, it lets people see it too.

Axes: ``b`` batch, ``c`` channels, ``s`` side. This module does not know tasks.
"""

import colorsys

import torch
from torch import Tensor, nn

from ..config import EncoderConfig
from . import encoders
from .encoders import Encoder


def repainted(encoder: Encoder, config: EncoderConfig, classes: bool) -> Encoder:
    """An encoder of pictures, ``encoder``, that reads other sources as if these were pictures: one of ``config``.

    Gray in [0, 1] is read as a gray picture, classes as if each were painted in a colour of its own, a fourth channel
    (a mask) not at all; channels of its reconstruction are read as before.
    """
    channels = config.input_channels - encoder.config.input_channels + 3
    if channels == 3 and not classes:
        return encoder
    name = next(name for name, module in encoder.named_modules() if isinstance(module, nn.Conv2d))
    state = encoder.state_dict()
    weight = state[f"{name}.weight"]
    paint, offset = _paint(channels, classes)
    own = torch.einsum("opij,pc->ocij", weight[:, :3], paint.to(weight))
    state[f"{name}.weight"] = torch.cat([own, weight[:, 3:]], 1)
    if offset:
        shift = offset * weight[:, :3].sum((1, 2, 3))
        if f"{name}.bias" in state:
            state[f"{name}.bias"] = state[f"{name}.bias"] + shift
        else:  # a layer without a bias is normalised next
            norm = next(name for name, module in encoder.named_modules() if isinstance(module, nn.BatchNorm2d))
            state[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] - shift
    made = encoders.build(config)
    made.load_state_dict(state)
    return made


def visible(sources: Tensor, classes: bool) -> Tensor:
    """Sources ``[b c s s]`` as pictures that a person can look at: ``[b 3 s s]`` in [-1, 1]."""
    paint, offset = _paint(sources.shape[1], classes)
    return (torch.einsum("pc,bcij->bpij", paint.to(sources), sources) + offset).clamp(-1, 1)


def _paint(channels: int, classes: bool) -> tuple[Tensor, float]:
    """How channels, which are ``classes`` or not, become RGB: a matrix ``[3 c]``, and what is added."""
    if channels == 1 and not classes:
        return torch.full((3, 1), 2.0), -1.0
    if channels <= 4 and not classes:
        return torch.eye(3, channels), 0.0
    colours = [
        colorsys.hsv_to_rgb(0.618 * i % 1, 0.35 + 0.5 * (i % 2), 1 - 0.6 * i / channels) for i in range(channels)
    ]
    return 2 * torch.tensor(colours).T - 1, 0.0
