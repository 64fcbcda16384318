"""Runs that train a detail encoder, on a small StyleGAN2 with random weights."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

import pixel2style as p2s
from pixel2style import checkpoints, cli, images
from pixel2style.checkpoints.detail import metadata_of
from pixel2style.config import (
    DetailConfig,
    DetailRun,
    EncoderConfig,
    GeneratorConfig,
    LossConfig,
    ModelConfig,
    SourceConfig,
    TrainConfig,
)
from pixel2style.errors import CheckpointError, ConfigError
from pixel2style.formats import safetensors
from pixel2style.generators import StyleGAN2
from pixel2style.models import encoders
from pixel2style.models.detail import DetailEncoder
from pixel2style.tasks import degrade, superres
from pixel2style.tasks.presets import PRESETS
from pixel2style.training import loop, run_folder, setup
from pixel2style.training.batches import generated_at, photographs_at
from pixel2style.training.distributed import make_accelerator
from pixel2style.training.run_folder import RunFolder
from pixel2style.training.state import State
from pixel2style.training.steps.detail import DetailStep
from pixel2style.training.steps.frozen import rng_of
from pixel2style.training.stopping import Stop
from tests.support.golden_rule import img
from tests.support.paths import PYTHONPATH
from tests.support.small_run import differences, gradients, start_run

pytestmark = pytest.mark.usefixtures("one_thread")

LOSS = LossConfig(lpips=0.0, identity=0.0, residual=0.01, windows=0.3, roughness=0.1)
SHAPE = {"side": 8, "width": 16, "units": 1, "fine_width": 8, "fine_units": 1}


def random_model(channels: int = 3) -> p2s.PSP:
    torch.manual_seed(0)
    generator = StyleGAN2(GeneratorConfig(size=64, width=16, mapping_layers=1, channels=(8, 8, 8, 6, 4)))
    encoder = EncoderConfig(
        kind="single_w", trunk="mobilefacenet", input_size=32, rows=generator.rows, width=16, input_channels=channels
    )
    return p2s.PSP(encoders.build(encoder), generator, ModelConfig(encoder, generator.config), torch.randn(16)).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and three photographs."""
    place = tmp_path_factory.mktemp("detail")
    p2s.save(random_model(), place / "model.safetensors")
    for index in range(3):
        images.save(img(f"photo {index}", 3, 32, 32), place / "photographs" / f"{index}.png")
    return place


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> TrainConfig:
    """Three steps, the last two at full size with a generated picture."""
    return TrainConfig(
        network="detail", data=(str(folder / "photographs"),), out=str(tmp_path / "run"),
        start_from=str(folder / "model.safetensors"), detail=DetailRun(**SHAPE, full_size_from=1, full_batch=2, pool=2),
        loss=LOSS, batch=4, generated=2, full_size=True, optimizer="muon", lr=1e-2, schedule="trapezoid", steps=3,
        clip=1.0, ema=0.9, log_every=1, device="cpu", precision="fp32",
    )  # fmt: skip


def lines(config: TrainConfig, key: str = "train/loss") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (Path(config.out) / "log.jsonl").read_text().splitlines()]
    return [line for line in found if key in line]


@pytest.fixture(scope="module")
def unbroken(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, State]:
    """A run of three steps with everything in it: lpips, validation, a cache."""
    place = tmp_path_factory.mktemp("unbroken")
    loss = replace(LOSS, lpips=0.8)
    detail = DetailRun(**SHAPE, full_size_from=1, full_batch=2, pool=2, cache=str(place / "cache"))
    data = (str(folder / "photographs"),)
    config = TrainConfig(
        network="detail", data=data, validation=data, out=str(place / "run"), loss=loss, detail=detail,
        start_from=str(folder / "model.safetensors"), batch=4, generated=2, full_size=True, optimizer="muon", lr=1e-2,
        schedule="trapezoid", steps=3, clip=1.0, ema=0.9, log_every=1, judge_every=2, save_every=2, device="cpu",
        precision="fp32",
    )  # fmt: skip
    return config, loop.fit(config)


