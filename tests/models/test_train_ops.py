"""Layers with faster backward passes give the values and gradients of the plain ones."""

import copy

import pytest
import torch
from torch import Tensor, nn

from pixel2style.models.backbones import train_ops
from pixel2style.models.backbones.mobilefacenet import Bottleneck, MobileFaceNet, SamePadConv
from tests.support.golden_rule import img, relative_error

pytestmark = pytest.mark.usefixtures("one_thread")


def gradients(layer: nn.Module, x: Tensor, plain: bool, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The output, and the gradients of the input and of all weights."""
    with monkeypatch.context() as patch:
        if plain:
            patch.setattr(train_ops, "is_usable", lambda x: False)
        layer, x = copy.deepcopy(layer), x.clone().requires_grad_()
        out = layer(x)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        return [out.detach(), x.grad, *(weight.grad for weight in layer.parameters())]


@pytest.mark.parametrize(
    "layer",
    [
        train_ops.PReLU(6),
        SamePadConv(6, 6, stride=2, groups=6),
        SamePadConv(6, 6, stride=1, groups=6),
        Bottleneck(6, 12, 8, stride=2),
    ],
    ids=["PReLU", "stride 2", "stride 1", "a unit"],
)
@pytest.mark.parametrize("side", [16, 15])
def test_values_and_gradients_are_those_of_the_plain_layers(layer, side, monkeypatch):
    with torch.no_grad():
        for weight in layer.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    x = img("maps", 2, 6, side, side)
    ours, theirs = gradients(layer, x, False, monkeypatch), gradients(layer, x, True, monkeypatch)
    for one, other in zip(ours, theirs, strict=True):
        assert relative_error(one, other) < 1e-5


def test_under_autocast_they_are_the_same_but_for_rounding(monkeypatch):
    layer, x = Bottleneck(6, 12, 6), img("maps", 4, 6, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = (gradients(layer, x, plain, monkeypatch) for plain in (False, True))
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        assert relative_error(one.float(), other.float()) < 0.05


def test_a_network_without_gradients_takes_the_plain_layers():
    with torch.no_grad():
        assert not train_ops.is_usable(torch.zeros(1))
    network = MobileFaceNet(3, embed=False)
    x = img("picture", 1, 3, 64, 64)
    with torch.no_grad():
        plain = network.taps(x)
    for one, other in zip(network.taps(x), plain, strict=True):
        assert relative_error(one.detach(), other) < 1e-5
