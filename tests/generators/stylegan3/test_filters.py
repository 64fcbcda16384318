"""Filters have the designed pass and stop bands; the tiled non-linearity equals the plain one, with its gradients."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pixel2style.generators.stylegan3 import filters
from pixel2style.generators.stylegan3.filters import FilteredActivation, attenuation, lowpass, radial_lowpass

pytestmark = pytest.mark.usefixtures("one_thread")

DESIGNS = [(12, 2.0, 28.0, 64.0), (12, 16.0, 20.0, 128.0), (24, 9.0, 24.0, 256.0), (48, 100.0, 60.0, 512.0)]
"""Taps, cutoff, width of the transition, samples."""

SHAPES = {
    "same": (22, 20, 2, 2, 6, False),
    "finer": (22, 36, 4, 2, 6, False),
    "cropped": (38, 20, 2, 2, 6, False),
    "short filters": (9, 13, 2, 2, 1, False),
    "grown": (9, 31, 2, 2, 3, False),
    "thrice as fine": (11, 10, 3, 3, 5, False),
    "not finer at all": (13, 10, 1, 1, 6, False),
    "radial": (20, 20, 2, 2, 6, True),
    "radial and finer": (18, 30, 4, 2, 5, True),
}
"""Sides, factors, taps a pixel, and whether the second filter is radial."""


def response(taps: Tensor, frequency: float, rate: float) -> float:
    """What the filter leaves of a wave."""
    places = np.arange(len(taps)) - (len(taps) - 1) / 2
    return abs(float((taps.numpy() * np.cos(2 * np.pi * frequency / rate * places)).sum()))


def made(name: str, clamp: float | None = 256.0) -> FilteredActivation:
    n, m, up, down, size, radial = SHAPES[name]
    rate = 16.0 * up
    first = lowpass(size * up if up > 1 else 1, 5.0, 6.0, rate)
    second = (radial_lowpass if radial else lowpass)(size * down if down > 1 else 1, 5.5, 6.0, rate)
    return FilteredActivation(n, m, first, up, second, down, clamp).double()


def plainly(x: Tensor, layer: FilteredActivation) -> Tensor:
    """The same by definition: zeros put in, whole filters, the whole fine grid."""
    channels, up, down = x.shape[1], layer.up, layer.down
    fine = x.new_zeros(*x.shape[:2], layer.n * up, layer.n * up)
    fine[:, :, ::up, ::up] = x * up**2
    first = torch.outer(layer.up_filter, layer.up_filter)
    second = layer.down_filter
    second = torch.outer(second, second) if second.ndim == 1 else second
    wanted = (layer.m - 1) * down + len(second)
    behind = wanted + len(first) - 1 - fine.shape[2] - layer.margin
    fine = functional.pad(fine, (layer.margin, behind, layer.margin, behind))
    fine = functional.conv2d(fine, first.expand(channels, 1, -1, -1), groups=channels)
    fine = functional.leaky_relu(fine, 0.2) * 2**0.5
    fine = fine if layer.clamp is None else fine.clamp(-layer.clamp, layer.clamp)
    return functional.conv2d(fine, second.expand(channels, 1, -1, -1), stride=down, groups=channels)


def noise(layer: FilteredActivation, batch: int = 2, channels: int = 3) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, layer.n, layer.n, dtype=torch.float64, generator=rng)


@pytest.fixture
def in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "CPU_UNTILED", 1)
    monkeypatch.setattr(filters, "CPU_TILE", 1)


@pytest.mark.parametrize("design", DESIGNS)
def test_filters_leave_a_constant_as_it_is(design):
    assert float(lowpass(*design).sum()) == pytest.approx(1, abs=1e-12)
    assert float(radial_lowpass(*design).sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("design", DESIGNS)
def test_what_lies_beyond_the_transition_is_weakened_as_kaiser_promises(design):
    taps, cutoff, width, rate = design
    stopped = np.linspace(cutoff + width / 2, rate / 2, 200)
    loudest = max(response(lowpass(*design), frequency, rate) for frequency in stopped)
    # his formula is good to about 2 decibels, but for a cutoff so low that its transition meets its own mirror image
    slack = 3 if cutoff > width / 2 else 16
    assert 20 * math.log10(loudest) < -attenuation(taps, width, rate) + slack


@pytest.mark.parametrize("design", DESIGNS)
def test_half_of_a_wave_at_the_cutoff_is_left(design):
    _, cutoff, width, rate = design
    if cutoff > width / 2:  # lower ones feel their mirror image
        assert response(lowpass(*design), cutoff, rate) == pytest.approx(0.5, abs=0.02)


def test_a_radial_filter_treats_diagonal_waves_as_straight_ones():
    taps, cutoff, width, rate = 24, 16.0, 20.0, 128.0
    filter_ = radial_lowpass(taps, cutoff, width, rate)
    separate = torch.outer(*[lowpass(taps, cutoff, width, rate)] * 2)
    places = torch.arange(taps) - (taps - 1) / 2

    def left(kernel: Tensor, across: float, down: float) -> float:
        wave = torch.cos(2 * math.pi / rate * (across * places[None, :] + down * places[:, None]))
        return float((kernel * wave).sum())

    along = cutoff / math.sqrt(2)
    assert left(filter_, along, along) == pytest.approx(left(filter_, cutoff, 0), abs=0.01)
    assert abs(left(separate, along, along) - left(separate, cutoff, 0)) > 0.1


@pytest.mark.parametrize("name", SHAPES)
def test_tiles_of_the_fine_grid_add_up_to_the_definition(name, in_tiles):
    layer = made(name, clamp=0.6)
    x = noise(layer)
    assert layer.m <= 8 or len(list(layer.tiles(x))) > len(x)
    torch.testing.assert_close(layer(x), plainly(x, layer))


@pytest.mark.parametrize("name", SHAPES)
def test_the_whole_fine_grid_at_once_equals_the_definition(name):
    layer = made(name, clamp=None)
    x = noise(layer)
    assert len(list(layer.tiles(x))) == 1
    torch.testing.assert_close(layer(x), plainly(x, layer))


@pytest.mark.parametrize("name", SHAPES)
def test_gradients_of_tiles_are_those_of_the_definition(name, in_tiles):
    layer = made(name, clamp=0.6)
    x = noise(layer).requires_grad_()
    wanted = torch.randn(2, 3, layer.m, layer.m, dtype=torch.float64)
    (ours,) = torch.autograd.grad(layer(x), x, wanted)
    (plain,) = torch.autograd.grad(plainly(x, layer), x, wanted)
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("axis", [2, 3])
def test_phase_by_phase_is_the_transposed_convolution(factor, axis):
    x, taps = torch.randn(2, 3, 9, 8, dtype=torch.float64), torch.randn(6 * factor, dtype=torch.float64)
    for crop in range(len(taps)):
        ours = filters._polyphase(x, taps, factor, axis, crop)
        torch.testing.assert_close(ours, filters.upfilter(x, taps, factor, axis, crop))


def test_a_constant_above_zero_keeps_its_form():
    layer = made("finer")
    inside = layer(torch.full((1, 1, layer.n, layer.n), 3.0, dtype=torch.float64))[0, 0, 14:-14, 14:-14]
    assert inside.numel()
    torch.testing.assert_close(inside, torch.full_like(inside, 3 * 2**0.5))


def test_only_the_coarse_map_is_kept_for_the_gradient():
    layer = made("same").float()
    layer.up_filter.requires_grad_(False)
    x = noise(layer).float().requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: kept.append(value.shape) or value, lambda value: value):
        layer(x)
    assert kept == [x.shape]


def test_filters_are_no_state():
    assert not made("same").state_dict()
    assert not list(made("same").parameters())


def test_half_precision_comes_back_as_half_precision():
    layer = made("same").float()
    x = noise(layer).bfloat16()
    out = layer(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), layer(x.float()), atol=0.02, rtol=0.01)
