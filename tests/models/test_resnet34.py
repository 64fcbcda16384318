"""The ResNet-34 trunk: torchvision's weights, names and folded normalisation."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from pixel2style import images
from pixel2style.checkpoints import foreign
from pixel2style.config import EncoderConfig
from pixel2style.errors import CheckpointError
from pixel2style.models import encoders, input_channels
from pixel2style.models.backbones import resnet34
from pixel2style.models.backbones.resnet34 import ResNet34
from pixel2style.training import setup
from tests.support.golden_rule import GOLDEN, arr, img, relative_error
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")

FACE = ASTRONAUT


def torchvision_state() -> dict[str, Tensor]:
    """A ResNet-34 as torchvision's files hold it; the published ones have these names and shapes."""
    manifest = json.loads((GOLDEN / "restyle_resnet_256.manifest.json").read_text())
    state = {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    starts = [0, 3, 7, 13, 16]
    for key, how in manifest.items():
        name = key.removeprefix("encoder.")
        if name == key or name.startswith(("styles.", "relu.")):
            continue
        if name.startswith("body."):
            block = int(name.split(".")[1])
            stage = max(n for n in range(4) if starts[n] <= block)
            name = f"layer{stage + 1}.{block - starts[stage]}.{name.split('.', 2)[2]}"
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
            continue
        shape = [64, 3, 7, 7] if name == "conv1.weight" else how["shape"]
        spread = arr(name, *shape, scale=0.1 if name.endswith(("bias", "mean")) else how["std"])
        state[name] = spread.abs() + 0.5 if name.endswith(("running_var", "bn1.weight", "bn2.weight")) else spread
    return state


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return torchvision_state()


@pytest.fixture(scope="module")
def trunk(state: dict[str, Tensor]) -> ResNet34:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foreign, "_read", lambda path, *_: (state, {}))
        return foreign.load_resnet("resnet34.pth")


def photograph() -> Tensor:
    return images.to_tensor(images.load(FACE).resize((128, 128)))[None]


def test_the_trunk_has_the_names_and_shapes_of_the_published_encoder() -> None:
    manifest = json.loads((GOLDEN / "restyle_resnet_256.manifest.json").read_text())
    heads = ("encoder.styles.", "decoder.")
    published = {key[8:]: tuple(how["shape"]) for key, how in manifest.items() if not key.startswith(heads)}
    ours = {key: tuple(value.shape) for key, value in ResNet34(6).state_dict().items()}
    assert ours == published


