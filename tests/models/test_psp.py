"""From an image to rows: sizes, the average, and feedback."""

import inspect

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pixel2style.config import EncoderConfig, GeneratorConfig, ModelConfig
from pixel2style.errors import ConfigError
from pixel2style.generators.base import NO_RESIDUALS, Residuals
from pixel2style.models import encoders
from pixel2style.models.psp import PSP
from tests.support.golden_rule import arr, img, relative_error

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS, WIDTH, SIDE = 6, 32, 64


class Painter(nn.Module):
    """A generator of one layer: it paints 4x4 blocks, each row its share."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config, self.size, self.width = config, config.size, config.width
        self.rows = 2 * (config.size.bit_length() - 1) - 2
        self.weight = nn.Parameter(torch.randn(self.rows, self.width, 48) / self.width)

    def synthesize(self, ws: Tensor, size: int | None = None, *, residuals: Residuals = NO_RESIDUALS) -> Tensor:
        blocks = torch.einsum("bkd,kdp->bp", ws, self.weight).reshape(-1, 3, 4, 4)
        whole = functional.interpolate(blocks, size=self.size, mode="bilinear")
        return functional.adaptive_avg_pool2d(whole, size or self.size)


def tiny(
    channels: int = 3,
    size: int = 16,
    w_avg: Tensor | None = None,
    w_unit: Tensor | None = None,
    height: int = 0,
    **changes: object,
) -> PSP:
    torch.manual_seed(0)
    generator = Painter(GeneratorConfig(size=size, width=WIDTH))
    config = ModelConfig(
        EncoderConfig(
            kind="single_w",
            trunk="mobilefacenet",
            input_channels=channels,
            input_size=SIDE,
            input_height=height,
            rows=generator.rows,
            width=WIDTH,
        ),
        generator.config,
        **changes,
    )
    w_avg = arr("average", WIDTH, scale=0.3) if w_avg is None else w_avg
    return PSP(encoders.build(config.encoder), generator, config, w_avg, w_unit).eval()


@torch.no_grad()
def test_pictures_of_any_size_are_resized_and_never_folded_into_the_batch():
    model = tiny()
    pictures = img("pictures", 2, 3, 128, 128)
    assert model.encode(pictures).shape == (2, ROWS, WIDTH)
    resized = functional.interpolate(pictures, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
    assert torch.equal(model.encode(pictures), model.encode(resized))
    assert model.encode(pictures[..., :40, :90]).shape == (2, ROWS, WIDTH)
    assert model.encode(pictures[..., :16, :16]).shape == (2, ROWS, WIDTH)


@pytest.mark.parametrize("shape", [(2, 4, 64, 64), (2, 1, 64, 64), (3, 64, 64), (1, 2, 3, 64, 64)])
def test_pictures_of_other_channels_are_refused_in_a_sentence(shape):
    with pytest.raises(ConfigError, match=r"expected images \[b 3 h w\], got \["):
        tiny().encode(torch.zeros(shape))


@torch.no_grad()
def test_the_average_is_added_once_and_only_where_it_belongs():
    picture = img("picture", 2, 3, SIDE, SIDE)
    with_average, without = tiny(), tiny(add_average=False)
    codes = without.encoder(picture)
    assert torch.equal(without.encode(picture), codes)
    assert torch.allclose(with_average.encode(picture), codes + arr("average", WIDTH, scale=0.3), atol=1e-6)


@torch.no_grad()
def test_codes_are_counted_in_their_unit_before_the_average():
    picture, unit = img("picture", 1, 3, SIDE, SIDE), arr("unit", WIDTH).abs()
    plain, scaled = tiny(), tiny(w_unit=unit)
    assert torch.allclose(
        scaled.encode(picture) - scaled.w_avg, (plain.encode(picture) - plain.w_avg) * unit, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(WIDTH,), (1, WIDTH), (ROWS, WIDTH)])
def test_an_average_of_any_published_shape_becomes_rows(shape):
    given = arr("given", *shape)
    model = tiny(w_avg=given)
    assert torch.equal(model.w_avg, given.expand(ROWS, WIDTH))


def test_an_encoder_for_another_generator_is_refused():
    model = tiny()
    with pytest.raises(ValueError, match="writes 6 rows of 32, the generator reads 4 of 32"):
        PSP(model.encoder, tiny(size=8).generator, model.config, torch.zeros(WIDTH))


def test_encode_and_decode_have_no_modes():
    assert list(inspect.signature(PSP.encode).parameters) == ["self", "images", "iterations"]
    assert list(inspect.signature(PSP.decode).parameters) == ["self", "ws", "size", "features"]


@torch.no_grad()
def test_decoding_is_deterministic_and_leaves_the_generator_as_it_was():
    model = tiny()
    ws = model.encode(img("picture", 2, 3, SIDE, SIDE))
    before = {name: value.clone() for name, value in model.generator.state_dict().items()}
    assert torch.equal(model.decode(ws), model.decode(ws))
    assert torch.equal(model.decode(ws), model.generator.synthesize(ws))
    assert all(torch.equal(value, before[name]) for name, value in model.generator.state_dict().items())


def test_gradients_reach_the_encoder_and_never_the_generator():
    model = tiny(channels=6, feedback=True, iterations=2)
    model.decode(model.encode(img("picture", 1, 3, SIDE, SIDE))).square().mean().backward()
    assert model.encoder.linear.weight.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in model.generator.parameters())


class Notebook(nn.Module):
    """An encoder that writes down what it is shown and answers with a fixed code."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config, self.shown = config, []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images)
        return torch.full((len(images), self.config.rows, self.config.width), 0.1 * len(self.shown))


