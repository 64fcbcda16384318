"""Age, gender, expression and landmarks of a face, by published networks that nothing here was trained with or on.

They measure what an edit changes. The three networks are those of face-api: one for age and gender, with the entry,
middle and exit flow of Xception (arXiv 1610.02357) on a small scale, and one each for expressions and 68 landmarks,
whose blocks add the outputs of all their separable convolutions. All have fewer than half a million weights.

Axes: ``b`` batch, ``c`` channels, ``h w`` sides of an image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import assets
from ..errors import CheckpointError, ConfigError
from ..ops import pooled
from .dlib_resnet import dequantize
from .identity import Crop, face_window

NAME = "face_attributes"
INPUT_SIZE = 112
EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
"""The classes of ``Attributes.expressions``, in order."""
LANDMARKS = 68
AGE_CROP = Crop(93, 58, 140, INPUT_SIZE)
EXPRESSION_CROP = Crop(48, 28, 200, INPUT_SIZE)
LANDMARK_CROP = Crop(64, 28, 192, INPUT_SIZE)
"""Crops that were found by measurement (`benchmarks/attributes.py`); that of age frames a face as UTKFace does."""

_MEAN = (122.782, 117.001, 104.298)


class SeparableConv(nn.Module):
    """A 3x3 depthwise and a 1x1 convolution: ``[b c s s] -> [b c' s s]``, or half the side at stride 2."""

    def __init__(self, channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(channels, channels, 3, stride, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[b c s s] -> [b c' s s]``."""
        return cast(Tensor, self.pointwise(self.depthwise(_padded(x, self.stride))))


def _padded(x: Tensor, stride: int) -> Tensor:
    """Pad for a window of 3 as TensorFlow does: at stride 2 and even sides, only on the right and below."""
    return F.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))


class Reduction(nn.Module):
    """Two separable convolutions and max pooling beside a 1x1 convolution: ``[b c s s] -> [b c' s/2 s/2]``."""

    def __init__(self, channels: int, out_channels: int, first: bool = False):
        super().__init__()
        self.first = first
        self.conv0 = SeparableConv(channels, out_channels)
        self.conv1 = SeparableConv(out_channels, out_channels)
        self.expansion = nn.Conv2d(channels, out_channels, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """``[b c s s] -> [b c' s/2 s/2]``; after ReLU, except for the ``first``, whose input is after one already."""
        y = self.conv1(F.relu(self.conv0(x if self.first else F.relu(x))))
        # Padded with zeros where TensorFlow ignores the border: those are below every other value.
        y = F.max_pool2d(F.pad(y, (0, 1, 0, 1), value=float("-inf")), 3, 2)
        return cast(Tensor, y + self.expansion(x))


class Middle(nn.Module):
    """``x`` plus three separable convolutions of it, each after ReLU: ``[b c s s]`` to the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.convs = nn.ModuleList(SeparableConv(channels, channels) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """``[b c s s]`` to the same."""
        y = x
        for conv in self.convs:
            y = conv(F.relu(y))
        return x + y


class Dense(nn.Module):
    """Four convolutions, each of the sum of those before it: ``[b c s s] -> [b c' s/2 s/2]``."""

    def __init__(self, channels: int, out_channels: int, first: bool = False):
        super().__init__()
        self.first = nn.Conv2d(channels, out_channels, 3, 2) if first else SeparableConv(channels, out_channels, 2)
        self.convs = nn.ModuleList(SeparableConv(out_channels, out_channels) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """``[b c s s] -> [b c' s/2 s/2]``."""
        first = self.first(_padded(x, 2)) if isinstance(self.first, nn.Conv2d) else self.first(x)
        total = F.relu(first)
        y = total
        for conv in self.convs:
            total = total + conv(y)
            y = F.relu(total)
        return y


class AgeGenderNet(nn.Module):
    """Faces ``[b 3 112 112]``, normalised, to age ``[b]`` and log-probabilities of male and female ``[b 2]``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, 32, 3, 2)
        self.blocks = nn.Sequential(
            Reduction(32, 64, first=True), Reduction(64, 128), Middle(128), Middle(128), Reduction(128, 256)
        )
        self.conv_out = SeparableConv(256, 512)
        self.age = nn.Linear(512, 1)
        self.gender = nn.Linear(512, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Age in years ``[b]`` and log-probabilities, unnormalised ``[b 2]``."""
        x = self.blocks(F.relu(self.conv_in(_padded(x, 2))))
        features = F.relu(self.conv_out(x)).mean((2, 3))
        return self.age(features)[:, 0], self.gender(features)


class DenseNet(nn.Module):
    """Faces ``[b 3 112 112]``, normalised, to ``outputs`` numbers, ``[b outputs]``."""

    def __init__(self, outputs: int):
        super().__init__()
        self.blocks = nn.Sequential(Dense(3, 32, first=True), Dense(32, 64), Dense(64, 128), Dense(128, 256))
        self.head = nn.Linear(256, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """``[b 3 112 112] -> [b outputs]``."""
        return cast(Tensor, self.head(self.blocks(x).mean((2, 3))))


@dataclass(frozen=True)
class Attributes:
    """What the networks say of ``b`` faces.

    ``age`` ``[b]`` is in years; ``male`` ``[b]`` are log-odds, above 0 for male; ``expressions`` ``[b 7]`` are
    log-probabilities of ``EXPRESSIONS``; ``landmarks`` ``[b 68 2]`` are (x, y) in pixels of a 256x256 image, in the
    order of iBUG 300-W (jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67).
    """

    age: Tensor
    male: Tensor
    expressions: Tensor
    landmarks: Tensor

    def expression(self, name: str) -> Tensor:
        """The probability ``[b]`` of one of ``EXPRESSIONS``. Raises ConfigError for another name."""
        return self._of(name).exp()

    def log_odds(self, name: str) -> Tensor:
        """Log-odds ``[b]`` of one of ``EXPRESSIONS`` against all others: they do not saturate as probabilities do.

        Raises ConfigError for another name.
        """
        others = [log for other, log in zip(EXPRESSIONS, self.expressions.T, strict=True) if other != name]
        return self._of(name) - torch.stack(others).logsumexp(0)

    def _of(self, name: str) -> Tensor:
        if name not in EXPRESSIONS:
            raise ConfigError(f"no expression is called {name!r}: choose one of {', '.join(EXPRESSIONS)}")
        return self.expressions[:, EXPRESSIONS.index(name)]


class FaceAttributes(nn.Module):
    """Faces aligned as in FFHQ to their ``Attributes``: ``[b 3 h w]`` of any size, RGB in [-1, 1].

    Gradients for images are computed where they are wanted. Weights are random; ``pretrained`` gives the networks with
    their own, frozen.
    """

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.age_gender = AgeGenderNet()
        self.expression = DenseNet(len(EXPRESSIONS))
        self.landmark = DenseNet(2 * LANDMARKS)
        self.register_buffer("mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Attributes:
        """``[b 3 h w]`` to attributes of ``b`` faces, float32."""
        images = pooled(images)
        age, gender = self.age_gender(self.inputs(images, AGE_CROP))
        expressions = self.expression(self.inputs(images, EXPRESSION_CROP)).float().log_softmax(1)
        return Attributes(age.float(), gender[:, 0].float() - gender[:, 1].float(), expressions, self.points(images))

    def __call__(self, images: Tensor) -> Attributes:
        """See ``forward``."""
        return cast(Attributes, super().__call__(images))

    def points(self, images: Tensor) -> Tensor:
        """Landmarks ``[b 68 2]`` alone, see ``Attributes``."""
        within: Tensor = self.landmark(self.inputs(images, LANDMARK_CROP)).float().view(-1, LANDMARKS, 2)
        return within * LANDMARK_CROP.side + within.new_tensor([LANDMARK_CROP.left, LANDMARK_CROP.top])

    def inputs(self, images: Tensor, crop: Crop) -> Tensor:
        """What a network gets: ``[b 3 h w] -> [b 3 112 112]``.

        It is sampled as the published networks do; area averages blur wrinkles away and make faces a year younger.
        """
        window = face_window(images, crop)
        sampled = F.interpolate(window, size=(crop.size, crop.size), mode="bilinear", align_corners=False)
        return ((sampled + 1) * 127.5 - self.mean) / 255

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Set all weights. Raises CheckpointError when keys or shapes do not fit."""
        try:
            self.load_state_dict(dict(tensors))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"these weights do not fit the networks of face attributes: {reason}") from error


def pretrained() -> FaceAttributes:
    """The networks with the bundled weights, frozen and in eval mode."""
    network = FaceAttributes()
    network.load(dequantize(assets.read(NAME)))
    return network.eval().requires_grad_(False)