@torch.no_grad()
def test_taps_lie_at_strides_4_8_and_16(trunk: ResNet34) -> None:
    shapes = [tuple(tap.shape[1:]) for tap in trunk.taps(img("x", 1, 3, 64, 64))]
    assert shapes == [(128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_recomputed_maps_give_the_same_gradients() -> None:
    torch.manual_seed(0)
    network, pictures = ResNet34().train(), img("x", 2, 3, 32, 32)
    found = []
    for again in (False, True):
        network.recompute = again
        network.zero_grad()
        sum(tap.square().sum() for tap in network.taps(pictures)).backward()
        found.append([parameter.grad.clone() for parameter in network.parameters()])
    assert all(relative_error(one, two) < 1e-5 for one, two in zip(*found, strict=True))


@torch.no_grad()
def test_folded_normalization_gives_the_same_features(trunk: ResNet34, state: dict[str, Tensor]) -> None:
    photo = photograph()
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (resnet34.MEAN, resnet34.DEVIATION))
    normalized = ((photo + 1) / 2 - mean) / deviation
    first = functional.conv2d(normalized, state["conv1.weight"], stride=2, padding=3)
    norm = [state[f"bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    expected = functional.relu(functional.batch_norm(first, *norm))
    found = trunk.relu(trunk.bn1(trunk.conv1(photo)))
    inside = (..., slice(2, -2), slice(2, -2))  # beyond, pixels that are not there are gray here and mean there
    assert relative_error(found[inside], expected[inside]) < 1e-5
    unlike = functional.relu(functional.batch_norm(functional.conv2d(photo, state["conv1.weight"], None, 2, 3), *norm))
    assert relative_error(unlike[inside], expected[inside]) > 0.1


@pytest.mark.parametrize("form", ["plain", "wrapped", "safetensors"])
def test_torchvisions_file_is_found_however_it_was_saved(
    form: str, state: dict[str, Tensor], trunk: ResNet34, tmp_path: Path
) -> None:
    file = tmp_path / ("resnet34.safetensors" if form == "safetensors" else "resnet34.pth")
    if form == "safetensors":
        save_file(state, file, {"format": "pt"})
    elif form == "wrapped":
        torch.save({"epoch": 90, "state_dict": {f"module.{key}": value for key, value in state.items()}}, file)
    else:
        torch.save(state, file)
    loaded = foreign.load_resnet(file)
    assert all(torch.equal(value, trunk.state_dict()[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda state: {key: v for key, v in state.items() if "layer4.2" not in key}, "10 missing"),
        (lambda state: {**state, "layer3.22.conv1.weight": torch.zeros(1)}, r"1 not part of it \(layer3\.22\.conv1"),
        (lambda state: {**state, "layer4.2.conv3.weight": torch.zeros(1)}, "is a ResNet-50, as MoCo's, not a ResNet"),
        (lambda state: {"input_layer.0.weight": 0, "output_layer.3.weight": 0}, "CurricularFace network, not a ResNet"),
        (lambda state: {"classifier.1.weight": torch.zeros(1)}, "holds no network known here"),
    ],
    ids=["shallower", "deeper", "bottlenecks", "faces", "another"],
)
def test_another_network_is_no_start(change, error, state, monkeypatch) -> None:
    monkeypatch.setattr(foreign, "_read", lambda path, *_: (change(state), {}))
    with pytest.raises(CheckpointError, match=error) as caught:
        foreign.load_resnet("other.pth")
    assert str(caught.value).isprintable()


# Starting from it


def begun(channels: int, kind: str, trunk: str, load: str, network: torch.nn.Module) -> encoders.Encoder:
    shape = EncoderConfig(
        kind=kind, trunk=trunk, input_channels=channels, input_size=32, rows=4, width=16, pyramid_width=512
    )
    encoder = encoders.build(shape).eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(setup.TRUNKS, trunk, lambda path: network)
        setup.load_trunk(encoder, load)
    return encoder


@torch.no_grad()
def test_what_it_has_never_seen_changes_nothing_at_first(trunk: ResNet34) -> None:
    encoder = begun(6, "top", "resnet34", "resnet34.pth", trunk)
    photo, drawn = photograph(), img("drawn", 1, 3, 128, 128)
    for mine, known in zip(encoder.trunk.taps(torch.cat([photo, drawn], 1)), trunk.taps(photo), strict=True):
        assert relative_error(mine, known) < 1e-5


@torch.no_grad()
def test_gray_is_read_as_a_gray_photograph_by_a_trunk_without_a_bias(trunk: ResNet34) -> None:
    before = begun(3, "top", "resnet34", "resnet34.pth", trunk)
    shape = {name: getattr(before.config, name) for name in before.config.__dataclass_fields__}
    after = input_channels.adapt(before, EncoderConfig(**{**shape, "input_channels": 1}), classes=False).eval()
    gray = (photograph().mean(1, keepdim=True) + 1) / 2
    found = [encoder.trunk for encoder in (after, before)]
    firsts = [t.bn1(t.conv1(x)) for t, x in zip(found, (gray, (2 * gray - 1).expand(-1, 3, -1, -1)), strict=True)]
    inside = (..., slice(2, -2), slice(2, -2))
    assert relative_error(firsts[0][inside], firsts[1][inside]) < 1e-5
