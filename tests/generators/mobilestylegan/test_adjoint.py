"""Hand-written backward passes give autograd's first and second derivatives."""

import pytest
import torch
from torch import Tensor, nn

from pixel2style.generators.mobilestylegan import adjoint
from pixel2style.generators.mobilestylegan.adjoint import inverse_haar
from pixel2style.generators.mobilestylegan.network import Block
from tests.support.golden_rule import relative_error

pytestmark = pytest.mark.usefixtures("one_thread")
CONV = adjoint._plain_conv


def conv_inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    rng = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 6, 6), (2, 4), (4, 1, 3, 3), (5, 4, 1, 1), (5,), (1, 1, 6, 6))
    return tuple(torch.randn(shape, generator=rng, dtype=dtype) for shape in shapes)


def inputs(*tensors: Tensor) -> list[Tensor]:
    return [tensor.clone().requires_grad_() for tensor in tensors]


def same_with_gradients(made: Tensor, ours: list[Tensor], plain: Tensor, theirs: list[Tensor]) -> None:
    """What was made and its gradients agree with the plain operations'."""
    assert relative_error(made, plain) < 1e-12
    weight = torch.randn_like(plain)
    for found, expected in zip(
        torch.autograd.grad(made, ours, weight), torch.autograd.grad(plain, theirs, weight), strict=True
    ):
        assert relative_error(found, expected) < 1e-12


def test_a_convolution_and_its_gradients_are_those_of_the_plain_operations() -> None:
    images, style, *weights = conv_inputs()
    ours, theirs = inputs(images, style), inputs(images, style)
    made, plain = adjoint.separable_conv(*ours, *weights), CONV(*theirs, *weights)
    same_with_gradients(made, ours, plain, theirs)


def test_a_haar_step_and_its_gradients_are_those_of_the_plain_operations() -> None:
    rng = torch.Generator().manual_seed(1)
    bands, style = torch.randn(2, 8, 5, 3, generator=rng).double(), torch.randn(2, 8, generator=rng).double()
    ours, theirs = inputs(bands, style), inputs(bands, style)
    made, plain = adjoint.inverse_haar(*ours), adjoint._haar_as_graph(adjoint._half(*theirs))
    same_with_gradients(made, ours, plain, theirs)


def test_gradients_can_be_differentiated_again() -> None:
    images, style, *weights = conv_inputs()
    assert torch.autograd.gradgradcheck(
        lambda *given: adjoint.separable_conv(*given, *weights), inputs(images[:1], style[:1])
    )
    bands, scale = torch.randn(1, 8, 2, 3).double(), torch.randn(1, 8).double()
    assert torch.autograd.gradgradcheck(adjoint.inverse_haar, inputs(bands, scale))


def test_a_row_alone_can_ask_for_its_gradient() -> None:
    images, style, *weights = conv_inputs()
    (style,) = inputs(style)
    (found,) = torch.autograd.grad(adjoint.separable_conv(images, style, *weights).sum(), style)
    (expected,) = torch.autograd.grad(CONV(images, style, *weights).sum(), style)
    assert relative_error(found, expected) < 1e-12


def test_autocast_decides_the_numbers() -> None:
    images, style, *weights = conv_inputs(torch.float32)
    ours = inputs(images, style)
    with torch.autocast("cpu", torch.bfloat16):
        made = adjoint.separable_conv(*ours, *weights)
    assert made.dtype == torch.bfloat16
    made.float().sum().backward()
    assert all(tensor.grad is not None and tensor.grad.dtype == torch.float32 for tensor in ours)
    assert 0 < relative_error(made.float(), CONV(images, style, *weights)) < 0.02


@pytest.fixture
def block() -> Block:
    torch.manual_seed(0)
    block = Block(16, 8, 8, 4)
    for tensor in [*block.parameters(), *block.buffers()]:
        nn.init.normal_(tensor)
    return block.requires_grad_(False)


def test_only_a_frozen_generator_uses_the_hand_written_backward_pass(
    block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    short = adjoint.separable_conv
    monkeypatch.setattr(adjoint, "separable_conv", lambda *given: taken.append("short") or short(*given))
    images, (row,) = torch.randn(2, 16, 4, 4), inputs(torch.randn(2, 4))
    block(images, row, row).sum().backward()
    assert taken == ["short", "short"]
    block.conv2.pointwise.requires_grad_()
    block(images, row, row).sum().backward()
    assert taken == ["short"] * 3
    assert block.conv2.pointwise.grad is not None
    with torch.no_grad():
        block(images, row, row)
    assert taken == ["short"] * 3


def test_a_haar_step_without_a_style_is_the_same_with_and_without_gradients() -> None:
    bands = torch.randn(1, 8, 4, 4)
    assert torch.equal(inverse_haar(bands), inverse_haar(bands.clone().requires_grad_()))


def test_trainable_noise_uses_autograd(block: Block) -> None:
    block.conv1.noise.requires_grad_()
    block(torch.randn(1, 16, 4, 4), *inputs(torch.randn(1, 4)) * 2).sum().backward()
    assert block.conv1.noise.grad is not None


def test_torch_func_passes_through() -> None:
    images, style, *weights = conv_inputs()
    if not adjoint.is_usable(*inputs(images, style), *weights):
        pytest.fail("this would show nothing")

    def drawn(row: Tensor) -> Tensor:
        way = adjoint.separable_conv if adjoint.is_usable(images, row, *weights) else CONV
        return way(images, row, *weights)

    made, back = torch.func.vjp(drawn, style)
    (found,) = back(torch.ones_like(made))
    (given,) = inputs(style)
    (expected,) = torch.autograd.grad(CONV(images, given, *weights).sum(), given)
    assert relative_error(found, expected) < 1e-12
