"""MobileFaceNet: a small face-identity network, used as an identity metric and as the trunk of compact encoders.

pSp initialises its encoder from a face-identity network, and so do the compact encoders. The structure is that of Chen
et al. (2018, arXiv 1804.07573) with two differences of the bundled weights: batch normalisation is folded into the
convolutions, and padding is TensorFlow's, so that at stride 2 an even map is padded on its right and lower edge only.

Axes: ``b`` batch, ``c`` channels, ``s`` side of an image.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from ... import assets
from ...errors import CheckpointError
from . import train_ops
from .recompute import recompute

INPUT_SIZE = 112
EMBEDDING_WIDTH = 192


class SamePadConv(nn.Conv2d):
    """A 3x3 convolution that pads like TensorFlow's "SAME": ``[b c s s] -> [b c' s/stride s/stride]``."""

    def __init__(self, channels: int, out_channels: int, stride: int = 1, groups: int = 1):
        super().__init__(channels, out_channels, 3, stride, padding=1 if stride == 1 else 0, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Pad an even side by (0, 1), an odd one by (1, 1), then convolve."""
        if self.stride[0] == 2:
            height, width = x.shape[-2:]
            if self.groups > 1 and not (width % 2 or height % 2) and train_ops.is_usable(x):
                return self._every_second(x)
            x = F.pad(x, (width % 2, 1, height % 2, 1))
        return super().forward(x)

    def _every_second(self, x: Tensor) -> Tensor:
        """The same of an even side at stride 1: on a CPU, the backward kernel of stride 2 takes five times as long."""
        return F.conv2d(x, self.weight, self.bias, padding=1, groups=self.groups)[..., 1::2, 1::2]


class Bottleneck(nn.Sequential):
    """Inverted residual: expand by 1x1, 3x3 depthwise, project by 1x1: ``[b c s s] -> [b c' s/stride s/stride]``.

    The projection has no activation. The input is added where the shapes are equal.
    """

    def __init__(self, channels: int, hidden: int, out_channels: int, stride: int = 1):
        super().__init__(
            nn.Conv2d(channels, hidden, 1),
            train_ops.PReLU(hidden),
            SamePadConv(hidden, hidden, stride, groups=hidden),
            train_ops.PReLU(hidden),
            nn.Conv2d(hidden, out_channels, 1),
        )
        self.adds_input = stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """``[b c s s] -> [b c' s/stride s/stride]``."""
        out = x
        for layer in self:
            out = layer(out)
        return x + out if self.adds_input else out


def _stage(channels: int, hidden: int, out_channels: int, repeats: int) -> nn.Sequential:
    """A stride-2 unit, then ``repeats`` units with shortcuts and an expansion factor of 2."""
    repeat_hidden = 2 * out_channels
    units = [Bottleneck(out_channels, repeat_hidden, out_channels) for _ in range(repeats)]
    return nn.Sequential(Bottleneck(channels, hidden, out_channels, stride=2), *units)


class MobileFaceNet(nn.Module):
    """Faces to identity vectors: ``[b c 112 112]`` in [-1, 1] ``-> [b 192]`` (not normalised).

    ``embed=False`` leaves out everything after the last tap, for use as a trunk. Weights are random; ``pretrained``
    gives the network with its own. With ``recompute`` every stage keeps only its input for the backward pass and runs
    twice.
    """

    tap_channels: tuple[int, int, int] = (64, 128, 128)
    recompute = False

    def __init__(self, input_channels: int = 3, embed: bool = True):
        super().__init__()
        self.stem = nn.Sequential(
            SamePadConv(input_channels, 64, stride=2),
            train_ops.PReLU(64),
            SamePadConv(64, 64, groups=64),
            train_ops.PReLU(64),
            nn.Conv2d(64, 64, 1),
        )
        self.stage4 = _stage(64, 128, 64, repeats=4)
        self.stage8 = _stage(64, 256, 128, repeats=6)
        self.stage16 = _stage(128, 512, 128, repeats=2)
        self.embedding: nn.Sequential | None = None
        if embed:
            self.embedding = nn.Sequential(
                nn.Conv2d(128, 512, 1),
                train_ops.PReLU(512),
                nn.Conv2d(512, 512, INPUT_SIZE // 16, groups=512),
                nn.Conv2d(512, 512, 1),
                nn.Conv2d(512, EMBEDDING_WIDTH, 1),
            )

    def taps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Feature maps at strides 4, 8 and 16: ``[b c s s] -> [b 64 s/4 s/4], [b 128 s/8 s/8], [b 128 s/16 s/16]``.

        Raises ValueError when a side is not a multiple of 16.
        """
        if x.shape[-1] % 16 or x.shape[-2] % 16:
            raise ValueError(f"sides must be multiples of 16, got {tuple(x.shape[-2:])}")
        if self.recompute:
            fine = recompute(self.stage4, recompute(self.stem, x))
            middle = recompute(self.stage8, fine)
            return fine, middle, recompute(self.stage16, middle)
        fine = self.stage4(self.stem(x))
        middle = self.stage8(fine)
        coarse: Tensor = self.stage16(middle)
        return fine, middle, coarse

    def forward(self, x: Tensor) -> Tensor:
        """Identity vectors ``[b 192]``. Raises ValueError for another size than 112 or when built without ``embed``."""
        if self.embedding is None:
            raise ValueError("this MobileFaceNet was built with embed=False and has only taps")
        if x.shape[-2:] != (INPUT_SIZE, INPUT_SIZE):
            raise ValueError(f"faces must be {INPUT_SIZE}x{INPUT_SIZE}, got {tuple(x.shape[-2:])}")
        vectors: Tensor = self.embedding(self.taps(x)[2])
        return vectors.flatten(1)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Set all weights; those of an embedding are left out where the network has none.

        Raises CheckpointError when keys or shapes do not fit.
        """
        if self.embedding is None:
            tensors = {key: value for key, value in tensors.items() if not key.startswith("embedding.")}
        try:
            self.load_state_dict(dict(tensors))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"these weights do not fit this MobileFaceNet: {reason}") from error


def pretrained(embed: bool = True) -> MobileFaceNet:
    """The network with the bundled weights, not frozen."""
    network = MobileFaceNet(embed=embed)
    network.load(assets.read("mobilefacenet"))
    return network
