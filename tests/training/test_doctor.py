"""What doctor finds before a long run, and that it writes nothing."""

import math
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

import pixel2style as p2s
from pixel2style import cli
from pixel2style.config import GeneratorConfig, LossConfig, TrainConfig
from pixel2style.errors import ConfigError
from pixel2style.generators.stylegan2.network import StyleGAN2
from pixel2style.training import doctor, setup
from pixel2style.training.distributed import make_accelerator
from pixel2style.training.doctor import Finding, examine
from tests.support.small_run import SHAPE, small_config

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("small")


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> TrainConfig:
    loss = LossConfig(lpips=0.0, identity=0.0)
    return small_config(folder, out=str(tmp_path / "run"), loss=loss, lr=2e-3)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of few steps, after which any loss will do: for tests of what the other checks find."""
    monkeypatch.setattr(doctor, "STEPS", 5)
    monkeypatch.setattr(doctor, "FALL", -math.inf)


def wrong(config: TrainConfig) -> list[Finding]:
    return [finding for finding in examine(config) if finding.ok is False]


def everything_in(folder: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*")}


def command(config: TrainConfig, file: Path) -> list[str]:
    file.write_bytes(TypeAdapter(TrainConfig).dump_json(config))
    return ["doctor", str(file)]


def test_a_run_that_can_work_has_nothing_wrong_and_leaves_nothing(
    config: TrainConfig, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    words = command(replace(config, validation=config.data), tmp_path / "config.json")
    before = everything_in(folder) | everything_in(tmp_path)
    assert cli.main(words) == 0
    said = capsys.readouterr()
    checks = [line.split()[:2] for line in said.out.splitlines()]
    named = ["device", "data", "validation", "model", "disk", "memory", "time", "learning"]
    assert checks == [["note" if name == "time" else "ok", name] for name in named]
    assert all(line.startswith("... ") for line in said.err.splitlines())
    assert "importing" not in said.err and "... reading all pictures" in said.err
    assert everything_in(folder) | everything_in(tmp_path) == before


@pytest.mark.usefixtures("short")
def test_without_validation_or_a_folder_it_remarks_and_goes_on(
    config: TrainConfig, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(examine(replace(config, out="")))
    assert [finding.check for finding in found if finding.ok is None] == ["validation", "time"]
    assert found[-1].check == "learning"
    assert list(tmp_path.iterdir()) == []


def test_every_broken_file_is_listed_and_counted(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources, targets = tmp_path / "sources", tmp_path / "targets"
    for place in (sources, targets):
        place.mkdir()
        Image.new("RGB", (64, 64), "gray").save(place / "good.png")
    for number in range(12):
        (sources / f"torn{number}.png").write_bytes(b"torn")
        Image.new("RGB", (64, 64)).save(targets / f"torn{number}.png")
    Image.new("RGB", (64, 64)).save(sources / "lonely.png")
    Image.new("RGB", (64, 64)).save(targets / "waiting.png")
    Image.new("RGB", (64, 48)).save(sources / "wide.png")
    Image.new("RGB", (64, 64)).save(targets / "wide.png")
    pairs = replace(config, data=(str(sources),), targets=(str(targets),), generated=0)
    assert cli.main(command(pairs, tmp_path / "config.json")) == 2
    said = capsys.readouterr()
    bad = [line for line in said.out.splitlines() if line.startswith("WRONG")]
    names = [*(f"torn{number}.png" for number in range(12)), "lonely.png", "waiting.png", "wide.png"]
    assert len(bad) == len(names)
    assert all(any(f"/{name}" in line for line in bad) for name in names)
    assert "learning" not in said.out  # there is nothing to learn from
    *doing, last = said.err.splitlines()
    assert last.startswith("pixel2style: 15 ") and all(line.startswith("... ") for line in doing)


def test_a_folder_that_is_not_there_is_wrong_beside_one_that_is(config: TrainConfig) -> None:
    found = wrong(replace(config, validation=("/missing/folder",)))
    assert [(finding.check, "/missing/folder" in finding.message) for finding in found] == [("validation", True)]


@pytest.mark.usefixtures("short")
def test_a_model_that_does_not_fit_what_it_is_to_become(config: TrainConfig, tmp_path: Path) -> None:
    """Another generator is accepted, and its rows are new; another encoder or kind of source is refused."""
    larger = tmp_path / "larger.safetensors"
    p2s.save(StyleGAN2(GeneratorConfig(size=16, width=16, mapping_layers=1, channel_multiplier=1)), larger)
    model = tmp_path / "model.safetensors"
    model_of_sketches = setup.initial_state(replace(config, task="sketch"), make_accelerator(config)).model
    p2s.save(model_of_sketches, model)
    same = replace(config, task="sketch", start_from=str(model))
    [fits] = [found for found in examine(replace(same, generator=str(larger))) if found.check == "model"]
    assert fits.ok
    assert "6 rows into stylegan2 at 16 pixels" in fits.message
    [found] = wrong(replace(same, encoder=replace(SHAPE, neck=3)))
    assert (found.check, "--encoder" in found.message) == ("model", True)
    [found] = wrong(replace(same, task="invert"))
    assert (found.check, "sketch" in found.message) == ("model", True)


@pytest.mark.parametrize(
    ("change", "check", "named"),
    [
        ({"device": "mps"}, "device", "mps"),
        ({"batch": 3, "accumulate": 2}, "device", "multiples of 2"),
        ({"generator": "nowhere.pt"}, "model", "nowhere.pt"),
        ({"encoder": replace(SHAPE, input_size=100)}, "model", "change --encoder"),
        ({"loss": LossConfig(l2=0.0, lpips=0.0, identity=0.0)}, "learning", "every loss"),
        ({"loss": LossConfig(identity_network="faces.pth")}, "learning", "faces.pth"),
        ({"lr": 0.0}, "learning", "--lr"),
        ({"lr": 1e20, "optimizer": "adam", "clip": 0.0}, "learning", "--lr"),
    ],
)
def test_what_cannot_work_is_found(config: TrainConfig, change: dict[str, Any], check: str, named: str) -> None:
    [found] = wrong(replace(config, **change))
    assert found.check == check
    assert named in found.message
    assert not Path(config.out).exists()


@pytest.mark.parametrize("change", [{"data": ()}, {"task": "inverrt"}, {"feedback": False}])
def test_settings_that_contradict_one_another_are_refused_as_train_refuses_them(
    config: TrainConfig, change: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        list(examine(replace(config, **change)))


Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.mark.usefixtures("short")
def test_too_little_room_is_found_with_what_is_needed(config: TrainConfig, monkeypatch: Any) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 10**6))
    [found] = wrong(config)
    assert found.check == "disk"
    assert "0.0 GB free" in found.message
    assert "choose another --out" in found.message


@pytest.mark.usefixtures("short")
def test_a_place_that_is_no_folder_is_found(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    [found] = wrong(replace(config, out=str(tmp_path / "file" / "run")))
    assert found.check == "disk"
    assert "cannot be written into" in found.message


@pytest.mark.usefixtures("short")
def test_too_little_memory_is_found_with_advice(config: TrainConfig, monkeypatch: Any) -> None:
    memory = namedtuple("Memory", ["total", "available"])(10**8, 10**8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    [found] = wrong(config)
    assert found.check == "memory"
    assert "of 0.1 GB" in found.message
    assert "--accumulate" in found.message


def test_memory_that_runs_out_is_found_too(config: TrainConfig, monkeypatch: Any) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(doctor, "training_loop", full)
    [found] = wrong(config)
    assert found.check == "memory"
    assert "lower --batch" in found.message


@pytest.mark.parametrize(
    ("batch", "accumulate", "used", "parts"),
    [(8, 1, 5, 1), (2, 1, 2, 1), (8, 8, 5, 5), (8, 4, 4, 2), (12, 2, 5, 1), (1, 1, 1, 1)],
)
def test_the_check_holds_no_more_pictures_at_once_than_the_run(
    config: TrainConfig, batch: int, accumulate: int, used: int, parts: int
) -> None:
    small = doctor.overfit_config(replace(config, batch=batch, accumulate=accumulate))
    assert (small.batch, small.accumulate) == (used, parts)
    assert small.batch / small.accumulate <= batch / accumulate


def test_what_is_measured_are_steps_that_draw(config: TrainConfig) -> None:
    assert doctor.overfit_config(replace(config, rows_until=1_000)).rows_until == 0


def memory_message(pictures: int = 0, **changes: Any) -> str:
    config = replace(TrainConfig(), **changes)
    small = replace(config, batch=5, accumulate=1)
    return doctor._memory(config, small, 1.0, 2.0, torch.device("cpu"), pictures).message


def test_memory_grows_with_what_is_looked_at_at_once_and_with_what_is_kept() -> None:
    assert "up to 2.0 of" in memory_message(batch=5)
    assert "up to 3.0 of" in memory_message(batch=10)
    assert "up to 4.0 of" in memory_message(batch=10, generated=5)
    assert "up to 3.0 of" in memory_message(batch=20, accumulate=2)
    assert "up to 2.0 of" in memory_message(batch=5, accumulate=5)  # never less than was measured
    assert "up to 4.0 of" in memory_message(10_000, batch=5)
    assert "up to 3.0 of" in memory_message(10_000, batch=5, memory=1.0)


@pytest.mark.parametrize(
    ("config", "total"),
    [
        (TrainConfig(batch=8, steps=1_000), "66.7 minutes"),
        (TrainConfig(batch=8, generated=4, iterations=2, steps=3_000), "10.0 hours"),
        (TrainConfig(batch=2, steps=60), "1.0 minutes"),
    ],
)
def test_time_counts_all_iterations_of_all_pictures(config: TrainConfig, total: str) -> None:
    assert f"about {total} for {config.steps} steps" in doctor._time(config, 0.5)


@pytest.mark.parametrize(("minutes", "step"), [(2, "step 30"), (0, ""), (90, "")])
def test_the_time_that_is_given_ends_a_run_before_its_last_step(minutes: float, step: str) -> None:
    said = doctor._time(TrainConfig(batch=8, steps=1_000, minutes=minutes), 0.5)
    assert ("--minutes" in said) == bool(step) and step in said


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_the_preset_stands_first_or_last(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], last: bool
) -> None:
    name, *words = command(config, tmp_path / "config.json")
    options = ["--data", "/missing/folder", "--loss.l2", "2"]
    assert cli.main([name, *(options + words if last else words + options)]) == 2
    assert "WRONG  data        /missing/folder holds no pictures" in capsys.readouterr().out