@pytest.mark.parametrize("size", [16, 64, 128])
@torch.no_grad()
def test_the_second_iteration_gets_the_image_of_the_first(size):
    """At every size of the generator: below, at and above the encoder's input."""
    model = tiny(channels=6, size=size, feedback=True, iterations=2)
    model.encoder = Notebook(model.encoder.config)
    pictures = img("pictures", 2, 3, SIDE, SIDE)
    ws = model.encode(pictures)
    first, second = model.encoder.shown
    assert torch.equal(first[:, :3], pictures)
    assert torch.equal(second[:, :3], pictures)
    side = min(size, SIDE)

    def drawn(rows: Tensor) -> Tensor:
        whole = functional.adaptive_avg_pool2d(model.generator.synthesize(rows), side)
        return functional.interpolate(whole, size=SIDE, mode="bilinear", align_corners=False)

    average = model.w_avg[None].expand(2, -1, -1)
    assert relative_error(first[:, 3:], drawn(average)) < 1e-5
    assert relative_error(second[:, 3:], drawn(average + 0.1)) < 1e-5
    assert torch.allclose(ws, average + 0.3, atol=1e-6)


@pytest.mark.parametrize("size", [16, 64, 128])
@torch.no_grad()
def test_an_encoder_of_wide_images_gets_the_middle_of_generated_ones(size):
    model = tiny(channels=6, size=size, height=48, feedback=True, iterations=2)
    model.encoder = Notebook(model.encoder.config)
    pictures = img("pictures", 2, 3, 96, 128)
    ws = model.encode(pictures)
    first, second = model.encoder.shown
    assert first.shape == second.shape == (2, 6, 48, 64)
    resized = functional.interpolate(pictures, size=(48, 64), mode="bilinear", align_corners=False, antialias=True)
    assert torch.equal(first[:, :3], resized)
    assert torch.equal(second[:, :3], resized)
    square = tiny(channels=6, size=size, feedback=True, iterations=2)
    average = model.w_avg[None].expand(2, -1, -1)
    # the average is drawn once for both: processors round another batch differently
    torch.testing.assert_close(first[:, 3:], square.redraw(average)[:, :, 8:56], rtol=0, atol=1e-5)
    torch.testing.assert_close(second[:, 3:], square.redraw(average + 0.1)[:, :, 8:56], rtol=0, atol=1e-5)
    assert torch.equal(model.average_image(), square.average_image()[:, :, 8:56])
    assert torch.equal(model.decode(ws), square.decode(ws))


@torch.no_grad()
def test_square_pictures_are_framed_as_they_are_and_wide_ones_by_their_middle():
    for size in (16, 64, 1024):
        drawn = img("drawn", 1, 3, size, size)
        assert tiny().framed(drawn) is drawn
        assert torch.equal(tiny(height=48).framed(drawn), drawn[:, :, size // 8 : size - size // 8])


@torch.no_grad()
def test_two_iterations_differ_from_one_and_are_the_configurations_default():
    model = tiny(channels=6, feedback=True, iterations=2)
    pictures = img("pictures", 2, 3, SIDE, SIDE)
    once, twice = model.encode(pictures, iterations=1), model.encode(pictures, iterations=2)
    assert not torch.allclose(once, twice)
    assert torch.equal(model.encode(pictures), twice)
    for count in (0, -1, 1.5):
        with pytest.raises(ConfigError, match="at least 1"):
            model.encode(pictures, iterations=count)


def test_a_call_without_gradients_does_not_change_later_gradients():
    model = tiny(channels=6, feedback=True, iterations=1)
    pictures = img("pictures", 1, 3, SIDE, SIDE)
    with torch.inference_mode():
        model.encode(pictures)
    model.encode(pictures).sum().backward()
    assert model.encoder.linear.weight.grad is not None


def test_channels_of_feedback_are_not_the_users_to_give():
    assert tiny(channels=6, feedback=True).source_channels == 3
    assert tiny(channels=22, feedback=True).source_channels == 19
    with pytest.raises(ConfigError, match=r"\[b 3 h w\]"):
        tiny(channels=6, feedback=True).encode(torch.zeros(1, 6, SIDE, SIDE))
    with pytest.raises(ValueError, match="three more input channels"):
        tiny(channels=3, feedback=True)


@torch.no_grad()
def test_a_first_call_in_bfloat16_does_not_change_later_ones():
    model, fresh = (tiny(channels=6, feedback=True) for _ in range(2))
    pictures = img("pictures", 1, 3, SIDE, SIDE)
    with torch.autocast("cpu", torch.bfloat16):
        model.encode(pictures)
    assert torch.equal(model.encode(pictures), fresh.encode(pictures))
