"""The few operations StyleGAN2 adds to ordinary layers, in plain PyTorch (Karras et al., arXiv 1912.04958).

Equalised layers keep weights of unit variance and scale them as they are used, so that every layer learns at the same
pace. A modulated convolution multiplies its input channels by a style and rescales its output channels to unit
variance. Both multiplications act on activations here, never on weights: a whole batch shares one ordinary
convolution, no weight is copied, and half precision cannot overflow.

Parameters are named and shaped as in published files (``weight``, ``bias``, ``modulation.weight`` ...), except that the
weight of a modulated convolution is ``[o i s s]``: published files put a leading axis of one before it. The filter
[1, 3, 3, 1] is a constant of the code (``FIR``), not state: what a file says of it can be checked against ``FIR``.

Axes: ``b`` batch, ``i`` input channels, ``o`` output channels, ``h w`` height and width, ``d`` width of a style,
``s`` side of a kernel. This module does not know which layers a network has.
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
"""The side at which pictures are compared, in losses and scores (pSp, section 3.2)."""


def activate(x: Tensor) -> Tensor:
    """LeakyReLU of slope 0.2 times the square root of 2, which keeps the variance of what goes through."""
    return functional.leaky_relu(x, SLOPE) * GAIN


def _kernel(x: Tensor, gain: float) -> Tensor:
    """``FIR`` both ways, one copy a channel of ``x``: ``[c 1 4 4]``."""
    taps = torch.tensor(FIR, dtype=x.dtype, device=x.device)
    return (taps[:, None] * taps[None, :] * gain).expand(x.shape[1], 1, 4, 4)


class _FrozenConv(torch.autograd.Function):
    """A stride-1 convolution, or its transpose of stride 2, that keeps nothing for a backward pass but its weight.

    PyTorch's own keeps its input too, which only the gradient of a weight needs.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, padding: int, groups: int, up: bool) -> Tensor:
        """``[b i h w]``, ``[o i/groups s s]`` to ``[b o h' w']``."""
        return _conv(x, weight, padding, groups, up)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, int, bool], output: Tensor) -> None:
        """Keep the weight, as it was given: a copy of another precision is made again."""
        x, weight, ctx.padding, ctx.groups, ctx.up = inputs
        ctx.dtype = x.dtype
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        """The adjoint, itself differentiable."""
        weight: Tensor = ctx.saved_tensors[0].to(grad.dtype)
        if ctx.up:
            found = functional.conv2d(grad, weight.transpose(0, 1), stride=2)
        else:
            found = functional.conv_transpose2d(grad, weight, padding=ctx.padding, groups=ctx.groups)
        return found.to(ctx.dtype), None, None, None, None


def _conv(x: Tensor, weight: Tensor, padding: int, groups: int, up: bool) -> Tensor:
    if up:
        return functional.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    return functional.conv2d(x, weight, padding=padding, groups=groups)


def convolve(x: Tensor, weight: Tensor, padding: int = 0, groups: int = 1, up: bool = False) -> Tensor:
    """Convolve ``[b i h w]`` with ``[o i/groups s s]``; ``up`` is the transposed convolution of stride 2, unpadded.

    Where the weight asks for no gradient, the input is not kept for one.
    """
    if weight.requires_grad or not x.requires_grad:
        return _conv(x, weight, padding, groups, up)
    return cast(Tensor, _FrozenConv.apply(x, weight, padding, groups, up))


def area(images: Tensor, side: int) -> Tensor:
    """Average areas: ``[b c h w] -> [b c side side]``, adaptive pooling wherever the sides may not divide.

    Apple's GPUs and ONNX know that one only where they do; there it is two products with matrices.
    """
    height, width = images.shape[-2:]
    everywhere = images.device.type != "mps" and not torch.compiler.is_compiling()
    if everywhere or (height % side == 0 and width % side == 0):
        return functional.adaptive_avg_pool2d(images, side)
    rows, columns = (averages(length, side).to(images) for length in (height, width))
    return rows @ images @ columns.t()


