"""Training of a detail encoder, on a small StyleGAN2 and pictures of noise."""

import json
import shutil
import tarfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import pixel2style as p2s
import train_detail
from detail_samples import SampleOptions, Samples
from pixel2style import images
from pixel2style.config import EncoderConfig, GeneratorConfig, LossConfig, ModelConfig, SourceConfig
from pixel2style.generators import StyleGAN2
from pixel2style.metrics.losses import Objective
from pixel2style.models import encoders
from pixel2style.tasks import degrade, superres
from pixel2style.training.dataset import step_rng
from tests.support.golden_rule import img

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> train_detail.DetailRun:
    """Three steps, the last one at full size."""
    folder = tmp_path_factory.mktemp("detail")
    torch.manual_seed(0)
    generator = StyleGAN2(GeneratorConfig(size=128, width=16, mapping_layers=1, channels=(8, 8, 8, 6, 4, 4)))
    encoder = EncoderConfig(kind="single_w", trunk="mobilefacenet", input_size=32, rows=generator.rows, width=16)
    model = p2s.PSP(encoders.build(encoder), generator, ModelConfig(encoder, generator.config), torch.randn(16))
    p2s.save(model, folder / "model.safetensors")
    for index in range(3):
        images.save(img(f"photo {index}", 3, 32, 32), folder / "photographs" / f"{index}.png")
    with tarfile.open(folder / "validation.tar", "w") as archive:
        archive.add(folder / "photographs" / "0.png", "0.png")
    return train_detail.DetailRun(
        SampleOptions((folder / "photographs",), batch=2, full_batch=1, pool=2, variants=3, cache=True),
        validation=(folder / "validation.tar",),
        out=folder / "whole",
        model=str(folder / "model.safetensors"),
        device="cpu",
        bf16=False,
        steps=3,
        full_share=0.34,
        side=8,
        width=16,
        units=1,
        fine_width=8,
        fine_units=1,
        log_every=1,
        validate_every=2,
    )


@pytest.fixture(scope="module")
def lines(run: train_detail.DetailRun) -> list[dict[str, object]]:
    """The log of the unbroken run."""
    train_detail.train(run)
    return [json.loads(line) for line in (run.out / "log.jsonl").read_text().splitlines()]


def test_the_last_step_is_at_full_size(lines: list[dict[str, object]]) -> None:
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3]
    assert [line["photographs"] for line in steps] == [2, 4, 6]
    assert [{"rough", "window"} <= line.keys() for line in steps] == [False, False, True]


def test_validation_compares_with_the_rows_alone(lines: list[dict[str, object]]) -> None:
    found = [line for line in lines if "validated" in line]
    assert [line["step"] for line in found] == [2, 3]
    for name in ("l2", "lpips", "identity", "identity_dlib", "high"):
        assert isinstance(found[0][name], float)
        assert name in found[0]["rows"]  # type: ignore[operator]


@pytest.mark.usefixtures("lines")
def test_a_run_in_three_parts_equals_an_unbroken_one(run: train_detail.DetailRun) -> None:
    parts = replace(run, out=run.out.with_name("parts"), validation=(), minutes=1e-9)
    states = []
    for _ in range(3):
        train_detail.train(parts)
        states.append(torch.load(parts.out / "state.pt", weights_only=True)["step"])
    assert states == [1, 2, 3]
    assert_same_state(run.out, parts.out)


@pytest.mark.usefixtures("lines")
def test_a_run_on_a_full_cache_equals_the_one_that_filled_it(run: train_detail.DetailRun) -> None:
    again = replace(run, out=run.out.with_name("again"), validation=())
    shutil.copytree(run.out / "cache", again.out / "cache")
    train_detail.train(again)
    assert_same_state(run.out, again.out)


def assert_same_state(one: Path, other: Path) -> None:
    ours, theirs = (torch.load(folder / "state.pt", weights_only=True) for folder in (one, other))
    for part in ("detail", "average"):
        assert ours[part].keys() == theirs[part].keys()
        assert [key for key, value in ours[part].items() if not torch.equal(value, theirs[part][key])] == []


@pytest.mark.usefixtures("lines")
def test_a_new_run_starts_from_the_average_of_another(run: train_detail.DetailRun) -> None:
    file = run.out / "detail.safetensors"
    state = train_detail.State(replace(run, start_from=str(file), out=run.out.with_name("new")), p2s.load(run.model))
    average = torch.load(run.out / "state.pt", weights_only=True)["average"]
    assert all(torch.equal(value, average[key]) for key, value in state.detail.state_dict().items())
    assert state.step == 0


def test_the_network_of_a_degrading_task_sees_pictures_that_its_task_completed(
    run: train_detail.DetailRun, tmp_path: Path
) -> None:
    model = p2s.load(run.model)
    model.config = replace(model.config, task="superres", source=SourceConfig(factors=(8,)))
    file = tmp_path / "superres.safetensors"
    p2s.save(model, file)
    options = replace(run.samples, cache=False)
    samples = Samples(options, p2s.load(file), Objective(LossConfig()), 64, False, tmp_path)
    batch = samples.batch(step_rng(0, 0), full=False)
    reduce = partial(degrade.low_resolution, factor=8)
    wanted = superres.shown(reduce(batch.images), batch.drawn, reduce)
    assert torch.allclose(batch.shown, wanted, atol=1e-5)
    train_detail.train(replace(run, samples=options, model=str(file), out=tmp_path / "run", steps=1, full_share=1))
    assert (tmp_path / "run" / "detail.safetensors").exists()


def test_a_model_whose_results_do_not_match_their_sources_has_no_detail_encoder(
    run: train_detail.DetailRun, tmp_path: Path
) -> None:
    model = p2s.load(run.model)
    model.config = replace(model.config, task="frontalize")
    samples = Samples(run.samples, model, Objective(LossConfig()), 64, False, tmp_path)
    with pytest.raises(p2s.Pixel2StyleError, match="frontalize"):
        samples.encoded(img("photo", 1, 3, 256, 256), [step_rng(0, 0)])
