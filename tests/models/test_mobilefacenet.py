"""MobileFaceNet: the bundled weights against the published network, and its use as a trunk."""

import pytest
import torch

from pixel2style import assets
from pixel2style.errors import CheckpointError
from pixel2style.models.backbones import mobilefacenet
from pixel2style.models.backbones.mobilefacenet import MobileFaceNet, SamePadConv
from pixel2style.models.input_channels import load_trunk
from tests.support.golden_rule import arr, figures, img, relative_error


@pytest.mark.parametrize("runtime", ["features", "tflite"])
def test_the_bundled_network_gives_the_published_vectors_up_to_storage(runtime):
    with torch.no_grad():
        found = mobilefacenet.pretrained()(img("face", 2, 3, 112, 112))
    # 3.0e-3 is what fp16 storage costs (the card says so); with float32 weights it is 2e-6.
    assert relative_error(found, figures("mobilefacenet")[runtime]) < 5e-3


def test_an_even_picture_is_padded_on_its_far_edges_only():
    convolution = SamePadConv(1, 1, stride=2)
    with torch.no_grad():
        convolution.weight.copy_(torch.arange(9.0).view(1, 1, 3, 3))
        convolution.bias.zero_()
        corner = torch.zeros(1, 1, 6, 6)
        corner[..., 0, 0] = 1
        seen = convolution(corner)
        # The near corner meets the kernel's first weight, 0; with symmetric padding it would meet the centre, 4.
        assert seen.shape == (1, 1, 3, 3) and not seen.any()
        assert convolution(corner.flip(2, 3))[0, 0].tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 4]]


def test_taps_lie_at_strides_4_8_and_16_of_any_multiple_of_16():
    network = mobilefacenet.pretrained(embed=False)
    with torch.no_grad():
        maps = network.taps(arr("picture", 1, 3, 160, 96))
    assert [tuple(tap.shape) for tap in maps] == [(1, 64, 40, 24), (1, 128, 20, 12), (1, 128, 10, 6)]
    assert tuple(tap.shape[1] for tap in maps) == network.tap_channels


def test_a_trunk_without_embedding_has_the_same_taps():
    picture = arr("picture", 1, 3, 112, 112)
    with torch.no_grad():
        whole = mobilefacenet.pretrained().taps(picture)
        trunk = mobilefacenet.pretrained(embed=False).taps(picture)
    assert all(torch.equal(a, b) for a, b in zip(whole, trunk, strict=True))


def test_extra_input_channels_change_nothing_before_training():
    narrow, wide = mobilefacenet.pretrained(embed=False), MobileFaceNet(6, embed=False)
    load_trunk(wide, narrow.state_dict())
    picture = img("picture", 1, 3, 64, 64)
    maps = wide.taps(torch.cat([picture, img("other", 1, 3, 64, 64)], 1))
    assert all(relative_error(a, b) < 1e-5 for a, b in zip(maps, narrow.taps(picture), strict=True))
    maps[2].square().mean().backward()
    assert wide.stem[0].weight.grad[:, 3:].abs().sum() > 0


def test_every_weight_of_a_trunk_gets_a_gradient():
    network = mobilefacenet.pretrained(embed=False)
    sum(tap.square().mean() for tap in network.taps(img("picture", 1, 3, 64, 64))).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_a_face_of_another_size_is_refused():
    with pytest.raises(ValueError, match="112x112"):
        MobileFaceNet()(torch.zeros(1, 3, 128, 128))
    with pytest.raises(ValueError, match="multiples of 16"):
        MobileFaceNet(embed=False).taps(torch.zeros(1, 3, 120, 128))


def test_a_trunk_has_no_vectors():
    with pytest.raises(ValueError, match="embed=False"):
        MobileFaceNet(embed=False)(torch.zeros(1, 3, 112, 112))


def test_weights_of_another_network_are_refused_by_name():
    with pytest.raises(CheckpointError, match="Missing key"):
        MobileFaceNet().load({})
    tensors = assets.read("mobilefacenet") | {"extra": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="extra"):
        MobileFaceNet(embed=False).load(tensors)
