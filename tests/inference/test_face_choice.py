"""Which face of a photograph is taken, and what is said about it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import pixel2style as p2s
from pixel2style import cli, images, photos
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """Two faces: a small red one on the left and a large one on the right, which is not in the middle."""
    head = images.load(ASTRONAUT).crop((120, 0, 340, 220))
    sheet = Image.new("RGB", (640, 320), (128, 128, 128))
    small = np.asarray(head.resize((180, 180))) * np.array([1, 0.7, 0.7])
    sheet.paste(Image.fromarray(small.astype(np.uint8)), (180, 60))
    sheet.paste(head.resize((270, 270)), (370, 30))
    sheet.save(tmp_path / "group.png")
    return tmp_path / "group.png"


@pytest.fixture
def lying(tmp_path: Path) -> Path:
    images.load(ASTRONAUT).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "lying.png")
    return tmp_path / "lying.png"


def run(*words: object) -> int:
    try:
        return cli.main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)


def pixels(picture: Image.Image | Path) -> np.ndarray:
    return np.asarray(images.load(picture) if isinstance(picture, Path) else picture).astype(int)


def test_every_face_becomes_a_result_of_its_own(
    group: Path, model: Path, session: p2s.Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("invert", group, "--face", "all", "--out", out, "--model", model) == 0
    rows = load_file(out / "latents.safetensors")
    assert sorted(rows) == ["group.1", "group.2"]
    for number in (1, 2):
        alone = session.invert(group, face=number)
        assert np.array_equal(pixels(out / f"group.{number}.aligned.png"), pixels(alone.aligned))
        assert np.allclose(rows[f"group.{number}"], alone.ws, atol=1e-5)
        assert alone.notes == ()
    assert capsys.readouterr().err == ""
    assert run("invert", group, "--face", "all", "--out", out, "--model", model, "--skip-existing") == 0
    assert "2 of 2 photographs were there already" in capsys.readouterr().out


def test_central_and_largest_are_different_faces(group: Path, session: p2s.Session) -> None:
    taken = {choice: session.invert(group, face=choice).aligned for choice in (1, 2, "central", "largest", None)}
    assert np.array_equal(taken["central"], taken[1])
    assert np.array_equal(taken["largest"], taken[2])
    assert np.array_equal(taken[None], taken[2])
    assert not np.array_equal(taken[1], taken[2])


@pytest.mark.parametrize(("options", "lines"), [((), 1), (("--face", "largest"), 0), (("--quiet",), 0)])
def test_other_faces_are_mentioned_once_unless_one_was_chosen(
    group: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], lines: int
) -> None:
    for words in (("invert", group, "--model", model), ("align", group)):
        assert run(*words, *options, "--out", tmp_path / words[0]) == 0
        said = capsys.readouterr().err
        assert said.count("\n") == lines
        if lines:
            assert "group.png shows 2 faces" in said
            assert "number 2 from the left" in said
            assert "--face" in said


def test_a_photograph_on_its_side_is_turned_and_this_is_said(
    lying: Path, session: p2s.Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = session.invert(lying)
    assert np.abs(pixels(found.aligned) - pixels(session.invert(ASTRONAUT).aligned)).mean() < 2
    assert len(found.notes) == 1 and "side" in found.notes[0]
    for options in ((), ("--face", "all")):
        assert run("align", lying, "--out", tmp_path / str(len(options)), *options) == 0
        assert capsys.readouterr().err.count("lying.png lies on its side") == 1


def test_each_face_of_a_turned_photograph_is_mentioned_once(
    group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images.load(group).transpose(Image.Transpose.ROTATE_180).save(group)
    assert run("align", group, "--face", "all", "--out", tmp_path / "out", "--json") == 0
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "upside down" in said.err
    assert [json.loads(line)["name"] for line in said.out.splitlines()] == ["group.1", "group.2"]
    reds = [pixels(tmp_path / "out" / f"group.{number}.png")[300:700, 300:700].mean((0, 1)) for number in (1, 2)]
    assert reds[0][0] - reds[0][1] > reds[1][0] - reds[1][1]


def test_photographs_without_faces_fail_alone(
    group: Path, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (80, 80)).save(tmp_path / "plain.png")
    (tmp_path / "torn.png").write_bytes(b"no picture")
    words = ("invert", group, tmp_path / "plain.png", tmp_path / "torn.png", "--model", model)
    assert run(*words, "--face", "all", "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 2
    assert "plain.png: no face" in said and "torn.png" in said
    assert sorted(load_file(tmp_path / "out" / "latents.safetensors")) == ["group.1", "group.2"]
    assert run(*words[:2], "--model", model, "--face", "3", "--out", tmp_path / "third") == 2
    assert "2 faces" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("invert a.png --face second", "from the left"),
        ("invert a.png --face 0", "from the left"),
        ("align a.png --face -1", "from the left"),
        ("refine a.png --face central --no-align", "--no-align"),
        ("invert a.png --face all --no-align", "--no-align"),
        ("translate sketch a.png --face 1 --model x.safetensors", "sketch"),
    ],
)
def test_what_is_no_choice_is_refused_in_one_line(
    words: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words.split(), "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and told in said
    assert not (tmp_path / "out").exists()


def test_all_faces_are_several_results(session: p2s.Session, group: Path) -> None:
    with pytest.raises(p2s.ConfigError, match="each_face"):
        session.invert(group, face="all")
    found = list(session.each_face(photos.find([str(group)])))
    assert [photo.name for photo in found] == ["group.1", "group.2"]
    assert [photo.path for photo in found] == [group, group]


def test_the_photograph_without_a_face_is_named_not_the_one_that_is_worked_on(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "plain.png")
    words = ["mix", str(ASTRONAUT), "--with", str(tmp_path / "plain.png"), "--rows", "0-", "--model", str(model)]
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "plain.png" in line and "astronaut" not in line
