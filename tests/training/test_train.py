"""Runs: training, stopping at any moment, resuming to the bit, and refusing what cannot work."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pixel2style as p2s
from pixel2style import checkpoints
from pixel2style.config import EncoderShape, GeneratorConfig, LossConfig, SourceConfig, TrainConfig
from pixel2style.errors import CheckpointError, ConfigError, TrainingError
from pixel2style.generators.stylegan2.network import StyleGAN2
from pixel2style.metrics.scores import Scorer
from pixel2style.training import loop, run_folder, setup
from pixel2style.training.evaluate import evaluate
from pixel2style.training.run_folder import RunFolder
from pixel2style.training.state import State
from pixel2style.training.stopping import Stop
from tests.support import shared_run
from tests.support.golden_rule import img
from tests.support.killed_run import KILLED
from tests.support.paths import PYTHONPATH
from tests.support.small_run import (
    SHAPE,
    differences,
    everything,
    gradients,
    in_double,
    small_config,
    start_run,
    train_steps,
)

pytestmark = pytest.mark.usefixtures("one_thread")

NO_NETWORKS = LossConfig(lpips=0.0, identity=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("small")


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> TrainConfig:
    return small_config(folder, out=str(tmp_path / "run"))


def lines(config: TrainConfig, key: str = "train/loss") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (Path(config.out) / "log.jsonl").read_text().splitlines()]
    return [line for line in found if key in line]


@pytest.fixture(scope="module")
def unbroken(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, State]:
    """A run of four steps, validated on its own pictures."""
    config = small_config(folder, out=str(tmp_path_factory.mktemp("unbroken") / "run"))
    config = replace(config, validation=config.data, judge_every=2, save_every=2, generated=1, lr=1e-3)
    return config, loop.fit(config)


@pytest.mark.parametrize("optimizer", [pytest.param("ranger", marks=pytest.mark.slow), "adamw"])
def test_four_steps_and_four_more_equal_eight_unbroken_to_the_bit(config, tmp_path, optimizer):
    """Ranger's slow weights take part: it looks ahead in step 6."""
    config = replace(config, optimizer=optimizer, loss=replace(NO_NETWORKS, code_regression=0.1), lr=1e-3)
    whole = loop.fit(replace(config, steps=8, out=str(tmp_path / "whole")))
    broken = replace(config, out=str(tmp_path / "broken"))
    loop.fit(replace(broken, steps=4))
    again = loop.fit(replace(broken, steps=8))
    assert again.step == whole.step == 8
    assert differences(whole, again) == []
    assert lines(replace(config, out=str(tmp_path / "whole")))[-1]["train/loss"] == lines(broken)[-1]["train/loss"]
    assert [line["step"] for line in lines(broken)] == list(range(1, 9))


@pytest.mark.slow
def test_a_run_of_networks_with_statistics_goes_on_to_the_bit_too(config, tmp_path):
    shape = replace(SHAPE, kind="last_layer")
    config = replace(config, encoder=shape, loss=NO_NETWORKS, ema=0.0)
    whole = loop.fit(replace(config, steps=4, judge_every=2, out=str(tmp_path / "whole")))
    loop.fit(replace(config, steps=2))
    assert differences(whole, loop.fit(replace(config, steps=4))) == []  # and evaluation changes nothing
    assert whole.average is whole.model.encoder


@pytest.mark.slow
def test_a_frugal_run_is_the_usual_one_and_goes_on_to_the_bit(config, tmp_path):
    config = replace(config, loss=NO_NETWORKS, optimizer="ranger", clip=0.0, iterations=1, ema=0.0, lr=1e-3)
    config = replace(config, generated=0)
    usual = loop.fit(replace(config, steps=8, out=str(tmp_path / "usual")))
    whole = loop.fit(replace(config, steps=8, frugal=True, out=str(tmp_path / "whole")))
    loop.fit(replace(config, steps=3, frugal=True))
    again = loop.fit(replace(config, steps=8, frugal=True))
    for name, value in usual.model.encoder.state_dict().items():
        assert torch.equal(again.model.encoder.state_dict()[name], whole.model.encoder.state_dict()[name]), name
        assert torch.allclose(whole.model.encoder.state_dict()[name], value, atol=1e-6), name
    logged = [lines(replace(config, out=str(tmp_path / name)))[-1]["train/gradient"] for name in ("usual", "whole")]
    assert logged[0] == pytest.approx(logged[1], rel=1e-3)


