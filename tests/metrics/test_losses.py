"""The training losses, term by term."""

from dataclasses import asdict, replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from pixel2style.config import LossConfig
from pixel2style.errors import ConfigError
from pixel2style.metrics.losses import (
    TERMS,
    Objective,
    Reconstruction,
    Target,
    code_regression,
    detail,
    edges,
    l2,
    w_norm,
)
from pixel2style.models.backbones.ir_se import ArcFace
from tests.support.golden_rule import arr, figures, img, relative_error, weights

pytestmark = pytest.mark.usefixtures("one_thread")

WEIGHTS = [name for name, value in asdict(LossConfig()).items() if isinstance(value, float)]
NOTHING = LossConfig(**dict.fromkeys(WEIGHTS, 0.0))
only = partial(replace, NOTHING)


def made(codes: Tensor | None = None, images: Tensor | None = None, target: Target | None = None) -> Reconstruction:
    """A reconstruction where W's deviation is 2."""
    codes = torch.zeros(2, 3, 4) if codes is None else codes
    target = target or Target(torch.zeros(2, 3, 4, 4))
    return Reconstruction(target, codes * 2, codes, torch.zeros(2, 3, 4, 4) if images is None else images)


@pytest.fixture(scope="module")
def faces() -> tuple[Tensor, Tensor]:
    return img("target", 2, 3, 256, 256), img("drawn", 2, 3, 256, 256)


@pytest.fixture(scope="module")
def objective() -> Objective:
    """Every term but similarity."""
    everything = dict(zip(WEIGHTS[:11], (1.0, 0.5, 0.4, 0.25, 0.125, 0.7, 0.6, 0.0, 2.0, 3.0, 1.0), strict=True))
    return Objective(only(**everything))


@pytest.fixture(scope="module")
def similarity() -> Objective:
    return Objective(only(similarity=0.5))


# Single terms


def test_w_norm_equals_the_published_regulariser():
    latent, average = arr("latent", 2, 14, 512), arr("latent_avg", 14, 512, scale=0.3)
    assert w_norm(latent).item() == pytest.approx(figures("w_norm")["without"].item(), rel=1e-5)
    assert w_norm(latent, average).item() == pytest.approx(figures("w_norm")["with_avg"].item(), rel=1e-5)


def test_w_norm_is_of_rows_less_the_average_and_not_of_codes():
    _, terms = Objective(only(w_norm=1.0))(made(torch.full((2, 3, 4), 0.5)))
    assert terms["w_norm"].item() == pytest.approx(12**0.5)


def test_rows_at_the_average_still_have_a_gradient():
    codes = torch.zeros(2, 3, 4).requires_grad_()
    Objective(only(w_norm=1.0, code_norm=1.0))(made(codes))[0].backward()
    assert codes.grad is not None
    assert torch.equal(codes.grad, torch.zeros(2, 3, 4))


def test_pixels_and_codes_are_measured_per_number_so_that_size_and_rows_do_not_matter():
    code_norm = Objective(only(code_norm=1.0))
    assert l2(made(images=torch.full((2, 3, 4, 4), 0.5))).item() == pytest.approx(0.25)
    assert code_norm(made(torch.full((2, 3, 4), 0.5)))[0].item() == pytest.approx(0.25)
    assert code_norm(made(torch.full((5, 18, 7), 0.5)))[0].item() == pytest.approx(0.25)


def test_edges_are_blind_to_colour_and_grow_with_the_square_of_the_frequency():
    columns = torch.arange(256.0).expand(2, 3, 256, 256)
    assert edges(torch.full((2, 3, 256, 256), 0.7)).abs().max() == 0
    slope = edges(0.01 * columns)  # one step of .01 from each column to the next, none from row to row
    torch.testing.assert_close(slope, torch.full((2,), 1e-4), rtol=1e-3, atol=0)
    slow, fast = (edges((2 * torch.pi * cycles / 256 * columns).sin())[0].item() for cycles in (4, 8))
    assert fast == pytest.approx(4 * slow, rel=0.01)


