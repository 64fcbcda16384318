"""Similarity of general images: against the published network, and its gradients."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pixel2style.errors import ConfigError
from pixel2style.metrics.similarity import MoCo, Similarity
from tests.support.golden_rule import figures, img, relative_error, weights
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")

PHOTO = ASTRONAUT


@pytest.fixture(scope="module")
def moco() -> Similarity:
    with torch.device("meta"):
        network = MoCo()
    by_rule = {f"trunk.{key}": value for key, value in weights("moco_resnet50").items() if not key.startswith("fc.")}
    network.load_state_dict(by_rule, assign=True)
    return Similarity("moco", network)


@pytest.fixture(scope="module")
def alex() -> Similarity:
    return Similarity()


def part(left: int, top: int) -> Tensor:
    """A quarter of the photograph, ``[1 3 256 256]``."""
    with Image.open(PHOTO) as photo:
        side = photo.width // 2
        box = (left, top, left + side, top + side)
        pixels = np.array(photo.convert("RGB").crop(box).resize((256, 256), Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1


def test_moco_gives_the_published_features_loss_and_improvement(moco):
    y_hat, y, x = (img(name, 2, 3, 256, 256) for name in ("y_hat", "y", "x"))
    expected = figures("moco_resnet50")
    with torch.no_grad():
        target = moco.features(y)
        after, before = (moco.similarity(moco.features(other), target) for other in (y_hat, x))
    assert relative_error(target, expected["features"]) < 1e-5
    assert float((1 - after).mean()) == pytest.approx(float(expected["loss"]), abs=3e-7)
    assert float((after - before).mean()) == pytest.approx(float(expected["improvement"]), abs=3e-7)


def test_the_stand_in_tells_what_is_seen_from_how_it_is_lit(alex):
    face, suit = part(100, 0), part(100, 256)
    with torch.no_grad():
        target = alex.features(face)
        same, darker, other = (float(alex.similarity(alex.features(x), target)) for x in (face, face * 0.7 - 0.2, suit))
    assert same == pytest.approx(1, abs=1e-6)
    assert other < 0.7 < 0.85 < darker < same


def test_features_have_unit_length_and_are_compared_in_float32_whatever_the_network_computes_in(alex):
    pictures = img("y", 2, 3, 256, 256)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features = alex.features(pictures)
        cosine = alex.similarity(features, features)
    assert features.dtype == cosine.dtype == torch.float32
    assert features.shape == (2, 256)
    assert torch.allclose(cosine, torch.ones(2), atol=1e-6)


def test_pictures_get_gradients_and_the_network_gets_none(alex):
    picture = img("y", 1, 3, 256, 256).requires_grad_()
    alex(picture, img("x", 1, 3, 256, 256)).sum().backward()
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0
    assert not any(weight.requires_grad or weight.grad is not None for weight in alex.parameters())


def test_similarity_stays_in_eval_mode_inside_a_trained_module():
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(3 * 8 * 8))
    around = nn.ModuleDict({"metric": Similarity("other", network)}).train()
    around["metric"](img("y", 2, 3, 8, 8), img("x", 2, 3, 8, 8))
    assert not network[1].running_mean.any()


def test_an_unknown_name_without_a_network_is_refused():
    with pytest.raises(ConfigError, match=r"'alexnet' is not bundled: give alex, or the file of a MoCo-v2"):
        Similarity("alexnet")
