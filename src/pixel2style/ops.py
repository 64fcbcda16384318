"""Operations of StyleGAN2 and StyleGAN3 in plain PyTorch (Karras et al., arXiv 1912.04958), area pooling and a blur.

Equalised layers store weights of unit variance and scale them in the forward pass, which equalises learning rates. A
modulated convolution multiplies its input channels by a style and normalises its output channels to unit variance. Both
factors are applied to activations, never to weights: a whole batch shares one ordinary convolution, no weight is
copied, and half precision cannot overflow.

Names and shapes of parameters are those of published files (``weight``, ``bias``, ``modulation.weight`` ...), but the
weight of a modulated convolution is ``[o i s s]``, without their leading axis of one. The filter [1, 3, 3, 1] is the
constant ``FIR``, not state.

Axes: ``b`` batch, ``c`` channels, ``i o`` those of input and output, ``h w`` height and width, ``d`` width of a style,
``s`` side of a kernel.
"""

import contextlib
import math
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.2
GAIN = math.sqrt(2.0)
FIR = (0.125, 0.375, 0.375, 0.125)
EPSILON = 1e-8
COMPARE_SIZE = 256
"""Side in pixels at which losses and scores compare images (pSp, section 3.2)."""


def activate(x: Tensor) -> Tensor:
    """LeakyReLU of slope 0.2 times the square root of 2, which preserves the variance."""
    return functional.leaky_relu(x, SLOPE) * GAIN


def _kernel(x: Tensor, gain: float) -> Tensor:
    """``FIR`` along both axes, one copy for each channel of ``x``: ``[c 1 4 4]``."""
    taps = torch.tensor(FIR, dtype=x.dtype, device=x.device)
    return (taps[:, None] * taps[None, :] * gain).expand(x.shape[1], 1, 4, 4)


