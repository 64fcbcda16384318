"""A face that is changed step by step: what each step changes, and what undoing brings back."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from pixel2style import images
from pixel2style.editing import latents
from pixel2style.errors import ConfigError, ImageError
from pixel2style.inference import edit
from pixel2style.inference import work as works
from pixel2style.inference.session import Session
from pixel2style.inference.work import Drawing, Sessions, Work
from pixel2style.tasks.task import OTHER_FACES
from tests.support.paths import ASTRONAUT, ROOT
from tests.support.stand_in import save_random_model

pytestmark = pytest.mark.usefixtures("one_thread")
COELHO = ROOT / "examples" / "gallery" / "coelho.jpg"


@pytest.fixture(scope="module")
def session() -> Session:
    return Session()


@pytest.fixture(scope="module")
def started(session: Session) -> Work:
    return Work.invert(session, ASTRONAUT)


@pytest.fixture
def work(started: Work) -> Work:
    """As it was after the inversion."""
    return replace(started, _past=[])


def apart(one: Image.Image, other: Image.Image) -> torch.Tensor:
    """Absolute difference [3 256 256], in [0, 2]."""
    first, second = (images.to_tensor(picture.resize((256, 256), Image.Resampling.BOX)) for picture in (one, other))
    return (first - second).abs()


def test_a_preview_is_like_the_picture_and_undoing_brings_the_face_back(work: Work) -> None:
    before = work.now.reconstruction
    preview = work.preview({"age": 2.0, "yaw": 0.0}, 256)
    assert preview.size == (256, 256) and work.now.reconstruction is before
    work.move({"age": 2.0})
    assert apart(preview, work.now.reconstruction).mean() < 0.5 * apart(before, work.now.reconstruction).mean()
    work.undo()
    work.undo()  # there is nothing left
    assert work.now.reconstruction.tobytes() == before.tobytes() and work.amounts == {}


def test_a_region_limits_moves_and_previews(work: Work) -> None:
    before = work.now.reconstruction
    work.limit("mouth")
    work.move({"smile": -2.0})
    for after in (work.now.reconstruction, work.preview({"smile": -2.0}, 256)):
        change = apart(before, after)
        assert change[:, :120].max() < 0.1 < change[:, 160:220].max()


def test_an_unknown_direction_changes_nothing(work: Work) -> None:
    with pytest.raises(ConfigError, match="wings"):
        work.move({"wings": 1.0})
    assert work.amounts == {} and work.now is work.result


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return Session(save_random_model(tmp_path_factory.mktemp("models") / "mine.safetensors"))


def test_variants_and_mixtures_change_their_rows_only_and_can_be_undone(
    small: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work.invert(small, ASTRONAUT, align=False)
    own = work.base
    with pytest.raises(ConfigError):
        work.take(0)
    faces = work.vary("3-", 2, 7, 8)
    assert work.variants is not None and [face.size for face in faces] == [(8, 8)] * 2
    assert torch.equal(work.variants[0][:3], own[:3]) and not torch.equal(work.variants[0][3:], own[3:])
    work.take(1)
    taken = work.now
    assert torch.equal(work.base, work.variants[1]) and torch.equal(taken.ws, work.base)
    images.save(Image.new("RGB", (64, 64), "red"), other := tmp_path / "other.png")
    other_ws = small.invert(other, align=False).ws
    monkeypatch.setattr(small, "invert", lambda *_, **options: Session.invert(small, other, False))
    work.mix(other, "0-1", 0.5)
    assert torch.allclose(work.base[:2], (own[:2] + other_ws[:2]) / 2, atol=1e-5)
    assert torch.equal(work.base[2:], taken.ws[2:]), "the variant stays"
    work.mix(other, "0-1", 0.0)  # instead of the half
    assert torch.equal(work.base, taken.ws)
    work.mix(other, "4-", 1.0)
    work.mix(other, "0-1", 1.0)
    assert torch.allclose(work.base[[0, 1, 4, 5]], other_ws[[0, 1, 4, 5]], atol=1e-5)
    assert torch.equal(work.base[2:4], taken.ws[2:4]), "mixtures of other rows add up"
    with pytest.raises(ConfigError, match="elbow"):
        work.limit("elbow")
    assert work.only is None, "what cannot be drawn is not kept"
    for _ in range(4):
        work.undo()
    assert work.now.reconstruction.tobytes() == taken.reconstruction.tobytes()
    work.reset()
    assert torch.equal(work.now.ws, own)


def test_a_mixture_is_that_of_the_command(work: Work, session: Session) -> None:
    work.mix(COELHO, "coarse", 1.0)
    assert torch.equal(work.base, edit.mixed(work.result.ws, session.invert(COELHO).ws[None], [1.0], "coarse", 1.0))


def test_paint_is_not_lost_to_a_refinement(small: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small, "paint", lambda now, painted, mask: replace(now, ws=now.ws + 1))
    work = Work.invert(small, ASTRONAUT, align=False)
    work.paint(Image.new("RGBA", (8, 8), "red"))
    with pytest.raises(ConfigError, match="painted"):
        next(work.refine(1))
    work.move({})
    assert work.painted
    work.undo()
    work.undo()
    assert not work.painted


def test_a_mask_that_hides_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="painted"):
        Work.translate(Session("inpaint"), ASTRONAUT, mask=Image.new("L", (8, 8)))


def test_paint_becomes_part_of_the_face_and_only_there(work: Work) -> None:
    layer = Image.new("RGBA", (256, 256))
    with pytest.raises(ConfigError):
        work.paint(layer)
    ImageDraw.Draw(layer).rectangle((80, 20, 170, 60), fill="#181010")
    before = work.now.reconstruction
    work.paint(layer)
    change = apart(before, work.now.reconstruction)
    assert change[:, 30:50, 90:160].mean() > 0.2 and change[:, 150:].max() < 0.02
    painted = work.now.reconstruction
    work.move({"light": 0.05})
    assert apart(painted, work.now.reconstruction)[:, 30:50, 90:160].mean() < 0.02, "an edit does not bring it back"


def test_files_are_the_face_its_rows_and_the_photograph_of_its_size(work: Work, tmp_path: Path) -> None:
    files = {file.name: file for file in work.files(tmp_path / "new")}
    assert images.load(files["face.png"]).tobytes() == work.now.reconstruction.tobytes()
    assert images.load(files["photograph.png"]).size == images.load(ASTRONAUT).size
    assert set(files) == {"face.png", "photograph.png", "latents.safetensors"}


def test_a_photograph_that_is_gone_costs_no_other_file(small: Session, tmp_path: Path) -> None:
    images.save(images.load(ASTRONAUT), photo := tmp_path / "me.png")
    work = Work.invert(small, photo, align=False)
    photo.unlink()
    assert {file.name for file in work.files(tmp_path / "new")} == {"face.png", "latents.safetensors"}


@pytest.mark.slow
def test_refinement_shows_its_states_and_keeps_the_changes(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(works, "EVERY", 0.0)
    work.move({"light": 1.0})
    states = list(work.refine(0.1))
    assert states and states[0][0].size == (1024, 1024) and "LPIPS" in states[0][1]
    assert work.amounts == {"light": 1.0} and not torch.equal(work.now.ws, work.result.ws)


def test_photographs_that_are_too_large_are_refused(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(works, "MOST_PIXELS", 1000)
    with pytest.raises(ImageError):
        Work.invert(session, ASTRONAUT)


def test_a_drawing_is_followed_and_a_look_is_kept(tmp_path: Path) -> None:
    model = save_random_model(tmp_path / "sketch.safetensors", channels=1, task="sketch")
    drawing = Drawing(Session(model))
    with pytest.raises(ConfigError):
        drawing.vary(2, 0, 8)
    sheets = []
    for box in ((5, 5, 20, 20), (30, 30, 60, 60)):
        sheet = Image.new("L", (64, 64), 255)
        ImageDraw.Draw(sheet).rectangle(box, fill=0)
        sheets.append(sheet)
    drawing.follow(sheets[0])
    first = drawing.own
    assert first is not None and drawing.follow(sheets[0], 8).size == (8, 8)
    variants = drawing.vary(2, 0, 8)
    drawing.keep(1)
    assert len(variants) == 2 and drawing.follow(sheets[0], 8) == variants[1]
    assert drawing.vary(2, 0, 8) == variants  # of the drawing, not of the look that was kept
    look = drawing.look
    kept = drawing.follow(sheets[1])
    drawing.keep(None)
    free = drawing.follow(sheets[1])
    assert look is not None and drawing.own is not None and not torch.equal(drawing.own, first)
    mixed = latents.mix(drawing.own[None], look[None], *OTHER_FACES)[0]
    assert kept == drawing.session.picture(mixed) and free == drawing.session.picture(drawing.own)


def test_sessions_are_shared_by_name_and_few_stay_loaded(tmp_path: Path) -> None:
    file = save_random_model(tmp_path / "mine.safetensors")
    sessions = Sessions([str(file)], most=2)
    assert sessions.names("invert") == [str(file), "faces"] and sessions.names("toonify") == []
    assert sessions["faces"] is (first := sessions["faces"])
    assert sessions["superres"] and sessions["inpaint"] and sessions["faces"] is not first
