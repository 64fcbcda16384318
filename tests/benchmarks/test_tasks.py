"""`benchmarks/tasks.py`: what it compares and how it scores, on crops of a photograph and models of random weights."""

import dataclasses
import json
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import photographs
import pixel2style as p2s
import task_methods
import task_scores
import tasks
from pixel2style import images
from pixel2style.errors import CheckpointError, ConfigError
from pixel2style.inference import prepare
from pixel2style.inference.optimize import adam
from pixel2style.tasks import degrade, find_task
from pixel2style.training import dataset
from tests.support import stand_in
from tests.support.paths import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")
CHANNELS = {"invert": 3, "superres": 3, "inpaint": 4, "frontalize": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs of one face, the second nearer."""
    made = tmp_path_factory.mktemp("photographs")
    photo = images.load(ROOT / "examples" / "astronaut.png")
    for index, box in enumerate([(80, 0, 380, 300), (100, 10, 340, 250)]):
        images.save(photo.crop(box).resize((256, 256)), made / f"{index}.png")
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of random weights for every task."""
    made = tmp_path_factory.mktemp("models")
    for task, channels in CHANNELS.items():
        model = stand_in.random_model(channels=channels)
        model.config = dataclasses.replace(model.config, task=task)
        p2s.save(model, made / f"{task}.safetensors")
    return {task: made / f"{task}.safetensors" for task in CHANNELS}


@pytest.fixture(scope="module")
def model() -> "p2s.PSP":
    return stand_in.random_model()


@pytest.fixture(scope="module")
def scorer() -> task_scores.TaskScorer:
    return task_scores.TaskScorer()


def case_of(task: str, kind: str = "") -> task_methods.Case:
    return next(case for case in task_methods.CASES if (case.task, case.kind) == (task, kind))


def asked(task: str, kind: str, folder: Path, place: int = 0) -> task_methods.Example:
    found = list(enumerate(photographs.read([folder])))
    return task_methods.examples(case_of(task, kind), found)[place]


def scores_of(before: float | None, after: float | None, identity: float = 0.5) -> task_scores.ResultScores:
    scores = dict.fromkeys(task_scores.SCORES, 0.0) | {"identity": identity}
    return task_scores.ResultScores(scores, torch.randn(2, 4), (after, before), 0.5)


def invisible(factor: int) -> Tensor:
    """A pattern ``[1 3 256 256]`` of which nothing is left when it is reduced."""
    rows = degrade.reduction(256, factor)
    unseen = torch.eye(256, dtype=torch.float64) - torch.linalg.pinv(rows) @ rows
    noise = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (unseen @ noise).float()


def test_a_tar_holds_the_same_photographs_as_its_folder_and_masks_are_none(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "faces.tar", "w") as archive:
        for name in ("1.png", "0.png"):
            archive.add(folder / name, f"images/{name}")
        archive.add(folder / "0.png", "masks/0.png")
    read = photographs.read([tmp_path / "faces.tar"])
    assert [picture.tobytes() for picture in read] == [picture.tobytes() for picture in photographs.read([folder])]


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "none.tar").write_bytes(b"none")
    with pytest.raises(ConfigError, match="neither a folder nor a tar"):
        photographs.read([tmp_path / "none.tar"])


@pytest.mark.parametrize(("count", "found"), [(None, [0, 1, 2, 3, 4]), (2, [0, 2]), (9, [0, 1, 2, 3, 4]), (0, [])])
def test_some_are_evenly_spaced_among_all(count: int | None, found: list[int]) -> None:
    assert photographs.spaced(range(5), count) == found


