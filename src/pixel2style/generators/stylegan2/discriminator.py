"""StyleGAN2's discriminator, the residual design (Karras et al., arXiv 1912.04958, section 4.1).

Names of parameters are those of rosinality's PyTorch checkpoints: ``convs.0.0`` on, ``final_conv``, ``final_linear``;
constant filters (``*.kernel``) are not state.

Axes: ``b`` batch, ``c`` channels, ``i o`` those of input and output, ``h w`` height and width, ``r`` side of an image.
"""

import itertools
import math

import torch
from torch import Tensor, nn

from ...config import GeneratorConfig
from ...errors import ConfigError
from ...ops import EqualConv2d, EqualLinear, blur, downsample
from .network import BiasedActivation, channels_of

STD_GROUP = 4


class Blur(nn.Module):
    """``ops.blur`` as a layer without state."""

    def __init__(self, padding: int):
        super().__init__()
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """``[b c h w] -> [b c h+2p-3 w+2p-3]``."""
        return blur(x, self.padding)


class Downsample(nn.Module):
    """``ops.downsample`` as a layer without state."""

    def forward(self, x: Tensor) -> Tensor:
        """``[b c h w] -> [b c h/2 w/2]``."""
        return downsample(x)


class ResidualBlock(nn.Module):
    """Two convolutions with a 1x1 shortcut, at half the size: ``[b i h w] -> [b o h/2 w/2]``."""

    def __init__(self, i: int, o: int):
        super().__init__()
        self.conv1 = nn.Sequential(EqualConv2d(i, i, 3, padding=1, bias=False), BiasedActivation(i))
        self.conv2 = nn.Sequential(Blur(2), EqualConv2d(i, o, 3, stride=2, bias=False), BiasedActivation(o))
        self.skip = nn.Sequential(Downsample(), EqualConv2d(i, o, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """``[b i h w] -> [b o h/2 w/2]``."""
        y: Tensor = self.conv2(self.conv1(x)) + self.skip(x)
        return y / math.sqrt(2)


def append_group_std(x: Tensor) -> Tensor:
    """Append the standard deviation within groups of images as a channel: ``[b c h w] -> [b c+1 h w]``.

    A group has four images, or the next smaller number that divides the batch (Progressive GAN, section 3).
    """
    batch, _, height, width = x.shape
    group = max(n for n in range(1, STD_GROUP + 1) if batch % n == 0)
    std = (x.reshape(group, -1, *x.shape[1:]).var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return torch.cat([x, std.repeat(group)[:, None, None, None].expand(-1, 1, height, width)], dim=1)


class Discriminator(nn.Module):
    """Images to logits, high for real ones: ``[b 3 r r] -> [b 1]``. It is trainable."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        channels = channels_of(config)[::-1]
        self.size = config.size
        first = nn.Sequential(EqualConv2d(3, channels[0], 1, bias=False), BiasedActivation(channels[0]))
        blocks = [ResidualBlock(i, o) for i, o in itertools.pairwise(channels)]
        last = channels[-1]
        self.convs = nn.Sequential(first, *blocks)
        self.final_conv = nn.Sequential(EqualConv2d(last + 1, last, 3, padding=1, bias=False), BiasedActivation(last))
        self.final_linear = nn.Sequential(EqualLinear(last * 16, last, activation=True), EqualLinear(last, 1))

    def forward(self, images: Tensor) -> Tensor:
        """``[b 3 r r] -> [b 1]``. Raises ConfigError for images of another size."""
        if images.shape[1:] != (3, self.size, self.size):
            raise ConfigError(
                f"this discriminator takes images of shape [batch, 3, {self.size}, {self.size}], "
                f"got {list(images.shape)}"
            )
        x: Tensor = self.final_conv(append_group_std(self.convs(images)))
        y: Tensor = self.final_linear(x.flatten(1))
        return y
