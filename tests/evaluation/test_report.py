"""The three files of an evaluation, and the command that writes them."""

import csv
import json
import math
import re
import shlex
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image, ImageFilter

from pixel2style import cli, images
from pixel2style.errors import ConfigError
from pixel2style.evaluation import report
from pixel2style.evaluation.compare import Evaluation, Pair, Row
from pixel2style.faces.align import FaceAligner
from pixel2style.metrics.scores import METRICS
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")  # a second one waits more than it helps on a busy machine
ODD = 'odd <b>&"name'


@pytest.fixture(scope="module")
def face() -> Image.Image:
    return FaceAligner().align(images.load(ASTRONAUT), 256)


@pytest.fixture
def folders(tmp_path: Path, face: Image.Image, monkeypatch: pytest.MonkeyPatch) -> Path:
    """made and expected with two pairs, one of an odd name."""
    monkeypatch.setenv("PIXEL2STYLE_CACHE", str(tmp_path / "cache"))
    for side in ("made", "expected"):
        (tmp_path / side).mkdir()
    for name, blur in (("plain", 1), (ODD, 4)):
        face.filter(ImageFilter.GaussianBlur(blur)).save(tmp_path / "made" / f"{name}.png")
        face.save(tmp_path / "expected" / f"{name}.webp")
    return tmp_path


def run(folders: Path, *more: object) -> int:
    words = ["evaluate", folders / "made", folders / "expected", "--out", folders / "out", "--device", "cpu", *more]
    return cli.main(list(map(str, words)))


def test_two_folders_give_a_table_a_summary_and_a_page(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folders) == 0
    out = folders / "out"
    assert sorted(file.name for file in out.iterdir()) == ["report.html", "scores.csv", "summary.json"]
    with (out / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in rows] == [ODD, "plain"]
    assert summary["pictures"] == 2 and summary["undetected"] == 0 and summary["frechet_vgg"] is None
    assert set(summary["scores"]) == set(METRICS) - {"lpips_vgg"}
    for metric, values in summary["scores"].items():
        assert sum(float(row[metric]) for row in rows) / 2 == pytest.approx(values["mean"], rel=1e-4)
    said = capsys.readouterr()
    assert f"{summary['scores']['lpips']['mean']:.4f}" in said.out and str(out / "report.html") in said.out
    assert said.err == ""


def test_what_failed_or_has_no_partner_is_named_and_the_rest_is_done(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "made" / "plain.png").write_bytes(b"no picture")
    (folders / "expected" / "extra.png").write_bytes(b"never read")
    assert run(folders) == 2
    complaints = capsys.readouterr().err.splitlines()
    assert len(complaints) == 2 and "plain.png" in complaints[0] and "extra.png" in complaints[1]
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["pictures"] == 1 and list(summary["failed"]) == ["plain"] and len(summary["unmatched"]) == 1
    assert "extra.png" in (folders / "out" / "report.html").read_text()