def test_known_rows_give_gradients_to_the_last_images_only():
    target = Target(torch.zeros(3, 3, 4, 4), codes=torch.ones(1, 3, 4))
    codes = torch.stack([torch.full((3, 4), value) for value in (7.0, 9.0, 3.0)]).requires_grad_()
    loss = code_regression(made(codes, target=target))
    assert loss.item() == pytest.approx(4.0)
    loss.backward()
    assert codes.grad is not None
    assert [bool(grad.any()) for grad in codes.grad] == [False, False, True]


@pytest.mark.parametrize("known", [None, torch.zeros(0, 3, 4)])
def test_without_known_rows_the_term_and_its_gradient_are_zero(known):
    codes = torch.ones(2, 3, 4).requires_grad_()
    loss = code_regression(made(codes, target=Target(torch.zeros(2, 3, 4, 4), codes=known)))
    assert loss.item() == 0
    loss.backward()
    assert codes.grad is not None
    assert not codes.grad.any()


@pytest.mark.parametrize("term", ["l2_crop", "lpips_crop", "identity"])
def test_terms_of_the_face_see_nothing_around_it(term, faces):
    images, drawn = faces
    around = drawn.clone()
    around[:, :, 35:223, 32:220] = images[:, :, 35:223, 32:220]
    inside = images.clone()
    inside[:, :, 35:223, 32:220] = drawn[:, :, 35:223, 32:220]
    objective = Objective(only(**{term: 1.0}))
    target = objective.target_of(images)
    values = [objective(made(images=pictures, target=target))[0].item() for pictures in (around, inside, drawn)]
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[1] == pytest.approx(values[2], rel=1e-5)
    assert values[2] > 1e-3


def test_crops_are_compared_pixel_by_pixel_and_not_pooled(faces):
    images, drawn = (pictures[:, :, 35:223, 32:220] for pictures in faces)
    objective = Objective(only(l2_crop=1.0, lpips_crop=1.0))
    _, terms = objective(made(images=faces[1], target=objective.target_of(faces[0])))
    assert terms["l2_crop"].item() == pytest.approx((images - drawn).square().mean().item(), rel=1e-6)
    assert terms["lpips_crop"].item() == pytest.approx(objective.lpips(images, drawn).mean().item(), rel=1e-5)


# The published networks


@pytest.mark.slow
def test_arcface_gives_the_published_loss_and_improvement():
    network = ArcFace()
    network.load_state_dict(weights("arcface_ir_se50"))
    objective = Objective(only(identity=0.5, identity_network="model_ir_se50.pth"), identity=network)
    y_hat, y, x = (img(name, 2, 3, 256, 256) for name in ("y_hat", "y", "x"))
    with torch.no_grad():
        total, terms = objective(made(images=y_hat, target=objective.target_of(y, sources=x)))
    expected = figures("arcface_ir_se50")
    assert relative_error(terms["identity"], expected["loss"]) < 1e-4
    assert relative_error(terms["improvement"], expected["improvement"]) < 2e-3
    assert total.item() == pytest.approx(0.5 * terms["identity"].item())  # improvement is a metric, not a loss


def test_lpips_with_the_published_network_gives_the_published_distance():
    objective = Objective(only(lpips=1.0))
    y_hat, y = (img(name, 2, 3, 256, 256) for name in ("y_hat", "y"))
    expected = figures("lpips_published")["alex"].mean().item()
    assert objective(made(images=y_hat, target=objective.target_of(y)))[0].item() == pytest.approx(expected, rel=1e-3)


def test_a_given_network_computes_similarity(faces):
    class Corner(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:, :, :1, :2].flatten(1)

    objective = Objective(only(similarity=1.0, similarity_network="moco.pth.tar"), similarity=Corner())
    cosine = nn.functional.cosine_similarity(*(pictures[:, :, :1, :2].flatten(1) for pictures in faces))
    total, _ = objective(made(images=faces[1], target=objective.target_of(faces[0])))
    assert total.item() == pytest.approx(1 - cosine.mean().item(), rel=1e-5)


