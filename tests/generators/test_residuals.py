"""Residuals on a generator's maps: what they change, and that all ways to draw agree on it."""

import pytest
import torch

from pixel2style import checkpoints
from pixel2style.config import GeneratorConfig
from pixel2style.errors import ConfigError
from pixel2style.generators import Generator, MobileStyleGAN, StyleGAN2, StyleGAN3
from tests.support.golden_rule import arr, relative_error


@pytest.fixture(scope="module")
def mobile() -> Generator:
    return checkpoints.load_generator("mobilestylegan_ffhq_1024")


@pytest.fixture(scope="module")
def small() -> Generator:
    torch.manual_seed(0)
    return StyleGAN2(GeneratorConfig(size=32, width=16, mapping_layers=1, channels=(8, 8, 6, 4))).eval()


@pytest.fixture(scope="module", params=["mobilestylegan", "stylegan2"])
def generator(request: pytest.FixtureRequest) -> Generator:
    name = {"mobilestylegan": "mobile", "stylegan2": "small"}[request.param]
    found: Generator = request.getfixturevalue(name)
    return found


def rows_of(generator: Generator, count: int = 2) -> torch.Tensor:
    return generator.w_avg + 0.3 * arr("residual_rows", count, generator.rows, generator.width)


def test_every_map_has_the_channels_that_are_said(generator: Generator) -> None:
    ws = rows_of(generator, 1)
    for side, channels in generator.map_channels().items():
        assert generator.features(ws, side).shape == (1, channels, side, side)


@torch.no_grad()
def test_a_residual_of_zero_changes_nothing(generator: Generator) -> None:
    ws = rows_of(generator, 1)
    zero = {side: torch.zeros(1, c, side, side) for side, c in generator.map_channels().items()}
    assert torch.equal(generator.synthesize(ws, residuals=zero), generator.synthesize(ws))


@torch.no_grad()
def test_each_picture_takes_its_own_residual(generator: Generator) -> None:
    ws = rows_of(generator)
    residual = torch.stack(
        [torch.zeros(generator.map_channels()[16], 16, 16), arr("r", generator.map_channels()[16], 16, 16)]
    )
    changed, plain = generator.synthesize(ws, residuals={16: residual}), generator.synthesize(ws)
    assert relative_error(changed[0], plain[0]) < 1e-6
    assert relative_error(changed[1], plain[1]) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("size", [None, 16])
def test_maps_in_place_of_its_own_give_the_picture_that_they_are_of(generator: Generator, size: int | None) -> None:
    ws, channels = rows_of(generator), generator.map_channels()
    residuals = {side: arr(f"r{side}", 2, channels[side], side, side) for side in (8, 16)}
    maps = {side: generator.features(ws, side, residuals=residuals) for side in (4, 8, 16, 32) if side in channels}
    drawn = generator.draw(ws, maps, size)
    assert relative_error(drawn, generator.synthesize(ws, size, residuals=residuals)) < 1e-4
    assert relative_error(drawn, generator.synthesize(ws, size)) > 1e-2
    later = generator.through(ws, 16, lambda _, own: own, maps[8])
    assert relative_error(later + residuals[16], maps[16]) < 1e-5
    assert torch.equal(generator.draw(ws, {}, size), generator.synthesize(ws, size))
    with pytest.raises(ConfigError, match="16"):
        generator.draw(ws, {16: maps[8]}, size)


def test_residual_of_the_last_map_gives_the_picture_of_the_changed_map(mobile: Generator) -> None:
    one, other = rows_of(mobile).split(1)
    other = torch.cat([other[:, :-1], one[:, -1:]], 1)  # the last row colours the picture, above all maps
    with torch.no_grad():
        residual = mobile.features(other, 512) - mobile.features(one, 512)
        assert relative_error(mobile.synthesize(one, residuals={512: residual}), mobile.synthesize(other)) < 1e-5


@pytest.mark.parametrize("size", [256, 1024])
def test_strips_draw_residuals_as_whole_maps_do(mobile: Generator, size: int) -> None:
    ws = rows_of(mobile, 1)
    residuals = {side: arr(f"strip{side}", 1, mobile.map_channels()[side], side, side) * 0.2 for side in (4, 32, 64)}
    with torch.no_grad():
        strips = mobile.synthesize(ws, size, residuals=residuals)
    needs_graph = {side: residual.clone().requires_grad_() for side, residual in residuals.items()}
    whole = mobile.synthesize(ws, size, residuals=needs_graph)
    assert relative_error(strips, whole.detach()) < 1e-5


def test_gradients_reach_residuals_and_not_weights(generator: Generator) -> None:
    ws = rows_of(generator, 1)
    residual = torch.zeros(1, generator.map_channels()[16], 16, 16, requires_grad=True)
    size = 256 if isinstance(generator, MobileStyleGAN) else None
    generator.synthesize(ws, size, residuals={16: residual}).square().mean().backward()
    assert residual.grad is not None and bool((residual.grad != 0).any())
    assert all(weight.grad is None for weight in generator.parameters())


@pytest.mark.parametrize(
    "residual", [{7: (1, 8, 7, 7)}, {16: (1, 5, 16, 16)}, {16: (2, 6, 16, 16)}, {16: (1, 6, 8, 8)}]
)
def test_a_residual_that_does_not_fit_is_refused(small: Generator, residual: dict[int, tuple[int, ...]]) -> None:
    with pytest.raises(ConfigError):
        small.synthesize(rows_of(small, 1), residuals={side: torch.zeros(shape) for side, shape in residual.items()})


def test_stylegan3_has_no_maps_for_residuals() -> None:
    generator = StyleGAN3(GeneratorConfig(kind="stylegan3", size=16, width=16, mapping_layers=1))
    ws = torch.zeros(1, generator.rows, 16)
    with pytest.raises(ConfigError):
        generator.features(ws, 16)
    with pytest.raises(ConfigError):
        generator.synthesize(ws, residuals={16: torch.zeros(1, 8, 16, 16)})
