"""Contact sheets: every result is on them, links lead to files, and they are written also after an early end."""

import os
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from pixel2style import images
from pixel2style.errors import ConfigError, OutputError
from pixel2style.inference import contact_sheet
from pixel2style.inference.folder import Outcome, Outcomes
from pixel2style.inference.refine import Fidelity
from pixel2style.photos import Photo

NAMES = ("a", "deep/b & <c>", "d")


def made(folder: Path) -> Outcomes:
    for shade, name in enumerate(NAMES):
        files = {"reconstruction": folder / f"{name}.png", "pair": folder / f"{name}.pair.png"}
        for file in files.values():
            images.save(Image.new("RGB", (64, 32), (80 * shade, 0, 0)), file)
        yield Outcome(Photo(Path(name), name, folder), files, fidelity=Fidelity(0.01, 0.02, 0.9))
    yield Outcome(Photo(Path("bad"), "bad", folder), error=ConfigError("no"))


def test_a_page_shows_every_result_and_its_links_lead_to_files(tmp_path: Path) -> None:
    sheet = tmp_path / "pages" / "all.html"
    assert len(list(contact_sheet.collected(made(tmp_path / "out"), sheet))) == 4
    page = sheet.read_text(encoding="utf-8")
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert len(links) == 2 * len(NAMES)
    assert all((sheet.parent / unquote(link)).is_file() for link in links)
    assert "LPIPS 0.020" in page and "<c>" not in page and "bad" not in page


def test_a_picture_shows_every_pair(tmp_path: Path) -> None:
    sheet = tmp_path / "all.png"
    list(contact_sheet.collected(made(tmp_path), sheet))
    picture = images.load(sheet)
    assert picture.size == (2 * contact_sheet.TILE[0], 2 * contact_sheet.TILE[1])
    middle = (contact_sheet.TILE[0] // 2, contact_sheet.TILE[1] // 2)
    assert picture.getpixel(middle) == (0, 0, 0)
    assert picture.getpixel((middle[0] + contact_sheet.TILE[0], middle[1])) == (80, 0, 0)


def test_what_was_made_before_an_early_end_is_on_the_sheet(tmp_path: Path) -> None:
    outcomes = contact_sheet.collected(made(tmp_path), tmp_path / "all.html")
    next(outcomes)
    outcomes.close()
    assert (tmp_path / "all.html").read_text(encoding="utf-8").count("<figure>") == 1


def test_sheets_that_cannot_be_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        contact_sheet.collected(made(tmp_path), tmp_path / "all.pdf")
    (tmp_path / "all.html").write_text("precious")
    with pytest.raises(OutputError):
        contact_sheet.collected(made(tmp_path), tmp_path / "all.html")
    assert (tmp_path / "all.html").read_text() == "precious"


def test_a_sheet_never_replaces_a_photograph(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(photograph := tmp_path / "a.jpg")
    before = photograph.read_bytes()
    with pytest.raises(OutputError, match="photographs"):
        contact_sheet.collected(made(tmp_path), photograph, overwrite=True, sources=[tmp_path / "x" / ".." / "a.jpg"])
    assert photograph.read_bytes() == before


def test_a_sheet_never_replaces_a_result(tmp_path: Path) -> None:
    outcomes = contact_sheet.collected(made(tmp_path), tmp_path / f"{NAMES[1]}.png")
    with pytest.raises(OutputError, match="result"):
        list(outcomes)
    assert images.load(tmp_path / f"{NAMES[1]}.png").size == (64, 32)


def test_more_results_than_a_picture_holds_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="html"):
        contact_sheet.collected(made(tmp_path), tmp_path / "all.png", total=contact_sheet.MOST + 1)
    contact_sheet.collected(made(tmp_path), tmp_path / "all.html", total=contact_sheet.MOST + 1)


def test_links_lead_to_files_whose_folders_have_names_that_are_no_text(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    list(contact_sheet.collected(made(folder), tmp_path / "all.html"))
    assert "%FF/a.png" in (tmp_path / "all.html").read_text(encoding="utf-8")
