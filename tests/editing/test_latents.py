import pytest
import torch

from pixel2style.config import GeneratorConfig
from pixel2style.editing import latents
from pixel2style.errors import ConfigError, Pixel2StyleError
from tests.support.golden_rule import arr, figures, relative_error

WS = arr("ws", 2, 14, 8)
OTHER = arr("other", 2, 14, 8)
AVERAGE = arr("average", 8)


class Doubler:
    """A generator whose mapping doubles: enough to see what is drawn."""

    config = GeneratorConfig(width=8)

    def map(self, z, truncation=1.0):
        return 2 * truncation * z


EDITS = {
    "mix": lambda ws: latents.mix(ws, OTHER, "8-13", 0.3),
    "mix whole": lambda ws: latents.mix(ws, OTHER, "8-13"),
    "mix nothing": lambda ws: latents.mix(ws, None, [0, 1]),
    "interpolate": lambda ws: latents.interpolate(ws, OTHER, 0.25),
    "truncate": lambda ws: latents.truncate(ws, AVERAGE, 0.7),
    "move": lambda ws: latents.move(ws, AVERAGE, -2.0, slice(0, 4)),
    "resample": lambda ws: latents.resample(ws, Doubler(), "8-", seed=3),
}


@pytest.mark.parametrize("edit", EDITS)
def test_no_edit_changes_the_callers_tensor(edit):
    ws, other, average = WS.clone(), OTHER.clone(), AVERAGE.clone()
    edited = EDITS[edit](ws)
    edited += 1
    assert torch.equal(ws, WS)
    assert torch.equal(OTHER, other) and torch.equal(AVERAGE, average)


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_lets_gradients_through(edit):
    ws = WS.clone().requires_grad_()
    EDITS[edit](ws).sum().backward()
    assert ws.grad.abs().sum() > 0


@pytest.fixture(scope="module")
def published():
    return figures("psp_256")


def test_mixing_equals_the_published_mixing(published):
    own, mixed = published["latents"], published["mixed_latents"]
    assert not torch.equal(own, mixed)
    injected = mixed[:, -1]
    assert torch.equal(latents.mix(own, injected, "7-13"), mixed)
    assert relative_error(latents.mix(own, injected, "7-", 0.3), published["alpha_latents"]) < 1e-6


def test_mixing_nothing_zeroes_the_rows_as_published(published):
    zeroed = latents.mix(published["latents"], None, [0, 1])
    assert torch.equal(zeroed, published["zeroed_latents"])
    assert zeroed[:, :2].abs().sum() == 0 and zeroed[:, 2:].abs().sum() > 0


def test_rows_outside_the_choice_stay_bit_for_bit():
    mixed = latents.mix(WS, OTHER, [2, 5], 0.3)
    kept = [row for row in range(14) if row not in (2, 5)]
    assert torch.equal(mixed[:, kept], WS[:, kept])
    assert torch.allclose(mixed[:, [2, 5]], 0.3 * OTHER[:, [2, 5]] + 0.7 * WS[:, [2, 5]])


def test_one_latent_serves_a_batch_and_one_input_takes_many():
    assert torch.equal(latents.mix(WS, OTHER[:1, 0], [3])[:, 3], OTHER[:1, 0].expand(2, -1))
    many = latents.mix(WS[:1], OTHER[:, 0], "8-13")
    assert many.shape == (2, 14, 8)
    assert torch.equal(many[:, :8], WS[:1, :8].expand(2, -1, -1))


@pytest.mark.parametrize(
    ("rows", "meaning"),
    [
        (3, [3]),
        ([5, 1, 5], [1, 5]),
        (range(2, 4), [2, 3]),
        (slice(12, None), [12, 13]),
        (slice(-2, None), [12, 13]),
        ("8-10", [8, 9, 10]),
        ("0, 3,12-", [0, 3, 12, 13]),
        ([], []),
    ],
)
def test_rows_can_be_written_in_many_ways(rows, meaning):
    assert latents.parse_rows(rows, 14) == meaning


@pytest.mark.parametrize("rows", [14, -1, [0, 14], slice(0, 15), "8-14", "14", "9-8", "a", "", "1,,2", "-3", "1-2-3"])
def test_rows_that_do_not_exist_are_the_users_error(rows):
    with pytest.raises(ConfigError, match="rows"):
        latents.mix(WS, OTHER, rows)


@pytest.mark.parametrize(
    "edit",
    [
        lambda: latents.mix(WS, OTHER[:, :13], [0]),
        lambda: latents.mix(WS, OTHER[..., :7], [0]),
        lambda: latents.mix(WS, arr("three", 3, 8), [0]),
        lambda: latents.mix(WS[:, 0], OTHER, [0]),
        lambda: latents.mix(WS, AVERAGE, [0]),
        lambda: latents.truncate(WS, AVERAGE[:5], 0.5),
        lambda: latents.move(WS, OTHER, 1.0),
    ],
)
def test_shapes_that_do_not_match_are_the_users_error(edit):
    with pytest.raises(Pixel2StyleError, match=r"\["):
        edit()


def test_truncation_ends_at_the_average_and_at_the_input():
    assert torch.allclose(latents.truncate(WS, AVERAGE, 0.0), AVERAGE.expand_as(WS), atol=1e-6)
    assert torch.allclose(latents.truncate(WS, AVERAGE, 1.0), WS)
    halfway = latents.truncate(WS, AVERAGE.expand(14, -1), 0.5, "0-3")
    assert torch.allclose(halfway[:, :4], (WS[:, :4] + AVERAGE) / 2, atol=1e-6)
    assert torch.equal(halfway[:, 4:], WS[:, 4:])


def test_moving_there_and_back_is_no_move():
    there = latents.move(WS, AVERAGE, 3.0, "2-5")
    assert torch.allclose(
        there - WS, torch.zeros_like(WS).index_fill(1, torch.arange(2, 6), 1) * 3 * AVERAGE, atol=1e-5
    )
    assert torch.allclose(latents.move(there, AVERAGE, -3.0, "2-5"), WS, atol=1e-5)


def test_seeds_of_more_than_64_bits_are_the_users_error():
    for seed in (-(2**63), 2**64 - 1):
        latents.resample(WS, Doubler(), "8-13", seed=seed)
    for seed in (-(2**63) - 1, 2**64):
        with pytest.raises(ConfigError, match="64 bits"):
            latents.resample(WS, Doubler(), "8-13", seed=seed)


def test_resampling_draws_by_the_seed_and_differs_between_samples():
    first = latents.resample(WS, Doubler(), "8-13", seed=1)
    assert torch.equal(first, latents.resample(WS, Doubler(), "8-13", seed=1))
    assert not torch.equal(first, latents.resample(WS, Doubler(), "8-13", seed=2))
    assert torch.equal(first[:, :8], WS[:, :8])
    assert not torch.equal(first[0, 8], first[1, 8])
    assert torch.equal(first[0, 8], first[0, 13])
