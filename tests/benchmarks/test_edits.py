"""The figures of the benchmark of edits, from measurements made by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

import edits
from edits import Measured
from pixel2style.errors import ConfigError


def measurements() -> list[Measured]:
    """Two photographs, one method: the second has no face after the edit."""
    return [
        Measured(0, "kept", "pose", 0.0, 5.0, 0.99, 0.1),
        Measured(0, "kept", "pose", 3.0, 15.0, 0.95, 0.2),
        Measured(1, "kept", "pose", 0.0, -5.0, 0.97, 0.1),
        Measured(1, "kept", "pose", 3.0, float("nan"), 0.93, 0.4),
    ]


def test_a_change_is_that_against_the_methods_own_picture_without_an_edit() -> None:
    means = edits.means(measurements())
    assert means["pose", "kept", 3.0].change == 10
    assert means["pose", "kept", 3.0].identity == pytest.approx(0.94)
    assert means["pose", "kept", 0.0].outside == pytest.approx(0.1)
    assert means["pose", "kept", 0.0].photographs == 2


def test_a_line_of_the_table_has_every_strength() -> None:
    lines = edits.table(measurements()).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    assert "+10.0" in lines[2] and "0.980" in lines[2] and "0.940" in lines[2] and "0.300" in lines[2]


def test_a_direction_is_read_from_either_kind_of_file_and_scaled_to_length_one(tmp_path: Path) -> None:
    torch.save(2 * torch.ones(1, 512), tmp_path / "age.pt")
    np.save(tmp_path / "smile.npy", np.arange(18 * 4, dtype=np.float32).reshape(1, 18, 4) + 1)
    assert edits.direction(tmp_path, "age", 16).shape == (512,)
    smile = edits.direction(tmp_path, "smile", 16)
    assert smile.shape == (16, 4) and torch.allclose(smile.norm(dim=1), torch.ones(16))
    with pytest.raises(ConfigError, match="pose"):
        edits.direction(tmp_path, "pose", 16)


def test_the_face_is_in_the_middle_and_not_the_whole_picture() -> None:
    face = edits.face_region()
    assert face[138, 128] and not face[0, 0] and not face[255, 128]
    assert 0.35 < face.float().mean() < 0.45
