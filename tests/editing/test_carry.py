"""Features carried over to edited rows, on a small StyleGAN2 and on maps made by hand."""

import pytest
import torch
from torch import Tensor

from pixel2style.editing import carry
from pixel2style.editing.carry import Carrier, between, carried, enlarged, maps_of, optical_flow
from pixel2style.editing.warp import moved
from pixel2style.errors import ConfigError
from pixel2style.generators import StyleGAN2
from pixel2style.models.inversion import Inversion
from pixel2style.ops import blurred
from tests.support import small_inversion
from tests.support.golden_rule import arr, relative_error

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def generator() -> StyleGAN2:
    return small_inversion.generator()


@pytest.fixture
def inversion(generator: StyleGAN2) -> Inversion:
    return small_inversion.inversion(generator, 2)


def turned(inversion: Inversion) -> Tensor:
    """The first picture is edited, the second is not."""
    edited = inversion.ws.clone()
    edited[0] += 2 * arr("direction", 16)
    return edited


def test_rows_that_are_not_edited_keep_their_features_to_the_bit(generator: StyleGAN2, inversion: Inversion) -> None:
    whole = carried(generator, inversion, inversion.ws.clone())
    half = carried(generator, inversion, turned(inversion))
    for side, residual in inversion.features.items():
        assert torch.equal(whole.features[side], residual)
        assert torch.equal(half.features[side][1], residual[1])
        assert not torch.equal(half.features[side][0], residual[0])


def test_a_larger_edit_leaves_less_of_the_features(generator: StyleGAN2, inversion: Inversion) -> None:
    sizes = []
    for amount in (0.0, 0.5, 1.0, 2.0, 4.0):
        rows = inversion.ws + amount * arr("direction", 16)
        sizes.append(float(carried(generator, inversion, rows).features[16].square().mean()))
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 0.5 * sizes[0]


