"""Layers of a frozen generator with their backward passes by hand: gradients of what flows in, none of weights.

Training an encoder differentiates through a generator whose weights stay as they are, and on a CPU most of that time
goes into passing maps through memory. Autograd turns every scaling, sum and activation into passes of its own and asks
for the slow backward kernels of depthwise convolutions. Here a layer is one node: the adjoint of a depthwise
convolution is a depthwise convolution with its kernel turned round, that of a Haar step is a Haar step.

Numbers are those of the plain operations, up to rounding. Second derivatives go through the plain operations, too.

Axes: ``b`` batch, ``c`` channels, ``h w`` map. This module does not know which layers make a generator.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

SLOPE = 0.2
"""LeakyReLU's slope inside generators."""


def pays(images: Tensor, style: Tensor, *weights: Tensor) -> bool:
    """Whether gradients of these but not of ``weights`` will be asked for, on a CPU, and no compiler is watching."""
    wanted = torch.is_grad_enabled() and (images.requires_grad or style.requires_grad)
    frozen = not any(weight.requires_grad for weight in weights)
    watched = torch.compiler.is_compiling() or _transformed()
    return wanted and frozen and images.device.type == "cpu" and not watched


def _transformed() -> bool:
    told = getattr(torch._C, "_are_functorch_transforms_active", None)  # torch.func; there is no public way to ask
    return told is not None and bool(told())


def separable_conv(
    images: Tensor, style: Tensor, depthwise: Tensor, pointwise: Tensor, bias: Tensor, noise: Tensor
) -> Tensor:
    """3x3 depthwise, scale channels, 1x1, add bias and noise, LeakyReLU: ``[b c h w], [b c] -> [b c' h w]``.

    Only ``images`` and ``style`` get gradients. Computes in autocast's numbers where that is on.
    """
    made: Tensor = _SeparableConv.apply(*_cast(images, style, depthwise, pointwise, bias, noise))
    return made


def inverse_haar(bands: Tensor, style: Tensor) -> Tensor:
    """``[b 4c h w] -> [b c 2h 2w]``: bands scaled by ``style [b 4c]``, then one orthonormal inverse Haar step."""
    made: Tensor = _InverseHaar.apply(*_cast(bands, style))
    return made


def haar_step(bands: Tensor) -> Tensor:
    """Twice an orthonormal inverse Haar step, written in place: ``[b 4c h w] -> [b c 2h 2w]``, channels last."""
    low, lh, hl, hh = bands.chunk(4, dim=1)
    top, bottom = low + lh, low - lh
    up, down = hl + hh, hl - hh
    batch, channels, height, width = low.shape
    out = bands.new_empty(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)
    torch.add(top, up, out=out[:, :, 0::2, 0::2])
    torch.sub(top, up, out=out[:, :, 0::2, 1::2])
    torch.add(bottom, down, out=out[:, :, 1::2, 0::2])
    torch.sub(bottom, down, out=out[:, :, 1::2, 1::2])
    return out


class _SeparableConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, style: Tensor, *weights: Tensor) -> Tensor:
        depthwise, pointwise, bias, noise = weights
        with torch.autocast(images.device.type, enabled=False):
            maps = F.conv2d(images, depthwise, padding=1, groups=images.shape[1])
            made = F.conv2d(_scaled(maps, style), pointwise, bias)
            made = F.leaky_relu_(made.add_(noise), SLOPE)
        ctx.save_for_backward(images, style, maps, made, *weights)
        return made

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        images, style, maps, made, depthwise, pointwise, bias, noise = ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = _plain_conv(images, style, depthwise, pointwise, bias, noise)
            return (*_plainly(ctx, plain, (images, style), grad), None, None, None, None)
        grad = torch.ops.aten.leaky_relu_backward(grad, made, SLOPE, True)
        grad = F.conv2d(grad, pointwise.transpose(0, 1))
        of_style = _summed(grad * maps, style)
        of_images = None
        if ctx.needs_input_grad[0]:
            of_images = F.conv2d(_scaled(grad, style), depthwise.flip(2, 3), padding=1, groups=grad.shape[1])
        return of_images, of_style, None, None, None, None


class _InverseHaar(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bands: Tensor, style: Tensor) -> Tensor:
        ctx.save_for_backward(bands, style)
        with torch.autocast(bands.device.type, enabled=False):
            return haar_step(_scaled(bands, 0.5 * style))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        bands, style = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _plainly(ctx, plain_haar(bands, style), (bands, style), grad)
        first, second = grad[:, :, 0::2, 0::2], grad[:, :, 0::2, 1::2]
        third, fourth = grad[:, :, 1::2, 0::2], grad[:, :, 1::2, 1::2]
        batch, channels, height, width = bands.shape
        found = bands.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)
        low, lh, hl, hh = found.chunk(4, dim=1)
        torch.add(first + second, third + fourth, out=low)
        torch.sub(first + second, third + fourth, out=lh)
        torch.add(first - second, third - fourth, out=hl)
        torch.sub(first - second, third - fourth, out=hh)
        return _scaled(found, 0.5 * style), 0.5 * _summed(found * bands, style)


def plain_haar(bands: Tensor, style: Tensor | None = None) -> Tensor:
    """``inverse_haar`` by operations that can be differentiated, compiled and exported."""
    bands = bands * 0.5 if style is None else _scaled(bands, 0.5 * style)
    low, lh, hl, hh = bands.chunk(4, dim=1)
    top, bottom = low + lh, low - lh
    up, down = hl + hh, hl - hh
    pixels = torch.stack((top + up, top - up, bottom + down, bottom - down), dim=2)
    return F.pixel_shuffle(pixels.flatten(1, 2), 2)


def _plain_conv(
    images: Tensor, style: Tensor, depthwise: Tensor, pointwise: Tensor, bias: Tensor, noise: Tensor
) -> Tensor:
    maps = F.conv2d(images, depthwise, padding=1, groups=images.shape[1])
    return F.leaky_relu(F.conv2d(_scaled(maps, style), pointwise, bias) + noise, SLOPE)


def _plainly(ctx: Any, made: Tensor, inputs: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients that can be differentiated again."""
    wanted = [given for given, needed in zip(inputs, ctx.needs_input_grad, strict=False) if needed]
    found = iter(torch.autograd.grad(made, wanted, grad, create_graph=True))
    return tuple(next(found) if needed else None for needed in ctx.needs_input_grad[: len(inputs)])


def _scaled(images: Tensor, style: Tensor) -> Tensor:
    return images * style[:, :, None, None]


def _summed(maps: Tensor, style: Tensor) -> Tensor:
    return maps.sum((2, 3), dtype=torch.promote_types(style.dtype, torch.float32)).to(style.dtype)


def _cast(*tensors: Tensor) -> tuple[Tensor, ...]:
    kind = tensors[0].device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensors[0].dtype
    return tuple(tensor.to(dtype) for tensor in tensors)
