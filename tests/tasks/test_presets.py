"""Presets: the paper's numbers, as shared/reference states them, and runs that can be begun."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import pixel2style as p2s
from pixel2style.config import EncoderShape, GeneratorConfig, LossConfig, TrainConfig
from pixel2style.generators.stylegan2.network import StyleGAN2
from pixel2style.tasks import TASKS, channels_of, find_task
from pixel2style.tasks.presets import COMPACT, PRESETS
from pixel2style.training import checks, setup
from pixel2style.training.distributed import make_accelerator

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPES: dict[str, dict[str, float]] = {
    "invert": {"l2": 1, "lpips": 0.8, "identity": 0.1},
    "frontalize": {
        **{"l2": 0.001, "lpips": 0.08, "identity": 1, "w_norm": 0.005},
        **{"l2_crop": 0.01, "lpips_crop": 0.8},
    },
    "sketch": {"l2": 1, "lpips": 0.8, "w_norm": 0.005},
    "segmentation": {"l2": 1, "lpips": 0.8, "w_norm": 0.005},
    "superres": {"l2": 1, "lpips": 0.8, "identity": 0.1, "w_norm": 0.005},
    "toonify": {"l2": 1, "lpips": 0.8, "identity": 1, "w_norm": 0.025},
    "domain": {"l2": 1, "lpips": 0.8, "similarity": 0.5},
}
"""Weights of the losses in the paper; what is not named is 0."""
TERMS = [field.name for field in fields(LossConfig) if isinstance(getattr(LossConfig(), field.name), float)]


def weights(loss: LossConfig) -> dict[str, float]:
    return {term: getattr(loss, term) for term in TERMS if getattr(loss, term)}


@pytest.mark.parametrize("task", RECIPES)
def test_the_papers_losses(task: str) -> None:
    assert weights(PRESETS[task].config.loss) == RECIPES[task]


def test_inpainting_was_never_released_and_has_the_losses_of_its_nearest_relative() -> None:
    assert weights(PRESETS["inpaint"].config.loss) == RECIPES["superres"]


@pytest.mark.parametrize("task", TASKS)
def test_the_papers_training(task: str) -> None:
    config = PRESETS[task].config
    assert (config.task, config.optimizer, config.lr, config.batch) == (task, "ranger", 1e-4, 8)
    assert (config.schedule, config.warmup, config.clip, config.ema) == ("constant", 0, 0, 0)
    assert config.steps == (6_000 if task == "toonify" else 300_000)
    assert (config.feedback, config.iterations, config.generated, config.augment) == (False, 1, 0, False)
    assert config.start_from is None
    assert config.encoder == EncoderShape(
        kind="pyramid", trunk="ir_se50", input_size=256, pyramid_width=512, heads="separate", neck=0
    )


def test_the_papers_optimiser() -> None:
    optimizer = setup.OPTIMIZERS["ranger"]([torch.nn.Parameter(torch.zeros(2, 2))], 1e-4)
    settings = optimizer.defaults
    assert (settings["lr"], settings["eps"]) == (1e-4, 1e-5)
    assert tuple(settings["betas"]) == (0.95, 0.999)
    assert (settings["k"], settings["alpha"]) == (6, 0.5)
    parameter = optimizer.param_groups[0]["params"][0]
    for _ in range(10):  # a gradient that is the same for all weights of an output is all mean: centred, it is nothing
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    assert torch.equal(parameter, torch.zeros(2, 2))


def test_the_papers_sources() -> None:
    assert PRESETS["superres"].config.source.factors == (1, 2, 4, 8, 16, 32)
    channels = {task: channels_of(task, PRESETS[task].config.source) for task in TASKS}
    assert channels == {**dict.fromkeys(TASKS, 3), "sketch": 1, "segmentation": 19, "inpaint": 4}


def test_every_task_has_a_preset_of_paper_size_and_a_compact_twin() -> None:
    assert set(PRESETS) == {*TASKS, *(f"{task}-compact" for task in TASKS), "tiny", "detail", "detail-compact"}


@pytest.mark.parametrize("task", TASKS)
def test_a_twin_has_its_papers_losses_but_regularises_in_units_of_w(task: str) -> None:
    paper, twin = PRESETS[task].config, PRESETS[f"{task}-compact"].config
    ours, theirs = weights(twin.loss), weights(paper.loss)
    assert "w_norm" not in ours
    assert "code_norm" in ours
    if task == "invert":  # the bundled model's own recipe: a stronger judge, and rows that are known
        assert {ours.pop("identity"), ours.pop("code_regression")} == {0.25, 0.05}
        theirs.pop("identity")
    assert {k: v for k, v in ours.items() if k != "code_norm"} == {k: v for k, v in theirs.items() if k != "w_norm"}
    assert twin.task == paper.task
    assert twin.encoder == COMPACT


def begun(config: TrainConfig, folder: Path, **changes: Any) -> p2s.PSP:
    config = checks.check_config(
        replace(config, data=(str(folder),), out=str(folder.with_name(f"{folder.name}-run")), device="cpu", **changes)
    )
    return setup.initial_state(config, make_accelerator(config)).model


@pytest.mark.parametrize("name", [*(f"{task}-compact" for task in TASKS), "tiny"])
def test_a_compact_run_can_begin_and_reads_what_its_task_shows(name: str, tmp_path: Path) -> None:
    config = PRESETS[name].config
    model = begun(config, tmp_path)
    channels = channels_of(config.task, config.source)
    sources = torch.zeros(1, channels, 256, 256)
    sources[:, 0] = float(find_task(config.task).classes)  # of label maps every pixel has a class
    with torch.no_grad():
        assert model.eval().encode(sources, iterations=1).shape == (1, 16, 512)
    assert model.corrects_itself
    assert not any(weight.requires_grad for weight in model.generator.parameters())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_of_paper_size_can_begin(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = tmp_path / "generator.safetensors"
    p2s.save(StyleGAN2(GeneratorConfig(size=256)), generator)
    model = begun(PRESETS["invert"].config, tmp_path, generator=str(generator))
    with torch.no_grad():
        ws = model.eval().encode(torch.zeros(1, 3, 256, 256))
        assert ws.shape == (1, 14, 512)
        assert model.decode(ws).shape == (1, 3, 256, 256)
    assert torch.is_tensor(model.w_avg)