@pytest.mark.parametrize("case", task_methods.CASES, ids=lambda case: f"{case.task}{case.kind}")
def test_a_source_is_what_training_makes_and_follows_from_the_place_alone(
    case: task_methods.Case, folder: Path
) -> None:
    found = list(enumerate(photographs.read([folder])))
    alone = task_methods.examples(case, found[1:])[0]
    assert torch.equal(alone.source, task_methods.examples(case, found)[1].source)
    seeds = dataset.sample_seeds(task_methods.SEED, 0, 2)[1:]
    task = find_task(case.task)
    assert torch.equal(alone.source, dataset.make_sources(task, alone.target, seeds, case.source, mirror=False))
    assert torch.equal(alone.source, alone.target) == (case.task in ("invert", "frontalize"))


def test_trivial_results_are_what_they_are_called(model: "p2s.PSP", folder: Path) -> None:
    def given(task: str, kind: str = "") -> tuple[task_methods.Example, dict[str, Tensor]]:
        example = asked(task, kind, folder)
        return example, {name: how(example).picture for name, how in task_methods.trivial(case_of(task, kind), model)}

    _, inverted = given("invert")
    assert torch.equal(inverted["the average face"], task_methods.drawn(model, model.w_avg[None]))
    small, enlarged = given("superres", "8")
    assert torch.equal(enlarged["bicubic enlargement"], degrade.low_resolution(small.target, 8))
    masked_example, masked = given("inpaint", "half")
    assert masked_example.known is not None
    assert torch.equal(masked["the masked picture"], masked_example.target * masked_example.known)
    photo, fronts = given("frontalize")
    assert torch.equal(fronts["the photograph itself"], photo.target)
    assert torch.equal(fronts["the mirrored photograph"], photo.target.flip(-1))


def test_rows_for_superres_follow_from_the_small_picture_alone(model: "p2s.PSP", folder: Path) -> None:
    case, example = case_of("superres", "16"), asked("superres", "16", folder)
    through = task_methods.degradation(case, example)
    assert through is not None
    assert torch.equal(through(example.target), example.source)
    other = example.target + 0.3 * invisible(16)
    assert (through(other) - through(example.target)).abs().max() < 1e-4
    assert through(other.requires_grad_()).sum().requires_grad


@pytest.mark.parametrize(("task", "kind"), [("inpaint", "box"), ("superres", "32")])
def test_what_the_source_does_not_show_changes_no_row(model: "p2s.PSP", folder: Path, task: str, kind: str) -> None:
    case, example = case_of(task, kind), asked(task, kind, folder)
    changed = example.target + 0.3 * invisible(32) if task == "superres" else example.target * example.known
    assert not torch.allclose(changed, example.target, atol=0.1)
    other = dataclasses.replace(example, target=changed)
    whole = dataclasses.replace(example, source=example.target)
    optimization = task_methods.Optimization(steps=3, bf16=False)
    first, second = (task_methods.optimized(model, case, optimization, one).picture for one in (example, other))
    inverted = task_methods.optimized(model, case_of("invert"), optimization, whole).picture
    assert (first - second).abs().max() < 0.05 * (first - inverted).abs().max()


def test_optimised_rows_are_kept_and_taken_from_where_they_lie(
    model: "p2s.PSP", folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, example, optimization = (
        case_of("invert"),
        asked("invert", "", folder),
        task_methods.Optimization(2, folder=tmp_path),
    )
    first = task_methods.optimized(model, case, optimization, example)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"damaged")
    assert torch.equal(task_methods.optimized(model, case, optimization, example).picture, first.picture)
    kept = load_file(file)
    save_file({**kept, "ws": model.w_avg[None].clone()}, file)
    monkeypatch.setattr(adam, "optimize", None)
    again = task_methods.optimized(model, case, optimization, example)
    assert torch.equal(again.picture, task_methods.drawn(model, model.w_avg[None]))
    assert again.seconds is not None and again.seconds > float(kept["seconds"])


