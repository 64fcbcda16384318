"""Every encoder with every trunk, and which rows depend on what."""

import pytest
import torch

from pixel2style.config import EncoderConfig
from pixel2style.models import encoders
from pixel2style.models.backbones import mobilefacenet
from pixel2style.models.encoders import Neck
from pixel2style.models.input_channels import load_trunk
from tests.support.golden_rule import arr, relative_error

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = [
    ("pyramid", "separate"), ("pyramid", "shared"), ("single_w", "separate"), ("last_layer", "separate"),
    ("e4e", "separate"), ("e4e", "shared"), ("top", "separate"), ("top", "shared"), ("top_e4e", "separate"),
]  # fmt: skip
PUBLISHED = [("pyramid", "separate", "ir_se50"), ("pyramid", "separate", "resnet34"), ("top", "separate", "resnet34")]
SMALL = {"input_size": 64, "rows": 10, "width": 32, "pyramid_width": 32, "tower_width": 32, "head_width": 16}


def small(**changes: object) -> encoders.Encoder:
    torch.manual_seed(0)
    return encoders.build(EncoderConfig(**{**SMALL, "trunk": "mobilefacenet", "heads": "shared", **changes})).eval()


@torch.no_grad()
@pytest.mark.parametrize(("kind", "heads", "trunk"), [*((*how, "mobilefacenet") for how in KINDS), *PUBLISHED])
def test_every_kind_gives_rows_for_each_picture_alone(kind, heads, trunk):
    encoder = small(kind=kind, trunk=trunk, heads=heads)
    pictures = arr("pictures", 2, 3, 64, 64)
    together = encoder(pictures)
    assert together.shape == (2, 10, 32)
    assert torch.isfinite(together).all()
    assert relative_error(encoder(pictures[1:]), together[1:]) < 1e-5
    assert not torch.allclose(together[0], together[1])


@pytest.mark.parametrize("trunk", ["ir_se50", "resnet34", "mobilefacenet"])
def test_rows_are_the_same_with_gradients_and_without(trunk):
    encoder, pictures = small(trunk=trunk), arr("pictures", 2, 3, 64, 64)
    with torch.no_grad():
        without = encoder(pictures)
    assert relative_error(without, encoder(pictures).detach()) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize(("trunk", "channels"), [("ir_se50", 6), ("resnet34", 1), ("mobilefacenet", 19)])
def test_rows_depend_on_every_input_channel(trunk, channels):
    encoder = small(trunk=trunk, input_channels=channels)
    picture = arr("picture", 1, channels, 64, 64)
    before = encoder(picture)
    for channel in {0, channels - 1}:
        changed = picture.clone()
        changed[:, channel] = 0
        assert not torch.allclose(encoder(changed), before)


@torch.no_grad()
@pytest.mark.parametrize(("rows", "heads"), [(4, 2), (6, 2), (7, 2), (8, 3), (16, 3)])
def test_shared_heads_exist_only_for_levels_that_have_rows(rows, heads):
    encoder = small(rows=rows)
    assert len(encoder.heads) == heads
    assert encoder(arr("picture", 1, 3, 64, 64)).shape == (1, rows, 32)


@torch.no_grad()
def test_every_row_of_separate_heads_is_independent():
    encoder = small(heads="separate")
    picture = arr("picture", 1, 3, 64, 64)
    before = encoder(picture)
    for row, head in enumerate(encoder.heads):
        head.linear.bias += 1
        changed = (encoder(picture) - before).abs().amax((0, 2)) > 1e-3
        assert changed.tolist() == [i == row for i in range(10)]
        head.linear.bias -= 1


@torch.no_grad()
@pytest.mark.parametrize("heads", ["separate", "shared"])
def test_rows_are_read_off_their_levels_coarse_first(heads):
    encoder = small(heads=heads)
    picture = arr("picture", 1, 3, 64, 64)
    before = encoder(picture)
    encoder.pyramid.fine.bias += 1
    assert ((encoder(picture) - before).abs().amax((0, 2)) > 0).tolist() == [False] * 7 + [True] * 3
    encoder.pyramid.fine.bias -= 1
    encoder.pyramid.middle.bias += 1
    assert ((encoder(picture) - before).abs().amax((0, 2)) > 0).tolist() == [False] * 3 + [True] * 7


