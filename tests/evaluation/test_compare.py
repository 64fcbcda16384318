"""Which pictures form pairs, and their scores: of one, of bad ones, in any batch."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from pixel2style import images
from pixel2style.errors import ConfigError, ImageError
from pixel2style.evaluation import compare
from pixel2style.evaluation.compare import Evaluation, Pair, Row, compared, matched, spread
from pixel2style.faces.align import FaceAligner
from pixel2style.metrics.scores import METRICS, Scorer
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")  # a second one waits more than it helps on a busy machine


@pytest.fixture(scope="module")
def aligner() -> FaceAligner:
    return FaceAligner()


@pytest.fixture(scope="module")
def face(aligner: FaceAligner) -> Image.Image:
    return aligner.align(images.load(ASTRONAUT), 256)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIXEL2STYLE_CACHE", str(tmp_path_factory.mktemp("empty")))
        return Scorer(full=True)


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def names(pairs: list[Pair]) -> list[tuple[str, str]]:
    return [(pair.result.name, pair.original.name) for pair in pairs]


def test_pictures_are_matched_by_stem_to_the_bottom_and_in_order(tmp_path: Path) -> None:
    made = touched(tmp_path / "made", "b.png", "a.png", "deep/a.png")
    expected = touched(tmp_path / "expected", "a.jpg", "b.webp", "deep/a.tif")
    pairs, unmatched = matched(made, expected)
    assert names(pairs) == [("a.png", "a.jpg"), ("b.png", "b.webp"), ("a.png", "a.tif")]
    assert [pair.name for pair in pairs] == ["a", "b", "deep/a"] and not unmatched


def test_whatever_has_no_partner_is_named_on_both_sides(tmp_path: Path) -> None:
    made = touched(tmp_path / "made", "a.png", "extra.png")
    expected = touched(tmp_path / "expected", "a.png", "missing.png")
    pairs, unmatched = matched(made, expected)
    assert len(pairs) == 1 and len(unmatched) == 2
    assert str(made / "extra.png") in unmatched[0] and str(expected / "missing.png") in unmatched[1]


def test_a_folder_that_invert_wrote_holds_its_originals(tmp_path: Path) -> None:
    folder = touched(tmp_path, *(f"{name}{end}.png" for name in "ab" for end in ("", ".pair", ".aligned")))
    pairs, unmatched = matched(folder, folder)
    assert names(pairs) == [("a.png", "a.aligned.png"), ("b.png", "b.aligned.png")] and not unmatched


def test_what_invert_writes_beside_a_result_is_no_result(tmp_path: Path) -> None:
    made = touched(tmp_path / "made", "a.png", "a.pair.png", "a.aligned.png", "b.pair.png")
    expected = touched(tmp_path / "expected", "a.png", "b.pair.png")
    pairs, unmatched = matched(made, expected)
    assert names(pairs) == [("a.png", "a.png"), ("b.pair.png", "b.pair.png")] and not unmatched


def test_two_files_are_a_pair_whatever_their_names(tmp_path: Path) -> None:
    touched(tmp_path, "one.png", "other.jpg")
    pairs, unmatched = matched(tmp_path / "one.png", tmp_path / "other.jpg")
    assert pairs == [Pair("one", tmp_path / "one.png", tmp_path / "other.jpg")] and not unmatched


def test_the_report_s_folder_is_not_searched(tmp_path: Path) -> None:
    made = touched(tmp_path / "made", "a.png", "report/b.png")
    pairs, unmatched = matched(made, touched(tmp_path / "expected", "a.png"), leave_out=made / "report")
    assert len(pairs) == 1 and not unmatched


def test_folders_without_anything_in_common_are_refused(tmp_path: Path) -> None:
    made, expected = touched(tmp_path / "made", "a.png"), touched(tmp_path / "expected", "b.png")
    with pytest.raises(ConfigError, match=re.escape(str(expected))):
        matched(made, expected)
    with pytest.raises(ConfigError, match=re.escape(str(made / "a.png"))):
        matched(made, made)
    with pytest.raises(ConfigError, match="nowhere"):
        matched(made, tmp_path / "nowhere")


def saved(folder: Path, name: str, picture: Image.Image) -> Path:
    folder.mkdir(exist_ok=True)
    picture.save(folder / name)
    return folder / name


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, face: Image.Image) -> list[Pair]:
    """A good result, a bad one, one without a face, a broken one, one of another shape."""
    root = tmp_path_factory.mktemp("pairs")
    made = {
        "good": face.filter(ImageFilter.GaussianBlur(1)),
        "large": face.resize((512, 512), Image.Resampling.NEAREST),
        "poor": face.filter(ImageFilter.GaussianBlur(6)),
        "faceless": Image.new("RGB", (256, 256), (90, 120, 90)),
        "broken": face,
        "narrow": face.crop((0, 0, 200, 256)),
    }
    found = [
        Pair(name, saved(root / "made", f"{name}.png", picture), saved(root / "expected", f"{name}.png", face))
        for name, picture in made.items()
    ]
    (root / "made" / "broken.png").write_bytes(b"no picture")
    return found


@pytest.fixture(scope="module")
def scored(pairs: list[Pair], scorer: Scorer, aligner: FaceAligner) -> dict[str, Row]:
    return {row.pair.name: row for row in compared(pairs, scorer, aligner, batch=4)}


def test_every_pair_has_a_row_in_order(scored: dict[str, Row], pairs: list[Pair]) -> None:
    assert list(scored) == [pair.name for pair in pairs]
    assert scored["good"].scores["lpips"] < scored["poor"].scores["lpips"] < scored["faceless"].scores["lpips"]
    assert scored["good"].scores["identity_dlib"] > scored["poor"].scores["identity_dlib"]
    assert scored["large"].scores["l2"] < 1e-6


def test_a_picture_without_a_face_is_counted_and_scored_like_the_others(scored: dict[str, Row]) -> None:
    assert [name for name, row in scored.items() if row.face is False] == ["faceless"]
    assert set(scored["faceless"].scores) == set(scored["good"].scores)
    assert scored["faceless"].scores["identity"] < 0.4


def test_a_pair_that_cannot_be_compared_has_an_error_and_the_others_scores(scored: dict[str, Row]) -> None:
    assert "not a picture" in str(scored["broken"].error)
    assert "200 x 256" in str(scored["narrow"].error) and "align" in str(scored["narrow"].error)
    assert all(scored[name].error is None for name in ("good", "large", "poor", "faceless"))


def test_scores_do_not_depend_on_the_batch(
    scored: dict[str, Row], pairs: list[Pair], scorer: Scorer, aligner: FaceAligner
) -> None:
    for row in compared(pairs, scorer, aligner, batch=1):
        before = scored[row.pair.name]
        assert row.scores == pytest.approx(before.scores, rel=1e-4, abs=1e-5)
        assert row.face == before.face and type(row.error) is type(before.error)


def test_an_original_that_is_not_cut_like_its_result_is_refused(
    tmp_path: Path, face: Image.Image, scorer: Scorer, aligner: FaceAligner
) -> None:
    result, cut = saved(tmp_path, "result.png", face.rotate(2)), saved(tmp_path, "cut.png", face)
    whole = images.load(ASTRONAUT)
    uncut = saved(tmp_path, "uncut.png", whole.crop((0, 0, min(whole.size), min(whole.size))))
    both = [Pair(file.stem, result, file) for file in (cut, uncut)]
    good, bad = compared(both, scorer, aligner, 2)
    assert good.error is None and good.face
    assert isinstance(bad.error, ImageError) and "pixel2style align" in str(bad.error)
    assert not bad.scores
    assert all(row.error is None for row in compared(both, scorer, None, 2))


def test_faces_are_not_searched_where_there_are_none(pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    found = Evaluation(Path("r"), Path("o"), list(compared(pairs[:1], Scorer(faces=False), None, 4)), [], 1.0)
    assert found.undetected is None and found.summary()["undetected"] is None
    assert "identity" not in found.metrics


def row(name: str, level: float, vgg: Tensor | None = None, face: bool = True) -> Row:
    scores = {metric: level for metric in METRICS if metric != "lpips_vgg"}
    return Row(Pair(name, Path(f"r/{name}"), Path(f"o/{name}")), scores, face, vgg)


def evaluation(*found: Row) -> Evaluation:
    return Evaluation(Path("r"), Path("o"), list(found), [], seconds=2.0)


def strict(text: str) -> dict[str, object]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)  # type: ignore[no-any-return]


def test_a_summary_counts_means_and_names() -> None:
    found = evaluation(row("a", 1.0), row("b", 2.0, face=False), row("c", 6.0)).summary()
    assert found["scores"]["lpips"] == pytest.approx(
        {"mean": 3, "median": 2, "std": math.sqrt(7), "least": 1, "most": 6}
    )
    assert (found["pictures"], found["undetected"], found["undetected_pictures"]) == (3, 1, ["b"])
    assert found["pictures_per_second"] == 1.5


def test_one_picture_has_a_mean_and_no_spread() -> None:
    found = evaluation(row("a", 0.5, vgg=torch.ones(2, 512)))
    summary = found.summary()
    assert summary["scores"]["l2"] == {"mean": 0.5, "median": 0.5, "std": None, "least": 0.5, "most": 0.5}
    assert summary["frechet_vgg"] is None and "two" in " ".join(found.notes())
    strict(json.dumps(summary, allow_nan=False))


def test_an_infinite_score_is_no_number_in_the_summary() -> None:
    assert spread([math.inf, 20.0, 10.0]) == {
        "mean": math.inf, "median": 20.0, "std": None, "least": 10.0, "most": math.inf,
    }  # fmt: skip
    summary = evaluation(row("a", math.inf), row("b", 20.0)).summary()
    assert summary["scores"]["psnr"]["mean"] is None and summary["scores"]["psnr"]["least"] == 20
    strict(json.dumps(summary, allow_nan=False))


def test_the_distance_is_of_results_to_originals() -> None:
    torch.manual_seed(0)
    features = torch.randn(5, 512)
    found = evaluation(*(row(str(i), 1.0, vgg=torch.stack([v, v + 0.5])) for i, v in enumerate(features)))
    assert found.distance() == pytest.approx(512 * 0.25, rel=1e-4)
    assert found.notes() == []


def test_missing_weights_are_a_note_that_says_how_to_get_them() -> None:
    found = evaluation(row("a", 1.0), row("b", 1.0))
    assert found.distance() is None
    assert "tools/convert_lpips.py" in found.notes()[0]


def test_a_summary_of_failures_only_is_whole() -> None:
    failed = Row(Pair("a", Path("r/a"), Path("o/a")), error=ConfigError("broken"))
    summary = compare.Evaluation(Path("r"), Path("o"), [failed], ["x"], 0.0).summary()
    assert summary["pictures"] == 0 and summary["failed"] == {"a": "broken"} and summary["scores"] == {}
    strict(json.dumps(summary, allow_nan=False))
