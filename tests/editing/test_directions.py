"""Direction files, ours and others', and the finders on latents whose directions are known."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pixel2style import assets, checkpoints
from pixel2style.config import GeneratorConfig
from pixel2style.editing import directions, find
from pixel2style.editing.directions import Direction
from pixel2style.errors import CheckpointError, ConfigError
from pixel2style.generators import Generator, StyleGAN2


@pytest.fixture(scope="module")
def small() -> Generator:
    torch.manual_seed(0)
    return StyleGAN2(GeneratorConfig(size=32, width=16, mapping_layers=2, channels=(8, 8, 6, 4)))


@pytest.fixture(scope="module")
def faces() -> Generator:
    return checkpoints.load_generator(assets.path("mobilestylegan_ffhq_1024"))


def test_a_direction_is_what_it_was_after_a_file(tmp_path: Path, small: Generator) -> None:
    made = Direction(
        "age", torch.randn(small.rows, 16), "2-5", directions.id_of(small), "8 years", "regression", {"identity": 0.9}
    )
    directions.save(made, tmp_path / "age.safetensors")
    read = directions.load(tmp_path / "age.safetensors", small)
    assert torch.equal(read.vector, made.vector)
    assert (read.name, read.rows, read.unit, read.source) == ("age", "2-5", "8 years", "regression")
    assert read.figures == {"identity": 0.9}


def test_a_direction_of_another_generator_is_refused(tmp_path: Path, small: Generator) -> None:
    made = Direction("age", torch.randn(small.rows, 16), generator="stylegan2 1024")
    directions.save(made, tmp_path / "age.safetensors")
    with pytest.raises(ConfigError, match="stylegan2 1024"):
        directions.load(tmp_path / "age.safetensors", small)


@pytest.mark.parametrize("shape", [(512,), (1, 512), (1, 1, 512), (16, 512), (1, 16, 512), (1, 8192), (1, 9216)])
@pytest.mark.parametrize("suffix", [".pt", ".npy"])
def test_published_shapes_are_read(shape: tuple[int, ...], suffix: str, tmp_path: Path, faces: Generator) -> None:
    numbers = torch.randn(shape)
    file = tmp_path / f"smile{suffix}"
    if suffix == ".pt":
        torch.save(numbers, file)
    else:
        np.save(file, numbers.numpy())
    read = directions.load(file, faces)
    assert read.name == "smile" and read.vector.shape == (16, 512)
    rows = numbers.reshape(-1, 512)
    assert torch.equal(read.vector[0], rows[0]) and torch.equal(read.vector[15], rows[-1])
    assert torch.equal(read.vector[14], rows[min(14, len(rows) - 1)])


@pytest.mark.parametrize(
    "numbers",
    [torch.zeros(512), torch.full((512,), torch.nan), torch.randn(511), torch.randn(7, 512), torch.ones(512).int()],
)
def test_numbers_that_are_no_direction_are_refused(numbers: Tensor, tmp_path: Path, faces: Generator) -> None:
    torch.save(numbers, tmp_path / "x.pt")
    with pytest.raises(CheckpointError):
        directions.load(tmp_path / "x.pt", faces)


def test_damaged_files_are_refused(tmp_path: Path, small: Generator) -> None:
    for name in ("x.pt", "x.npy", "x.safetensors"):
        (tmp_path / name).write_bytes(b"\x93NUMPY nothing")
        with pytest.raises(CheckpointError):
            directions.load(tmp_path / name, small)
    np.save(tmp_path / "code.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CheckpointError):
        directions.load(tmp_path / "code.npy", small)


@pytest.mark.parametrize(
    "header", ["{'descr': '<f4', 'fortran_order': False, 'shape': (10**12, 512)}", "{'descr': '<f4', 'shape': (9,), ("]
)
def test_arrays_that_numpy_cannot_read_are_refused(header: str, tmp_path: Path, small: Generator) -> None:
    text = header.replace("10**12", "1000000000000").ljust(117).encode() + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        directions.load(tmp_path / "x.npy", small)


def test_archives_that_are_damaged_are_refused(tmp_path: Path, small: Generator) -> None:
    np.savez(tmp_path / "x.npz", lat_comp=np.ones((2, 16)), lat_stdev=np.ones(2))
    whole = (tmp_path / "x.npz").read_bytes()
    for content in (whole[:-60], whole[:200] + b"?" + whole[201:], b"PK\x03\x04 nothing"):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged"):
            directions.load(tmp_path / "x.npz", small, 0)


def test_a_file_that_is_missing_is_said_to_be(tmp_path: Path, small: Generator) -> None:
    for name in (*(f"x{suffix}" for suffix in directions.SUFFIXES), f"{'x' * 300}.pt"):
        with pytest.raises(CheckpointError, match="no such file"):
            directions.load(tmp_path / name, small)


def test_a_direction_moves_its_own_rows_and_back(small: Generator) -> None:
    ws = torch.randn(2, small.rows, 16, dtype=torch.float64)
    direction = Direction("x", torch.randn(small.rows, 16, dtype=torch.float64), rows="1-3")
    moved = direction.apply(ws, 2.0)
    assert torch.equal(moved[:, [0, *range(4, small.rows)]], ws[:, [0, *range(4, small.rows)]])
    assert torch.allclose(direction.apply(moved, -2.0), ws, atol=1e-12)
    assert torch.allclose(direction.apply(ws, 1.0, rows=0)[:, 0] - ws[:, 0], direction.vector[0])
    with pytest.raises(ConfigError):
        direction.apply(torch.randn(1, 3, 16), 1.0)


def latents(count: int = 4000) -> tuple[Tensor, Tensor]:
    """Latents with unequal variances, and two scores that depend on known axes."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(0.5, 2, 16)
    ws = torch.randn(count, 16, generator=generator) * scale
    scores = torch.stack([ws[:, 3] / scale[3], ws[:, 7] + 0.3 * torch.randn(count, generator=generator)], 1)
    return ws, scores


