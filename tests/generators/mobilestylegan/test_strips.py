"""Maps computed in strips equal whole maps, and no whole map is ever computed."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pixel2style.generators.mobilestylegan import strips
from pixel2style.generators.mobilestylegan.strips import Step
from tests.support.golden_rule import arr

pytestmark = pytest.mark.usefixtures("one_thread")


def doubling(name: str, heights: list[int], channels: int = 4) -> Step:
    """Twice the size, two 3x3 convolutions with edges of zeros, and something of its own for every row."""
    first, second = arr(f"{name} 1", channels, channels, 3, 3), arr(f"{name} 2", channels, channels, 3, 3)
    own = arr(f"{name} 3", 1, 1, 512, 1)

    def step(images: Tensor, rows: slice) -> Tensor:
        heights.append(images.shape[2])
        larger = functional.interpolate(images, scale_factor=2.0)
        noise = own[:, :, : larger.shape[2]] if rows.start is None else own[:, :, rows]
        larger = torch.tanh(functional.conv2d(larger, first, padding=1) + noise)
        return torch.tanh(functional.conv2d(larger, second, padding=1) + noise)

    return step


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("halo", [0, 1, 2])
@pytest.mark.parametrize("size", [64, 300, 100_000])
def test_strips_are_the_rows_of_the_whole_map_and_so_is_their_halo(monkeypatch, steps, halo, size):
    monkeypatch.setattr(strips, "STRIP", size)
    images, heights = arr("images", 1, 4, 11, 5), list[int]()
    chain = [doubling(str(number), heights) for number in range(steps)]
    whole = images
    for step in chain:
        whole = step(whole, slice(None))

    found = list(strips.strips(images, chain, halo))
    assert [strip.rows.start for strip in found[1:]] == [strip.rows.stop for strip in found[:-1]]
    assert torch.allclose(torch.cat([strip.crop(strip.maps) for strip in found], 2), whole, atol=1e-6)
    for strip in found:
        first, last = max(0, strip.rows.start - halo), min(whole.shape[2], strip.rows.stop + halo)
        given = strip.maps[:, :, first - strip.top : last - strip.top]
        assert torch.allclose(given, whole[:, :, first:last], atol=1e-6)


def test_no_step_is_given_more_than_a_strip_and_its_margin(monkeypatch):
    images, heights = arr("images", 1, 4, 16, 5), list[int]()
    monkeypatch.setattr(strips, "STRIP", 4 * images[:, :, :1].nbytes)
    for _ in strips.strips(images, [doubling(str(number), heights) for number in range(4)]):
        pass
    assert max(heights) <= 4 + 2 * 2


def test_a_strip_is_done_with_before_the_next_is_begun(monkeypatch):
    images, heights = arr("images", 1, 4, 16, 5), list[int]()
    monkeypatch.setattr(strips, "STRIP", 4 * images[:, :, :1].nbytes)
    chain = [doubling(str(number), heights) for number in range(2)]
    begun = [len(heights) for _ in itertools.islice(strips.strips(images, chain), 2)]
    assert begun == [2, 3], "the first step runs again only when all strips of its first result are out"


def test_what_is_made_of_a_strip_at_another_size_is_cut_alike():
    strip = strips.Strip(arr("maps", 1, 2, 6, 3), range(10, 13), 8)
    larger = functional.interpolate(strip.maps, scale_factor=2.0)
    assert torch.equal(strip.crop(larger), larger[:, :, 4:10])
