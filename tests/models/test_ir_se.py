"""The IR-SE trunk and the identity networks against the published ones."""

import json

import pytest
import torch
from torch.nn import functional

from pixel2style.models.backbones.ir_se import IRSE, ArcFace, CurricularFace
from tests.support.golden_rule import GOLDEN, arr, figures, img, relative_error, weights


def test_arcface_features_equal_the_published_networks():
    network = ArcFace().eval()
    network.load_state_dict(weights("arcface_ir_se50"))
    faces = functional.adaptive_avg_pool2d(img("y", 2, 3, 256, 256)[:, :, 35:223, 32:220], 112)
    with torch.no_grad():
        found = network(faces)
    assert relative_error(found, figures("arcface_ir_se50")["features"]) < 1e-4


def test_curricularface_features_equal_the_published_networks():
    network = CurricularFace().eval()
    network.load_state_dict(weights("curricularface_ir101"))
    with torch.no_grad():
        found = network(img("face", 2, 3, 112, 112))
    assert relative_error(found, figures("curricularface_ir101")["features"]) < 1e-4


def test_the_trunk_has_the_names_and_shapes_of_the_published_encoder():
    manifest = json.loads((GOLDEN / "psp_seg_256.manifest.json").read_text())
    heads = ("encoder.styles.", "encoder.latlayer", "decoder.")
    published = {key[8:]: tuple(how["shape"]) for key, how in manifest.items() if not key.startswith(heads)}
    ours = {key: tuple(value.shape) for key, value in IRSE(50, input_channels=19).state_dict().items()}
    assert ours == published


@pytest.mark.parametrize("channels", [1, 6, 19])
def test_taps_lie_at_strides_4_8_and_16_for_any_input_channels(channels):
    network = IRSE(50, channels).eval()
    with torch.no_grad():
        maps = network.taps(arr("picture", 1, channels, 64, 32))
    assert [tuple(tap.shape) for tap in maps] == [(1, 128, 16, 8), (1, 256, 8, 4), (1, 512, 4, 2)]
    assert tuple(tap.shape[1] for tap in maps) == network.tap_channels


@pytest.mark.parametrize(("depth", "units"), [(50, (6, 20, 23)), (100, (15, 45, 48))])
def test_a_tap_is_the_output_of_the_last_unit_of_its_stage(depth, units):
    network = IRSE(depth).eval()
    seen = {}
    for index, unit in enumerate(network.body):
        unit.register_forward_hook(lambda _module, _inputs, output, index=index: seen.update({index: output}))
    with torch.no_grad():
        maps = network.taps(arr("picture", 1, 3, 32, 32))
    assert len(seen) == units[-1] + 1
    assert all(tap is seen[unit] for tap, unit in zip(maps, units, strict=True))


def test_a_picture_is_encoded_alike_alone_and_in_a_batch():
    network = IRSE(50).eval()
    pictures = arr("pictures", 3, 3, 32, 32)
    with torch.no_grad():
        together = network.taps(pictures)[2]
        alone = network.taps(pictures[1:2])[2]
    assert relative_error(alone, together[1:2]) < 1e-5


def test_a_face_of_another_side_is_refused_before_it_is_folded():
    with pytest.raises(ValueError, match=r"\[b 3 112 112\], got \[4, 3, 256, 256\]"):
        ArcFace().eval()(torch.zeros(4, 3, 256, 256))


def test_a_depth_nobody_published_is_refused():
    with pytest.raises(ValueError, match="depth must be one of"):
        IRSE(34)
