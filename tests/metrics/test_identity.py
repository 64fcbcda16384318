"""Identity against the published network, its crop, and its gradients."""

import pytest
import torch

from pixel2style.errors import ConfigError
from pixel2style.metrics.identity import Identity, face_crop
from pixel2style.models.backbones.ir_se import ArcFace
from tests.support.golden_rule import arr, figures, img, relative_error, weights


@pytest.fixture(scope="module")
def identity():
    return Identity()


def test_identity_is_float32_under_bf16_and_nearly_the_same(identity, astronaut):
    other = (astronaut + 0.3 * arr("noise", 1, 3, 256, 256)).clamp(-1, 1)
    with torch.no_grad():
        expected = identity(other, astronaut)
        with torch.autocast("cpu", torch.bfloat16):
            found = identity(other, astronaut)
            features = identity.features(other)
    assert {feature.dtype for feature in (features if isinstance(features, list) else [features])} == {torch.float32}
    assert abs(float(found - expected)) < 0.01


def test_arcface_gives_the_published_identity_loss_and_improvement():
    network = ArcFace()
    network.load_state_dict(weights("arcface_ir_se50"))
    identity = Identity("arcface", network)
    y_hat, y, x = (img(name, 2, 3, 256, 256) for name in ("y_hat", "y", "x"))
    with torch.no_grad():
        target = identity.features(y)
        after, before = (identity.similarity(identity.features(other), target) for other in (y_hat, x))
    expected = figures("arcface_ir_se50")
    assert relative_error((1 - after).mean(), expected["loss"]) < 1e-4
    assert relative_error((after - before).mean(), expected["improvement"]) < 1e-3


def test_light_and_resolution_change_identity_less_than_turning_upside_down(identity, astronaut):
    with torch.no_grad():
        person = identity.features(astronaut)
        darker = identity.similarity(identity.features(astronaut * 0.6 - 0.3), person)
        smaller = identity.similarity(identity.features(torch.nn.functional.avg_pool2d(astronaut, 2)), person)
        upside_down = identity.similarity(identity.features(astronaut.flip(2)), person)
    assert float(darker) > 0.8
    assert float(smaller) > 0.8
    assert float(upside_down) < 0.5


def test_the_crop_depends_on_the_face_only():
    picture = img("y", 1, 3, 256, 256)
    framed = torch.full_like(picture, 7)
    framed[:, :, 35:223, 32:220] = picture[:, :, 35:223, 32:220]
    assert torch.equal(face_crop(framed), face_crop(picture))
    assert float(face_crop(picture).abs().max()) <= 1


def test_a_large_picture_is_cropped_as_its_reduction_to_256():
    picture = img("y", 1, 3, 256, 256)
    large = picture.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert relative_error(face_crop(large), face_crop(picture)) < 1e-6


@pytest.mark.parametrize("size", [64, 128, 192, 512])
def test_every_size_puts_the_face_in_the_same_place(size):
    ramp = torch.linspace(-1 + 1 / size, 1 - 1 / size, size)
    picture = ramp.view(1, 1, 1, size).expand(1, 3, size, size) + 2 * ramp.view(1, 1, size, 1)
    reference = torch.linspace(-1 + 1 / 256, 1 - 1 / 256, 256)
    expected = face_crop(reference.view(1, 1, 1, 256).expand(1, 3, 256, 256) + 2 * reference.view(1, 1, 256, 1))
    assert (face_crop(picture) - expected).abs().max() < 1e-4


def test_identity_stays_in_eval_mode_inside_a_trained_module():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(3 * 112 * 112))
    around = torch.nn.ModuleDict({"metric": Identity("other", network)}).train()
    picture = img("y", 2, 3, 64, 64).requires_grad_()
    around["metric"](picture, img("x", 2, 3, 64, 64)).sum().backward()
    assert not network[1].running_mean.any()
    assert network[1].weight.grad is None
    assert picture.grad.any()


def test_an_unknown_network_is_refused():
    with pytest.raises(ConfigError, match="arcface"):
        Identity("arcface")
