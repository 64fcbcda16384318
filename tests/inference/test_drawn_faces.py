"""The bundled encoders of drawings: drawings by a program become faces that agree with them."""

from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

import pixel2style as p2s
from pixel2style import images
from pixel2style.config import SourceConfig
from pixel2style.errors import ConfigError, ImageError
from pixel2style.inference import prepare
from pixel2style.inference.work import Drawing
from pixel2style.metrics import parsing
from pixel2style.metrics.identity import Identity
from pixel2style.ops import pooled
from pixel2style.tasks import label_maps, pencils, segmentation, sketch
from pixel2style.tasks.request import Request
from tests.support import stand_in
from tests.support.paths import ASTRONAUT

DRAWINGS = ASTRONAUT.parent / "drawings"
EYES, LIPS, HAIR, SKIN = (4, 5), (10, 11, 12), 13, 1


@pytest.fixture(scope="module")
def sessions() -> dict[str, p2s.Session]:
    return {task: p2s.Session(task, "cpu") for task in ("sketch", "segmentation")}


def regions(picture: Image.Image) -> Tensor:
    """The regions of a result at 256 pixels."""
    return parsing.regions(pooled(images.to_tensor(picture)[None]))[0]


def centre(found: Tensor, classes: tuple[int, ...]) -> Tensor:
    """Row and column of the middle of classes, in pixels of 256."""
    places = torch.isin(found, torch.tensor(classes)).nonzero().float()
    assert len(places) > 40
    return places.mean(0)


def labels(name: str) -> Tensor:
    return label_maps.read(DRAWINGS / f"{name}.labels.png", 256, SourceConfig()).argmax(0)


@pytest.fixture(scope="module")
def made(sessions) -> dict[str, p2s.Result]:
    """Faces of the sketch and of the label map "smile", and of the label map "turned" with two samples."""
    return {
        "sketch": sessions["sketch"].translate(DRAWINGS / "smile.sketch.png"),
        "smile": sessions["segmentation"].translate(DRAWINGS / "smile.labels.png", refine=0),
        "turned": sessions["segmentation"].translate(DRAWINGS / "turned.labels.png", samples=2, seed=3, refine=1),
    }


@pytest.mark.parametrize("name", ["sketch", "smile"])
def test_eyes_and_mouth_are_where_they_were_drawn(made, name):
    assert made[name].reconstruction.size == (1024, 1024)
    drawn, found = labels("smile"), regions(made[name].reconstruction)
    for part in (EYES, LIPS):
        assert torch.dist(centre(found, part), centre(drawn, part)) < 20


def test_a_face_agrees_with_its_label_map_more_than_with_another_one(made):
    found = {name: regions(made[name].reconstruction) for name in ("smile", "turned")}
    for name, other in (("smile", "turned"), ("turned", "smile")):
        assert (found[name] == labels(name)).float().mean() > max(0.75, (found[name] == labels(other)).float().mean())
    assert (found["smile"] == HAIR).sum() > 1.2 * (found["turned"] == HAIR).sum()  # long hair, and short


def test_samples_are_other_people_with_the_same_regions(made):
    samples = made["turned"].samples
    first, second = (np.asarray(sample.resize((256, 256))).astype(float) for sample in samples)
    assert np.abs(first - second).mean() > 10
    faces = torch.stack([images.to_tensor(sample) for sample in samples])
    assert float(Identity("dlib")(faces[:1], faces[1:])) < 0.97
    one, other = map(regions, samples)
    assert (one == other).float().mean() > 0.8


def test_rows_that_are_asked_for_are_replaced_whole_and_a_photographs_look_is_kept():
    assert prepare.variation(Request("sketch")) == ("4-", 0.7)
    assert prepare.variation(Request("sketch", rows="8-")) == ("8-", 1.0)
    assert prepare.variation(Request("sketch", like=ASTRONAUT)) == ("4-7", 0.7)
    assert prepare.look(Request("sketch", like=ASTRONAUT)) == ("8-", 1.0)
    assert prepare.variation(Request("superres", alpha=0.3)) == ("8-", 0.3)


def test_a_photograph_gives_the_rows_that_are_asked_for(sessions, made):
    session, drawing = sessions["sketch"], DRAWINGS / "smile.sketch.png"
    like, quick = (session.translate(drawing, like=ASTRONAUT, rows="8-", refine=steps) for steps in (1, 0))
    own = session.rows(drawing)
    assert torch.equal(quick.ws[:8], own[:8])
    assert torch.equal(like.ws[8:], quick.ws[8:])
    assert all((one - other).abs().max() > 0.01 for one, other in zip(quick.ws[8:], own[8:], strict=True))
    assert all((one - other).abs().max() > 0.001 for one, other in zip(like.ws[:8], own[:8], strict=True))


@pytest.fixture(scope="module")
def quick(sessions) -> p2s.Result:
    """That of the label map "turned", as the encoder alone reads it."""
    return sessions["segmentation"].translate(DRAWINGS / "turned.labels.png", samples=2, seed=3, refine=0)