def pooled(images: Tensor) -> Tensor:
    """At 256 pixels: ``[b 3 h w] -> [b 3 256 256]``, larger ones by area, smaller ones bilinear."""
    if images.shape[-2:] == (COMPARE_SIZE, COMPARE_SIZE):
        return images
    if min(images.shape[-2:]) >= COMPARE_SIZE:
        return area(images, COMPARE_SIZE)
    return functional.interpolate(
        images, size=(COMPARE_SIZE, COMPARE_SIZE), mode="bilinear", align_corners=False, antialias=True
    )


def averages(length: int, side: int) -> Tensor:
    """What averages a line of pixels to a shorter one: ``[side length]``; each row sums to 1."""
    places = torch.arange(side)
    starts, ends = places * length // side, -(-(places + 1) * length // side)
    inside = (torch.arange(length) >= starts[:, None]) & (torch.arange(length) < ends[:, None])
    return inside / inside.sum(1, keepdim=True)


def blur(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """Filter with ``FIR`` both ways after padding with zeros: ``[b c h w] -> [b c h+2p-3 w+2p-3]``.

    ``gain`` multiplies the result: 4 makes up for the three zeros that doubling the resolution puts beside each pixel.
    """
    return convolve(x, _kernel(x, gain), padding, groups=x.shape[1])


def upsample(x: Tensor) -> Tensor:
    """Double the resolution with ``FIR``: ``[b c h w] -> [b c 2h 2w]``; beyond the border lie zeros.

    With these taps it is bilinear interpolation of the picture framed by a pixel of zeros.
    """
    framed = functional.pad(x, (1, 1, 1, 1))
    return functional.interpolate(framed, scale_factor=2, mode="bilinear", align_corners=False)[:, :, 2:-2, 2:-2]


def downsample(x: Tensor) -> Tensor:
    """Halve the resolution with ``FIR``: ``[b c h w] -> [b c h/2 w/2]``; beyond the border lie zeros."""
    return functional.conv2d(x, _kernel(x, 1.0), stride=2, padding=1, groups=x.shape[1])


def as_given(device: torch.device) -> AbstractContextManager[object]:
    """Compute in the precision that numbers have. Graphs are to hold no such region where it would change nothing."""
    on = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if on else contextlib.nullcontext()


class EqualLinear(nn.Module):
    """Equalised linear layer: ``[... i] -> [... o]`` (Progressive GAN, arXiv 1710.10196, section 4.1).

    ``lr_mul`` slows the layer's learning (StyleGAN2's mapping uses 0.01); ``activation`` ends it with ``activate``.
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
    """Convolution whose input channels a style scales: ``[b i h w], [b d] -> [b o h w]`` (StyleGAN2, section 2.2).

    ``demodulate`` divides each output channel by the norm of its modulated weights. ``up`` doubles the resolution: a
    transposed convolution, then ``blur``. ``padding`` keeps the size unless given.
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
        """The convolved features and the factor ``[b o 1 1]`` that is still to multiply them, None when there is none.

        Apart, so that the caller can apply the factor together with whatever else it does to every pixel.
        """
        scales = self.modulation(style) * self.scale
        factor = None
        if self.demodulate:
            scales, factor = self._balance(scales if scales.dtype == torch.float64 else scales.float())
        x = x * scales[:, :, None, None].to(x.dtype)
        y = blur(convolve(x, self.weight, up=True), 1, 4.0) if self.up else convolve(x, self.weight, self.padding)
        return y, None if factor is None else factor[:, :, None, None].to(y.dtype)

    def _balance(self, scales: Tensor) -> tuple[Tensor, Tensor]:
        """The scales ``[b i]`` divided by their largest style, and the output factors ``[b o]`` that go with them.

        Demodulation undoes any overall scale; taking it out beforehand keeps half precision within its range.
        """
        with as_given(scales.device):
            level = scales.detach().abs().amax(dim=1, keepdim=True).clamp(min=EPSILON) / self.scale
            scales = scales / level
            energy = self.weight.to(scales.dtype).square().sum(dim=(2, 3))
            return scales, (scales.square() @ energy.t() + EPSILON / level.square()).rsqrt()
