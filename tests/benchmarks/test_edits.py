"""The figures of the benchmark of edits, from measurements made by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

import edits
from edits import Measured
from pixel2style.config import GeneratorConfig
from pixel2style.errors import ConfigError
from pixel2style.generators import StyleGAN2


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


def test_directions_of_either_kind_of_file_are_scaled_to_length_one(tmp_path: Path) -> None:
    generator = StyleGAN2(GeneratorConfig(size=32, width=16, mapping_layers=1, channels=(8, 8, 6, 4)))
    torch.save(2 * torch.ones(1, 16), tmp_path / "age.pt")
    np.save(tmp_path / "smile.npy", np.arange(8 * 16, dtype=np.float32).reshape(1, 8, 16) + 1)
    torch.save(torch.ones(16), tmp_path / "pose.pt")
    found = edits.read_directions(tmp_path, generator)
    for vector in found.values():
        assert torch.allclose(vector.norm(dim=1), torch.ones(generator.rows))
    (tmp_path / "pose.pt").unlink()
    with pytest.raises(ConfigError, match="pose"):
        edits.read_directions(tmp_path, generator)


def test_the_face_is_in_the_middle_and_not_the_whole_picture() -> None:
    face = edits.face_region()
    assert face[138, 128] and not face[0, 0] and not face[255, 128]
    assert 0.35 < face.float().mean() < 0.45