def test_rows_are_kept_apart_by_everything_that_they_follow_from(
    model: "p2s.PSP", folder: Path, tmp_path: Path
) -> None:
    def kept(task: str, kind: str = "", place: int = 0, steps: int = 1, of: "p2s.PSP" = model) -> set[str]:
        optimization = task_methods.Optimization(steps, folder=tmp_path)
        task_methods.optimized(of, case_of(task, kind), optimization, asked(task, kind, folder, place))
        return {file.name for file in tmp_path.iterdir()}

    before = kept("invert")
    assert kept("frontalize") == before  # the same rows are asked for
    counts = [len(kept("invert", place=1)), len(kept("invert", steps=2)), len(kept("superres", "8"))]
    counts += [len(kept("superres", "16")), len(kept("invert", of=stand_in.random_model(1)))]
    assert counts == [2, 3, 4, 5, 6]
    assert not any(name.startswith(".") for name in kept("invert"))


def test_known_pixels_change_no_score_of_hidden_ones(scorer: task_scores.TaskScorer, folder: Path) -> None:
    example = asked("inpaint", "half", folder)
    assert example.known is not None
    wrong_where_known = torch.where(example.known > 0, -example.target, example.target)
    scores = scorer(task_methods.Result(wrong_where_known), example).scores
    assert scores["l2"] > 0.1
    assert (scores["l2_hidden"], scores["lpips_hidden"]) == (0, pytest.approx(0, abs=1e-6))


def test_hidden_pixels_are_scored_by_their_own_number(scorer: task_scores.TaskScorer, folder: Path) -> None:
    example = asked("inpaint", "box", folder)
    assert example.known is not None
    off = example.target + torch.where(example.target > 0, -0.5, 0.5) * (1 - example.known)
    found = scorer(task_methods.Result(off), example).scores
    assert found["l2_hidden"] == pytest.approx(0.25, rel=1e-4)
    assert found["l2"] == pytest.approx(0.25 * float((1 - example.known).mean()), rel=1e-4)
    assert found["lpips_hidden"] == pytest.approx(found["lpips"], rel=1e-4)


def test_the_photograph_itself_is_alike_in_everything(scorer: task_scores.TaskScorer, folder: Path) -> None:
    example = asked("frontalize", "", folder)
    found = scorer(task_methods.Result(example.target), example, angles=True)
    assert found.scores["identity"] == pytest.approx(1) and found.scores["identity_dlib"] == pytest.approx(1)
    assert found.yaws is not None and found.yaws[0] is not None and found.yaws[0] == found.yaws[1]
    assert torch.equal(*found.features)


def test_an_empty_picture_has_no_face(scorer: task_scores.TaskScorer) -> None:
    assert scorer.yaw(torch.zeros(1, 3, 256, 256)) is None


def test_photographs_are_grouped_by_the_size_of_their_angle() -> None:
    found = [scores_of(-5.0, 1.0, 0.9), scores_of(15.0, -3.0, 0.8), scores_of(-12.0, None, 0.1), scores_of(30.0, 20.0)]
    row = task_scores.summarized("frontalize", "", "x", [*found, scores_of(None, 7.0)], whole=True)
    every, near, middle, far = row.yaw_groups
    assert [group.photographs for group in row.yaw_groups] == [4, 1, 2, 1]
    assert (near.before, near.after, far.after) == (5.0, 1.0, 20.0)
    assert (middle.before, middle.after, middle.faceless) == (15.0, 3.0, 1)
    assert middle.identity == pytest.approx(0.45)
    assert every.after == pytest.approx((1 + 3 + 20) / 3)


def test_no_distance_is_computed_from_some_of_the_photographs() -> None:
    found = [scores_of(0.0, 0.0) for _ in range(3)]
    assert task_scores.summarized("invert", "", "x", found, whole=False).frechet is None
    whole = task_scores.summarized("invert", "", "x", found, whole=True)
    assert whole.frechet is not None and whole.frechet > 0
    assert whole.per_second == pytest.approx(2)


