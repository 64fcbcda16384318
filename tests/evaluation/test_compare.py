"""Which pictures belong together, and what is said of them: of one, of bad ones, in any batch."""

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from pixel2style import images
from pixel2style.errors import ConfigError
from pixel2style.evaluation import compare
from pixel2style.evaluation.compare import Evaluation, Pair, Verdict, matched, spread, verdicts
from pixel2style.faces.align import FaceAligner
from pixel2style.metrics.scores import METRICS, Judges
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")  # a second one waits more than it helps on a busy machine


@pytest.fixture(scope="module")
def aligner() -> FaceAligner:
    return FaceAligner()


@pytest.fixture(scope="module")
def face(aligner: FaceAligner) -> Image.Image:
    return aligner.align(images.load(ASTRONAUT), 256)


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Judges:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIXEL2STYLE_CACHE", str(tmp_path_factory.mktemp("empty")))
        return Judges(full=True)


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def names(pairs: list[Pair]) -> list[tuple[str, str]]:
    return [(pair.result.name, pair.original.name) for pair in pairs]


def test_pictures_are_matched_by_stem_to_the_bottom_and_in_order(tmp_path: Path) -> None:
    made = touched(tmp_path / "made", "b.png", "a.png", "deep/a.png")
    meant = touched(tmp_path / "meant", "a.jpg", "b.webp", "deep/a.tif")
    pairs, alone = matched(made, meant)
    assert names(pairs) == [("a.png", "a.jpg"), ("b.png", "b.webp"), ("a.png", "a.tif")]
    assert [pair.name for pair in pairs] == ["a", "b", "deep/a"] and not alone


def test_whatever_has_no_partner_is_named_on_both_sides(tmp_path: Path) -> None:
    made = touched(tmp_path / "made", "a.png", "extra.png")
    meant = touched(tmp_path / "meant", "a.png", "missing.png")
    pairs, alone = matched(made, meant)
    assert len(pairs) == 1 and len(alone) == 2
    assert str(made / "extra.png") in alone[0] and str(meant / "missing.png") in alone[1]


def test_a_folder_that_invert_wrote_holds_its_own_originals(tmp_path: Path) -> None:
    folder = touched(tmp_path, *(f"{name}{end}.png" for name in "ab" for end in ("", ".pair", ".aligned")))
    pairs, alone = matched(folder, folder)
    assert names(pairs) == [("a.png", "a.aligned.png"), ("b.png", "b.aligned.png")] and not alone


def test_what_invert_writes_beside_a_result_is_no_result(tmp_path: Path) -> None:
    made = touched(tmp_path / "made", "a.png", "a.pair.png", "a.aligned.png", "b.pair.png")
    meant = touched(tmp_path / "meant", "a.png", "b.pair.png")
    pairs, alone = matched(made, meant)
    assert names(pairs) == [("a.png", "a.png"), ("b.pair.png", "b.pair.png")] and not alone


def test_two_files_are_a_pair_whatever_their_names(tmp_path: Path) -> None:
    touched(tmp_path, "one.png", "other.jpg")
    pairs, alone = matched(tmp_path / "one.png", tmp_path / "other.jpg")
    assert pairs == [Pair("one", tmp_path / "one.png", tmp_path / "other.jpg")] and not alone


def test_the_report_s_folder_is_not_searched(tmp_path: Path) -> None:
    made = touched(tmp_path / "made", "a.png", "report/b.png")
    pairs, alone = matched(made, touched(tmp_path / "meant", "a.png"), leave_out=made / "report")
    assert len(pairs) == 1 and not alone


def test_folders_without_anything_in_common_are_refused(tmp_path: Path) -> None:
    made, meant = touched(tmp_path / "made", "a.png"), touched(tmp_path / "meant", "b.png")
    with pytest.raises(ConfigError, match="called like"):
        matched(made, meant)
    with pytest.raises(ConfigError, match="against itself"):
        matched(made, made)
    with pytest.raises(ConfigError, match="no folder"):
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
        Pair(name, saved(root / "made", f"{name}.png", picture), saved(root / "meant", f"{name}.png", face))
        for name, picture in made.items()
    ]
    (root / "made" / "broken.png").write_bytes(b"no picture")
    return found


@pytest.fixture(scope="module")
def judged(pairs: list[Pair], judges: Judges, aligner: FaceAligner) -> dict[str, Verdict]:
    return {verdict.pair.name: verdict for verdict in verdicts(pairs, judges, aligner, batch=4)}


def test_every_pair_has_a_verdict_in_order(judged: dict[str, Verdict], pairs: list[Pair]) -> None:
    assert list(judged) == [pair.name for pair in pairs]
    assert judged["good"].scores["lpips"] < judged["poor"].scores["lpips"] < judged["faceless"].scores["lpips"]
    assert judged["good"].scores["identity_dlib"] > judged["poor"].scores["identity_dlib"]
    assert judged["large"].scores["l2"] < 1e-6