def test_a_report_of_nothing_but_failures_is_whole(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in (folders / "made").iterdir():
        file.write_bytes(b"no picture")
    assert run(folders) == 2
    assert "no picture" in capsys.readouterr().out
    text = (folders / "out" / "report.html").read_text()
    assert Page(text).count("svg") == 0 and "plain.png" in text
    assert len((folders / "out" / "scores.csv").read_text().splitlines()) == 1


def test_an_earlier_report_is_replaced_only_when_asked(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "out").mkdir()
    (folders / "out" / "summary.json").write_text("mine")
    assert run(folders) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert [file.name for file in (folders / "out").iterdir()] == ["summary.json"]
    assert run(folders, "--overwrite", "--no-faces") == 0
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["undetected"] is None and "identity" not in summary["scores"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [("--batch 0", "--batch 1"), ("--inception nowhere.pth", "torch-fidelity")],
)
def test_what_cannot_work_is_refused_before_anything_is_compared(
    folders: Path, words: str, sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch_fidelity", None)
    assert run(folders, *shlex.split(words)) == 2
    assert sentence in capsys.readouterr().err
    assert not (folders / "out").exists()


class Page(HTMLParser):
    """What a page is made of; fails on a tag that is not closed."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture
def drawn(tmp_path: Path, face: Image.Image) -> Callable[..., Evaluation]:
    """An evaluation of so many pictures, all of one file, with scores 0, 1, 2 ... over their number."""
    file = tmp_path / "face.png"
    face.save(file)

    def make(count: int, **changed: float) -> Evaluation:
        rows = [
            Row(Pair(f"{i:04d}", file, file), dict.fromkeys(METRICS, i / count) | changed, i != 0) for i in range(count)
        ]
        return Evaluation(tmp_path, tmp_path, rows, [], seconds=1.0)

    return make


@pytest.mark.parametrize(("count", "thumbnails"), [(1, 4), (2, 8), (7, 24), (1000, 48)])
def test_a_page_of_any_length_is_whole_and_needs_nothing_else(
    drawn: Callable[..., Evaluation], count: int, thumbnails: int
) -> None:
    text = report.html(drawn(count))
    seen = Page(text)
    sources = [attributes["src"] or "" for tag, attributes in seen.tags if tag == "img"]
    assert len(sources) == thumbnails
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    assert seen.count("svg") == len(METRICS)
    assert "nan" not in re.sub(r'src="[^"]*"', "", text).lower()
    assert seen.count("tr") == len(METRICS) + 1 + count + 1


def test_the_best_median_and_worst_are_shown_by_both_measures(drawn: Callable[..., Evaluation]) -> None:
    scored = drawn(100).scored
    by_lpips, by_identity = (report.chosen(scored, metric) for metric in ("lpips", "identity"))
    assert [row.pair.name for row in by_lpips["best"]] == ["0000", "0001", "0002", "0003"]
    assert [row.pair.name for row in by_lpips["median"]] == ["0048", "0049", "0050", "0051"]
    assert [row.pair.name for row in by_lpips["worst"]] == ["0096", "0097", "0098", "0099"]
    assert by_identity["best"][0].pair.name == "0099" and by_identity["worst"][-1].pair.name == "0000"


def test_equal_pictures_and_infinite_scores_are_drawn(drawn: Callable[..., Evaluation]) -> None:
    text = report.html(drawn(5, psnr=math.inf, l2=0.0))
    Page(text)
    assert "no finite value" in text and "∞" in text


def test_a_histogram_counts_every_value_once() -> None:
    values = [0.0, 0.1, 0.1, 0.5, 1.0]
    assert sum(bar.count for bar in report.histogram(values).bars) == len(values)
    assert len(report.histogram([0.3]).bars) == 1
    assert not report.histogram([math.inf]).bars


def test_names_are_text_and_never_markup(folders: Path) -> None:
    run(folders, "--no-faces")
    text = (folders / "out" / "report.html").read_text()
    assert "odd <b>" not in text and "odd &lt;b&gt;&amp;" in text
    assert ODD in "".join(Page(text).words)


def test_a_picture_that_is_gone_by_then_leaves_a_hole_and_a_page(
    drawn: Callable[..., Evaluation], tmp_path: Path
) -> None:
    evaluation = drawn(3)
    (tmp_path / "face.png").unlink()
    assert Page(report.html(evaluation)).count("img") == 0


def test_the_terminal_s_table_is_of_means_and_medians(drawn: Callable[..., Evaluation]) -> None:
    shown = report.lines(drawn(4))
    assert shown[0].startswith("4 pictures, 4 a second; no face found in 1")
    assert any(re.fullmatch(r"LPIPS \(alex\) +0\.3750 +0\.3750", line) for line in shown)


def test_a_folder_for_the_report_that_is_a_file_is_refused(folders: Path) -> None:
    (folders / "taken").write_text("x")
    with pytest.raises(ConfigError, match="taken"):
        report.evaluate_into(folders / "out", folders / "taken", folders / "expected")
    assert (
        cli.main(["evaluate", str(folders / "made"), str(folders / "expected"), "--out", str(folders / "taken")]) == 2
    )