@torch.no_grad()
@pytest.mark.parametrize("kind", ["top", "top_e4e"])
def test_rows_of_top_encoders_do_not_depend_on_finer_maps(kind):
    encoder = small(kind=kind, heads="separate")
    fine, middle, coarse = encoder.levels(arr("picture", 1, 3, 64, 64))
    before = encoder(arr("picture", 1, 3, 64, 64))
    encoder.levels = lambda images: (fine + 1, middle + 1, coarse)
    assert torch.equal(encoder(arr("picture", 1, 3, 64, 64)), before)
    encoder.levels = lambda images: (fine, middle, coarse + 1)
    assert not torch.allclose(encoder(arr("picture", 1, 3, 64, 64)), before)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["e4e", "top_e4e"])
@pytest.mark.parametrize("stage", [0, 1, 5, 9])
def test_a_row_beyond_the_stage_is_the_first_row(kind, stage):
    encoder, picture = small(kind=kind, heads="separate"), arr("picture", 2, 3, 64, 64)
    whole = encoder(picture)
    encoder.deltas.stage = stage
    rows = encoder(picture)
    assert torch.equal(rows[:, : stage + 1], whole[:, : stage + 1])
    assert torch.equal(rows[:, stage + 1 :], rows[:, :1].expand_as(rows[:, stage + 1 :]))
    assert stage == 9 or not torch.allclose(rows, whole)


@torch.no_grad()
@pytest.mark.parametrize(("kind", "alike"), [("e4e", "pyramid"), ("top_e4e", "top")])
def test_deltas_are_the_same_network_read_otherwise(kind, alike):
    encoder, other, picture = small(kind=kind), small(kind=alike), arr("picture", 2, 3, 64, 64)
    other.load_state_dict(encoder.state_dict())
    codes = other(picture)
    assert torch.equal(encoder(picture), torch.cat([codes[:, :1], codes[:, :1] + codes[:, 1:]], 1))


@torch.no_grad()
def test_a_single_w_is_the_same_for_every_row():
    rows = small(kind="single_w")(arr("picture", 1, 3, 64, 64))
    assert torch.equal(rows, rows[:, :1].expand_as(rows))


@torch.no_grad()
def test_three_more_channels_change_nothing_at_the_start():
    face = mobilefacenet.pretrained(embed=False).state_dict()
    three, six = small(), small(input_channels=6)
    six.load_state_dict({k: v for k, v in three.state_dict().items() if k != "trunk.stem.0.weight"}, strict=False)
    for encoder in (three, six):
        load_trunk(encoder.trunk, face)
    pictures, drawn = arr("pictures", 2, 3, 64, 64), arr("drawn", 2, 3, 64, 64)
    assert relative_error(six(torch.cat([pictures, drawn], 1)), three(pictures)) < 1e-5
    six.trunk.stem[0].weight[:, 3:] += 0.1  # and once learnt, they count
    assert relative_error(six(torch.cat([pictures, drawn], 1)), three(pictures)) > 1e-3


@torch.no_grad()
def test_a_neck_begins_as_the_identity():
    level = arr("level", 2, 128, 4, 4)
    neck = Neck(128, 3)
    assert len(neck) == 3
    assert torch.equal(neck(level), level)
    neck[1][-1].bias += 1
    assert not torch.equal(neck(level), level)


@torch.no_grad()
def test_the_neck_stands_behind_the_coarse_map_only():
    plain, necked = small(), small(neck=2)
    necked.load_state_dict(plain.state_dict(), strict=False)
    picture = arr("picture", 1, 3, 64, 64)
    assert torch.equal(necked(picture), plain(picture))
    necked.neck[0][-1].bias += 1
    before, after = plain.levels(picture), necked.levels(picture)
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, False]


@torch.no_grad()
@pytest.mark.parametrize("height", [16, 48])
@pytest.mark.parametrize(("kind", "heads", "trunk"), [*((*how, "mobilefacenet") for how in KINDS), *PUBLISHED])
def test_every_kind_reads_wide_pictures_with_the_weights_of_square_ones(kind, heads, trunk, height):
    wide, square = (small(kind=kind, trunk=trunk, heads=heads, input_height=own) for own in (height, 0))
    wide.load_state_dict(square.state_dict())
    picture = arr("picture", 1, 3, height, 64)
    rows = wide(picture)
    assert rows.shape == (1, 10, 32)
    for place in ((0, 0), (0, 63), (height - 1, 0), (height - 1, 63)):
        changed = picture.clone()
        changed[:, :, place[0], place[1]] += 5
        assert not torch.equal(wide(changed), rows)


@pytest.mark.parametrize("shape", [{"input_size": 72}, {"input_height": 40}, {"input_height": 80}])
def test_an_input_that_strides_do_not_divide_or_that_is_high_is_refused(shape):
    with pytest.raises(ValueError, match="multiple of 16"):
        small(**shape)