def test_more_strength_fades_more_and_none_only_moves(generator: StyleGAN2, inversion: Inversion) -> None:
    edited = turned(inversion)
    sizes = [float(carried(generator, inversion, edited, s).features[16][0].square().mean()) for s in (0.0, 1.0, 5.0)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_edited_rows_are_drawn_with_the_maps_that_are_wanted(generator: StyleGAN2, inversion: Inversion) -> None:
    edited = turned(inversion)
    carrier = Carrier(generator, inversion)
    wanted = carrier.maps(edited)
    drawn = maps_of(generator, edited, wanted.keys(), carrier(edited).features)
    assert list(wanted) == [16, 32] and all(relative_error(drawn[side][:1], wanted[side][:1]) < 1e-4 for side in wanted)


def test_fine_changes_that_layers_do_not_show_are_added_on_finer_maps(
    generator: StyleGAN2, inversion: Inversion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carry, "FINEST", 0.5)
    coarse, edited = Inversion(inversion.ws, {16: inversion.features[16]}).part(0), turned(inversion)[:1]
    found = carried(generator, coarse, edited, 0.0).features
    flow = optical_flow(*(maps_of(generator, ws, [16])[16] for ws in (coarse.ws, edited)))
    assert set(found) == {16, 32} and relative_error(found[16], moved(coarse.features[16], flow)) < 1e-3
    own, drawn = (maps_of(generator, coarse.ws, [32], features)[32] for features in ({}, coarse.features))
    after, answer = (maps_of(generator, edited, [32], features)[32] for features in ({}, {16: found[16]}))
    missing = after + moved(drawn - own, enlarged(flow, 32)) - answer
    assert relative_error(found[32], missing - blurred(missing, 0.5)) < 1e-3
    assert found[32].square().mean() < missing.square().mean()


def test_between_two_inversions_maps_go_from_one_to_the_other(generator: StyleGAN2, inversion: Inversion) -> None:
    parts = inversion.part(0), inversion.part(1)
    first, last = (Carrier(generator, part) for part in parts)
    for share, wanted in ((0.0, parts[0]), (1.0, parts[1])):
        found = between(first, last, wanted.ws, share)
        drawn = maps_of(generator, wanted.ws, [16, 32], wanted.features)
        assert all(relative_error(found[side], drawn[side]) < 1e-3 for side in drawn)
    bare, ws = Carrier(generator, Inversion(parts[1].ws)), parts[1].ws
    own = maps_of(generator, ws, [16, 32])
    assert all(torch.equal(between(first, bare, ws, 1.0)[side], own[side]) for side in own)
    assert not any(torch.equal(between(first, bare, ws, 0.5)[side], own[side]) for side in own)
    assert not between(bare, bare, ws, 0.5)


def test_rows_after_the_maps_change_no_features(generator: StyleGAN2, inversion: Inversion) -> None:
    coloured = inversion.ws.clone()
    coloured[:, -1] += 1
    found = carried(generator, inversion, coloured)
    assert all(torch.allclose(found.features[side], inversion.features[side], atol=1e-5) for side in inversion.features)


def test_one_inversion_is_carried_over_to_many_edits(generator: StyleGAN2, inversion: Inversion) -> None:
    one = inversion.part(0)
    rows = torch.cat([one.ws, one.ws + arr("direction", 16)])
    many = carried(generator, one, rows)
    alone = carried(generator, one, rows[1:])
    assert many.ws is rows and torch.equal(many.features[16][:1], one.features[16])
    assert relative_error(many.features[32][1:], alone.features[32]) < 1e-3


def test_gradients_pass_and_arguments_are_unchanged(generator: StyleGAN2, inversion: Inversion) -> None:
    before = {side: residual.clone() for side, residual in inversion.features.items()}
    edited = turned(inversion).requires_grad_()
    carried(generator, inversion, edited).features[32].square().sum().backward()
    assert edited.grad is not None and edited.grad[0].abs().sum() > 0
    assert all(torch.equal(inversion.features[side], residual) for side, residual in before.items())


def test_the_flow_of_a_shifted_map_is_the_shift_and_moving_undoes_it() -> None:
    smooth = torch.nn.functional.interpolate(arr("map", 1, 8, 16, 16), size=(40, 40), mode="bicubic")
    before, after = smooth[..., 4:36, 4:36], smooth[..., 4:36, 6:38]  # what was two pixels to the right is now here
    flow = optical_flow(before, after)
    inner = flow[..., 8:24, 8:24]
    assert inner[:, 0].abs().mean() < 0.3 and (inner[:, 1] - 2).abs().mean() < 0.5
    moving = (moved(before, flow) - after)[..., 8:24, 8:24].square().mean()
    assert moving < 0.1 * (before - after)[..., 8:24, 8:24].square().mean()


def test_nothing_moves_where_nothing_changes() -> None:
    maps = arr("map", 1, 4, 16, 16)
    assert not optical_flow(maps, maps).any()
    assert torch.equal(moved(maps, torch.zeros(1, 2, 16, 16)), maps)


def test_a_flow_is_enlarged_with_its_map() -> None:
    flow = torch.ones(1, 2, 8, 8)
    assert torch.allclose(enlarged(flow, 16), torch.full((1, 2, 16, 16), 2.0))


def test_an_inversion_without_features_is_its_rows(generator: StyleGAN2, inversion: Inversion) -> None:
    found = carried(generator, Inversion(inversion.ws), turned(inversion))
    assert not found.features


def test_rows_and_maps_that_do_not_fit_are_refused(generator: StyleGAN2, inversion: Inversion) -> None:
    with pytest.raises(ConfigError, match="rows"):
        carried(generator, inversion, inversion.ws[:, :3])
    with pytest.raises(ConfigError, match="rows"):
        carried(generator, inversion, inversion.ws[:1])
    with pytest.raises(ConfigError, match="512"):
        carried(generator, Inversion(inversion.ws, {512: torch.zeros(2, 4, 512, 512)}), turned(inversion))
    with pytest.raises(ValueError, match="strength"):
        carried(generator, inversion, inversion.ws, -1)
    assert carry.FADE > 0
