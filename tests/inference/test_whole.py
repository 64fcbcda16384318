"""Results put back into whole photographs: what changes, what stays to the bit, and how files are called."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pixel2style as p2s
from pixel2style import cli, images
from pixel2style.inference import whole
from pixel2style.metrics import attributes
from pixel2style.tasks.request import Frame, Photograph
from tests.support import bundled, stand_in
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two faces far from each other."""
    head = images.load(ASTRONAUT).crop((120, 0, 340, 220))
    sheet = Image.new("RGB", (800, 300), (128, 128, 128))
    sheet.paste(head.resize((180, 180)), (40, 60))
    sheet.paste(head, (540, 40))
    file = tmp_path_factory.mktemp("group") / "group.tiff"
    sheet.save(file)
    return file


def pixels(picture: Image.Image | Path) -> np.ndarray:
    return np.asarray(images.load(picture) if isinstance(picture, Path) else picture).astype(int)


def run(*words: object) -> int:
    try:
        return cli.main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)


def test_an_unchanged_face_changes_almost_nothing(session: p2s.Session) -> None:
    photograph = session.invert(ASTRONAUT).photograph
    assert photograph is not None
    aligned = photograph.cut(512)
    again = whole.pasted(aligned, aligned, photograph, attributes.pretrained())
    difference = np.abs(pixels(again) - pixels(photograph.picture))
    assert difference.mean() < 0.2 and np.percentile(difference, 99) <= 6


def test_what_was_hidden_is_pasted_wherever_it_lies() -> None:
    picture = bundled.face(256)
    photograph = Photograph(picture, Frame.middle(picture), picture)
    hole = (slice(8, 40), slice(8, 40))  # in the background
    drawn = pixels(picture)
    drawn[hole] -= 20
    filled = Image.fromarray(drawn.clip(0, 255).astype(np.uint8))
    hidden = torch.zeros(1, 256, 256)
    hidden[0][hole] = 1
    made, without = (
        np.abs(pixels(whole.pasted(filled, picture, photograph, attributes.pretrained(), hidden=given)) - picture)
        for given in (hidden, None)
    )
    assert np.median(made[hole]) > 10 and made[100:, :50].max() <= 2
    assert np.median(without[hole]) <= 2, "no part of the person"
    opaque = np.full((256, 256), 255, np.uint8)
    opaque[hole] = 0
    opaque[100:140, :40] = 0
    torn = picture.copy()
    torn.putalpha(Image.fromarray(opaque))
    photograph = Photograph(images.to_rgb(torn), Frame.middle(torn), torn)
    filled = whole.pasted(filled, photograph.picture, photograph, attributes.pretrained(), hidden=hidden)
    alpha = np.asarray(filled.getchannel("A"))
    assert (alpha[26:34, 26:34] == 255).all() and (alpha[102:138, :38] == 0).all(), "only what was hidden is filled"


def test_what_a_mask_hides_is_known_to_the_result(tmp_path: Path) -> None:
    model = stand_in.save_random_model(tmp_path / "fill.safetensors", channels=4, task="inpaint")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    result = p2s.Session(model, "cpu").translate(Image.new("RGB", (64, 64)), align=False, mask=mask)
    assert result.hidden is not None and result.hidden[0].mean(0)[[0, -1]].tolist() == [1, 0]


def test_pixels_outside_the_head_are_those_of_the_photograph(session: p2s.Session) -> None:
    result = session.invert(ASTRONAUT)
    made, photograph = pixels(session.pasted(result)), pixels(ASTRONAUT)
    assert made.shape == photograph.shape
    assert (made[260:] == photograph[260:]).all()
    face = np.abs(made - photograph)[60:170, 180:270]
    assert face.mean() > 10, "a random generator draws something else"


def test_a_photograph_on_its_side_stays_as_it_is(session: p2s.Session) -> None:
    lying = images.load(ASTRONAUT).transpose(Image.Transpose.ROTATE_90)
    result = session.invert(lying)
    made = pixels(session.pasted(result).transpose(Image.Transpose.ROTATE_270))
    upright = pixels(session.pasted(session.invert(ASTRONAUT)))
    assert np.abs(made - upright).mean() < 1


def test_the_middle_square_has_the_corners_it_was_cut_at() -> None:
    picture = images.load(ASTRONAUT).crop((0, 0, 400, 300))
    frame = Frame.middle(picture)
    corners = frame.corners(picture.size)
    assert corners.tolist() == [[49.5, -0.5], [49.5, 299.5], [349.5, 299.5], [349.5, -0.5]]


