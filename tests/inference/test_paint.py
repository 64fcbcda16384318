"""Paintings: where paint lies, what it becomes, and what stays as it was."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from pixel2style import images
from pixel2style.cli import main
from pixel2style.errors import ConfigError, NoFaceError
from pixel2style.inference import paint
from pixel2style.inference.paint import Painting
from pixel2style.inference.session import Result, Session
from tests.support.paths import ASTRONAUT, ROOT

pytestmark = pytest.mark.usefixtures("one_thread")
OTHER = ROOT / "examples" / "gallery" / "coelho.jpg"


@pytest.fixture(scope="module")
def session() -> Session:
    return Session()


@pytest.fixture(scope="module")
def result(session: Session) -> Result:
    return session.invert(ASTRONAUT, refine=0)


def test_paint_becomes_part_of_a_face_and_the_rest_stays(session: Session, result: Result) -> None:
    made = paint.painted(session, result, Painting(mask="mouth", fill="#a01030"))
    before, after = (images.to_tensor(one.reconstruction) for one in (result, made))
    change = (after - before).abs().amax(0)
    assert float(change[:560].amax()) == 0, "eyes and hair are the inversion's, to the bit"
    red = images.to_tensor(Image.new("RGB", (1, 1), "#a01030"))
    distance = [(one - red).abs().mean(0)[720:800, 440:580].mean() for one in (before, after)]
    assert 0.2 < float(distance[1]) < float(distance[0]), "redder, but lips and not the colour itself"


def test_a_part_of_another_face_is_moved_to_where_it_belongs(session: Session, result: Result) -> None:
    turned = result.aligned.rotate(8, Image.Resampling.BICUBIC).transform(
        (1024, 1024), Image.Transform.AFFINE, (1, 0, -30, 0, 1, 20)
    )
    mask = session.region(result, "mouth")
    square = paint.copied(result.aligned, turned, mask, session.landmarks, "mouth")
    inside = np.asarray(images.resize(mask[None], 1024)[0, 0] >= 0.5)
    first, made, other = (np.asarray(one).astype(int) for one in (result.aligned, square, turned))
    assert np.abs(made - first)[inside].mean() < 0.4 * np.abs(other - first)[inside].mean()
    assert (made == first)[~inside].all()


def test_a_patch_lies_at_its_pixel_and_its_transparent_parts_nowhere(result: Result) -> None:
    patch = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    ImageDraw.Draw(patch).rectangle((0, 0, 19, 19), fill=(0, 255, 0, 255))
    photograph = result.photograph
    assert photograph is not None
    square, mask = paint.patched(photograph, patch, (200, 100), 1024)
    green = np.asarray(square).astype(int)
    found = np.argwhere((green[..., 1] > 200) & (green[..., 0] < 60)).mean(0)[::-1] / 1024
    quad = photograph.frame.corners(photograph.picture.size)
    place = quad[0] + found[0] * (quad[3] - quad[0]) + found[1] * (quad[1] - quad[0])
    assert np.abs(place - [209.5, 109.5]).max() < 1.5
    side = np.hypot(*(quad[3] - quad[0]))
    assert abs(float(mask.sum()) / 256**2 - 400 / side**2) < 0.1 * 400 / side**2
    with pytest.raises(ConfigError, match="512 x 512"):
        paint.patched(photograph, patch, (400, 480), 1024)


@pytest.mark.parametrize(
    "painting",
    [
        Painting(),
        Painting(mask="mouth"),
        Painting(mask="mouth", fill="red", source=Path("a.jpg")),
        Painting(fill="red"),
        Painting(mask="mouth", fill="nocolour"),
        Painting(patch=Path("a.png")),
        Painting(patch=Path("a.png"), at=(0, 0), mask="eyes"),
        Painting(mask="eyes", fill="red", at=(0, 0)),
        Painting(mask="eyes", fill="red", keep=1.5),
    ],
)
def test_what_is_no_painting_is_refused(painting: Painting) -> None:
    with pytest.raises(ConfigError):
        painting.check()


def test_a_photograph_without_a_face_to_paint_from_is_named(session: Session, result: Result, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "plain.png")
    with pytest.raises(NoFaceError, match=r"plain\.png"):
        paint.painted(session, result, Painting(source=tmp_path / "plain.png", mask="eyes"))


@pytest.mark.slow
def test_more_of_the_painting_is_kept_where_that_is_asked(session: Session, result: Result) -> None:
    mask = torch.zeros(1, 256, 256)
    mask[:, 40:80, 90:170] = 1
    square = paint.filled(result.aligned, mask, "#281408")
    wanted = images.to_tensor(square)
    away = [
        (images.to_tensor(session.paint(result, square, mask, keep).reconstruction) - wanted)[:, 170:310, 370:670]
        for keep in (0.0, 1.0)
    ]
    assert float(away[1].abs().mean()) < 0.5 * float(away[0].abs().mean())


def test_the_command_paints_and_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["paint", str(ASTRONAUT), "--mask", "eyes", "--from", str(OTHER), "--out", str(out), "--paste"]
    assert main(words) == 0
    names = {file.name for file in out.iterdir()}
    assert names == {"astronaut.png", "astronaut.pair.png", "astronaut.pasted.png", "latents.safetensors"}
    for wrong in (["--fill", "red"], ["--patch", "a.png", "--at", "left"], ["--mask", "elbow", "--fill", "red"]):
        capsys.readouterr()
        assert main(["paint", str(ASTRONAUT), "--out", str(tmp_path / "x"), *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1