def test_only_the_detail_encoder_is_trained(unbroken: tuple[TrainConfig, State], folder: Path) -> None:
    config, state = unbroken
    fresh, _ = start_run(config)
    before, after = fresh.network.state_dict(), state.network.state_dict()
    weights = [name for name, _ in state.network.named_parameters()]
    assert [name for name in weights if torch.equal(before[name], after[name])] == []
    model = p2s.load(folder / "model.safetensors")
    for part in ("encoder", "generator"):
        ours, theirs = getattr(state.model, part).state_dict(), getattr(model, part).state_dict()
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_the_log_has_the_terms_of_each_phase(unbroken: tuple[TrainConfig, State]) -> None:
    config, _ = unbroken
    steps = lines(config)
    assert [line["step"] for line in steps] == [1, 2, 3]
    assert all({"train/residual8", "train/residual16", "train/l2", "train/lpips"} <= line.keys() for line in steps)
    assert [{"train/windows", "train/roughness"} <= line.keys() for line in steps] == [False, True, True]
    found = lines(config, "validation/loss")
    assert [line["step"] for line in found] == [0, 2, 3]
    assert found[0]["validation/residual8"] == 0  # so these are the losses of the rows alone
    assert found[1]["validation/residual8"] > 0


def test_the_runs_model_inverts_with_its_detail_encoder(unbroken: tuple[TrainConfig, State], folder: Path) -> None:
    config, state = unbroken
    for name in (run_folder.MODEL, run_folder.BEST):
        assert p2s.load(Path(config.out) / name).detail is not None
    model, photo = p2s.load(Path(config.out) / run_folder.MODEL), img("other", 1, 3, 64, 64)
    with torch.no_grad():
        inversion, expected = model.invert(photo), state.averaged().eval().invert(photo)
        assert torch.equal(inversion.ws, p2s.load(folder / "model.safetensors").encode(photo))
    assert set(inversion.features) == {8, 16}
    for side, residual in inversion.features.items():
        assert residual.any()
        assert torch.allclose(residual, expected.features[side], atol=1e-5)


def test_a_run_in_parts_on_a_full_cache_equals_the_unbroken_one_to_the_bit(
    unbroken: tuple[TrainConfig, State], tmp_path: Path
) -> None:
    config, state = unbroken
    parts = replace(config, out=str(tmp_path / "run"), validation=(), minutes=1e-9)
    assert [loop.fit(parts).step for _ in range(3)] == [1, 2, 3]
    assert differences(state, loop.fit(parts)) == []
    assert lines(config)[-1]["train/loss"] == lines(parts)[-1]["train/loss"]