@pytest.mark.parametrize("term", ["identity", "similarity"])
def test_a_reconstruction_that_equals_its_source_is_no_improvement(term, faces):
    objective = Objective(only(**{term: 1.0}))
    target, source = faces
    _, same = objective(made(images=source, target=objective.target_of(target, sources=source)))
    _, best = objective(made(images=target, target=objective.target_of(target, sources=source)))
    assert same["improvement"].item() == pytest.approx(0, abs=1e-5)
    assert best["improvement"].item() == pytest.approx(same[term].item(), rel=1e-3)
    assert "improvement" not in objective(made(images=source, target=objective.target_of(target)))[1]


# The sum


def test_every_weight_but_details_has_its_term():
    of_detail_encoders = ["residual", "windows", "roughness"]  # training.detail
    assert [*TERMS, "detail", *of_detail_encoders] == WEIGHTS


def test_the_loss_is_the_weighted_sum_of_its_terms(objective, faces):
    target = objective.target_of(faces[0], torch.ones(1, 3, 4))
    total, terms = objective(made(torch.full((2, 3, 4), 0.5), faces[1], target))
    assert list(terms) == [name for name in TERMS if name != "similarity"]
    assert all(value > 0 for value in terms.values())
    expected = sum(getattr(objective.config, name) * value.item() for name, value in terms.items())
    assert total.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", ["objective", "similarity"])
def test_a_perfect_reconstruction_costs_nothing(loss, faces, request):
    objective, codes = request.getfixturevalue(loss), torch.zeros(2, 3, 4)
    total, _ = objective(made(codes, faces[0], objective.target_of(faces[0], codes)))
    assert abs(total.item()) < 1e-5


@pytest.mark.parametrize("name", [name for name in TERMS if name != "code_regression"])
def test_every_term_gives_gradients(name, faces):
    objective = Objective(only(**{name: 1.0}))
    codes = torch.full((2, 3, 4), 0.1).requires_grad_()
    drawn = faces[1] * (1 + codes.mean((1, 2))[:, None, None, None])  # a generator of a kind
    objective(made(codes, drawn, objective.target_of(faces[0])))[0].backward()
    assert codes.grad is not None
    assert torch.isfinite(codes.grad).all()
    assert all(grad.any() for grad in codes.grad)


def test_a_target_gives_the_same_loss_every_time(objective, faces):
    codes = torch.full((2, 3, 4), 0.5)
    target = objective.target_of(faces[0], codes)
    objective(made(codes, faces[0] * 0.5, target))
    second, afresh = (
        objective(made(codes, faces[1], seen)) for seen in (target, objective.target_of(faces[0].clone(), codes))
    )
    assert torch.equal(second[0], afresh[0])
    assert all(torch.equal(value, afresh[1][name]) for name, value in second[1].items())


def test_features_of_targets_are_computed_once(objective, faces):
    passes: list[nn.Module] = []
    networks = (objective.lpips.trunk[0], objective.identity.network)
    hooks = [network.register_forward_hook(lambda module, *_: passes.append(module)) for network in networks]
    target = objective.target_of(faces[0])
    once = len(passes)
    for _ in range(3):
        objective(made(images=faces[1], target=target))
    for hook in hooks:
        hook.remove()
    assert once == 3  # LPIPS of the picture and of the face, and the identity
    assert len(passes) == 4 * once


def test_generated_images_get_gradients_and_the_networks_none(objective, faces):
    objective.train()
    images, drawn = (pictures[:1].clone().requires_grad_() for pictures in faces)
    target = objective.target_of(images, sources=drawn)
    objective(made(torch.zeros(1, 3, 4), drawn, target))[0].backward()
    assert drawn.grad is not None
    assert drawn.grad.abs().sum() > 0
    assert not any(seen.requires_grad for seen in (target.identity, target.before, *target.lpips, *target.lpips_crop))
    assert not any(module.training for module in objective.identity.modules())
    assert not any(weight.requires_grad or weight.grad is not None for weight in objective.parameters())


