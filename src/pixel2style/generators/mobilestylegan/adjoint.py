"""Layers of a frozen generator with backward passes written by hand: gradients of inputs, none of weights.

Training an encoder differentiates through a generator whose weights do not change. On a CPU most of that time is memory
traffic: autograd runs a pass over the map for every scaling, sum and activation, and uses slow backward kernels for
depthwise convolutions. Here each layer is one autograd node. The adjoint of a depthwise convolution is a depthwise
convolution with the flipped kernel; the adjoint of a Haar step is a Haar step.

Values equal those of the plain operations up to rounding. Second derivatives use the plain operations.

Axes: ``b`` batch, ``c`` channels, ``h w`` map.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...ops import SLOPE


def is_usable(images: Tensor, style: Tensor, *weights: Tensor) -> bool:
    """Whether the layers here apply: on a CPU, inputs need gradients, weights need none, nothing is being compiled."""
    wanted = torch.is_grad_enabled() and (images.requires_grad or style.requires_grad)
    frozen = not any(weight.requires_grad for weight in weights)
    traced = torch.compiler.is_compiling() or _is_functorch_active()
    return wanted and frozen and images.device.type == "cpu" and not traced


def _is_functorch_active() -> bool:
    query = getattr(torch._C, "_are_functorch_transforms_active", None)  # torch.func has no public query
    return query is not None and bool(query())


def needs_graph(images: Tensor) -> bool:
    """Whether the result will be differentiated or compiled, so that in-place operations are not allowed."""
    return images.requires_grad or torch.compiler.is_compiling()


def scale(images: Tensor, style: Tensor) -> Tensor:
    """Multiply every channel by its number: ``[b c h w], [b c] -> [b c h w]``."""
    return images * style[:, :, None, None]


def separable_conv(
    images: Tensor, style: Tensor, depthwise: Tensor, pointwise: Tensor, bias: Tensor, noise: Tensor
) -> Tensor:
    """3x3 depthwise, scale channels, 1x1, add bias and noise, LeakyReLU: ``[b c h w], [b c] -> [b c' h w]``.

    Only ``images`` and ``style`` get gradients. Under autocast it computes in autocast's precision.
    """
    result: Tensor = _SeparableConv.apply(*_autocast(images, style, depthwise, pointwise, bias, noise))
    return result


def inverse_haar(bands: Tensor, style: Tensor | None = None) -> Tensor:
    """One orthonormal inverse Haar step: ``[b 4c h w] -> [b c 2h 2w]``, of bands scaled by ``style`` ``[b 4c]``.

    Channels lie band by band: the low band of every output channel, then LH, HL and HH.
    """
    if style is not None and is_usable(bands, style):
        result: Tensor = _InverseHaar.apply(*_autocast(bands, style))
        return result
    return (_haar_as_graph if needs_graph(bands) else _haar_in_place)(_half(bands, style))


def _half(bands: Tensor, style: Tensor | None) -> Tensor:
    """The factor of an orthonormal step, together with the style."""
    return bands * 0.5 if style is None else scale(bands, 0.5 * style)


def _butterfly(maps: Sequence[Tensor], out: Sequence[Tensor | None] = (None,) * 4) -> list[Tensor]:
    """Four maps times the symmetric 4x4 Hadamard matrix. It takes bands to pixels, and pixels to bands."""
    a, b, c, d = maps
    sums, differences = (a + b, c + d), (a - b, c - d)
    return [
        torch.add(*sums, out=out[0]),
        torch.sub(*sums, out=out[1]),
        torch.add(*differences, out=out[2]),
        torch.sub(*differences, out=out[3]),
    ]


def _pixels(images: Tensor) -> list[Tensor]:
    """The four pixels of every 2x2 square as views: ``[b c 2h 2w] -> 4 x [b c h w]``, row by row."""
    return [images[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]


def _haar_in_place(bands: Tensor) -> Tensor:
    """``[b 4c h w] -> [b c 2h 2w]``, channels last, each pixel written once."""
    batch, channels, height, width = bands.shape
    out = bands.new_empty(batch, 2 * height, 2 * width, channels // 4).permute(0, 3, 1, 2)
    _butterfly(bands.chunk(4, dim=1), _pixels(out))
    return out


def _haar_as_graph(bands: Tensor) -> Tensor:
    """The same by operations that can be differentiated, compiled and exported."""
    return F.pixel_shuffle(torch.stack(_butterfly(bands.chunk(4, dim=1)), dim=2).flatten(1, 2), 2)


class _SeparableConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, style: Tensor, *weights: Tensor) -> Tensor:
        depthwise, pointwise, bias, noise = weights
        with torch.autocast(images.device.type, enabled=False):
            maps = F.conv2d(images, depthwise, padding=1, groups=images.shape[1])
            result = F.conv2d(scale(maps, style), pointwise, bias)
            result = F.leaky_relu_(result.add_(noise), SLOPE)
        ctx.save_for_backward(images, style, maps, result, *weights)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        images, style, maps, result, depthwise, pointwise, bias, noise = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = _plain_conv(images, style, depthwise, pointwise, bias, noise)
            return (*_plain_gradients(ctx, plain, (images, style), grad), None, None, None, None)
        grad = torch.ops.aten.leaky_relu_backward(grad, result, SLOPE, True)
        grad = F.conv2d(grad, pointwise.transpose(0, 1))
        style_grad = _sum_pixels(grad * maps, style)
        images_grad = None
        if ctx.needs_input_grad[0]:
            images_grad = F.conv2d(scale(grad, style), depthwise.flip(2, 3), padding=1, groups=grad.shape[1])
        return images_grad, style_grad, None, None, None, None


class _InverseHaar(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bands: Tensor, style: Tensor) -> Tensor:
        ctx.save_for_backward(bands, style)
        with torch.autocast(bands.device.type, enabled=False):
            return _haar_in_place(_half(bands, style))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        bands, style = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _plain_gradients(ctx, _haar_as_graph(_half(bands, style)), (bands, style), grad)
        batch, channels, height, width = bands.shape
        bands_grad = bands.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)
        _butterfly(_pixels(grad), bands_grad.chunk(4, dim=1))
        return _half(bands_grad, style), 0.5 * _sum_pixels(bands_grad * bands, style)


def _plain_conv(
    images: Tensor, style: Tensor, depthwise: Tensor, pointwise: Tensor, bias: Tensor, noise: Tensor
) -> Tensor:
    maps = F.conv2d(images, depthwise, padding=1, groups=images.shape[1])
    return F.leaky_relu(F.conv2d(scale(maps, style), pointwise, bias) + noise, SLOPE)


def _plain_gradients(ctx: Any, result: Tensor, inputs: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients that can be differentiated again."""
    wanted = [tensor for tensor, needed in zip(inputs, ctx.needs_input_grad, strict=False) if needed]
    gradients = iter(torch.autograd.grad(result, wanted, grad, create_graph=True))
    return tuple(next(gradients) if needed else None for needed in ctx.needs_input_grad[: len(inputs)])


def _sum_pixels(maps: Tensor, style: Tensor) -> Tensor:
    return maps.sum((2, 3), dtype=torch.promote_types(style.dtype, torch.float32)).to(style.dtype)


def _autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    device = tensors[0].device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensors[0].dtype
    return tuple(tensor.to(dtype) for tensor in tensors)
