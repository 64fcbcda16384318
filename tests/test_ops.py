import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pixel2style import ops
from pixel2style.ops import FIR, EqualConv2d, EqualLinear, ModulatedConv2d, blur, convolve, downsample, upsample
from tests.support.golden_rule import arr, img, relative_error

FIR_2D = torch.tensor(FIR)[:, None] * torch.tensor(FIR)


def modulated_by_the_book(layer: ModulatedConv2d, x: Tensor, style: Tensor) -> Tensor:
    """Equations 1 and 3 of StyleGAN2 as they stand: one weight tensor for every sample."""
    out = []
    for one, scales in zip(x, layer.modulation(style), strict=True):
        weight = layer.weight * layer.scale * scales[None, :, None, None]
        if layer.demodulate:
            weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if layer.up:
            y = functional.conv_transpose2d(one[None], weight.transpose(0, 1), stride=2)
            kernel = (4 * FIR_2D).to(y).expand(len(weight), 1, 4, 4)
            y = functional.conv2d(y, kernel, padding=1, groups=len(weight))
        else:
            y = functional.conv2d(one[None], weight, padding=layer.padding)
        out.append(y)
    return torch.cat(out)


def layer_and_input(**options: bool) -> tuple[ModulatedConv2d, Tensor, Tensor]:
    torch.manual_seed(0)
    layer = ModulatedConv2d(12, 20, 3, 16, **options)
    return layer.requires_grad_(False), arr("x", 3, 12, 8, 8), arr("style", 3, 16)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_scaling_activations_equals_scaling_weights(up, demodulate):
    layer, x, style = layer_and_input(up=up, demodulate=demodulate)
    layer, x, style = layer.double(), x.double(), style.double()
    expected = modulated_by_the_book(layer, x, style)
    assert expected.shape == (3, 20, 16, 16) if up else (3, 20, 8, 8)
    assert relative_error(layer(x, style), expected) < 1e-12


def test_gradients_of_a_modulated_convolution_equal_those_of_the_definition():
    layer, x, style = layer_and_input()
    layer = layer.double().requires_grad_(True)
    inputs = [x.double().requires_grad_(), style.double().requires_grad_(), layer.weight, layer.modulation.weight]
    target = arr("target", 3, 20, 8, 8).double()
    ours = torch.autograd.grad((layer(*inputs[:2]) * target).sum(), inputs)
    book = torch.autograd.grad((modulated_by_the_book(layer, *inputs[:2]) * target).sum(), inputs)
    assert max(relative_error(a, b) for a, b in zip(ours, book, strict=True)) < 1e-12


@pytest.mark.parametrize("size_of_style", [1e-6, 1e4])
def test_half_precision_survives_extreme_styles(size_of_style):
    layer, x, style = layer_and_input()
    layer.modulation.bias.zero_()
    expected = layer(x, style * size_of_style)
    half = layer.to(torch.bfloat16)(x.bfloat16(), (style * size_of_style).bfloat16())
    assert half.dtype == torch.bfloat16
    assert relative_error(half.float(), expected) < 0.02
    half = layer.half()
    y, factor = half.undemodulated(x.half() * 100, (style * min(size_of_style, 1e3)).half())
    assert y.isfinite().all() and factor.isfinite().all()


def test_a_style_of_zero_silences_the_layer_and_nothing_breaks():
    layer, x, style = layer_and_input()
    layer.modulation.bias.zero_()
    style = torch.zeros_like(style).requires_grad_()
    y = layer(x, style)
    y.sum().backward()
    assert torch.equal(y, torch.zeros_like(y))
    assert style.grad.isfinite().all()


@pytest.mark.parametrize(
    ("shape", "options"),
    [((6, 4, 3, 3), {"padding": 1}), ((6, 4, 3, 3), {"up": True}), ((4, 1, 4, 4), {"padding": 2, "groups": 4})],
)
def test_a_frozen_convolution_has_the_gradients_of_any_other_and_keeps_no_input(shape, options):
    x, weight = arr("x", 2, 4, 4, 4).double().requires_grad_(), arr("weight", *shape).double()
    assert torch.autograd.gradcheck(lambda x: convolve(x, weight, **options), x)
    assert torch.autograd.gradgradcheck(lambda x: convolve(x, weight, **options).square(), x)
    learning = convolve(x, weight.clone().requires_grad_(), **options)
    seen = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t.data_ptr()) or t, lambda t: t):
        frozen = convolve(x, weight, **options)
    assert torch.equal(frozen, learning)
    assert weight.data_ptr() in seen and x.data_ptr() not in seen


def test_upsampling_is_zero_insertion_then_the_filter():
    x = arr("x", 2, 3, 5, 7)
    spread = torch.zeros(2, 3, 10, 14)
    spread[:, :, ::2, ::2] = x
    padded = functional.pad(spread, (2, 1, 2, 1))
    expected = functional.conv2d(padded, (4 * FIR_2D).expand(3, 1, 4, 4), groups=3)
    assert relative_error(upsample(x), expected) < 1e-6


def test_downsampling_is_the_filter_then_every_second_pixel():
    x = arr("x", 2, 3, 8, 6)
    assert relative_error(downsample(x), blur(x, 1)[:, :, ::2, ::2]) < 1e-6


def test_filters_keep_a_flat_picture_flat_away_from_the_border():
    flat = torch.full((1, 1, 16, 16), 0.7)
    for filtered in (blur(flat, 2), upsample(flat), downsample(flat)):
        inside = filtered[:, :, 3:-3, 3:-3]
        assert torch.allclose(inside, torch.full_like(inside, 0.7), atol=1e-6)


def test_equalised_layers_keep_the_variance_at_birth():
    torch.manual_seed(0)
    linear = EqualLinear(512, 512, lr_mul=0.01, activation=True)
    assert linear(torch.randn(256, 512)).square().mean().item() == pytest.approx(1, rel=0.1)
    conv = EqualConv2d(64, 64, 3, padding=1)
    assert conv(torch.randn(4, 64, 16, 16))[:, :, 1:-1, 1:-1].var().item() == pytest.approx(1, rel=0.1)


def test_a_slow_linear_layer_scales_weight_and_bias_alike():
    layer = EqualLinear(4, 2, bias_init=3.0, lr_mul=0.5)
    x = arr("x", 5, 4)
    assert relative_error(layer(x), x @ layer.weight.t() * 0.5 / 2 + 1.5) < 1e-6
    assert EqualLinear(4, 2, bias=False).bias is None


@pytest.mark.parametrize(("length", "side"), [(188, 112), (182, 150), (300, 256), (256, 64), (7, 7)])
def test_averages_by_matrix_are_those_of_adaptive_pooling(length, side):
    pictures = img("pictures", 1, 3, length, length)
    rows = ops.averaging_matrix(length, side)
    assert torch.allclose(rows @ pictures @ rows.t(), ops.area(pictures, side), atol=1e-6)
