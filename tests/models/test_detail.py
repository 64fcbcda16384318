"""The detail encoder and inversions with features, on a small StyleGAN2."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import pixel2style as p2s
from pixel2style import images
from pixel2style.config import DetailConfig, EncoderConfig, GeneratorConfig, ModelConfig
from pixel2style.generators import StyleGAN2
from pixel2style.models import encoders
from pixel2style.models.detail import DetailEncoder, scaled
from tests.support.golden_rule import img
from tests.support.paths import ASTRONAUT

SHAPE = DetailConfig(side=8, channels=(8, 6), width=16, units=1, fine_width=8, fine_units=1)


def model_with(detail: DetailEncoder | None) -> "p2s.PSP":
    torch.manual_seed(0)
    generator = StyleGAN2(GeneratorConfig(size=32, width=16, mapping_layers=1, channels=(8, 8, 6, 4)))
    encoder = EncoderConfig(kind="single_w", trunk="mobilefacenet", input_size=32, rows=generator.rows, width=16)
    config = ModelConfig(encoder, generator.config, detail=None if detail is None else detail.config)
    return p2s.PSP(encoders.build(encoder), generator, config, torch.randn(16), detail=detail).eval()


def trained(config: DetailConfig) -> DetailEncoder:
    """Whose last layers are no longer zero."""
    torch.manual_seed(1)
    detail = DetailEncoder(config)
    for name in ("coarse", "fine")[: 2 if config.fine_width else 1]:
        torch.nn.init.normal_(getattr(detail, name).weight, std=0.1)
    return detail


def test_an_untrained_network_changes_nothing() -> None:
    model = model_with(DetailEncoder(SHAPE))
    inversion = model.invert(img("photo", 2, 3, 40, 40))
    assert all(not residual.any() for residual in inversion.features.values())
    assert torch.equal(model.decode(inversion.ws, features=inversion.features), model.decode(inversion.ws))


@pytest.mark.parametrize("fine_width", [0, 8])
def test_features_have_the_shapes_of_the_generators_maps(fine_width: int) -> None:
    config = DetailConfig(side=8, channels=(8, 6), width=16, units=1, fine_width=fine_width)
    inversion = model_with(trained(config)).invert(img("photo", 2, 3, 40, 40))
    wanted = {8: (2, 8, 8, 8), 16: (2, 6, 16, 16)}
    assert {side: tuple(f.shape) for side, f in inversion.features.items()} == dict(
        list(wanted.items())[: 1 + bool(fine_width)]
    )


def test_rows_are_those_of_encode_and_features_change_the_picture() -> None:
    model, photo = model_with(trained(SHAPE)), img("photo", 1, 3, 40, 40)
    inversion = model.invert(photo)
    assert torch.equal(inversion.ws, model.encode(photo))
    plain = model.decode(inversion.ws)
    assert not torch.allclose(model.decode(inversion.ws, features=inversion.features), plain, atol=1e-3)
    assert torch.equal(model.decode(inversion.ws, features=scaled(inversion.features, 0)), plain)


def test_a_model_without_a_detail_encoder_inverts_to_rows_alone() -> None:
    model, photo = model_with(None), img("photo", 1, 3, 40, 40)
    assert model.invert(photo).features == {}


def test_a_detail_encoder_of_another_generator_is_refused() -> None:
    with pytest.raises(ValueError, match="maps"):
        model_with(DetailEncoder(DetailConfig(side=8, channels=(8, 8), width=16, units=1)))


def test_a_photograph_equal_to_its_reconstruction_differs_from_another_one() -> None:
    """The network reads the difference: a photograph and its negative give other residuals for the same rows."""
    model, photo = model_with(trained(SHAPE)), img("photo", 1, 3, 64, 64)
    ws = model.encode(photo)
    one, other = model.with_detail(photo, ws), model.with_detail(-photo, ws)
    assert not torch.allclose(one.features[8], other.features[8], atol=1e-3)


def test_a_larger_photograph_is_shown_as_a_picture_of_training_is() -> None:
    model, photo = model_with(trained(SHAPE)), images.load(ASTRONAUT).resize((256, 256))
    ws, whole = model.encode(images.to_tensor(photo)[None]), images.to_tensor(photo)[None]
    side = model.detail.input_size  # type: ignore[union-attr]
    wanted, soft = (
        model.with_detail(images.to_tensor(photo.resize((side, side), method))[None], ws).features[8]
        for method in (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)
    )
    error, other = ((model.with_detail(whole, ws).features[8] - one).abs().mean() for one in (wanted, soft))
    assert error < 0.1 * other


def test_a_model_with_a_detail_encoder_is_stored_and_read_whole(tmp_path: Path) -> None:
    model, photo = model_with(trained(SHAPE)), img("photo", 1, 3, 64, 64)
    p2s.save(model, tmp_path / "model.safetensors")
    found, wanted = p2s.load(tmp_path / "model.safetensors").invert(photo), model.invert(photo)
    assert torch.equal(found.ws, wanted.ws)
    assert all(torch.equal(found.features[side], wanted.features[side]) for side in (8, 16))