class _FrozenConv(torch.autograd.Function):
    """A stride-1 convolution, or a transposed one of stride 2, that keeps only its weight for the backward pass.

    PyTorch also keeps the input, which only the gradient of the weight needs.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, padding: int, groups: int, up: bool) -> Tensor:
        """``[b i h w]``, ``[o i/groups s s]`` to ``[b o h' w']``."""
        return _conv(x, weight, padding, groups, up)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, int, bool], output: Tensor) -> None:
        """Keep the weight as given; its copy in another precision is made again."""
        x, weight, ctx.padding, ctx.groups, ctx.up = inputs
        ctx.dtype = x.dtype
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        """The adjoint, which is differentiable."""
        weight: Tensor = ctx.saved_tensors[0].to(grad.dtype)
        if ctx.up:
            x_grad = functional.conv2d(grad, weight.transpose(0, 1), stride=2)
        else:
            x_grad = functional.conv_transpose2d(grad, weight, padding=ctx.padding, groups=ctx.groups)
        return x_grad.to(ctx.dtype), None, None, None, None


def _conv(x: Tensor, weight: Tensor, padding: int, groups: int, up: bool) -> Tensor:
    if up:
        return functional.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    return functional.conv2d(x, weight, padding=padding, groups=groups)


def convolve(x: Tensor, weight: Tensor, padding: int = 0, groups: int = 1, up: bool = False) -> Tensor:
    """Convolve ``[b i h w]`` with ``[o i/groups s s]``; ``up`` is the transposed convolution of stride 2, unpadded.

    The input is not kept for the backward pass where the weight needs no gradient.
    """
    if weight.requires_grad or not x.requires_grad:
        return _conv(x, weight, padding, groups, up)
    return cast(Tensor, _FrozenConv.apply(x, weight, padding, groups, up))


def area(images: Tensor, side: int) -> Tensor:
    """Adaptive average pooling: ``[b c h w] -> [b c side side]``.

    Apple's GPUs and ONNX support it only for divisible sides. For others it is a product with two matrices there.
    """
    height, width = images.shape[-2:]
    supported = images.device.type != "mps" and not torch.compiler.is_compiling()
    if supported or (height % side == 0 and width % side == 0):
        return functional.adaptive_avg_pool2d(images, side)
    rows, columns = (averaging_matrix(length, side).to(images) for length in (height, width))
    return rows @ images @ columns.t()


def blurred(images: Tensor, deviation: float) -> Tensor:
    """Pictures or maps ``[... h w]`` filtered by a Gaussian of ``deviation`` pixels; the border is replicated."""
    line = gaussian(deviation)
    channels = images.shape[-3] if images.ndim > 2 else 1
    kernel = line.to(images).expand(channels, 1, -1)
    reach = len(line) // 2
    maps = functional.pad(images.reshape(-1, channels, *images.shape[-2:]), [reach] * 4, mode="replicate")
    maps = functional.conv2d(maps, kernel[:, :, None, :], groups=channels)
    return functional.conv2d(maps, kernel[:, :, :, None], groups=channels).reshape(images.shape)


def gaussian(deviation: float) -> Tensor:
    """The weights of a Gaussian of ``deviation`` pixels as far as three deviations: ``[n]`` in float64, of sum 1."""
    reach = max(1, math.ceil(3 * deviation))
    places = torch.arange(-reach, reach + 1, dtype=torch.float64)
    line = torch.exp(-0.5 * (places / deviation) ** 2)
    return line / line.sum()


def variance(maps: Tensor) -> Tensor:
    """Of all numbers of each picture's maps ``[b c h w]``, above zero: ``[b 1 1 1]``."""
    return maps.var((1, 2, 3), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def pooled(images: Tensor) -> Tensor:
    """Resize images for comparison: ``[b 3 h w] -> [b 3 256 256]``, larger ones by area, smaller ones bilinearly."""
    if images.shape[-2:] == (COMPARE_SIZE, COMPARE_SIZE):
        return images
    if min(images.shape[-2:]) >= COMPARE_SIZE:
        return area(images, COMPARE_SIZE)
    return functional.interpolate(
        images, size=(COMPARE_SIZE, COMPARE_SIZE), mode="bilinear", align_corners=False, antialias=True
    )


def averaging_matrix(length: int, side: int) -> Tensor:
    """The matrix ``[side length]`` of one-dimensional adaptive average pooling; its rows sum to 1."""
    index = torch.arange(side)
    starts, ends = index * length // side, -(-(index + 1) * length // side)
    inside = (torch.arange(length) >= starts[:, None]) & (torch.arange(length) < ends[:, None])
    return inside / inside.sum(1, keepdim=True)


def blur(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """Pad with zeros and filter with ``FIR`` along both axes: ``[b c h w] -> [b c h+2p-3 w+2p-3]``.

    ``gain`` multiplies the result: 4 compensates the three zeros that a transposed convolution inserts for each pixel.
    """
    return convolve(x, _kernel(x, gain), padding, groups=x.shape[1])


def upsample(x: Tensor) -> Tensor:
    """Double the resolution with ``FIR`` and zero padding: ``[b c h w] -> [b c 2h 2w]``.

    With these taps it equals bilinear interpolation after padding by one pixel.
    """
    padded = functional.pad(x, (1, 1, 1, 1))
    return functional.interpolate(padded, scale_factor=2, mode="bilinear", align_corners=False)[:, :, 2:-2, 2:-2]


def downsample(x: Tensor) -> Tensor:
    """Halve the resolution with ``FIR`` and zero padding: ``[b c h w] -> [b c h/2 w/2]``."""
    return functional.conv2d(x, _kernel(x, 1.0), stride=2, padding=1, groups=x.shape[1])


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Disable autocast where it is on; elsewhere a null context, so that exported graphs have no such region."""
    on = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else contextlib.nullcontext()


class EqualLinear(nn.Module):
    """Equalised linear layer: ``[... i] -> [... o]`` (Progressive GAN, arXiv 1710.10196, section 4.1).

    ``lr_mul`` multiplies the learning rate (0.01 in StyleGAN2's mapping); ``activation`` appends ``activate``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        bias_init: float = 0.0,
        lr_mul: float = 1.0,
        activation: bool = False,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_mul)
        self.bias = nn.Parameter(torch.full((out_features,), float(bias_init))) if bias else None
        self.scale = lr_mul / math.sqrt(in_features)
        self.lr_mul = lr_mul
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """``[... i] -> [... o]``."""
        bias = None if self.bias is None else self.bias * self.lr_mul
        y = functional.linear(x, self.weight * self.scale, bias)
        return activate(y) if self.activation else y


class EqualConv2d(nn.Module):
    """Equalised convolution: ``[b i h w] -> [b o h' w']``."""

    def __init__(self, i: int, o: int, side: int, stride: int = 1, padding: int = 0, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(o, i, side, side))
        self.bias = nn.Parameter(torch.zeros(o)) if bias else None
        self.scale = 1 / math.sqrt(i * side * side)
        self.stride = stride
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """``[b i h w] -> [b o h' w']``."""
        return functional.conv2d(x, self.weight * self.scale, self.bias, self.stride, self.padding)


class ModulatedConv2d(nn.Module):
    """Convolution with input channels scaled by a style: ``[b i h w], [b d] -> [b o h w]`` (StyleGAN2, section 2.2).

    ``demodulate`` divides each output channel by the norm of its modulated weights. ``up`` doubles the resolution by a
    transposed convolution and ``blur``. ``padding`` keeps the size by default.
    """

    def __init__(
        self,
        i: int,
        o: int,
        side: int,
        width: int,
        demodulate: bool = True,
        up: bool = False,
        padding: int | None = None,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(o, i, side, side))
        self.modulation = EqualLinear(width, i, bias_init=1.0)
        self.scale = 1 / math.sqrt(i * side * side)
        self.padding = side // 2 if padding is None else padding
        self.demodulate = demodulate
        self.up = up

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """``[b i h w], [b d] -> [b o h w]``, twice as large with ``up``."""
        y, factor = self.undemodulated(x, style)
        return y if factor is None else y * factor

    def undemodulated(self, x: Tensor, style: Tensor) -> tuple[Tensor, Tensor | None]:
        """The convolved features and the demodulation factor ``[b o 1 1]`` to multiply them by, None without one.

        The caller can merge the factor with other operations on every pixel.
        """
        scales = self.modulation(style) * self.scale
        factor = None
        if self.demodulate:
            scales, factor = self._demodulation(scales if scales.dtype == torch.float64 else scales.float())
        x = x * scales[:, :, None, None].to(x.dtype)
        y = blur(convolve(x, self.weight, up=True), 1, 4.0) if self.up else convolve(x, self.weight, self.padding)
        return y, None if factor is None else factor[:, :, None, None].to(y.dtype)

    def _demodulation(self, scales: Tensor) -> tuple[Tensor, Tensor]:
        """The scales ``[b i]`` divided by their largest style, and the matching output factors ``[b o]``.

        Demodulation cancels any common scale; dividing by it first avoids overflow in half precision.
        """
        with without_autocast(scales.device):
            level = scales.detach().abs().amax(dim=1, keepdim=True).clamp(min=EPSILON) / self.scale
            scales = scales / level
            energy = self.weight.to(scales.dtype).square().sum(dim=(2, 3))
            return scales, (scales.square() @ energy.t() + EPSILON / level.square()).rsqrt()
