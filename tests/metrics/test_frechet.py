"""Fréchet distances against the textbook formula, and FID by torch-fidelity."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pixel2style.errors import CheckpointError, ConfigError
from pixel2style.metrics import frechet
from pixel2style.metrics.fid import Inception
from tests.support.golden_rule import arr

pytestmark = pytest.mark.usefixtures("one_thread")


def by_hand(a: np.ndarray, b: np.ndarray) -> float:
    """With covariances, and the trace of a product's root by its eigenvalues."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).astype(complex)).real.sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * roots)


@pytest.mark.parametrize(("pictures", "others"), [(40, 60), (5, 9), (2, 3)])
def test_it_is_the_textbook_formula_also_for_less_pictures_than_features(pictures: int, others: int) -> None:
    a, b = arr("a", pictures, 12).double(), 1.5 * arr("b", others, 12).double() + 0.3
    assert frechet.distance(a, b) == pytest.approx(by_hand(a.numpy(), b.numpy()), rel=1e-5)


def test_a_set_has_distance_zero_to_itself_and_its_squared_shift_to_a_shifted_copy() -> None:
    a = arr("a", 20, 64)
    found = frechet.distance(a, a)
    assert found is not None and found < 1e-9
    assert frechet.distance(a, a + 2) == pytest.approx(64 * 4, rel=1e-5)


def test_order_does_not_matter() -> None:
    a, b = arr("a", 20, 16), arr("b", 20, 16)
    assert frechet.distance(a, b) == pytest.approx(frechet.distance(a.flip(0), b), rel=1e-9)


def test_one_picture_has_no_spread() -> None:
    assert frechet.distance(arr("a", 1, 16), arr("b", 20, 16)) is None


@pytest.fixture
def inception(tmp_path: Path) -> Path:
    torch.save({"weight": torch.ones(2)}, tmp_path / "inception.pth")
    return tmp_path / "inception.pth"


def drawn(folder: Path, name: str, level: int, side: int) -> Path:
    Image.new("RGB", (side, side), (level, 0, 0)).save(folder / name)
    return folder / name


def test_fid_hands_pictures_as_bytes_and_weights_without_a_pickle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inception: Path
) -> None:
    seen: dict[str, Any] = {}

    def calculate_metrics(**options: Any) -> dict[str, float]:
        seen.update(options, state=torch.load(options["feature_extractor_weights_path"], weights_only=True))
        levels = [[int(data[i][0].max()) for i in range(len(data))] for data in (options["input1"], options["input2"])]
        seen["levels"] = levels
        assert options["input1"][0].dtype == torch.uint8
        return {"frechet_inception_distance": 7.5}

    monkeypatch.setitem(sys.modules, "torch_fidelity", SimpleNamespace(calculate_metrics=calculate_metrics))
    made = [drawn(tmp_path, f"made{i}.png", 10 * i, 8 + i) for i in range(2)]
    meant = [drawn(tmp_path, f"meant{i}.png", 100 + i, 8) for i in range(2)]
    network = Inception(inception)
    assert network.fid(made, meant, torch.device("cpu")) == 7.5
    assert seen["levels"] == [[0, 10], [100, 101]]
    assert seen["fid"] and not seen["cuda"] and not seen["cache"]
    assert seen["batch_size"] == 1  # pictures of different sizes do not fit into one batch
    assert seen["state"]["weight"].tolist() == [1, 1]
    assert seen["feature_extractor_weights_path"] != str(inception)
    assert network.fid(made[:1], meant[:1], torch.device("cpu")) is None


def test_weights_of_another_network_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inception: Path) -> None:
    def calculate_metrics(**options: Any) -> dict[str, float]:
        torch.nn.Linear(1, 1).load_state_dict(torch.load(options["feature_extractor_weights_path"], weights_only=True))
        raise AssertionError("never reached")

    monkeypatch.setitem(sys.modules, "torch_fidelity", SimpleNamespace(calculate_metrics=calculate_metrics))
    files = [drawn(tmp_path, f"{i}.png", i, 8) for i in range(2)]
    with pytest.raises(CheckpointError, match=str(inception)):
        Inception(inception).fid(files, files, torch.device("cpu"))


def test_a_missing_library_is_an_error(monkeypatch: pytest.MonkeyPatch, inception: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ConfigError, match="pip install torch-fidelity"):
        Inception(inception)