def test_a_frugal_run_skips_a_step_of_no_finite_loss(config):
    state, context = start_run(
        replace(config, loss=NO_NETWORKS, clip=0.0, iterations=1, one_iteration_until=0, frugal=True)
    )
    train_steps(state, context, 1)
    before = {name: value.clone() for name, value in state.model.encoder.state_dict().items()}
    hook = next(state.model.encoder.trunk.children()).register_forward_hook(Poison(1))
    assert not math.isfinite(train_steps(state, context, 1)[0]["gradient"])
    hook.remove()
    assert all(torch.equal(value, before[name]) for name, value in state.model.encoder.state_dict().items())
    assert math.isfinite(train_steps(state, context, 1)[0]["gradient"])


class Killed(BaseException):
    """Raised in a step, ends the run there: nothing is saved."""


@pytest.mark.slow
def test_a_run_that_ends_within_a_step_goes_on_from_its_last_state_to_the_bit(config, tmp_path):
    def kill(step: int, losses: Mapping[str, float]) -> None:
        if step == 4:
            raise Killed

    config = replace(config, loss=NO_NETWORKS, generated=0, save_every=3, steps=5)
    with pytest.raises(Killed):
        loop.fit(config, kill)
    assert [line["step"] for line in lines(config)] == [1, 2, 3, 4]
    again, whole = loop.fit(config), loop.fit(replace(config, out=str(tmp_path / "whole")))
    assert differences(again, whole) == []
    assert [line["step"] for line in lines(config)] == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_like_an_uninterrupted_one(folder, tmp_path):
    kills, reached = 20, 10
    small_config(folder)
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.support.killed_run", str(folder), str(kills), "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    *found, end = [int(line) for line in done.stdout.split()]
    assert len(found) == kills
    assert found == sorted(found)
    assert found[-1] >= reached
    whole = loop.fit(small_config(folder, out=str(tmp_path / "whole"), **KILLED, steps=end))
    killed = RunFolder(folder / "killed").read_state()
    assert killed is not None
    assert killed["counts"][0] == end
    state = whole.model.encoder.state_dict()
    assert [name for name, value in killed["encoder"].items() if not torch.equal(value, state[name])] == []


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one_with_the_joint_batch(folder, tmp_path):
    shared_run.write_numbers(folder, tmp_path / "one")
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29500 + os.getpid() % 1000)}
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1", **place}
    command = [sys.executable, "-m", "tests.support.shared_run", str(folder), str(tmp_path / "two")]
    subprocess.run(command, env=environment, timeout=240, check=True)
    one, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("one.0", "two.0", "two.1"))
    assert len([name for name in one if name.startswith("gradient.")]) > 50
    for name, value in one.items():
        assert torch.equal(first[name], second[name]), name
        assert (first[name] - value).norm() <= 1e-5 * value.norm(), name


def test_a_batch_taken_in_parts_gives_the_same_gradient(config):
    config = replace(config, iterations=2, one_iteration_until=0, loss=replace(NO_NETWORKS, code_regression=0.1))
    found = []
    for parts in (1, 2):
        state, context = start_run(replace(config, accumulate=parts, clip=0.0))
        found.append(gradients(state, in_double(state, context)))
    assert len(found[0]) > 50
    for name, value in found[0].items():
        assert (found[1][name] - value).norm() <= 1e-5 * value.norm() + 1e-9, name


def test_a_step_changes_every_weight_of_the_encoder_and_none_of_the_generator(unbroken):
    config, state = unbroken
    fresh, _ = start_run(config)
    before, after = fresh.model.encoder.state_dict(), state.model.encoder.state_dict()
    still = [name for name, value in before.items() if torch.equal(value, after[name])]
    assert still == ["pyramid.fine.weight", "pyramid.fine.bias"]  # a generator of four rows has no fine ones
    generator = state.model.generator.state_dict()
    assert all(torch.equal(value, generator[name]) for name, value in fresh.model.generator.state_dict().items())


def test_the_log_has_every_number(unbroken):
    config, _ = unbroken
    steps = lines(config)
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    terms = {f"train/{name}" for name in ("loss", "l2", "lpips", "identity", "gradient")}
    assert all(terms | {"lr", "pictures_per_s", "memory_gb", "skipped_steps"} <= line.keys() for line in steps)
    assert "train/l2_look1" not in steps[0]  # one iteration until step 1
    assert "train/l2_look1" in steps[1]
    evaluated = lines(config, "validation/loss")
    assert [line["step"] for line in evaluated] == [0, 2, 4]
    assert {"validation/l2", "validation/lpips", "validation/identity", "scores/identity"} <= evaluated[0].keys()
    assert all(math.isfinite(value) for line in [*steps, *evaluated] for value in line.values())


