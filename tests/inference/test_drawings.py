"""Photographs become drawings, in files that ``translate`` reads."""

import dataclasses
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

import pixel2style as p2s
from pixel2style import cli, images
from pixel2style.config import SourceConfig
from pixel2style.errors import ConfigError, NoRoomError, OutputError
from pixel2style.inference import prepare
from pixel2style.inference.drawings import sketch_into
from pixel2style.metrics import parsing
from pixel2style.photos import Photo
from pixel2style.tasks import label_maps
from pixel2style.tasks.request import Request
from tests.support import stand_in
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")


def run(command, *arguments):
    try:
        return cli.main([*shlex.split(command), *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)


def test_a_sketch_is_gray_on_white_beside_the_face_that_it_is_of(tmp_path, capsys):
    assert run("sketch --size 256 --style lines", ASTRONAUT, "--out", tmp_path) == 0
    name = ASTRONAUT.stem
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"{name}.aligned.png", f"{name}.png"]
    with Image.open(tmp_path / f"{name}.png") as sketch:
        assert (sketch.mode, sketch.size) == ("L", (256, 256))
        pixels = np.asarray(sketch)
    assert np.median(pixels) > 240
    assert pixels.min() < 60
    assert run("sketch --size 256", ASTRONAUT, "--out", tmp_path) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_photograph_whose_name_no_drawing_can_carry_fails_and_the_others_are_done(tmp_path, capsys):
    short, long = tmp_path / "a.png", tmp_path / f"{'a' * 246}.png"
    for file in (short, long):
        Image.new("RGB", (32, 32), "gray").save(file)
    words = "sketch --size 16 --no-align --quiet"
    assert run(words, long, short, "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err.count("too long") == 1
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a.png"]


def test_a_full_disk_ends_a_run_of_drawings(tmp_path, monkeypatch):
    def full(*_):
        raise NoRoomError("full")

    monkeypatch.setattr(images, "save", full)
    photos = [Photo(ASTRONAUT, name, ASTRONAUT.parent) for name in "ab"]
    with pytest.raises(NoRoomError):
        list(sketch_into(tmp_path, photos, p2s.Session(), size=16, align=False))


def test_an_encoder_of_sketches_reads_it(tmp_path):
    model = stand_in.random_model(channels=1)
    model.config = dataclasses.replace(model.config, task="sketch")
    p2s.save(model, tmp_path / "sketch.safetensors")
    assert run("sketch --size 128 --no-align --quiet", ASTRONAUT, "--out", tmp_path / "drawn") == 0
    from_file = p2s.Session(tmp_path / "sketch.safetensors", "cpu")
    result = from_file.translate(tmp_path / "drawn" / f"{ASTRONAUT.stem}.png")
    assert result.reconstruction.size == (stand_in.SIZE, stand_in.SIZE)
    photograph = from_file.translate(ASTRONAUT, align=False, make_sketch="lines")
    assert np.asarray(photograph.aligned.convert("L")).mean() > 150  # paper, not the photograph
    assert (photograph.ws - result.ws).abs().max() > 0


def test_rows_like_those_of_a_photograph_need_its_generator(tmp_path):
    model = stand_in.random_model(channels=1)
    model.config = dataclasses.replace(model.config, task="sketch")
    p2s.save(model, tmp_path / "sketch.safetensors")
    Image.new("L", (64, 64), 255).save(tmp_path / "drawing.png")
    with pytest.raises(ConfigError, match="another generator"):
        p2s.Session(tmp_path / "sketch.safetensors", "cpu").translate(
            tmp_path / "drawing.png", like=ASTRONAUT, rows="1-2"
        )


def test_a_label_map_is_a_palette_picture_of_the_face_and_is_read_as_its_regions(tmp_path):
    assert run("parse --size 256 --quiet", ASTRONAUT, "--out", tmp_path) == 0
    with Image.open(tmp_path / f"{ASTRONAUT.stem}.png") as labels:
        assert (labels.mode, labels.size) == ("P", (256, 256))
        assert {0, 1, 2, 13, 17} <= set(np.asarray(labels).flat) <= set(range(19))
    aligned = images.to_tensor(images.load(tmp_path / f"{ASTRONAUT.stem}.aligned.png"))
    read = label_maps.read(tmp_path / f"{ASTRONAUT.stem}.png", 256, SourceConfig()).argmax(0)
    assert torch.equal(read, parsing.regions(aligned[None])[0])


@pytest.mark.parametrize(
    ("options", "named"),
    [("--size 8", "--size"), ("--width 0", "wide"), ("--no-align --face 2", "--no-align")],
)
def test_what_cannot_be_drawn_is_said_in_one_line(options, named, tmp_path, capsys):
    assert run(f"sketch {options}", ASTRONAUT, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err.strip()
    assert named in said
    assert said.count("\n") == 0


def test_a_drawing_never_replaces_its_photograph(tmp_path):
    images.save(images.load(ASTRONAUT).resize((64, 64)), tmp_path / "me.png")
    photo = Photo(tmp_path / "me.png", "me", tmp_path)
    with pytest.raises(OutputError, match="me"):
        list(sketch_into(tmp_path, [photo], p2s.Session("faces", "cpu"), align=False, overwrite=True))


@pytest.mark.parametrize("made", [{"make_sketch": "lines"}, {"make_labels": True}, {"like": "me.jpg"}])
def test_photographs_are_not_drawn_first_where_they_are_what_is_asked_for(made):
    config = stand_in.random_model(channels=3).config
    with pytest.raises(ConfigError, match="invert"):
        prepare.check(Request("invert", **made), config, 3, "faces")
