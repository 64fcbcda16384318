"""The gallery: its tool draws with the bundled model, its pictures are free and named, its page shows every sheet."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import draw_gallery
import gallery_pictures
import sheets
from tests.support import stand_in
from tests.support.paths import ROOT

PHOTOGRAPHS = sorted((ROOT / "examples" / "gallery").iterdir())
SHEETS = sorted((ROOT / "docs" / "images" / "gallery").iterdir())


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_one_command_draws_a_face_and_says_where_it_finds_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = gallery_pictures.Picture("made: nobody", lambda: Image.new("RGB", (300, 300), "black"))
    monkeypatch.setitem(draw_gallery.PICTURES, "nobody", empty)
    draw_gallery.main(["--out", str(tmp_path), "--sheets", "invert", "--pictures", "astronaut", "nobody"])
    assert [file.name for file in tmp_path.iterdir()] == ["invert.jpg"]
    side = draw_gallery.SHEETS["invert"][0]
    row = pixels(tmp_path / "invert.jpg")
    assert row.shape == (side + sheets.LINE, 4 * side, 3)
    source, output, nobody, none = (row[sheets.LINE :, start : start + side] for start in range(0, 4 * side, side))
    assert abs(source - output).mean() < 25 < abs(source - nobody).mean()
    assert np.median(none, axis=(0, 1)).tolist() == pytest.approx([0xEE] * 3, abs=2)
    reddish = none[..., 0] - none[..., 1] > 40
    assert reddish.sum() > 50  # the words


@pytest.mark.usefixtures("one_thread")
def test_snapshots_stand_side_by_side_in_their_order(tmp_path: Path) -> None:
    files = [stand_in.save_random_model(tmp_path / f"run-state-0000{seed}0.safetensors", seed) for seed in (1, 2)]
    words = [f"second={files[1]}", str(files[0])]
    assert draw_gallery.files_of(words) == [("second", files[1]), ("run 10", files[0])]
    draw_gallery.main(["--out", str(tmp_path / "out"), "--pictures", "astronaut", "--through", *words])
    row = pixels(tmp_path / "out" / "through-invert.jpg")
    assert row.shape == (160 + sheets.LINE, 3 * 160, 3)
    alone = draw_gallery.Studio({"invert": str(files[0])}).pair("invert", "astronaut")[1]
    assert isinstance(alone, Image.Image)
    drawn = np.asarray(alone.resize((160, 160), Image.Resampling.LANCZOS)).astype(int)
    assert abs(row[sheets.LINE :, 320:] - drawn).mean() < 8 < abs(row[sheets.LINE :, 160:320] - drawn).mean()


def test_a_folder_stands_for_its_models_by_name(tmp_path: Path) -> None:
    for name in ("b.safetensors", "a-state-00000500.safetensors", "notes.txt"):
        (tmp_path / name).touch()
    found = draw_gallery.files_of([str(tmp_path)])
    assert [words for words, _ in found] == ["a 500", f"{tmp_path.name} b"]


def test_a_sheet_of_noise_is_saved_worse_and_not_larger(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (260, 520, 3), dtype=np.uint8)
    sheets.save(Image.fromarray(noise), tmp_path / "noise.jpg")
    assert 0.5 * sheets.LIMIT < (tmp_path / "noise.jpg").stat().st_size <= sheets.LIMIT


@pytest.mark.parametrize("file", PHOTOGRAPHS, ids=lambda file: file.name)
def test_a_photograph_is_named_with_its_hash_and_with_why_it_may_be_used(file: Path) -> None:
    lines = (ROOT / "examples" / "README.md").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"| `{file.name}` |")]
    _, _, who, why, origin, here, _ = (cell.strip() for cell in line.split("|"))
    assert hashlib.sha256(file.read_bytes()).hexdigest() in here
    assert who and re.search(r"public domain|CC0|MIT licence", why)
    assert re.search(r"`.+` of \S+ \d", origin)
    assert f"{file.name}:" in (ROOT / "NOTICE").read_text()
    with Image.open(file) as image:
        assert max(image.size) <= 512


def test_the_readme_names_no_photograph_that_is_not_there() -> None:
    named = re.findall(r"^\| `(.+?)` \|", (ROOT / "examples" / "README.md").read_text(), re.MULTILINE)
    assert sorted(named) == [file.name for file in PHOTOGRAPHS]
    assert sum(file.stat().st_size for file in PHOTOGRAPHS) < 1_000_000


def test_every_photograph_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def photograph(file: str) -> Image.Image:
        opened.append(file)
        return Image.new("RGB", (512, 512))

    monkeypatch.setattr(gallery_pictures, "photograph", photograph)
    for picture in gallery_pictures.PICTURES.values():
        if not picture.words.startswith("drawn"):
            picture.open()
    assert {file for file in opened if "/" in file} == {f"gallery/{file.name}" for file in PHOTOGRAPHS}


def test_made_pictures_are_the_same_every_time() -> None:
    for name in ("faded", "dim", "masked"):
        once, again = (np.asarray(gallery_pictures.PICTURES[name].open()) for _ in range(2))
        assert (once == again).all()


def test_the_page_shows_every_sheet_and_every_sheet_is_there() -> None:
    shown = re.findall(r"\(images/gallery/(.+?)\)", (ROOT / "docs" / "gallery.md").read_text())
    assert sorted(shown) == [file.name for file in SHEETS]
    assert {f"{name}.jpg" for name in draw_gallery.SHEETS} <= set(shown)
    assert sum(file.stat().st_size for file in SHEETS) < 1_500_000
    assert all(file.stat().st_size <= sheets.LIMIT for file in SHEETS)


def test_the_page_says_which_kinds_fail() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text()
    for kind in ("hats", "glasses", "profiles", "children", "dark skin", "old photographs"):
        assert f"| {kind} |" in page
