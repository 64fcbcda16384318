"""Directions that users find: from scores, from examples, from a generator; and the files that say so."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from pixel2style import assets, checkpoints, images
from pixel2style.cli import main
from pixel2style.editing import directions
from pixel2style.editing.directions import Direction
from pixel2style.errors import ConfigError
from pixel2style.generators import Generator, sampling
from pixel2style.inference import edit, find_directions
from pixel2style.inference.find_directions import Table
from tests.support import stand_in
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def generator() -> Generator:
    return stand_in.random_model().generator


@pytest.mark.parametrize("method", ["svm", "regression"])
def test_a_unit_moves_the_score_by_one_deviation_and_what_is_held_stays(method: str, generator: Generator) -> None:
    rng = torch.Generator().manual_seed(0)
    ws = torch.randn(800, stand_in.WIDTH, generator=rng)
    first = torch.nn.functional.normalize(torch.randn(stand_in.WIDTH, generator=rng), dim=0)
    other = torch.nn.functional.normalize(torch.randn(stand_in.WIDTH, generator=rng) + first, dim=0)
    scores = torch.stack([5 * ws @ first, ws @ other], 1)
    (found,) = find_directions.from_scores(ws, scores, ["age", "glasses"], generator, method, "2-4", ["glasses"])
    assert (found.name, found.rows, found.generator) == ("age", "2-4", directions.id_of(generator))
    assert found.vector.shape == (stand_in.ROWS, stand_in.WIDTH) and "glasses" in found.source
    vector = found.vector[0]
    assert abs(float(vector @ other)) < 0.15 * float(vector.norm())
    if method == "regression":  # with the other score held; the SVM's unit does not hold it
        assert abs(float(5 * vector @ first) / float(scores[:, 0].std()) - 1) < 0.2
    (alone,) = find_directions.from_scores(ws, scores[:, :1], ["age"], generator, method)
    assert float(torch.cosine_similarity(alone.vector[0], first, 0)) > 0.9
    assert abs(float(5 * alone.vector[0] @ first) / float(scores[:, 0].std()) - 1) < 0.2


def test_examples_give_the_way_from_those_without_to_those_with(generator: Generator) -> None:
    shape = (5, stand_in.ROWS, stand_in.WIDTH)
    without, way = torch.randn(shape), torch.randn(shape[1:])
    found = find_directions.from_examples(without + way, without, "curls", generator)
    assert torch.allclose(found.vector, way, atol=1e-4)


def test_axes_of_a_generator_have_units_of_its_own_w() -> None:
    network = checkpoints.load_generator(assets.path("mobilestylegan_ffhq_1024"))
    for method in ("sefa", "ganspace"):
        first, second = find_directions.from_generator(network, method, 2, "0-3", 3000)
        assert (first.name, second.name, first.rows) == (f"{method}1", f"{method}2", "0-3")
        assert abs(float(torch.cosine_similarity(first.vector[0], second.vector[0], 0))) < 0.01
        assert 0.1 < float(first.vector[0].norm()) < 20
    with pytest.raises(ConfigError, match="count"):
        list(find_directions.from_generator(network, "sefa", 0))


@pytest.mark.parametrize(
    "content",
    ["", "file\n", "file,age\n", "file,age,age\na.png,1,2\n", "file,age\na.png,old\n", "file,age\na.png,1,2\n",
     "file,age\na.png,nan\n"],
)  # fmt: skip
def test_a_table_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(content)
    with pytest.raises(ConfigError, match=r"scores\.csv"):
        Table.read(tmp_path / "scores.csv")


def test_a_wrong_line_has_the_number_that_editors_show(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("\nfile,age\n\na.png,1\n\n\nb.png,old\n")
    with pytest.raises(ConfigError, match="line 7 "):
        Table.read(tmp_path / "scores.csv")


def test_scores_and_names_that_cannot_be_used_are_refused(generator: Generator) -> None:
    ws = torch.randn(6, stand_in.WIDTH)
    with pytest.raises(ConfigError, match="beard"):
        list(find_directions.from_scores(ws, torch.randn(6, 1), ["age"], generator, "svm", hold=["beard"]))
    with pytest.raises(ConfigError, match="equal"):
        list(find_directions.from_scores(ws, torch.ones(6, 1), ["age"], generator, "svm"))
    with pytest.raises(ConfigError, match="elbow"):
        find_directions.drawn_and_scored(generator, ["elbow"], 10, 0)


def test_components_of_ganspace_are_read_by_number(tmp_path: Path) -> None:
    network = checkpoints.load_generator(assets.path("mobilestylegan_ffhq_1024"))
    axes, deviations = torch.randn(3, 1, 512), torch.tensor([3.0, 2.0, 1.0])
    torch.save({"comp": axes, "std": deviations, "mean": torch.zeros(1, 512)}, tmp_path / "pca.pt")
    np.savez(tmp_path / "pca.npz", lat_comp=axes.numpy(), lat_stdev=deviations.numpy())
    for name in ("pca.pt", "pca.npz"):
        move = edit.parsed(f"{tmp_path / name}:1=-2", network)
        assert move.amount == -2
        assert torch.allclose(move.direction.vector, (2 * axes[1]).expand(16, -1))
        for wrong in (f"{tmp_path / name}=1", f"{tmp_path / name}:3=1"):
            with pytest.raises(ConfigError, match="0 to 2"):
                edit.parsed(wrong, network)
    torch.save(axes[0], tmp_path / "one.pt")
    with pytest.raises(ConfigError, match="component"):
        edit.parsed(f"{tmp_path / 'one.pt'}:1=1", network)


def test_the_command_finds_light_in_photographs_and_says_whose_it_is(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    face = images.load(ASTRONAUT).crop((120, 0, 340, 220))
    lines = ["file,light"]
    for number, light in enumerate((0.5, 0.7, 0.9, 1.1)):
        ImageEnhance.Brightness(face).enhance(light).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{light}")
    Image.new("RGB", (64, 64)).save(tmp_path / "plain.png")
    (tmp_path / "scores.csv").write_text("\n".join([*lines, "plain.png,3"]))
    words = ["find-directions", "--model", str(model), "--out", str(tmp_path / "out")]
    table = ["--scores", str(tmp_path / "scores.csv")]
    assert main([*words, *table]) == 0
    assert "plain.png is left out" in capsys.readouterr().err
    assert main([*words, *table]) == 2, "exists already"
    file = tmp_path / "out" / "light.safetensors"
    assert main(["directions", str(model), "--file", str(file)]) == 0
    assert "linear SVM, 4 photographs" in capsys.readouterr().out
    drawn = ["directions", str(model), "--file", str(file), "--out", str(tmp_path / "drawn")]
    assert main(drawn) == 0
    with Image.open(tmp_path / "drawn" / "light.jpg") as strip:
        assert strip.size == (5 * 256, 256)
    assert main(drawn) == 2 and "--overwrite" in capsys.readouterr().err
    assert main(["directions", "--seed", "3"]) == 2 and "--out" in capsys.readouterr().err
    assert main(["edit", str(ASTRONAUT), "--set", f"{file}=1", "--out", str(tmp_path / "edited")]) == 2
    assert "belongs to the generator" in capsys.readouterr().err
    for wrong in ([], ["--method", "examples"], ["--method", "sefa", "--scores", "age"], ["--scores", "elbow"]):
        assert main([*words, *wrong, "--overwrite"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_strip_shows_one_face_at_each_amount(generator: Generator) -> None:
    vector = torch.randn(generator.rows, generator.width, generator=torch.Generator().manual_seed(2))
    direction = Direction("any", vector, "0-", unit="one")
    side = generator.size
    strip = edit.shown(direction, generator, 4, side)
    w = sampling.draw(generator, 1, torch.Generator().manual_seed(4), generator.w_avg, 0.7)
    for at, amount in enumerate(edit.SHOWN):
        ws = w.expand(1, generator.rows, -1) + amount * vector
        assert strip.crop((at * side, 0, (at + 1) * side, side)) == images.to_picture(generator.synthesize(ws)[0])
    assert strip != edit.shown(direction, generator, 5, side)