@pytest.mark.parametrize("optimizer", ["muon", pytest.param("adamw", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_run_without_a_cache_goes_on_to_the_bit(config: TrainConfig, tmp_path: Path, optimizer: str) -> None:
    config = replace(config, optimizer=optimizer)
    whole = loop.fit(replace(config, out=str(tmp_path / "whole")))
    loop.fit(replace(config, minutes=1e-9))
    assert differences(whole, loop.fit(config)) == []


@pytest.mark.slow
def test_a_damaged_file_of_the_cache_is_made_again(config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, detail=replace(config.detail, cache=str(tmp_path / "cache")))
    whole = loop.fit(replace(config, out=str(tmp_path / "whole")))
    kept = sorted((tmp_path / "cache").rglob("*.safetensors"))
    kept[0].write_bytes(b"truncated")
    assert differences(whole, loop.fit(config)) == []
    assert sorted((tmp_path / "cache").rglob("*.safetensors")) == kept


def test_a_batch_in_parts_gives_the_same_gradient(config: TrainConfig) -> None:
    found = []
    for parts in (1, 2):
        state, context = start_run(replace(config, accumulate=parts, clip=0.0, detail=full_size(config)))
        detail = state.network
        assert isinstance(detail, DetailEncoder)
        nn.init.normal_(detail.coarse.weight, std=0.1)
        found.append(gradients(state, context))
    assert len(found[0]) > 10
    for name, value in found[0].items():
        assert (found[1][name] - value).norm() <= 1e-4 * value.norm() + 1e-9, name


def full_size(config: TrainConfig) -> DetailRun:
    """At full size from the first step."""
    return replace(config.detail, full_size_from=0)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, detail=full_size(config), steps=2)
    (tmp_path / "config.json").write_bytes(TypeAdapter(TrainConfig).dump_json(config))
    port = str(29900 + os.getpid() % 90)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
    words = ["-m", "pixel2style", "train", str(tmp_path / "config.json"), "--out", str(tmp_path / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH}
    done = subprocess.run(
        [sys.executable, *launcher, *words], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    loop.fit(config)
    two = lines(replace(config, out=str(tmp_path / "two")))
    for ours, theirs in zip(two, lines(config), strict=True):
        for term in ("loss", "windows", "roughness", "residual8"):
            assert ours[f"train/{term}"] == pytest.approx(theirs[f"train/{term}"], rel=1e-3, abs=1e-6)


class Stopper(Stop):
    def watch(self, step: int, losses: Mapping[str, float]) -> None:
        if step == 1 and self.signal is None:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_the_run_after_the_step_and_saves(config: TrainConfig) -> None:
    stop = Stopper()
    state = loop.fit(replace(config, steps=50), stop.watch, stop)
    kept = RunFolder(config.out).read_state()
    assert kept is not None
    assert kept["counts"][0] == state.step == 2
    assert stop.signal == signal.SIGINT


def test_a_new_run_continues_the_models_own_detail_encoder(unbroken: tuple[TrainConfig, State]) -> None:
    before, state = unbroken
    again = replace(before, start_from=str(Path(before.out) / run_folder.MODEL))
    average = state.average.state_dict()
    started, _ = start_run(again)
    assert all(torch.equal(started.network.state_dict()[name], value) for name, value in average.items())
    new, _ = start_run(replace(again, detail=replace(before.detail, start="new")))
    assert not new.network.state_dict()["coarse.weight"].any()


def test_a_detail_encoder_alone_is_one_for_faces(config: TrainConfig, tmp_path: Path) -> None:
    start = begun(replace(PRESETS["detail-compact"].config, start_from="detail_ffhq"), config)
    own = p2s.load("faces").detail
    assert own is not None
    assert all(torch.equal(start.network.state_dict()[name], value) for name, value in own.state_dict().items())
    file = tmp_path / "detail.safetensors"
    safetensors.write(own.state_dict(), file, metadata_of(own) | {"step": "3"})
    again = begun(replace(PRESETS["detail-compact"].config, start_from=str(file)), config)
    assert all(torch.equal(again.network.state_dict()[name], value) for name, value in own.state_dict().items())


def begun(preset: TrainConfig, config: TrainConfig) -> State:
    preset = replace(preset, data=config.data, out=config.out, device="cpu")
    return setup.initial_state(preset, make_accelerator(config))


def test_the_compact_preset_is_for_faces_and_the_other_names_its_model(config: TrainConfig) -> None:
    state = begun(PRESETS["detail-compact"].config, config)
    assert state.model.config.detail == DetailConfig(toward_w=0.25)
    assert state.model.config.iterations == p2s.load("faces").config.iterations
    with pytest.raises(ConfigError, match="--start-from"):
        loop.fit(replace(PRESETS["detail"].config, data=config.data, out=config.out))


def test_a_new_detail_encoder_knows_the_maps_of_its_generator(config: TrainConfig) -> None:
    state, _ = start_run(config)
    detail = state.model.detail
    assert detail is not None and detail.config.channels == (8, 8)
    assert (detail.coarse_std > 0).all() and not torch.equal(detail.coarse_std, torch.ones(8))
    assert not torch.equal(detail.coarse_mean, torch.zeros(8))


@pytest.mark.slow
def test_a_residual_of_the_map_of_32_pixels_alone_is_trained(config: TrainConfig) -> None:
    detail = replace(config.detail, side=32, fine_width=0, full_size_from=0)
    config = replace(config, detail=detail, steps=2)
    state = loop.fit(config)
    assert set(state.averaged().invert(img("photo", 1, 3, 64, 64)).features) == {32}
    assert "train/residual32" in lines(config)[-1]


def test_hidden_convolutions_take_muon_and_the_rest_adamw(config: TrainConfig) -> None:
    state, context = start_run(replace(config, detail=full_size(config), clip=0.0, steps=1, lr=1e-3))
    detail = state.network
    assert isinstance(detail, DetailEncoder)
    nn.init.normal_(detail.coarse.weight, std=0.1)
    before = {name: value.clone() for name, value in detail.named_parameters()}
    rest, hidden = state.optimizer.param_groups
    outer = {"stem.weight", "coarse.weight", "fine.weight"}
    names = {name for name in before if name.endswith(".weight")} - outer
    assert {id(weight) for weight in hidden["params"]} == {id(detail.get_parameter(name)) for name in names}
    assert len(rest["params"]) == len(before) - len(names)
    loop.training_loop(state, context, loop.Monitor(state, context))
    assert [hidden["lr"], rest["lr"]] == pytest.approx([1.5e-3, 1e-3])
    delta = {name: (value - before[name]).detach() for name, value in detail.named_parameters()}
    matrix = delta["units.0.conv2.weight"].flatten(1)
    values = torch.linalg.svdvals(matrix) / (1.5e-3 * 0.2 * max(matrix.shape) ** 0.5)
    assert values.min() > 0.5 and values.max() < 1.5  # all singular values are about equal
    assert delta["coarse.bias"].abs().max() == pytest.approx(1e-3, rel=0.01)  # Adam's first step


def test_the_batch_of_a_step_follows_from_its_size(config: TrainConfig) -> None:
    assert [photographs_at(config, step) for step in range(3)] == [4, 2, 2]
    assert [generated_at(config, step) for step in range(3)] == [0, 2, 2]
    encoder = TrainConfig(batch=8, generated=4)
    assert (photographs_at(encoder, 0), generated_at(encoder, 0)) == (8, 4)


def test_random_numbers_of_pictures_follow_from_their_pixels() -> None:
    found = torch.cat([torch.rand(1, generator=rng_of(img(f"picture {index}", 3, 4, 4))) for index in range(400)])
    assert torch.rand((), generator=rng_of(img("picture 0", 3, 4, 4))) == found[0]
    assert 0.19 < (found < 0.25).float().mean() < 0.31


@pytest.mark.parametrize("task", ["superres", "inpaint"])
def test_of_a_degraded_source_the_network_gets_what_the_task_shows(
    config: TrainConfig, folder: Path, tmp_path: Path, task: str
) -> None:
    model = random_model(channels=4 if task == "inpaint" else 3)
    model.config = replace(model.config, task=task, source=SourceConfig(factors=(8,)))
    p2s.save(model, tmp_path / "model.safetensors")
    detail = replace(config.detail, full_size_from=0, cache=str(tmp_path / "cache"))
    config = replace(config, task=task, start_from=str(tmp_path / "model.safetensors"), detail=detail, steps=1)
    _, context = start_run(config)
    images = context.batches.read(0)[1]
    assert isinstance(context.step, DetailStep)
    found = context.step.frozen.photographs(images)
    for picture, drawn, shown in zip(images, found["drawn"], found["shown"], strict=True):
        if task == "superres":
            reduce = partial(degrade.low_resolution, factor=8)
            wanted = superres.shown(reduce(picture)[None], drawn[None], reduce)[0]
            assert torch.allclose(shown, wanted, atol=0.02)  # the cache rounds what is drawn
        else:
            known = (shown - picture).abs().amax(0) < 0.01
            assert 0.1 < known.float().mean() < 1
    loop.fit(config)
    saved = p2s.load(Path(config.out) / run_folder.MODEL)
    assert saved.config.detail is not None and saved.config.detail.needs_task
    assert saved.config.source == model.config.source


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"start_from": None}, "--start-from"),
        ({"generator": "faces"}, "--generator"),
        ({"iterations": 2, "feedback": True}, "--feedback"),
        ({"loss": replace(LOSS, code_norm=1.0)}, "--loss.code-norm"),
        ({"task": "frontalize"}, "frontalize"),
        ({"task": "domain"}, "--task invert"),
        ({"generated": 0}, "--loss.windows"),
        ({"full_size": False}, "--full-size"),
        ({"frugal": True, "clip": 0.0}, "--optimizer adamw"),
        ({"augment": True, "detail": DetailRun(**SHAPE, cache="kept")}, "--augment"),
        ({"detail": DetailRun(side=64)}, "64 and 128 pixels.*--detail.fine-width"),
        ({"accumulate": 2, "detail": DetailRun(**SHAPE, full_batch=1)}, "--detail.full-batch"),
        ({"network": "encoder"}, "--detail.side"),
        ({"network": "encoder", "detail": DetailRun(), "loss": LossConfig(residual=1.0)}, "--loss.residual"),
        ({"network": "encoder", "detail": DetailRun(), "loss": LossConfig()}, "--optimizer muon"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    config: TrainConfig, change: dict[str, Any], named: str
) -> None:
    with pytest.raises((ConfigError, CheckpointError), match=named):
        loop.fit(replace(config, **change))
    assert not Path(config.out).exists()


def test_a_detail_encoder_of_another_shape_is_refused(unbroken: tuple[TrainConfig, State], config: TrainConfig) -> None:
    file = str(Path(unbroken[0].out) / run_folder.MODEL)
    with pytest.raises(ConfigError, match=r"--detail\.start new"):
        loop.fit(replace(config, start_from=file, detail=replace(config.detail, units=2)))


def test_a_model_without_a_detail_encoder_has_none_to_load(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="no detail encoder"):
        checkpoints.load_detail(folder / "model.safetensors")


@pytest.mark.slow
def test_doctor_knows_detail_encoders(config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(TypeAdapter(TrainConfig).dump_json(replace(config, loss=replace(LOSS, roughness=0.0))))
    cli.main(["doctor", str(file), "--detail.cache", str(tmp_path / "cache")])
    said = capsys.readouterr().out
    assert "residuals for maps of 8 and 16 pixels of stylegan2" in said
    assert "loss on ten pictures" in said
    assert not (tmp_path / "cache").exists()
