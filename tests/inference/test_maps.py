"""L-BFGS on residuals of maps: quadratics are solved, pictures get closer, and the budget is kept."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import pixel2style as p2s
from pixel2style import images
from pixel2style.cli import main
from pixel2style.config import EncoderConfig, GeneratorConfig, ModelConfig
from pixel2style.errors import ConfigError
from pixel2style.generators import StyleGAN2
from pixel2style.images import resize
from pixel2style.inference import refine as refinement
from pixel2style.inference.optimize import closeness, maps, weights
from pixel2style.inference.optimize.lbfgs import LBFGS
from pixel2style.inference.refine import Goal, refine
from pixel2style.metrics.losses import Objective
from pixel2style.metrics.lpips import LPIPS
from pixel2style.models import encoders
from pixel2style.models.inversion import Inversion
from pixel2style.models.psp import PSP
from pixel2style.ops import pooled
from tests.support import bundled
from tests.support.golden_rule import img
from tests.support.paths import ASTRONAUT


@pytest.fixture(scope="module")
def objective() -> Objective:
    return refinement.objective_of(faces=False)


@pytest.fixture(scope="module")
def model() -> PSP:
    torch.manual_seed(0)
    generator = StyleGAN2(GeneratorConfig(size=64, width=16, mapping_layers=1, channels=(8, 8, 8, 6, 4)))
    encoder = EncoderConfig(kind="single_w", trunk="mobilefacenet", input_size=32, rows=generator.rows, width=16)
    return p2s.PSP(encoders.build(encoder), generator, ModelConfig(encoder, generator.config), torch.zeros(16)).eval()


def start(model: PSP, pictures: int) -> Inversion:
    torch.manual_seed(1)
    return Inversion(torch.randn(pictures, model.generator.rows, 16))


def minimised(curvatures: Tensor, steps: int, forget: int | None = None) -> Tensor:
    """``x [b n]`` after steps on sums of ``curvature x²``, started at 1, with exact steps along each direction."""
    history, x = LBFGS(memory=10), torch.ones_like(curvatures)
    gradient = 2 * curvatures * x
    for step in range(steps):
        direction = history.direction(gradient, torch.full((len(x),), 0.1, dtype=x.dtype))
        length = -(gradient * direction).sum(1) / (2 * curvatures * direction.square()).sum(1).clamp_min(1e-300)
        moved = length[:, None] * direction
        x, old = x + moved, gradient
        gradient = 2 * curvatures * x
        history.add(moved, gradient - old)
        if step == forget:
            history.forget(torch.tensor([True, False]))
    return x


def test_a_quadratic_of_n_variables_is_solved_in_n_exact_steps() -> None:
    curvatures = torch.tensor([[1.0, 10.0, 100.0, 1000.0], [3.0, 3.0, 3.0, 3.0]], dtype=torch.float64)
    assert minimised(curvatures, 4).abs().max() < 1e-9
    assert minimised(curvatures, 2)[0].abs().max() > 1e-3


def test_problems_of_a_batch_do_not_influence_each_other() -> None:
    curvatures = torch.tensor([[1.0, 10.0, 100.0], [2.0, 5.0, 70.0]], dtype=torch.float64)
    together, alone = minimised(curvatures, 2), minimised(curvatures[1:], 2)
    assert torch.equal(together[1], alone[0])
    forgetful = minimised(curvatures, 3, forget=1)
    assert torch.equal(forgetful[1], minimised(curvatures, 3)[1])
    assert not torch.equal(forgetful[0], minimised(curvatures, 3)[0])


def test_changes_without_curvature_are_left_out() -> None:
    history, gradient = LBFGS(), torch.tensor([[3.0, 4.0]])
    history.add(torch.ones(1, 2), torch.zeros(1, 2))
    assert torch.allclose(history.direction(gradient, torch.tensor([0.5])), -0.1 * gradient)


def test_the_loss_never_rises_and_rows_stay(model: PSP, objective: Objective) -> None:
    begun = start(model, 2)
    states = list(itertools.islice(maps.descend(model, img("photo", 2, 3, 64, 64), begun, objective), 6))
    assert [state.step for state in states] == list(range(6))
    for before, after in itertools.pairwise(states):
        assert bool((after.values.losses <= before.values.losses).all())
    assert bool((states[-1].values.l2 < 0.7 * states[0].values.l2).all())
    assert torch.equal(states[-1].inversion.ws, begun.ws)
    assert {side: part.shape[1] for side, part in states[-1].inversion.features.items()} == {32: 6, 64: 4}


def test_what_is_reported_is_what_is_drawn(model: PSP, objective: Objective) -> None:
    photo = img("photo", 1, 3, 64, 64)
    *_, last = itertools.islice(maps.descend(model, photo, start(model, 1), objective), 4)
    drawn = model.to_compare(model.decode(last.inversion.ws, features=last.inversion.features))
    error = (drawn - pooled(photo)).square().mean()
    assert float(error) == pytest.approx(float(last.values.l2), rel=0.03)  # bfloat16 where the processor has it


def test_pictures_of_a_batch_are_refined_as_if_alone(model: PSP, objective: Objective) -> None:
    photos, both = img("photo", 2, 3, 64, 64), start(model, 2)
    *_, together = itertools.islice(maps.descend(model, photos, both, objective), 3)
    *_, alone = itertools.islice(maps.descend(model, photos[1:], both.part(1), objective), 3)
    assert float(together.values.losses[1]) == pytest.approx(float(alone.values.losses[0]), rel=0.02)


def test_the_finest_detail_is_the_photographs_only_where_it_has_some(model: PSP) -> None:
    sharp, own = torch.randn(1, 3, 512, 512), torch.randn(1, 3, 512, 512)
    soft = resize(pooled(sharp), 512)
    assert closeness.finest_target(sharp, own).allclose(closeness.finer(sharp))
    assert torch.equal(closeness.finest_target(soft, own), own)


def test_a_refinement_ends_at_its_goal(model: PSP, objective: Objective) -> None:
    photo, begun = img("photo", 1, 3, 64, 64), start(model, 1)
    assert refine(model, photo, begun, Goal(steps=2), objective).step == 2
    first = refine(model, photo, begun, Goal(steps=0), objective)
    assert refine(model, photo, begun, Goal(lpips=float(first.values.lpips)), objective).step == 0
    assert refine(model, photo, begun, Goal(seconds=1e-6), objective).step == 0
    near = 0.9 * float(first.values.lpips)
    assert float(refine(model, photo, begun, Goal(lpips=near, steps=60), objective).values.lpips) <= near


@pytest.mark.parametrize(
    "given", [{"seconds": 0.0}, {"seconds": -1.0}, {"seconds": math.nan}, {"lpips": -0.1}, {"lpips": 3.0}]
)
def test_goals_that_are_none_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Goal(**given)  # type: ignore[arg-type]


@pytest.mark.usefixtures("one_thread")
def test_the_command_refines_the_astronaut_and_keeps_her_features(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["refine", str(ASTRONAUT), "--out", str(tmp_path), "--target", ".02"]) == 0
    assert "fidelity" in capsys.readouterr().out
    ws = load_file(tmp_path / "latents.safetensors")["astronaut"]
    stored = load_file(tmp_path / "astronaut.features.safetensors")
    assert {side: part.dtype for side, part in stored.items()} == dict.fromkeys(("32", "64", "128"), torch.float16)
    features = {int(side): part[None].float() for side, part in stored.items()}
    again = bundled.session().model.decode(ws[None], features=features)
    photo = images.to_tensor(images.load(tmp_path / "astronaut.aligned.png"))[None]
    assert float(LPIPS()(pooled(again.clamp(-1, 1)), pooled(photo))) < 0.022


def test_what_cannot_be_refined_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = [str(ASTRONAUT), "--out", str(tmp_path / "out")]
    assert main(["refine", *common, "--budget", "-3"]) == 2
    assert "--budget" in capsys.readouterr().err
    assert main(["invert", *common, "--no-detail", "--budget", "3"]) == 2
    assert "--no-detail" in capsys.readouterr().err
    assert main(["refine", *common, "--model", "frontalize"]) == 2
    assert "frontalize" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_a_photograph_of_no_face_is_far_from_what_the_generator_draws() -> None:
    session, face = bundled.session(), bundled.inverted()
    suit = session.invert(images.load(ASTRONAUT).crop((256, 256, 512, 512)), align=False, detail=False)
    assert not face.far and suit.far
    fidelity = session.fidelity(face)
    assert fidelity.lpips < 0.1 and fidelity.identity is not None and fidelity.identity > 0.95


def test_tuning_changes_a_copy_of_the_generator_and_nothing_else(model: PSP, objective: Objective) -> None:
    photo, begun = img("photo", 1, 3, 64, 64), start(model, 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, *_, last = itertools.islice(weights.tune(model, photo, begun, objective), 5)
    assert float(last.values.l2) < 0.9 * float(first.values.l2)
    assert last.inversion is begun and last.generator is not None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    drawn = pooled(last.generator.synthesize(begun.ws))
    assert float((drawn - pooled(photo)).square().mean()) == pytest.approx(float(last.values.l2), rel=0.03)
    same = {
        name for name, weight in last.generator.named_parameters() if torch.equal(weight, before[f"generator.{name}"])
    }
    assert same and all(name.startswith("style.") for name in same)


@pytest.mark.slow
def test_a_tuned_generator_is_written_as_a_small_difference(tmp_path: Path) -> None:
    options = ["--out", str(tmp_path), "--tune", "--budget", "8"]
    assert main(["refine", str(ASTRONAUT), *options]) == 0
    file = tmp_path / "astronaut.generator.safetensors"
    assert file.stat().st_size < 4_500_000
    ws = load_file(tmp_path / "latents.safetensors")["astronaut"]
    drawn = p2s.load_generator(file).synthesize(ws[None])
    shown = images.to_tensor(images.load(tmp_path / "astronaut.png"))[None]
    assert float((drawn.clamp(-1, 1) - shown).square().mean()) < 1e-3
