"""Runs: learning, stopping anywhere, going on to the same bits, and refusing what cannot work."""

import json
import math
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import pixel2style as p2s
from golden_rule import img
from pixel2style import checkpoints, runs, train
from pixel2style.config import EncoderConfig, GeneratorConfig, LossConfig, TrainConfig
from pixel2style.errors import CheckpointError, ConfigError, OutputError
from pixel2style.stylegan2 import StyleGAN2

pytestmark = pytest.mark.usefixtures("one_thread")

ASTRONAUT = Path(__file__).parents[1] / "examples" / "astronaut.png"
ENCODER = EncoderConfig(
    trunk="mobilefacenet", input_channels=6, input_size=64, rows=4, width=32,
    pyramid_width=32, heads="shared", tower_width=32, head_width=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """The smallest run with everything in it: two photographs and a generated picture, two looks, every judge."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "photos").mkdir()
    with Image.open(ASTRONAUT) as astronaut:
        for left in (140, 160):
            astronaut.convert("RGB").crop((left, 20, left + 160, 180)).save(folder / "photos" / f"{left}.png")
    torch.manual_seed(0)
    generator = StyleGAN2(GeneratorConfig(size=8, width=32, mapping_layers=1, channel_multiplier=1))
    p2s.save(generator, folder / "generator.safetensors")
    return TrainConfig(
        data=(str(folder / "photos"),), out=str(folder / "unused"), generator=str(folder / "generator.safetensors"),
        encoder=ENCODER, looks=2, one_look_until=1, photos=2, generated=1, warmup=2, steps=4, save_every=100,
        log_every=1, device="cpu", bf16=False,
    )  # fmt: skip


def everything(state: train.State) -> dict[str, Tensor]:
    found = {f"encoder.{name}": value for name, value in state.model.encoder.state_dict().items()}
    found |= {f"average.{name}": value for name, value in state.average.state_dict().items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        found |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
    return found | {"bank": state.bank, "step": torch.tensor(state.step)}


@pytest.fixture(scope="module")
def unbroken(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, train.State]:
    """A run of four steps."""
    config = replace(config, out=str(tmp_path_factory.mktemp("unbroken")))
    return config, train.fit(config)


def log(config: TrainConfig) -> list[dict[str, float]]:
    return [json.loads(line) for line in (Path(config.out) / runs.LOG).read_text().splitlines()]


def test_a_run_taken_up_again_equals_the_unbroken_one_to_the_bit(unbroken, tmp_path, monkeypatch):
    config, whole = unbroken

    class PowerCutError(Exception):
        pass

    def cut(entry: dict[str, object]) -> None:
        if entry["step"] == 3:
            raise PowerCutError

    broken = replace(config, out=str(tmp_path), save_every=2)
    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(runs.RunFolder, "log", lambda _, entry: cut(entry))
        train.fit(broken)
    again = train.fit(broken)
    assert log(broken)[0]["step"] == 2
    expected, found = everything(whole), everything(again)
    assert found.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []


def test_a_step_changes_every_weight_of_the_encoder_and_none_of_the_generator(unbroken):
    config, state = unbroken
    fresh = train.start(config, torch.device("cpu"))
    before, after = fresh.model.encoder.state_dict(), state.model.encoder.state_dict()
    still = [name for name, value in before.items() if torch.equal(value, after[name])]
    assert still == ["pyramid.fine.weight", "pyramid.fine.bias"]  # four rows need no fine level
    generator = state.model.generator.state_dict()
    assert all(torch.equal(value, generator[name]) for name, value in fresh.model.generator.state_dict().items())


def test_what_the_log_says(unbroken):
    steps = [entry for entry in log(unbroken[0]) if "loss" in entry]
    assert [entry["step"] for entry in steps] == [1, 2, 3, 4]
    terms = {"l2", "lpips", "identity", "code_norm", "code_regression"}
    assert {f"{name}_1" for name in terms} <= steps[0].keys()
    assert not {f"{name}_2" for name in terms} & steps[0].keys()  # one look until step 1
    assert {f"{name}_{look}" for name in terms for look in (1, 2)} <= steps[1].keys()
    assert all(math.isfinite(value) for entry in steps for value in entry.values())


def test_the_runs_model_file_is_complete_and_inverts_as_the_averaged_encoder_does(unbroken):
    config, state = unbroken
    model = checkpoints.load(Path(config.out) / runs.MODEL)
    pictures = img("pictures", 2, 3, 100, 100)
    with torch.no_grad():
        ws = model.encode(pictures)
        assert torch.allclose(ws, train.averaged(state).encode(pictures), atol=1e-5)
        assert model.decode(ws).shape == (2, 3, 8, 8)
        assert not torch.allclose(ws, model.encode(pictures, iterations=1))
    assert model.config.iterations == 2


def test_a_finished_run_takes_no_more_steps(unbroken, tmp_path):
    config, state = unbroken
    again = train.fit(config)
    assert again.step == 4
    assert torch.equal(again.bank, state.bank)


def test_another_configuration_is_refused_and_more_steps_are_not(unbroken):
    config, _ = unbroken
    with pytest.raises(ConfigError, match="another lr, photos: choose another --out"):
        train.fit(replace(config, lr=1.0, photos=3))
    folder = runs.RunFolder(config.out)
    folder.remember(replace(config, steps=5, minutes=1.0))
    folder.remember(config)


@pytest.mark.parametrize("poisoned", ["objective", "encoder"])
def test_a_step_without_a_finite_gradient_changes_nothing_that_learns(config, tmp_path, monkeypatch, poisoned):
    config = replace(config, out=str(tmp_path), looks=1)
    state = train.start(config, torch.device("cpu"))
    teacher = train.appoint(config, state, train.Photographs(config.data, torch.device("cpu")))
    learning = train.steps(state, teacher)
    next(learning)
    before = {name: value.clone() for name, value in everything(state).items() if not name.startswith("average")}
    with monkeypatch.context() as patch:
        if poisoned == "objective":
            judge = teacher.objective.forward
            patch.setattr(teacher.objective, "forward", lambda made: (judge(made)[0] * math.nan, {}))
        else:
            encode = state.model.encoder.forward
            patch.setattr(state.model.encoder, "forward", lambda images: encode(images) * math.nan)
        assert not torch.isfinite(next(learning)["gradient"])
    after = everything(state)
    assert [name for name, value in before.items() if not torch.equal(after[name], value)] == ["step"]
    assert torch.isfinite(next(learning)["gradient"])
    assert not torch.equal(everything(state)["bank"], before["bank"])


def test_a_skipped_step_leaves_no_trace_in_statistics(config, tmp_path, monkeypatch):
    encoder = replace(ENCODER, kind="last_layer")
    config = replace(config, out=str(tmp_path), looks=1, encoder=encoder, loss=LossConfig(lpips=0.0, identity=0.0))
    state = train.start(config, torch.device("cpu"))
    photographs = train.Photographs(config.data, torch.device("cpu"))
    learning = train.steps(state, train.appoint(config, state, photographs))
    next(learning)
    before = {name: value.clone() for name, value in state.model.encoder.named_buffers()}
    assert (before["output.0.running_mean"] != 0).any()
    draw = photographs.draw
    monkeypatch.setattr(photographs, "draw", lambda *arguments: draw(*arguments) * math.nan)
    assert not torch.isfinite(next(learning)["gradient"])
    for encoder in (state.model.encoder, state.average):
        assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("half written"), KeyboardInterrupt()]
)
def test_an_interrupted_save_leaves_the_last_good_state(tmp_path, monkeypatch, error):
    folder = runs.RunFolder(tmp_path)
    assert folder.kept() is None
    folder.keep({"step": 1, "bank": torch.ones(2)})

    def half(_: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise error

    monkeypatch.setattr(runs.torch, "save", half)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else OutputError):
        folder.keep({"step": 2, "bank": torch.zeros(2)})
    kept = folder.kept()
    assert kept is not None
    assert kept["step"] == 1
    assert torch.equal(kept["bank"], torch.ones(2))
    assert [file.name for file in tmp_path.iterdir()] == [runs.STATE]


def test_a_damaged_state_is_named(tmp_path):
    (tmp_path / runs.STATE).write_bytes(b"no state")
    with pytest.raises(CheckpointError, match=runs.STATE):
        runs.RunFolder(tmp_path).kept()


def test_the_learning_rate_warms_up_and_falls_along_a_cosine_to_a_fiftieth(config):
    config = replace(config, lr=1.0, warmup=10, steps=110)
    rates = [train.learning_rate(config, step) for step in range(130)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == 1
    assert rates[60] == pytest.approx(0.51)
    assert rates[110:] == pytest.approx([0.02] * 20)
    assert all(later <= earlier for earlier, later in pairwise(rates[10:]))


def test_an_average_follows_its_encoder_by_the_decay(config):
    state = train.start(config, torch.device("cpu"))
    weight, mean = next(state.model.encoder.parameters()), next(state.average.parameters())
    before = mean.clone()
    with torch.no_grad():
        weight += 1
    train.follow(state.average, state.model.encoder, 0.9)
    assert torch.allclose(mean, before + 0.1, atol=1e-6)


def test_the_average_of_an_encoder_with_statistics_takes_them_as_they_are(config):
    encoder = replace(ENCODER, kind="last_layer")
    average, learning = (train.encoders.build(encoder) for _ in range(2))
    learning.output[0].running_mean += 3
    train.follow(average, learning, 0.9)
    assert torch.equal(average.output[0].running_mean, learning.output[0].running_mean)


def test_a_run_starts_from_a_model_file_and_its_architecture(unbroken, config):
    before, state = unbroken
    started = train.start(
        replace(config, start_from=str(Path(before.out) / runs.MODEL), encoder=EncoderConfig()), torch.device("cpu")
    )
    assert started.model.encoder.config == ENCODER
    found, expected = started.model.encoder.state_dict(), state.average.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert all(weight.requires_grad for weight in started.model.encoder.parameters())


def test_a_run_from_a_model_with_its_own_generator_keeps_that_one(unbroken, tmp_path):
    before, state = unbroken
    start_from = str(Path(before.out) / runs.MODEL)
    config = TrainConfig(
        data=before.data, out=str(tmp_path), start_from=start_from, photos=2, generated=1, steps=1, device="cpu",
        bf16=False, loss=LossConfig(lpips=0.0, identity=0.0),
    )  # fmt: skip
    train.fit(config)
    found = checkpoints.load(tmp_path / runs.MODEL).generator.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in state.model.generator.state_dict().items())


def test_a_run_cut_off_before_its_model_is_written_writes_it_when_taken_up_again(config, tmp_path, monkeypatch):
    config = replace(config, out=str(tmp_path), steps=1, looks=1, loss=LossConfig(lpips=0.0, identity=0.0))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoints, "save", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        train.fit(config)
    train.fit(config)
    assert checkpoints.load(tmp_path / runs.MODEL).generator.rows == 4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rows": 6}, "writes 6 rows of 32, the generator reads 4 of 32: change --encoder"),
        ({"input_size": 100}, "must be a multiple of 16, got 100: change --encoder"),
        ({"input_channels": 4}, "reads 4 channels, photographs have 3"),
    ],
)
def test_an_encoder_that_cannot_learn_here_is_refused(config, change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        train.start(replace(config, looks=1, encoder=replace(ENCODER, **change)), torch.device("cpu"))


@pytest.mark.parametrize("name", [runs.CONFIG, runs.LOG])
def test_what_cannot_be_written_into_the_folder_of_a_run_is_named(config, tmp_path, name):
    (tmp_path / name).mkdir()
    folder = runs.RunFolder(tmp_path)
    with pytest.raises(OutputError, match=f"{name}: cannot be written"):
        folder.remember(config)
        folder.log({"step": 1})


@pytest.mark.parametrize("content", ["{half", "[1]", ""])
def test_a_damaged_configuration_is_named(config, tmp_path, content):
    (tmp_path / runs.CONFIG).write_text(content)
    with pytest.raises(ConfigError, match=f"{runs.CONFIG} is damaged"):
        runs.RunFolder(tmp_path).remember(config)


def test_stopping_a_run_is_one_sentence(monkeypatch, capsys):
    def stopped(_: TrainConfig) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "fit", stopped)
    monkeypatch.setattr(sys, "argv", ["train", "--data", "photos", "--out", "run"])
    assert train.main() == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_looks_without_feedback_are_refused(config):
    with pytest.raises(ConfigError, match="leave out --looks"):
        train.start(replace(config, encoder=replace(ENCODER, input_channels=3)), torch.device("cpu"))


def test_the_bundled_generator_teaches_too(config, tmp_path):
    """A step with the real MobileStyleGAN's small head; its rows have a unit, which codes are counted in."""
    encoder = replace(ENCODER, rows=16, width=512)
    config = replace(
        config, out=str(tmp_path), generator="mobilestylegan_ffhq_1024", encoder=encoder, photos=1, looks=1, steps=1
    )
    config = replace(config, loss=LossConfig(identity=0.0, lpips=0.0))
    state = train.fit(config)
    assert torch.equal(state.model.w_unit, state.model.generator.w_std)
    assert (tmp_path / runs.MODEL).stat().st_size < 8e6  # it names its generator and does not hold it
    assert checkpoints.load(tmp_path / runs.MODEL).generator.rows == 16


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--data", "/missing/folder"], "/missing/folder holds no pictures"),
        (["--data", "/missing/folder", "--device", "mps"], "there is no mps device here"),
    ],
)
def test_the_users_mistakes_are_one_sentence_and_exit_2(monkeypatch, capsys, tmp_path, words, sentence):
    monkeypatch.setattr(sys, "argv", ["train", *words, "--out", str(tmp_path / "run")])
    assert train.main() == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [["--device", "tpu"], ["--photos", "0"], ["--encoder.kind", "magic"], []])
def test_what_the_command_line_cannot_read_exits_2(monkeypatch, capsys, tmp_path, words):
    data = ["--data", str(tmp_path)] if words else []
    monkeypatch.setattr(sys, "argv", ["train", *data, "--out", str(tmp_path / "run"), *words])
    with pytest.raises(SystemExit) as end:
        train.main()
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
