"""Steps in known curvature: what they promise of the loss, and that the bundled curvature is the generator's."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pixel2style import checkpoints, images
from pixel2style.cli import main
from pixel2style.inference import prepare
from pixel2style.inference.optimize import newton
from pixel2style.inference.optimize.newton import Curvature, optimize
from pixel2style.inference.session import Session
from pixel2style.metrics.scores import Scorer
from pixel2style.models.psp import PSP
from pixel2style.ops import pooled
from pixel2style.tasks.request import Request
from tests.support import bundled, stand_in
from tests.support.golden_rule import relative_error
from tests.support.paths import ASTRONAUT


@pytest.fixture(scope="module")
def model() -> PSP:
    return bundled.session().model


@pytest.fixture(scope="module")
def photograph() -> Tensor:
    return images.to_tensor(bundled.face())[None]


@pytest.fixture(scope="module")
def curvature(model: PSP) -> Curvature:
    found = newton.bundled(model)
    assert found is not None
    return found


def test_a_step_solves_the_damped_quadratic_it_stands_for() -> None:
    torch.manual_seed(0)
    directions = torch.linalg.qr(torch.randn(12, 3, dtype=torch.float64)).Q.T
    values = torch.tensor([5.0, 2.0, 0.5], dtype=torch.float64)
    gradient = torch.randn(2, 3, 4, dtype=torch.float64)
    step = Curvature(directions, values).step(gradient, 0.1)
    bent = directions.T @ torch.diag(values) @ directions + 0.1 * torch.eye(12, dtype=torch.float64)
    assert relative_error(step.flatten(1) @ bent, -gradient.flatten(1)) < 1e-12


def test_directions_in_the_box_are_orthonormal_and_sorted(curvature: Curvature) -> None:
    directions = curvature.directions
    assert (directions @ directions.T - torch.eye(len(directions))).abs().max() < 5e-3  # 8 bits
    assert torch.equal(curvature.values, curvature.values.sort(descending=True).values)


@pytest.mark.usefixtures("one_thread")
def test_three_steps_bring_the_astronaut_closer_in_every_respect_and_hardly_move_her_rows(
    model: PSP, photograph: Tensor, curvature: Curvature
) -> None:
    told: list[float] = []
    with torch.no_grad():
        ws = model.encode(photograph)
    better = optimize(model, photograph, ws, 3, curvature=curvature, callback=lambda step, loss: told.append(loss))
    assert len(told) == 4
    assert min(told) < 0.92 * told[0]
    judges = Scorer(full=True)
    with torch.no_grad():
        before, after = (judges(pooled(model.decode(rows)), photograph).means() for rows in (ws, better))
    assert after["lpips"] < before["lpips"]
    assert after["identity"] > before["identity"]
    assert after["identity_dlib"] > before["identity_dlib"]  # who took no part
    assert float(((better - ws) / model.w_unit).square().mean()) < 0.05


@pytest.mark.usefixtures("one_thread")
def test_rows_are_never_worse_than_they_were(model: PSP, photograph: Tensor, curvature: Curvature) -> None:
    flat = Curvature(curvature.directions, curvature.values * 1e-4)  # so every step is far too long
    with torch.no_grad():
        ws = model.encode(photograph)
    assert torch.allclose(optimize(model, photograph, ws, 1, curvature=flat), ws, atol=1e-5)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_pictures_are_corrected_one_by_one(model: PSP, photograph: Tensor, curvature: Curvature) -> None:
    both = torch.cat([photograph, photograph.flip(-1)])
    with torch.no_grad():
        ws = model.encode(both)
    together = optimize(model, both, ws, 1, curvature=curvature)
    alone = optimize(model, both[1:], ws[1:], 1, curvature=curvature)
    assert relative_error(together[1:], alone) < 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_what_is_measured_points_where_the_bundled_directions_do(model: PSP, curvature: Curvature) -> None:
    rng = torch.Generator().manual_seed(3)
    codes = 0.7 * torch.randn(2, 1, model.w_avg.shape[1], generator=rng).expand(-1, len(model.w_avg), -1)
    found = newton.measure(model, codes, 4, 8, rng)
    inside = (found.directions @ curvature.directions.T).square().sum(1)
    assert inside[0] > 0.5  # a random direction has 64 / 8192 of its length in there
    assert 0.2 < found.values[0] / curvature.values[0] < 5  # sixteen probes say too much


def test_the_command_refines_and_says_no_to_less_than_no_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["invert", str(ASTRONAUT), "--out", str(tmp_path / "plain"), "--refine", "0", "--no-detail"]) == 0
    plain = load_file(tmp_path / "plain" / "latents.safetensors")["astronaut"]
    assert (plain - bundled.inverted().ws).abs().max() > 0.1  # of a step
    assert main(["invert", str(ASTRONAUT), "--out", str(tmp_path / "x"), "--refine", "-1"]) == 2
    assert "--refine is a number of steps" in capsys.readouterr().err


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "options", [("superres", {"factor": 16}), pytest.param(("inpaint", {"mask": "box"}), marks=pytest.mark.slow)]
)
@pytest.mark.slow
def test_a_refined_answer_agrees_better_with_what_a_picture_shows(options: tuple[str, dict[str, Any]]) -> None:
    task, asked = options
    session, picture = bundled.session(task), bundled.face()
    shown = prepare.prepare(picture, Request(task, align=False, **asked), session.model.config, None)
    assert shown.degradation is not None

    def away(steps: int) -> float:
        result = session.translate(picture, align=False, refine=steps, detail=False, **asked)
        assert shown.degradation is not None
        drawn = shown.degradation(pooled(images.to_tensor(result.reconstruction)[None]))
        return float((drawn - shown.source[:3]).square().mean())

    assert away(2) < 0.9 * away(0)


def test_a_step_is_taken_where_curvature_is_known_and_the_task_shows_its_target(tmp_path: Path) -> None:
    picture, session = bundled.face(), bundled.session()
    usual, one, none = (session.invert(picture, align=False, refine=steps, detail=False).ws for steps in (None, 1, 0))
    assert torch.equal(usual, one)
    assert not torch.equal(usual, none)
    foreign = Session(stand_in.save_random_model(tmp_path / "random.safetensors"))  # draws with its own generator
    usual, none = (foreign.invert(picture, align=False, refine=steps).ws for steps in (None, 0))
    assert torch.equal(usual, none)


def test_what_changes_a_picture_is_not_held_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["translate", "frontalize", str(ASTRONAUT), "--out", str(tmp_path / "x"), "--refine", "1"]) == 2
    assert "--refine" in (said := capsys.readouterr().err) and "frontalize" in said


def test_a_face_follows_its_drawing_in_inference_mode_too() -> None:
    session, drawing = Session("segmentation"), ASTRONAUT.parent / "drawings" / "turned.labels.png"
    with torch.inference_mode():
        inside = session.translate(drawing, refine=1).ws.clone()
    assert not torch.equal(inside, session.rows(drawing))


@pytest.mark.parametrize("options", [("faces", {}), pytest.param(("inpaint", {"mask": "box"}), marks=pytest.mark.slow)])
def test_a_session_can_be_used_first_in_inference_mode(options: tuple[str, dict[str, Any]]) -> None:
    name, asked = options
    session, picture = Session(name), bundled.face()
    with torch.inference_mode():
        inside = session.translate(picture, align=False, detail=False, **asked).ws.clone()
    assert torch.allclose(session.translate(picture, align=False, detail=False, **asked).ws, inside, atol=1e-3)


def test_a_model_that_changes_pictures_is_not_pulled_back_by_invert(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session, picture = bundled.session("frontalize"), bundled.face()
    usual, none = (session.invert(picture, align=False, refine=steps).ws for steps in (None, 0))
    assert torch.equal(usual, none)
    words = ["invert", str(ASTRONAUT), "--model", "frontalize", "--out", str(tmp_path / "x"), "--refine", "2"]
    assert main(words) == 2
    assert "--refine" in (said := capsys.readouterr().err) and "frontalize" in said


def test_a_model_of_a_task_that_is_not_known_here_can_be_inverted(tmp_path: Path) -> None:
    model = checkpoints.load("faces")
    model.config = dataclasses.replace(model.config, task="mine")
    checkpoints.save(model, tmp_path / "mine.safetensors", generator="mobilestylegan_ffhq_1024")
    picture, session = bundled.face(), Session(tmp_path / "mine.safetensors")
    plain = session.invert(picture, False, refine=0, detail=False).ws
    assert torch.equal(session.invert(picture, False, detail=False).ws, plain)