@pytest.mark.parametrize("loss", ["objective", "similarity"])
def test_terms_are_float32_and_nearly_the_same_where_networks_run_in_bfloat16(loss, faces, request):
    objective, codes = request.getfixturevalue(loss), arr("codes", 2, 3, 4)
    _, exact = objective(made(codes, faces[1], objective.target_of(faces[0], codes * 0)))
    with torch.autocast("cpu", torch.bfloat16):
        target = objective.target_of(faces[0].bfloat16(), (codes * 0).bfloat16())
        total, terms = objective(made(codes.bfloat16(), faces[1].bfloat16(), target))
    assert total.dtype == torch.float32
    for name, value in terms.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=0.05, abs=0.003), name


# What is built, and what is refused


def test_a_weight_of_zero_never_builds_its_network(monkeypatch):
    def unwanted(*_: object) -> None:
        raise AssertionError("built though its weight is 0")

    for network in ("LPIPS", "Identity", "Similarity"):
        monkeypatch.setattr(f"pixel2style.metrics.losses.{network}", unwanted)
    objective = Objective(
        only(l2=2.0, w_norm=1.0, l2_crop=1.0, code_norm=1.0, code_regression=1.0), nn.ReLU(), nn.ReLU()
    )
    assert not list(objective.children())
    total, terms = Objective(only(l2=2.0))(made(images=torch.ones(2, 3, 4, 4)))
    assert total.item() == pytest.approx(2.0)
    assert terms.keys() == {"l2"}
    for name in ("lpips", "identity", "lpips_crop", "similarity"):
        with pytest.raises(AssertionError, match="built though"):
            Objective(only(**{name: 0.1}))


def test_one_lpips_network_serves_picture_face_and_detail():
    objective = Objective(only(lpips=1.0, lpips_crop=1.0, detail=1.0))
    assert [name for name, _ in objective.named_children()] == ["lpips"]


def test_identity_and_similarity_exclude_each_other():
    with pytest.raises(ConfigError, match="identity and similarity exclude each other"):
        Objective(only(identity=0.1, similarity=0.5))


@pytest.mark.parametrize("weights", [{}, {"detail": 1.0}])
def test_an_objective_of_nothing_is_refused(weights):
    with pytest.raises(ConfigError, match="weight 0"):
        Objective(only(**weights))


@pytest.mark.parametrize("channels", [1, 4, 19])
def test_targets_are_rgb_images_and_never_sketches_masks_or_label_maps(channels, faces):
    objective = Objective(only(identity=1.0))
    with pytest.raises(ValueError, match=r"\[b 3 256 256\]"):
        objective.target_of(torch.zeros(1, channels, 256, 256))
    with pytest.raises(ValueError, match=r"\[b 3 256 256\]"):
        objective.target_of(faces[0], sources=torch.zeros(2, channels, 256, 256))


# Full-size windows


def test_detail_measures_what_pooling_to_256_pixels_removes():
    objective = Objective(only(l2=1.0, detail=1.0))
    full = torch.zeros(1, 3, 512, 512)
    checkered = full.clone()
    checkered[..., ::2, ::2] = checkered[..., 1::2, 1::2] = 0.5
    checkered[..., ::2, 1::2] = checkered[..., 1::2, ::2] = -0.5
    assert not nn.functional.adaptive_avg_pool2d(checkered, 256).any()
    rng = torch.Generator()
    assert detail(full, full, objective, rng).item() == pytest.approx(0, abs=1e-6)
    assert detail(checkered, full, objective, rng).item() > 0.1


def test_detail_takes_the_window_that_its_random_numbers_name():
    objective = Objective(only(l2=1.0, detail=1.0))
    full, drawn = img("full", 1, 3, 300, 300), img("drawn full", 1, 3, 300, 300)
    values = [detail(drawn, full, objective, torch.Generator().manual_seed(seed)).item() for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_pictures_smaller_than_a_window_have_no_detail():
    objective = Objective(only(l2=1.0, detail=1.0))
    assert detail(torch.ones(1, 3, 128, 128), torch.zeros(1, 3, 128, 128), objective, torch.Generator()) == 0
