"""What an encoder is taught by, term by term."""

from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor

from golden_rule import arr, figures, img
from pixel2style.config import LossConfig
from pixel2style.errors import ConfigError
from pixel2style.losses import Objective, Reconstruction, Target, code_norm, code_regression, l2, w_norm

pytestmark = pytest.mark.usefixtures("one_thread")

NOTHING = LossConfig(**dict.fromkeys(asdict(LossConfig()), 0.0))


def made(codes: Tensor | None = None, images: Tensor | None = None, target: Target | None = None) -> Reconstruction:
    target = target or Target(torch.zeros(2, 3, 4, 4), None, None, None)
    return Reconstruction(
        target,
        torch.zeros(2, 3, 4) if codes is None else codes,
        torch.zeros(2, 3, 4, 4) if images is None else images,
    )


def test_w_norm_equals_the_published_regulariser():
    latent, average = arr("latent", 2, 14, 512), arr("latent_avg", 14, 512, scale=0.3)
    assert w_norm(latent).item() == pytest.approx(figures("w_norm")["without"].item(), rel=1e-5)
    assert w_norm(latent, average).item() == pytest.approx(figures("w_norm")["with_avg"].item(), rel=1e-5)


def test_pixels_and_codes_are_measured_per_number_so_that_size_and_rows_do_not_matter():
    assert l2(made(images=torch.full((2, 3, 4, 4), 0.5))).item() == pytest.approx(0.25)
    assert code_norm(made(torch.full((2, 3, 4), 0.5))).item() == pytest.approx(0.25)
    assert code_norm(made(torch.full((5, 18, 7), 0.5))).item() == pytest.approx(0.25)


def test_known_rows_teach_only_the_last_pictures():
    known = torch.ones(1, 3, 4)
    target = Target(torch.zeros(3, 3, 4, 4), None, None, known)
    codes = torch.stack([torch.full((3, 4), value) for value in (7.0, 9.0, 3.0)]).requires_grad_()
    loss = code_regression(made(codes, target=target))
    assert loss.item() == pytest.approx(4.0)
    loss.backward()
    assert codes.grad is not None
    assert [bool(grad.any()) for grad in codes.grad] == [False, False, True]


@pytest.mark.parametrize("known", [None, torch.zeros(0, 3, 4)])
def test_no_known_rows_teach_nothing(known):
    assert code_regression(made(torch.ones(2, 3, 4), target=Target(torch.zeros(2, 3, 4, 4), None, None, known))) == 0


def test_a_weight_of_zero_never_builds_its_network(monkeypatch):
    def unwanted(*_: object) -> None:
        raise AssertionError("built though its weight is 0")

    monkeypatch.setattr("pixel2style.losses.LPIPS", unwanted)
    monkeypatch.setattr("pixel2style.losses.Identity", unwanted)
    objective = Objective(replace(NOTHING, l2=2.0))
    total, terms = objective(made(images=torch.ones(2, 3, 4, 4)))
    assert total.item() == pytest.approx(2.0)
    assert terms.keys() == {"l2"}
    with pytest.raises(AssertionError, match="built though"):
        Objective(replace(NOTHING, lpips=0.1))
    with pytest.raises(AssertionError, match="built though"):
        Objective(replace(NOTHING, identity=0.1))


@pytest.fixture(scope="module")
def objective() -> Objective:
    return Objective(replace(NOTHING, l2=1.0, lpips=0.5, identity=0.25, code_norm=2.0, code_regression=3.0))


def test_the_loss_is_the_weighted_sum_of_its_terms(objective):
    target = objective.look_at(img("target", 2, 3, 256, 256), torch.ones(1, 3, 4))
    total, terms = objective(made(torch.full((2, 3, 4), 0.5), img("drawn", 2, 3, 256, 256), target))
    weights = {"l2": 1.0, "lpips": 0.5, "identity": 0.25, "code_norm": 2.0, "code_regression": 3.0}
    assert terms.keys() == weights.keys()
    assert all(value > 0 for value in terms.values())
    assert total.item() == pytest.approx(sum(weights[name] * value.item() for name, value in terms.items()), rel=1e-5)


def test_a_perfect_reconstruction_costs_nothing(objective):
    images, codes = img("target", 2, 3, 256, 256), torch.zeros(2, 3, 4)
    total, _ = objective(made(codes, images, objective.look_at(images, codes)))
    assert abs(total.item()) < 1e-5


def test_what_is_seen_in_targets_is_computed_once_however_often_one_looks(objective, monkeypatch):
    judged: list[Tensor] = []
    for judge in (objective.lpips, objective.identity):
        features = judge.features
        monkeypatch.setattr(
            judge, "features", lambda images, features=features: (judged.append(images), features(images))[1]
        )
    images, drawn = img("target", 1, 3, 256, 256), img("drawn", 1, 3, 256, 256)
    target = objective.look_at(images)
    for _ in range(3):
        objective(made(images=drawn, target=target))
    assert sum(seen is images for seen in judged) == 2  # once each
    assert sum(seen is drawn for seen in judged) == 6


def test_judges_get_no_gradients_and_what_was_drawn_does(objective):
    objective.train()
    drawn = img("drawn", 1, 3, 256, 256).requires_grad_()
    images = img("target", 1, 3, 256, 256).requires_grad_()
    target = objective.look_at(images)
    objective(made(torch.zeros(1, 3, 4), drawn, target))[0].backward()
    assert drawn.grad is not None
    assert drawn.grad.abs().sum() > 0
    assert not target.identity.requires_grad
    assert not any(level.requires_grad for level in target.lpips)
    assert not any(weight.requires_grad or weight.grad is not None for weight in objective.parameters())


def test_an_objective_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="weight 0"):
        Objective(LossConfig(l2=0, lpips=0, identity=0, code_norm=0, code_regression=0))