def test_the_best_model_is_the_one_of_the_least_validation_loss(unbroken):
    config, state = unbroken
    losses = {line["step"]: line["validation/loss"] for line in lines(config, "validation/loss")}
    assert losses[state.best_step] == state.best == min(losses.values())
    best, last = (checkpoints.load(Path(config.out) / name) for name in (run_folder.BEST, run_folder.MODEL))
    same = all(torch.equal(a, b) for a, b in zip(best.parameters(), last.parameters(), strict=True))
    assert same == (state.best_step == 4)


def test_the_runs_model_file_is_complete_and_inverts_as_the_averaged_encoder_does(unbroken):
    config, state = unbroken
    model = checkpoints.load(Path(config.out) / run_folder.MODEL)
    pictures = img("pictures", 2, 3, 100, 100)
    with torch.no_grad():
        ws = model.encode(pictures)
        assert torch.allclose(ws, state.averaged().eval().encode(pictures), atol=1e-5)
        assert model.decode(ws).shape == (2, 3, 8, 8)
        assert not torch.allclose(ws, model.encode(pictures, iterations=1))
    assert model.config.iterations == 2
    assert model.config.task == "invert"


def test_a_finished_run_takes_no_more_steps(unbroken):
    config, state = unbroken
    assert differences(state, loop.fit(config)) == []


def test_two_evaluations_of_the_same_weights_are_equal(unbroken):
    config, state = unbroken
    _, context = start_run(config)
    pictures = setup.validation_pictures(config, state.model)
    first, second = (evaluate(state, context, Scorer("cpu"), pictures) for _ in range(2))
    assert first.losses == second.losses
    assert first.scores == second.scores
    assert [row.name for row in first.rows] == ["140", "160"]


def test_another_configuration_is_refused_with_its_fields_and_more_steps_are_not(unbroken):
    config, _ = unbroken
    with pytest.raises(ConfigError, match=r"another loss.lpips, batch, lr: choose another --out"):
        loop.fit(replace(config, lr=1.0, batch=4, loss=replace(config.loss, lpips=0.5)))
    folder = RunFolder(config.out)
    folder.write_config(replace(config, steps=5, minutes=1.0))
    folder.write_config(config)


@pytest.mark.slow
def test_the_configuration_in_the_folder_repeats_the_run(unbroken, tmp_path):
    config, state = unbroken
    again = replace(run_folder.read_config(Path(config.out) / run_folder.CONFIG), out=str(tmp_path))
    assert differences(state, loop.fit(again)) == []


class Poison:
    """A layer's output times NaN, from now on, for ``count`` calls."""

    def __init__(self, count: int):
        self.count = count

    def __call__(self, module: torch.nn.Module, arguments: Any, output: Tensor) -> Tensor:
        self.count -= 1
        return output * math.nan if self.count >= 0 else output


@pytest.mark.parametrize("kind", ["pyramid", "last_layer"])
def test_a_step_without_a_finite_gradient_changes_nothing_that_is_trained(config, kind):
    state, context = start_run(replace(config, iterations=1, encoder=replace(SHAPE, kind=kind), loss=NO_NETWORKS))
    train_steps(state, context, 1)
    before = {name: value.clone() for name, value in everything(state).items() if not name.startswith("average")}
    first = next(state.model.encoder.trunk.children())
    hook = first.register_forward_hook(Poison(1))
    assert not math.isfinite(train_steps(state, context, 1)[0]["gradient"])
    hook.remove()
    after = everything(state)
    assert [name for name, value in before.items() if not torch.equal(after[name], value)] == ["step"]
    assert (state.skipped, state.skipped_in_a_row) == (1, 1)
    assert math.isfinite(train_steps(state, context, 1)[0]["gradient"])
    assert (state.skipped, state.skipped_in_a_row) == (1, 0)
    assert not torch.equal(everything(state)["bank"], before["bank"])


@pytest.mark.slow
def test_twenty_steps_in_a_row_without_a_gradient_end_the_run_with_advice(config):
    config = replace(config, steps=100, iterations=1, loss=NO_NETWORKS, lr=1e20, clip=0.0, warmup=0, optimizer="adam")
    config = replace(config, batch=1, generated=0)
    with pytest.raises(TrainingError, match="lower --lr"):
        loop.fit(config)
    assert len(lines(config)) < 40