def test_all_faces_are_pasted_into_one_photograph(group: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("invert", group, "--model", model, "--face", "all", "--paste", "--out", out)
    assert run(*words) == 0
    names = {file.name for file in out.iterdir()}
    assert {"group.1.png", "group.2.png", "group.pasted.tiff"} <= names
    assert "group.1.pasted.tiff" not in names
    made, photograph = pixels(out / "group.pasted.tiff"), pixels(group)
    changed = (made != photograph).any(2)
    assert changed[:, 40:220].mean() > 0.05 and changed[:, 540:760].mean() > 0.05
    assert not changed[:, 340:400].any() and not changed[:20].any()
    (out / "group.1.png").unlink()
    before = (out / "group.pasted.tiff").read_bytes()
    assert run(*words, "--skip-existing") == 0, "a face that is missing is pasted together with the others"
    assert (out / "group.pasted.tiff").read_bytes() == before


def test_one_face_and_formats_that_lose_pixels(model: Path, tmp_path: Path) -> None:
    images.load(ASTRONAUT).save(tmp_path / "a.jpg")
    assert run("invert", tmp_path / "a.jpg", "--model", model, "--paste", "--out", tmp_path / "out") == 0
    made = tmp_path / "out" / "a.pasted.png"
    assert (pixels(made)[260:] == pixels(tmp_path / "a.jpg")[260:]).all()


def test_what_is_transparent_stays_so(model: Path, tmp_path: Path) -> None:
    picture = images.load(ASTRONAUT)
    opaque = np.full((512, 512), 255, np.uint8)
    opaque[:, 240:] = 100  # through the face
    opaque[:, 400:] = 0
    clear = picture.copy()
    clear.putalpha(Image.fromarray(opaque))
    session = p2s.Session(model, "cpu")
    plain, made = (session.pasted(session.invert(one)) for one in (images.to_rgb(clear), clear))
    assert made.mode == "RGBA" and (np.asarray(made.getchannel("A")) == opaque).all()
    same = (pixels(plain) == pixels(images.to_rgb(clear))).all(2)
    assert (pixels(made)[same] == pixels(clear)[same]).all() and not same[:, 240:300].all()
    bright = pixels(plain).min(2, keepdims=True) >= 160  # what 100 of 255 can show on white
    apart = np.abs(pixels(images.to_rgb(made)) - pixels(plain)) * bright
    assert apart[:, :400].max() <= 2


def test_more_than_8_bits_a_colour_are_lost_with_a_note(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gray = np.asarray(images.load(ASTRONAUT).convert("L")).astype(np.uint16) * 257
    Image.fromarray(gray).save(tmp_path / "deep.png")
    words = ("invert", tmp_path / "deep.png", "--model", model, "--paste", "--out", tmp_path / "out")
    assert run(*words) == 0
    assert "8 bits" in capsys.readouterr().err
    assert images.load_raw(tmp_path / "out" / "deep.pasted.png").mode == "RGB"


def test_a_photograph_of_which_a_face_fails_is_not_pasted(
    group: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pasted, calls = p2s.Session.pasted, []

    def failing(self: p2s.Session, result: p2s.Result, onto: Image.Image | None = None) -> Image.Image:
        calls.append(onto)
        if len(calls) == 1:
            raise p2s.ConfigError("no")
        return pasted(self, result, onto)

    monkeypatch.setattr(p2s.Session, "pasted", failing)
    words = ("invert", group, "--model", model, "--face", "all", "--paste", "--out", tmp_path / "out")
    assert run(*words) == 2
    assert (tmp_path / "out" / "group.2.png").exists()
    assert not (tmp_path / "out" / "group.pasted.tiff").exists()


def test_pictures_of_other_kinds_cannot_be_pasted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("translate", "sketch", ASTRONAUT, "--model", "x.safetensors", "--paste", "--out", tmp_path / "out")
    assert run(*words) == 2
    assert "--paste" in capsys.readouterr().err


def test_a_word_too_long_for_a_file_is_no_region() -> None:
    with pytest.raises(p2s.ConfigError, match="region"):
        whole.opened("m" * 300)


def test_a_region_is_the_same_whether_its_mask_is_a_file_or_a_picture(tmp_path: Path) -> None:
    mask = Image.new("LA", (4, 4), (0, 255))
    mask.paste((0, 0), (0, 0, 2, 4))  # transparent: white
    mask.save(tmp_path / "mask.png")
    by_file, by_picture = (whole.opened(given) for given in (str(tmp_path / "mask.png"), mask))
    assert isinstance(by_file, Image.Image) and isinstance(by_picture, Image.Image)
    assert by_file.tobytes() == by_picture.tobytes() and by_picture.getextrema() == ((0, 255),) * 3