def test_regression_finds_the_axes_that_scores_depend_on() -> None:
    found = find.regression(*latents())
    assert abs(float(found[0, 3])) > 0.97 and abs(float(found[1, 7])) > 0.97


def test_conditional_directions_leave_the_other_scores() -> None:
    ws, _ = latents()
    scores = torch.stack([ws[:, 3], 0.7 * ws[:, 3] + ws[:, 7]], 1)  # correlated
    along, other = find.conditional(ws, scores)
    fitted = torch.stack([along[3], 0.7 * along[3] + along[7]])
    assert abs(float(fitted[1])) < 0.05 * abs(float(fitted[0]))
    assert float(fitted[0]) == pytest.approx(float(scores[:, 0].std()), rel=0.05)
    assert abs(float(other[3])) < 0.05


def test_a_boundary_separates_the_halves() -> None:
    pytest.importorskip("sklearn")
    ws, scores = latents(1500)
    assert float(find.boundary(ws, scores[:, 0] > 0)[3]) > 0.95
    with pytest.raises(ConfigError):
        find.boundary(ws, torch.ones(len(ws), dtype=torch.bool))


def test_a_difference_leads_from_one_mean_to_the_other() -> None:
    direction = torch.nn.functional.normalize(torch.randn(16), dim=0)
    ws = torch.randn(50, 16)
    assert torch.allclose(find.difference(ws + 3 * direction, ws), direction, atol=1e-5)


def test_conditioning_leaves_nothing_of_the_others() -> None:
    a, b, c = torch.randn(3, 16)
    left = find.conditioned(a, [b, c])
    assert abs(float(left @ b)) < 1e-5 and abs(float(left @ c)) < 1e-5 and float(left @ a) > 0
    with pytest.raises(ConfigError):
        find.conditioned(2 * b + c, [b, c])


def test_principal_axes_are_orthonormal_sorted_and_those_of_w(small: Generator) -> None:
    axes, deviations = find.ganspace(small, 4, samples=6000)
    assert torch.allclose(axes @ axes.T, torch.eye(4), atol=1e-4)
    assert bool((deviations[:-1] >= deviations[1:]).all())
    w = small.map(torch.randn(4000, small.noise_width, generator=torch.Generator().manual_seed(5)))
    assert torch.allclose(((w - w.mean(0)) @ axes.T).std(0), deviations, rtol=0.1)


def test_too_few_samples_for_principal_axes_are_told_how_many_are_needed(small: Generator) -> None:
    with pytest.raises(ConfigError, match="more than 4, not 2"):
        find.ganspace(small, 4, samples=2)


@pytest.mark.parametrize("rows", [None, "0", "3-4"])
def test_sefas_first_direction_changes_the_styles_most(small: Generator, rows: str | None) -> None:
    found = find.sefa(small, 16, rows)
    chosen = small.style_matrices() if rows is None else small.style_matrices()[int(rows[0]) : int(rows[-1]) + 1]

    def change(direction: Tensor) -> float:
        return sum(float((m / m.norm() @ direction).square().sum()) for own in chosen for m in own)

    changes = [change(direction) for direction in found]
    assert all(a >= b - 1e-6 for a, b in itertools.pairwise(changes))
    assert changes[0] > 1.5 * changes[-1]


@pytest.mark.parametrize("name", ["small", pytest.param("faces", marks=pytest.mark.slow)])
def test_each_rows_matrices_make_the_styles_it_drives(name: str, request: pytest.FixtureRequest) -> None:
    generator: Generator = request.getfixturevalue(name)
    matrices = generator.style_matrices()
    assert len(matrices) == generator.rows and all(matrices)
    assert all(matrix.shape[1] == generator.width for own in matrices for matrix in own)
    listed = {id(matrix) for own in matrices for matrix in own}
    ws = torch.randn(1, generator.rows, generator.width)
    for row in (0, generator.rows // 2, generator.rows - 1):
        weights = [p for own in matrices for p in own]
        for weight in weights:
            weight.requires_grad_(True)
        moved = torch.zeros_like(ws)
        moved[:, row] = ws[:, row]
        gradients = torch.autograd.grad(generator.synthesize(moved, 32 if name == "small" else None).sum(), weights)
        for weight in weights:
            weight.requires_grad_(False)
        used = {id(weight) for weight, g in zip(weights, gradients, strict=True) if bool(g.any())}
        assert used == {id(matrix) for matrix in matrices[row]} <= listed