def test_a_picture_without_a_face_is_counted_and_judged_like_the_others(judged: dict[str, Verdict]) -> None:
    assert [name for name, verdict in judged.items() if verdict.face is False] == ["faceless"]
    assert set(judged["faceless"].scores) == set(judged["good"].scores)
    assert judged["faceless"].scores["identity"] < 0.4


def test_what_cannot_be_judged_says_why_and_costs_itself_only(judged: dict[str, Verdict]) -> None:
    assert "not a picture" in str(judged["broken"].error)
    assert "200 x 256" in str(judged["narrow"].error) and "align" in str(judged["narrow"].error)
    assert all(judged[name].error is None for name in ("good", "large", "poor", "faceless"))


def test_scores_do_not_depend_on_the_batch(
    judged: dict[str, Verdict], pairs: list[Pair], judges: Judges, aligner: FaceAligner
) -> None:
    for verdict in verdicts(pairs, judges, aligner, batch=1):
        before = judged[verdict.pair.name]
        assert verdict.scores == pytest.approx(before.scores, rel=1e-4, abs=1e-5)
        assert verdict.face == before.face and type(verdict.error) is type(before.error)


def test_nobody_looks_for_faces_where_there_are_none(pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    found = Evaluation(Path("r"), Path("o"), list(verdicts(pairs[:1], Judges(faces=False), None, 4)), [], 1.0)
    assert found.undetected is None and found.summary()["undetected"] is None
    assert "identity" not in found.metrics


def verdict(name: str, level: float, vgg: Tensor | None = None, face: bool = True) -> Verdict:
    scores = {metric: level for metric in METRICS if metric != "lpips_vgg"}
    return Verdict(Pair(name, Path(f"r/{name}"), Path(f"o/{name}")), scores, face, vgg)


def evaluation(*found: Verdict) -> Evaluation:
    return Evaluation(Path("r"), Path("o"), list(found), [], seconds=2.0)


def strict(text: str) -> dict[str, object]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)  # type: ignore[no-any-return]


def test_a_summary_counts_means_and_names() -> None:
    found = evaluation(verdict("a", 1.0), verdict("b", 2.0, face=False), verdict("c", 6.0)).summary()
    assert found["scores"]["lpips"] == pytest.approx(
        {"mean": 3, "median": 2, "std": math.sqrt(7), "least": 1, "most": 6}
    )
    assert (found["pictures"], found["undetected"], found["undetected_pictures"]) == (3, 1, ["b"])
    assert found["pictures_per_second"] == 1.5


def test_one_picture_has_a_mean_and_no_spread() -> None:
    found = evaluation(verdict("a", 0.5, vgg=torch.ones(2, 512)))
    summary = found.summary()
    assert summary["scores"]["l2"] == {"mean": 0.5, "median": 0.5, "std": None, "least": 0.5, "most": 0.5}
    assert summary["frechet_vgg"] is None and "two" in " ".join(found.notes())
    strict(json.dumps(summary, allow_nan=False))


def test_an_infinite_score_is_no_number_in_the_summary() -> None:
    assert spread([math.inf, 20.0, 10.0]) == {
        "mean": math.inf, "median": 20.0, "std": None, "least": 10.0, "most": math.inf,
    }  # fmt: skip
    summary = evaluation(verdict("a", math.inf), verdict("b", 20.0)).summary()
    assert summary["scores"]["psnr"]["mean"] is None and summary["scores"]["psnr"]["least"] == 20
    strict(json.dumps(summary, allow_nan=False))


def test_the_distance_is_of_results_to_originals() -> None:
    torch.manual_seed(0)
    crowd = torch.randn(5, 512)
    found = evaluation(*(verdict(str(i), 1.0, vgg=torch.stack([v, v + 0.5])) for i, v in enumerate(crowd)))
    assert found.distance() == pytest.approx(512 * 0.25, rel=1e-4)
    assert found.notes() == []


def test_missing_weights_are_a_note_that_says_how_to_get_them() -> None:
    found = evaluation(verdict("a", 1.0), verdict("b", 1.0))
    assert found.distance() is None
    assert "tools/convert_lpips.py" in found.notes()[0]


def test_nothing_judged_is_a_summary_too() -> None:
    failed = Verdict(Pair("a", Path("r/a"), Path("o/a")), error=ConfigError("broken"))
    summary = compare.Evaluation(Path("r"), Path("o"), [failed], ["x"], 0.0).summary()
    assert summary["pictures"] == 0 and summary["failed"] == {"a": "broken"} and summary["scores"] == {}
    strict(json.dumps(summary, allow_nan=False))
