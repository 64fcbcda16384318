"""A random model that several test modules run, and its session."""

from pathlib import Path

import pytest

import pixel2style as p2s
from tests.support import stand_in


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a model with random weights."""
    return stand_in.save_random_model(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture(scope="module")
def session(model: Path) -> p2s.Session:
    """A session of ``model``."""
    return p2s.Session(model, "cpu")