def test_faces_and_samples_follow_their_map_more_closely_after_some_steps(made, quick):
    results = quick, made["turned"]
    for before, after in zip(*((one.reconstruction, *one.samples) for one in results), strict=True):
        shares = [float((regions(picture) == labels("turned")).float().mean()) for picture in (before, after)]
        assert shares[1] > shares[0] + 0.01


def test_a_face_follows_its_sketch_more_closely_after_some_steps(sessions, made):
    sketched = images.to_tensor(images.load(DRAWINGS / "smile.sketch.png"))[:1] / 2 + 0.5
    before = sessions["sketch"].picture(sessions["sketch"].rows(DRAWINGS / "smile.sketch.png"))
    first, then = (
        float(pencils.disagreement(pooled(images.to_tensor(picture)[None]), sketched))
        for picture in (before, made["sketch"].reconstruction)
    )
    assert then < first - 0.02


def test_a_preview_of_a_drawing_changes_as_its_last_picture_did(sessions):
    drawing = Drawing(sessions["segmentation"])
    sheet = Image.open(DRAWINGS / "turned.labels.png").convert("RGB")
    first = np.asarray(drawing.follow(sheet, 256)).astype(float)
    final = drawing.follow(sheet).resize((256, 256), Image.Resampling.BOX)
    again = np.asarray(drawing.follow(sheet, 256)).astype(float)
    assert np.abs(again - final).mean() < 0.5 * np.abs(first - final).mean()
    other = Image.open(DRAWINGS / "smile.labels.png").convert("RGB")
    assert drawing.follow(other, 256) == Drawing(drawing.session).follow(other, 256)  # the first has no part in it


def test_models_that_cannot_tell_how_well_a_face_follows_its_drawing_do_not_try(tmp_path):
    file = stand_in.save_random_model(tmp_path / "other.safetensors", channels=19, task="segmentation")
    session, drawing = p2s.Session(file, "cpu"), DRAWINGS / "turned.labels.png"
    assert torch.equal(session.translate(drawing).ws, session.rows(drawing))
    with pytest.raises(ConfigError, match="--refine"):
        session.translate_many([drawing], Request("segmentation", refine=2))
    other = SourceConfig(classes=7)
    assert segmentation.agreement(torch.zeros(7, 8, 8), other) is None
    assert segmentation.agreement(torch.zeros(19, 8, 8), SourceConfig()) is None  # classes without sides are others


def test_a_coloured_map_is_read_by_its_colours(sessions, made, tmp_path):
    with Image.open(DRAWINGS / "turned.labels.png") as drawing:
        drawing.convert("RGB").save(tmp_path / "coloured.png")
    source = sessions["segmentation"].model.config.source
    assert torch.equal(label_maps.read(tmp_path / "coloured.png", 256, source).argmax(0), labels("turned"))


def test_colours_of_ones_own_are_read_from_a_list(sessions, tmp_path):
    listed, file = tmp_path / "colours.txt", tmp_path / "mine.png"
    own = np.random.default_rng(0).permutation(256)[: len(parsing.CLASSES)].repeat(3).reshape(-1, 3).astype(np.uint8)
    own[:, 1] = 7
    Image.fromarray(own[np.asarray(Image.open(DRAWINGS / "turned.labels.png"))]).save(file)
    listed.write_text(
        "".join(f"#{bytes(colour).hex()} {name}\n" for colour, name in zip(own, parsing.CLASSES, strict=True))
    )
    preparation = Request("segmentation", colours=str(listed))
    config = sessions["segmentation"].model.config
    assert torch.equal(prepare.prepare(file, preparation, config, None).source.argmax(0), labels("turned"))
    with pytest.raises(ImageError, match="--colours"):
        sessions["segmentation"].translate(file)
    for wrong in (tmp_path / "none.txt", file):
        with pytest.raises(ConfigError, match=wrong.name):
            sessions["segmentation"].translate(file, colours=str(wrong))
    with pytest.raises(ConfigError, match="--colours is for segmentation"):
        sessions["sketch"].translate(DRAWINGS / "smile.sketch.png", colours=str(listed))


def test_what_is_no_sketch_gets_a_note(sessions, tmp_path):
    config = sessions["sketch"].model.config
    drawing = DRAWINGS / "smile.sketch.png"
    ImageOps.invert(images.load(drawing)).save(tmp_path / "inverted.png")
    for file, note in ((ASTRONAUT, "--make-sketch"), (tmp_path / "inverted.png", "dark on light"), (drawing, None)):
        notes = prepare.prepare(file, Request("sketch"), config, None).notes
        assert len(notes) == (note is not None) and all(str(note) in found for found in notes)
    for style in get_args(pencils.Style):
        drawn = pencils.draw(images.to_tensor(images.load(ASTRONAUT).resize((256, 256)))[None], pencils.Pen(style))
        assert not sketch.doubts(images.to_picture(drawn[0] * 2 - 1).convert("RGB"))


def test_photographs_are_drawn_first(sessions):
    photograph = sessions["segmentation"].translate(ASTRONAUT, make_labels=True, refine=0)
    assert 0.15 < (regions(photograph.reconstruction) == SKIN).float().mean() < 0.5
    with pytest.raises(ConfigError, match="make-sketch"):
        sessions["segmentation"].translate(ASTRONAUT, make_sketch="lines")
