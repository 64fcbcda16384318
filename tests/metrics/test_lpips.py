"""LPIPS against the published distances, its gradients and its weights."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import convert_lpips
from pixel2style.errors import CheckpointError, ConfigError
from pixel2style.files import cache_folder
from pixel2style.metrics.lpips import LPIPS, NETS
from tests.support.golden_rule import GOLDEN, arr, figures, img, relative_error, weights

USERS_CACHE = cache_folder()
"""Read before the tests get a folder of their own."""


@pytest.fixture(scope="module")
def lpips():
    return LPIPS()


def _by_rule(net):
    trunk = {f"trunk.{key.split('.', 1)[1]}": value for key, value in weights(f"lpips_{net}_trunk").items()}
    with np.load(GOLDEN / "lpips_heads.npz") as heads:
        published = {key: torch.from_numpy(heads[key]) for key in heads.files}
    prefix = f"{net}."
    return trunk | {key.removeprefix(prefix): value for key, value in published.items() if key.startswith(prefix)}


def _distances(lpips):
    y, y_hat = img("y", 2, 3, 256, 256), img("y_hat", 2, 3, 256, 256)
    with torch.no_grad():
        target = lpips.features(y)
        return [lpips.distance(lpips.features(other), target) for other in (y_hat, y + 0.05 * y_hat)]


@pytest.mark.parametrize("net", ["alex", "squeeze", pytest.param("vgg", marks=pytest.mark.slow)])
def test_every_network_gives_the_published_distance(net):
    unlike, near = _distances(LPIPS(net, _by_rule(net)))
    expected = figures(f"lpips_{net}")
    assert relative_error(unlike, expected["distance"]) < 1e-5
    assert relative_error(near, expected["near"]) < 1e-4


def test_the_bundled_weights_give_the_published_distance_up_to_storage(lpips):
    unlike, near = _distances(lpips)
    expected = figures("lpips_published")
    assert relative_error(unlike, expected["alex"]) < 1e-4
    # 2.0e-3 is what fp16 storage costs between nearly equal pictures; with float32 weights it is 1e-7.
    assert relative_error(near, expected["alex_near"]) < 5e-3


@pytest.mark.slow
def test_the_published_vgg_gives_the_published_distance(monkeypatch):
    if not (USERS_CACHE / "lpips_vgg.safetensors").is_file():
        pytest.skip("VGG16 is not bundled: tools/convert_lpips.py writes it to the cache folder")
    monkeypatch.setenv("PIXEL2STYLE_CACHE", str(USERS_CACHE))
    unlike, near = _distances(LPIPS("vgg"))
    expected = figures("lpips_published")
    assert relative_error(unlike, expected["vgg"]) < 1e-3
    assert relative_error(near, expected["vgg_near"]) < 1e-3


def test_lpips_grows_with_the_damage_to_a_photograph(lpips, astronaut):
    noise = arr("noise", 1, 3, 256, 256)
    with torch.no_grad():
        distances = [float(lpips(astronaut + amount * noise, astronaut)) for amount in (0, 0.05, 0.2, 0.8)]
    assert distances[0] < 1e-6
    assert distances == sorted(set(distances))


def test_lpips_has_gradients_for_pictures_and_none_for_its_weights(lpips):
    picture = img("y", 1, 3, 64, 64).requires_grad_()
    lpips(picture, img("y_hat", 1, 3, 64, 64)).sum().backward()
    assert picture.grad.abs().sum() > 0
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in lpips.parameters())


def test_a_position_where_no_channel_answers_is_equal_and_has_a_finite_gradient():
    zero = {key: torch.full_like(value, float("heads" in key)) for key, value in LPIPS().state_dict().items()}
    dead = LPIPS("alex", zero)
    picture = img("y", 1, 3, 64, 64).requires_grad_()
    distance = dead(picture, img("y_hat", 1, 3, 64, 64))
    distance.sum().backward()
    assert distance.item() == 0
    assert picture.grad.isfinite().all()


def test_a_pair_has_the_same_distance_alone_and_in_a_batch(lpips):
    y, y_hat = img("y", 3, 3, 64, 64), img("y_hat", 3, 3, 64, 64)
    with torch.no_grad():
        assert relative_error(lpips(y[1:2], y_hat[1:2]), lpips(y, y_hat)[1:2]) < 1e-5


def test_lpips_is_float32_under_bf16_and_nearly_the_same(lpips, astronaut):
    other = (astronaut + 0.3 * arr("noise", 1, 3, 256, 256)).clamp(-1, 1)
    with torch.no_grad():
        expected = lpips(other, astronaut)
        with torch.autocast("cpu", torch.bfloat16):
            found = lpips(other, astronaut)
            features = lpips.features(other)
    assert {feature.dtype for feature in (features if isinstance(features, list) else [features])} == {torch.float32}
    assert abs(float(found - expected)) < 0.01


def test_the_memory_format_does_not_change_distances(lpips, astronaut):
    noisy = astronaut + 0.2 * arr("noise", 1, 3, 256, 256)
    with torch.no_grad():
        expected = lpips(noisy, astronaut)
        other = LPIPS().to(memory_format=torch.channels_last)
        found = other(noisy.contiguous(memory_format=torch.channels_last), astronaut)
    assert relative_error(found, expected) < 1e-5


def test_a_network_that_is_not_there_is_asked_for_by_its_command(tmp_path, monkeypatch):
    monkeypatch.setenv("PIXEL2STYLE_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"lpips_vgg\.safetensors is missing: .*convert_lpips\.py"):
        LPIPS("vgg")


def test_weights_are_found_in_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PIXEL2STYLE_CACHE", str(tmp_path))
    convert_lpips.save(_by_rule("squeeze"), tmp_path / "lpips_squeeze.safetensors")
    unlike, _ = _distances(LPIPS("squeeze"))
    assert relative_error(unlike, figures("lpips_squeeze")["distance"]) < 5e-3


def test_unknown_networks_and_foreign_weights_are_refused():
    with pytest.raises(ConfigError, match="alex, vgg, squeeze"):
        LPIPS("resnet")
    with pytest.raises(CheckpointError, match=r"trunk\.0\.weight"):
        LPIPS("vgg", LPIPS().state_dict())


def test_a_pickle_that_runs_a_command_is_refused_and_runs_nothing(tmp_path):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    with pytest.raises(pickle.UnpicklingError):
        convert_lpips.read_flax(pickle.dumps({"AlexNet_0": Hostile()}), "alex")
    assert not (tmp_path / "ran").exists()


def test_arrays_are_read_from_a_pickle_without_running_its_names():
    layers, taps = NETS["alex"]
    convolutions = [layer for layer in layers() if isinstance(layer, torch.nn.Conv2d)]
    tree = {
        f"Conv_{number}": {
            "kernel": layer.weight.detach().permute(2, 3, 1, 0).numpy(),
            "bias": layer.bias.detach().numpy(),
        }
        for number, layer in enumerate(convolutions)
    }
    heads = {
        f"NetLinLayer_{level}": {"Conv_0": {"kernel": np.ones((1, 1, width, 1), "f4")}}
        for level, width in enumerate(taps.values())
    }
    found = convert_lpips.read_flax(pickle.dumps({"AlexNet_0": tree, **heads}, protocol=3), "alex")
    assert found.keys() == LPIPS().state_dict().keys()
    assert torch.equal(found["trunk.3.weight"], convolutions[1].weight)