@pytest.mark.parametrize("task", tasks.TASKS)
def test_a_table_has_its_columns_in_every_line(task: str) -> None:
    found = [dataclasses.replace(scores_of(5.0, None), yaws=(None, 5.0) if task == "frontalize" else None)] * 3
    rows = [
        task_scores.summarized(task, "kind", "x", found, True),
        task_scores.summarized(task, "kind", "y", found[:1], False),
    ]
    said = task_scores.of_task(task, "faces", rows)
    lines = [line for line in said.splitlines() if line.startswith("|")]
    first = lines[:4]
    assert len({line.count("|") for line in first}) == 1
    assert ("hidden" in first[0], "yaw after" in first[0]) == (task == "inpaint", task == "frontalize")
    assert ("| y (1 of them) |" in first[3], "| x |" in first[2]) == (True, True)
    assert (len(lines) > 4) == (task == "frontalize")


def test_a_task_without_a_model_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(task: str) -> str:
        if task == "invert":
            return "faces"
        raise CheckpointError("none")

    monkeypatch.setattr(prepare, "model_for", none)
    given = ["inpaint=a/b=c.safetensors"]
    assert tasks.models(given, list(tasks.TASKS)) == {"invert": "faces", "inpaint": "a/b=c.safetensors"}
    said = capsys.readouterr().out
    assert "superres is left out" in said and "--models frontalize=FILE" in said and "inpaint" not in said
    with pytest.raises(ConfigError, match="sketch=x"):
        tasks.models(["sketch=x"], [])


def test_a_model_of_another_task_is_refused(
    files: dict[str, Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(folder), "--tasks", "superres", "--models", f"superres={files['frontalize']}"]
    assert tasks.main([*words, "--threads", "1"]) == 2
    said = capsys.readouterr().err
    assert "frontalize" in said and "superres" in said


@pytest.mark.parametrize(
    ("chosen", "again"),
    [
        (("frontalize",), ("frontalize",)),
        pytest.param(tasks.TASKS, ("inpaint", "frontalize"), marks=pytest.mark.slow),
    ],
)
def test_a_run_continues_where_it_was_interrupted(
    chosen: tuple[str, ...],
    again: tuple[str, ...],
    files: dict[str, Path],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--data", str(folder), "--limit", "2", "--optimize", "1", "--steps", "1", "--threads", "1"]
    words += ["--cache", str(tmp_path / "rows"), "--json", str(tmp_path / "found.json")]
    words += ["--models", *(f"{task}={file}" for task, file in files.items())]
    assert tasks.main([*words, "--tasks", *chosen]) == 0
    first, said = json.loads((tmp_path / "found.json").read_text()), capsys.readouterr().out
    monkeypatch.setattr(adam, "optimize", None)
    assert tasks.main([*words, "--tasks", *again]) == 0
    second = json.loads((tmp_path / "found.json").read_text())
    for rows in (first["rows"], second["rows"]):
        for row in rows:
            row.pop("per_second")
    assert second["rows"] == [row for row in first["rows"] if row["task"] in again]
    assert tasks.main([*words, "--tasks", "frontalize", "--default-only"]) == 0
    (alone,) = json.loads((tmp_path / "found.json").read_text())["rows"]
    alone.pop("per_second")
    assert alone["method"] == tasks.OURS and alone["photographs"] == 2 and alone in first["rows"]
    rows = {(row["task"], row["kind"], row["method"], row["photographs"]): row for row in first["rows"]}
    cases = [case for case in task_methods.CASES if case.task in chosen]
    # frontalize has two trivial results, and inversion is also measured as users get it
    assert len(rows) == len(cases) * 4 + 1 + ("invert" in chosen)
    assert all(f"## {task}" in said for task in chosen) and "not FID" in said
    if "inpaint" in chosen:
        assert rows["inpaint", "strokes", "the masked picture", 2]["scores"]["l2_hidden"] > 0
    if "superres" in chosen:
        assert rows["superres", "8", tasks.OURS, 1]["frechet"] is None
