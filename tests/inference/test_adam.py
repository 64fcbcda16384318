"""Direct optimisation of rows, on the bundled generator and on a small stand-in."""

import pytest
import torch
from torch import Tensor

import pixel2style as p2s
from pixel2style import checkpoints, images
from pixel2style.config import EncoderConfig, LossConfig, ModelConfig
from pixel2style.faces.align import FaceAligner
from pixel2style.inference.optimize import adam
from pixel2style.inference.optimize.adam import optimize
from pixel2style.metrics.losses import Objective
from pixel2style.models import encoders
from pixel2style.ops import pooled
from tests.support import stand_in
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")
PIXELS_ONLY = Objective(LossConfig(l2=1, lpips=0, identity=0, code_norm=0, code_regression=0))


@pytest.fixture(scope="module")
def face() -> Tensor:
    return images.to_tensor(FaceAligner().align(images.load(ASTRONAUT), 256))[None]


@pytest.fixture(scope="module")
def small() -> "p2s.PSP":
    return stand_in.random_model()


@pytest.fixture(scope="module")
def bundled() -> "p2s.PSP":
    """The bundled generator under any encoder: none is asked."""
    generator = checkpoints.load_generator("mobilestylegan_ffhq_1024")
    config = ModelConfig(EncoderConfig(kind="single_w", trunk="mobilefacenet", rows=generator.rows), generator.config)
    return p2s.PSP(encoders.build(config.encoder), generator, config, generator.w_avg, generator.w_std)


def drawn(model: "p2s.PSP", seed: int, count: int = 1) -> Tensor:
    """Pictures that the model's generator can draw exactly."""
    noise = torch.randn(count, *model.w_avg.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return model.decode(model.w_avg + 0.5 * noise)


@pytest.mark.slow
def test_a_real_face_is_approached_and_no_weight_moves(bundled: "p2s.PSP", face: Tensor) -> None:
    before = {name: value.clone() for name, value in bundled.state_dict().items()}
    losses: list[float] = []
    ws = optimize(bundled, face, steps=6, callback=lambda _, loss: losses.append(loss))
    assert losses[-1] < 0.8 * losses[0]
    with torch.no_grad():
        whole = [(pooled(bundled.decode(rows)) - face).square().mean() for rows in (ws, bundled.w_avg[None])]
    assert whole[0] < whole[1]  # the full picture improves, not only the small head that was descended on
    assert all(torch.equal(value, before[name]) for name, value in bundled.state_dict().items())
    assert all(parameter.grad is None for parameter in bundled.parameters())


def test_rows_of_an_encoder_are_where_it_starts_and_stay_as_they_were(small: "p2s.PSP") -> None:
    picture = drawn(small, 1)
    ws = small.w_avg[None] + 0.1
    kept = ws.clone()
    assert torch.allclose(optimize(small, picture, ws, steps=0), ws, atol=1e-6)
    assert not torch.allclose(optimize(small, picture, ws, steps=2, objective=PIXELS_ONLY), ws, atol=1e-3)
    assert torch.equal(ws, kept)


def test_without_rows_it_starts_from_the_average(small: "p2s.PSP") -> None:
    assert torch.allclose(optimize(small, drawn(small, 1), steps=0), small.w_avg[None], atol=1e-6)


def test_it_gives_the_same_twice(small: "p2s.PSP") -> None:
    first, second = (optimize(small, drawn(small, 2), steps=5) for _ in range(2))
    assert torch.equal(first, second)


def test_company_changes_nothing(small: "p2s.PSP") -> None:
    pictures = drawn(small, 3, count=3)
    together = optimize(small, pictures, steps=5, objective=PIXELS_ONLY)
    alone = torch.cat([optimize(small, picture[None], steps=5, objective=PIXELS_ONLY) for picture in pictures])
    # Adam divides by gradients, so where these are nearly zero the last bit of a float shows.
    assert (together - alone).norm() < 0.01 * (alone - small.w_avg).norm()


def test_the_norm_holds_rows_near_the_average(small: "p2s.PSP") -> None:
    def distance(weight: float) -> float:
        loss = LossConfig(l2=1, lpips=0, identity=0, code_norm=weight, code_regression=0)
        return float((optimize(small, drawn(small, 4), steps=10, objective=Objective(loss)) - small.w_avg).norm())

    assert distance(10.0) < 0.5 * distance(0.0)


def test_what_is_not_shown_does_not_count(small: "p2s.PSP") -> None:
    def right_half(pictures: Tensor) -> Tensor:
        return pictures * (torch.arange(256) >= 128)

    picture = drawn(small, 5)
    other = picture.clone()
    other[..., : picture.shape[-1] // 4] = 1  # far enough from the middle for pooling
    first, second = (
        optimize(small, one, steps=5, objective=PIXELS_ONLY, degradation=right_half) for one in (picture, other)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, optimize(small, picture, steps=5, objective=PIXELS_ONLY))


def test_rows_and_pictures_made_without_gradients_will_do(small: "p2s.PSP") -> None:
    with torch.inference_mode():
        picture, ws = small.decode(small.w_avg[None] + 0.3), small.w_avg[None] + 0.1
        inside = optimize(small, picture, ws, steps=2)
    assert torch.equal(optimize(small, picture, ws, steps=2), inside)


@pytest.mark.parametrize("done", [0.0, 0.05, 0.5, 0.75, 0.99])
def test_the_schedule_is_a_share(done: float) -> None:
    assert 0 < adam.schedule(done) <= 1


def test_rows_of_another_shape_are_refused(small: "p2s.PSP") -> None:
    with pytest.raises(ValueError, match=r"ws \[1, 6, 64\]"):
        optimize(small, drawn(small, 1), torch.zeros(1, 5, 64))
    with pytest.raises(ValueError, match="pictures"):
        optimize(small, torch.zeros(1, 1, 16, 16))