class Stopper(Stop):
    """Sends a signal to this process once ``step`` is logged."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number

    def watch(self, step: int, losses: Mapping[str, float]) -> None:
        if step == 3 and self.signal is None:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_and_saves(config, number):
    before = signal.getsignal(number)
    stop = Stopper(number)
    state = loop.fit(replace(config, steps=50, loss=NO_NETWORKS), stop.watch, stop)
    kept = RunFolder(config.out).read_state()
    assert state.step == 4  # noticed after the next step
    assert kept is not None
    assert kept["counts"][0] == 4
    assert stop.signal == number
    assert signal.getsignal(number) == before


def test_a_script_that_is_interrupted_saves_and_raises(config):
    def interrupt(step: int, losses: Mapping[str, float]) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        loop.fit(replace(config, steps=50, loss=NO_NETWORKS), interrupt)
    assert RunFolder(config.out).read_state()["counts"][0] in (2, 3)


def test_fewer_steps_than_were_taken_are_refused_and_nothing_changes(unbroken):
    config, _ = unbroken
    with pytest.raises(ConfigError, match="--steps 4"):
        loop.fit(replace(config, steps=3))
    assert run_folder.read_config(Path(config.out) / run_folder.CONFIG) == config


@pytest.mark.parametrize("field", ["data", "validation"])
def test_the_folder_of_a_run_is_not_inside_one_of_its_pictures(config, folder, field):
    with pytest.raises(ConfigError, match="choose another --out"):
        loop.fit(replace(config, **{field: config.data}, out=str(Path(config.data[0]) / "run")))


@pytest.mark.slow
def test_old_states_are_deleted_and_a_damaged_last_one_is_skipped(config):
    config = replace(config, steps=5, save_every=1, keep=2, loss=NO_NETWORKS)
    state = loop.fit(config)
    folder = RunFolder(config.out)
    assert [file.name for file in folder.states()] == ["state-00000005.pt", "state-00000004.pt"]
    folder.states()[0].write_bytes(b"truncated")
    assert folder.read_state()["counts"][0] == 4
    assert differences(state, loop.fit(config)) == []


@pytest.mark.parametrize("task", ["invert", "frontalize", "sketch", "superres", "inpaint", "toonify", "domain"])
def test_every_task_that_makes_its_sources_can_be_trained_and_is_named_in_the_model(config, task):
    loss = replace(NO_NETWORKS, similarity=0.5) if task == "domain" else NO_NETWORKS
    config = replace(config, task=task, steps=1, generated=0, validation=config.data, judge_every=1, loss=loss)
    state = loop.fit(config)
    model = checkpoints.load(Path(config.out) / run_folder.MODEL)
    assert model.config.task == task
    assert model.source_channels == {"sketch": 1, "inpaint": 4}.get(task, 3)
    assert math.isfinite(state.best)
    assert (Path(config.out) / "pictures" / "validation-00000001.jpg").exists()
    if task == "domain":
        assert "scores/identity" not in lines(config, "validation/loss")[0]


def test_the_rate_is_constant_or_falls_along_a_cosine_to_a_fiftieth(config):
    config = replace(config, lr=1.0, warmup=10, steps=110)
    assert [loop.learning_rate(config, step) for step in (0, 9, 10, 60, 500)] == [0.1, 1, 1, 1, 1]
    config = replace(config, schedule="cosine")
    assert loop.learning_rate(config, 60) == pytest.approx(0.51)
    assert loop.learning_rate(config, 110) == loop.learning_rate(config, 500) == pytest.approx(0.02)


def test_an_average_follows_its_encoder_by_the_decay_and_takes_statistics_as_they_are(config):
    state, _ = start_run(replace(config, encoder=replace(SHAPE, kind="last_layer")))
    encoder = state.model.encoder
    weight, mean = next(encoder.parameters()), next(state.average.parameters())
    before = mean.clone()
    with torch.no_grad():
        weight += 1
    encoder.output[0].running_mean += 3
    loop.update_average(state.average, encoder, 0.9)
    assert torch.allclose(mean, before + 0.1, atol=1e-6)
    assert torch.equal(state.average.output[0].running_mean, encoder.output[0].running_mean)


def test_a_run_starts_from_a_model_file_with_its_shape_and_generator(unbroken, tmp_path):
    before, state = unbroken
    file = str(Path(before.out) / run_folder.MODEL)
    started, _ = start_run(replace(before, generator=None, start_from=file, encoder=EncoderShape()))
    found, expected = started.model.encoder.state_dict(), state.average.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    ours, theirs = started.model.generator.state_dict(), state.model.generator.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert all(weight.requires_grad for weight in started.model.encoder.parameters())


def test_a_model_for_a_generator_of_other_rows_keeps_all_layers_below_its_rows(unbroken, tmp_path):
    before, state = unbroken
    torch.manual_seed(1)
    larger = StyleGAN2(GeneratorConfig(size=16, width=32, mapping_layers=1, channel_multiplier=1))
    p2s.save(larger, tmp_path / "larger.safetensors")
    file = str(Path(before.out) / run_folder.MODEL)
    started, _ = start_run(replace(before, generator=str(tmp_path / "larger.safetensors"), start_from=file))
    found, expected = started.model.encoder.state_dict(), state.average.state_dict()
    assert started.model.encoder.config.rows == 6
    assert all(torch.equal(found[name], value) for name, value in expected.items() if not name.startswith("heads."))
    assert torch.equal(found["heads.0.out"], expected["heads.0.out"])  # three coarse rows before and after
    assert found["heads.1.out"].shape != expected["heads.1.out"].shape
    assert torch.equal(started.model.w_avg[0], larger.w_avg)


@pytest.mark.slow
def test_other_validation_pictures_reset_the_best_loss(config, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(config.data[0], other)
    config = replace(config, steps=2, loss=NO_NETWORKS, validation=config.data, judge_every=1)
    first = loop.fit(config)
    assert loop.fit(replace(config, validation=(str(other),))).best == math.inf
    assert loop.fit(config).best == first.best


def test_a_model_changed_to_read_sketches_reads_them_as_gray_pictures(unbroken):
    before, state = unbroken
    file = str(Path(before.out) / run_folder.MODEL)
    started, _ = start_run(replace(before, start_from=file, task="sketch"))
    gray = (img("gray", 1, 1, 64, 64) + 1) / 2
    with torch.no_grad():
        rows = started.model.eval().encode(gray, iterations=1)
        expected = state.averaged().eval().encode((2 * gray - 1).expand(-1, 3, -1, -1), iterations=1)
    inside = (rows - expected).norm() / (expected - started.model.w_avg).norm()
    assert inside < 0.2  # but for the border: padding is gray here and black there


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"data": ()}, "--data"),
        ({"out": ""}, "--out"),
        ({"task": "inverrt"}, "did you mean invert"),
        ({"feedback": False}, "--feedback"),
        ({"data": ("/missing/folder",)}, "/missing/folder"),
        ({"device": "mps"}, "mps"),
        ({"precision": "fp16"}, "fp16"),
        ({"loss": LossConfig(code_regression=1.0), "generated": 0}, "--loss.code-regression"),
        ({"loss": LossConfig(detail=1.0)}, "--loss.detail"),
        ({"trunk_weights": "ir_se50.pth"}, "--trunk-weights"),
        ({"start_from": "faces", "encoder": replace(SHAPE, neck=2)}, "--encoder"),
        ({"frugal": True}, "--frugal"),
        ({"batch": 3, "accumulate": 2}, "multiples of 2"),
        ({"task": "segmentation", "source": SourceConfig(classes=7)}, "19 classes"),
        ({"task": "segmentation", "source": SourceConfig(sided=(4,))}, "--source.sided"),
        ({"rows_until": 2}, "--teacher faces"),
        ({"encoder": replace(SHAPE, input_size=100)}, "100.*--encoder"),
        ({"generator": "nowhere.pt"}, "nowhere.pt"),
        ({"loss": LossConfig(l2=0.0, lpips=0.0, identity=0.0)}, "every loss"),
        ({"loss": LossConfig(similarity=1.0)}, "similarity"),
        ({"loss": LossConfig(identity_network="faces.pth")}, "faces.pth"),
        ({"loss": LossConfig(identity_network="dlib")}, "dlib"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(config, change, named):
    with pytest.raises((ConfigError, CheckpointError), match=named):
        loop.fit(replace(config, **change))
    assert not Path(config.out).exists()


@pytest.mark.parametrize("content", ["{half", "[1]", "", '{"batch": "many"}', '{"batches": 3}'])
def test_a_damaged_configuration_is_named(config, tmp_path, content):
    (tmp_path / run_folder.CONFIG).write_text(content)
    with pytest.raises(ConfigError, match=f"{run_folder.CONFIG} is damaged"):
        RunFolder(tmp_path).write_config(config)


@pytest.mark.slow
def test_a_step_with_the_bundled_generator(config):
    """With its 256-pixel head; its rows have a unit, in which codes are measured."""
    config = replace(config, generator=None, batch=1, generated=1, iterations=1, steps=1, loss=NO_NETWORKS)
    state = loop.fit(config)
    assert torch.equal(state.model.w_unit, state.model.generator.w_std)
    assert (Path(config.out) / run_folder.MODEL).stat().st_size < 8e6  # the generator is named, not stored
    assert checkpoints.load(Path(config.out) / run_folder.MODEL).generator.rows == 16
