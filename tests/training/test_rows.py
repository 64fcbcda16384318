"""Until a step, rows are compared to those of a model of photographs, and nothing is drawn."""

from dataclasses import replace

import pytest
import torch

import pixel2style as p2s
from pixel2style import checkpoints
from pixel2style.config import LossConfig
from pixel2style.errors import ConfigError
from pixel2style.training.steps.rows import RowTargets
from tests.support.small_run import small_config, start_run, train_steps

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A run that starts from its own teacher."""
    folder = tmp_path_factory.mktemp("rows")
    first = small_config(folder, generated=0, loss=LossConfig(lpips=0, identity=0))
    state, _ = start_run(first)
    teacher = folder / "teacher.safetensors"
    p2s.save(state.model, teacher)
    return small_config(
        folder, generated=0, start_from=str(teacher), generator=None, teacher=str(teacher), rows_until=6,
        one_iteration_until=0, lr=2e-4, warmup=0, ema=0.0, optimizer="adamw", mirror=False, augment=False,
        loss=LossConfig(lpips=0, identity=0),
    )  # fmt: skip


def test_the_teacher_itself_is_at_distance_zero(config):
    state, context = start_run(config)
    assert train_steps(state, context, 1)[0]["rows"] < 1e-10


def test_another_encoder_comes_closer_step_by_step_and_nothing_is_drawn(config, monkeypatch):
    state, context = start_run(config)
    with torch.no_grad():
        for weight in state.network.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    drawn = []
    monkeypatch.setattr(state.model.generator, "synthesize", lambda *given, **more: drawn.append(given))
    state.model.average_image = lambda: torch.zeros(1, 3, 32, 32)
    found = [losses["rows"] for losses in train_steps(state, context, 6)]
    assert found[-1] < 0.9 * found[0]
    assert not drawn


def test_from_that_step_on_pictures_are_compared(config):
    state, context = start_run(config)
    state.step = config.rows_until
    assert set(train_steps(state, context, 1)[0]) >= {"loss", "l2"}


def test_a_teacher_has_the_same_generator(config):
    model = checkpoints.load(config.start_from)
    with pytest.raises(ConfigError, match="--teacher faces"):
        RowTargets(checkpoints.load("faces"), model, replace(config, teacher="faces"))
