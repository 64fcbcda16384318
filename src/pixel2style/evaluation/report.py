"""An evaluation as three files: scores.csv with a line for each pair, summary.json for programs, a page for people.

``report.html`` is one file: pictures and charts are inside, and no script runs. It shows the summary, a histogram of
each score, and the best, median and worst pictures by LPIPS and by identity. Its template: ``report.html.jinja``.
"""

import base64
import csv
import io
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from PIL import Image

from .. import files, images
from ..errors import ConfigError, ImageError
from ..faces.align import FaceAligner
from ..metrics import fid
from ..metrics.scores import METRICS, Scorer
from ..ops import COMPARE_SIZE
from ..runtime import Device, choose_device
from . import compare
from .compare import Evaluation, Row, spread

SCORES, SUMMARY, PAGE = "scores.csv", "summary.json", "report.html"
SORTED_BY = ("lpips", "identity")
"""The scores by which the page chooses pictures."""
SHOWN = 4
"""Pictures of a group (best, median, worst), at most."""
THUMBNAIL = 192
LISTED = 2000
"""The page lists every picture up to this many."""
BINS = (7, 40)
"""Least and most bars of a histogram; between them, twice the square root of the number of values."""
CHART = (320, 120)
"""Width and height of a histogram, pixels."""
Progress = Callable[[Iterable[Row], int], Iterable[Row]]


def evaluate_into(
    out: Path,
    results: Path,
    originals: Path,
    *,
    faces: bool = True,
    inception: Path | None = None,
    device: Device = "auto",
    batch: int = 8,
    overwrite: bool = False,
    follow: Progress = lambda rows, total: rows,
) -> Evaluation:
    """Compare the pictures of ``results`` with those of the same name in ``originals``; write three files to ``out``.

    ``faces=False`` is for pictures without faces: no identity, no face detection. ``inception`` is a file of weights,
    for FID. ``follow`` wraps the iterator over rows, given how many there will be (progress bars). Raises ConfigError
    or OutputError before anything is compared, CheckpointError for weights that do not fit.
    """
    if batch < 1:
        raise ConfigError(f"a batch holds at least one picture, not {batch}: pass --batch 1 or more")
    network = fid.Inception(inception) if inception else None
    pairs, unmatched = compare.matched(results, originals, leave_out=out)
    outputs = [out / name for name in (SCORES, SUMMARY, PAGE)]
    files.claim(out, outputs, [file for pair in pairs for file in (pair.result, pair.original)], overwrite)
    where = choose_device(device)
    scorer = Scorer(where, faces=faces, full=True)
    aligner = FaceAligner(where if where.type == "cuda" else "cpu") if faces else None
    start = time.perf_counter()
    rows = list(follow(compare.compared(pairs, scorer, aligner, batch), len(pairs)))
    evaluation = Evaluation(results, originals, rows, unmatched, time.perf_counter() - start)
    write(evaluation, out)
    if network is not None:  # after the rest is written, which weights that do not fit must not cost
        used = [row.pair for row in evaluation.scored]
        found = network.fid([pair.result for pair in used], [pair.original for pair in used], where)
        evaluation = replace(evaluation, fid=found)
        write(evaluation, out)
    return evaluation


def write(evaluation: Evaluation, out: Path) -> None:
    """The three files. Raises OutputError when they cannot be written."""
    files.write_text(out / SCORES, table(evaluation))
    files.write_json(out / SUMMARY, evaluation.summary())
    files.write_text(out / PAGE, html(evaluation))


def table(evaluation: Evaluation) -> str:
    """CSV with a line for each scored pair, in the order of names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    metrics = evaluation.metrics
    writer.writerow(["name", *metrics, "face_found", "result", "original"])
    for row in evaluation.scored:
        face = "" if row.face is None else "yes" if row.face else "no"
        scores = [f"{row.scores[metric]:.6g}" for metric in metrics]
        writer.writerow([row.pair.name, *scores, face, row.pair.result, row.pair.original])
    return text.getvalue()


def lines(evaluation: Evaluation) -> list[str]:
    """What a terminal shows: means and medians, distances, and what was not measured."""
    summary = evaluation.summary()
    pictures, undetected = summary["pictures"], summary["undetected"]
    if not pictures:
        return ["no picture could be compared"]
    faces = f"; no face found in {undetected}" if undetected else ""
    title = f"{pictures} picture{'s' if pictures > 1 else ''}, {summary['pictures_per_second']:.3g} a second{faces}"
    shown = [title, f"{'':<22}{'mean':>10}{'median':>10}"]
    for metric, values in summary["scores"].items():
        numbers = "".join(f"{number(values[key]):>10}" for key in ("mean", "median"))
        shown.append(f"{METRICS[metric].title:<22}{numbers}")
    distances = {"Fréchet (VGG16)": summary["frechet_vgg"], "FID": summary["fid"]}
    shown += [f"{title:<22}{number(value):>10}" for title, value in distances.items() if value is not None]
    return shown + evaluation.notes()


def html(evaluation: Evaluation) -> str:
    """The page."""
    scored, metrics = evaluation.scored, evaluation.metrics
    distances = {"Fréchet distance of VGG16 features": evaluation.distance(), "FID": evaluation.fid}
    return _template().render(
        evaluation=evaluation,
        size=COMPARE_SIZE,
        metrics=METRICS,
        spreads={metric: spread(evaluation.values(metric)) for metric in metrics},
        distances={title: value for title, value in distances.items() if value is not None},
        charts={metric: histogram(evaluation.values(metric)) for metric in metrics},
        sorted_by=[metric for metric in SORTED_BY if metric in metrics],
        chosen=chosen,
        thumbnail=thumbnail,
        listed=scored if len(scored) <= LISTED else [],
        left_out=[str(row.error) for row in evaluation.failed] + evaluation.unmatched,
    )


@cache
def _template() -> Template:
    loader = PackageLoader("pixel2style.evaluation", "")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    return environment.get_template("report.html.jinja")


def number(value: float | None) -> str:
    """A score for people: about four digits."""
    if value is None or not math.isfinite(value):
        return "∞" if value == math.inf else "–"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram: its values are from ``low`` to ``high``; its place and size in pixels."""

    low: float
    high: float
    count: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Histogram:
    """How values are distributed, laid out for a chart; without bars when no value is finite."""

    width: int
    height: int
    base: int
    """Height of the axis, from the top."""
    low: float
    high: float
    bars: list[Bar]
    marks: dict[str, float]
    """The x of mean and median."""

    @property
    def tallest(self) -> int:
        """Values in the tallest bar."""
        return max(bar.count for bar in self.bars)


def histogram(values: Sequence[float]) -> Histogram:
    """Count finite values in equal bins. One value, or equal values, are drawn in the middle."""
    values = [value for value in values if math.isfinite(value)]
    width, height = CHART
    base = height - 16
    if not values:
        return Histogram(width, height, base, 0.0, 0.0, [], {})
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(1.0, abs(low)):
        low, high = low - 0.5, high + 0.5
    bins = min(max(math.ceil(2 * len(values) ** 0.5), BINS[0]), BINS[1])
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / (high - low) * bins))] += 1
    step, most = width / bins, max(counts)
    edges = [low + edge * (high - low) / bins for edge in range(bins + 1)]
    bars = []
    for i, count in enumerate(counts):
        if count:
            tall = count / most * (base - 14)
            bars.append(Bar(edges[i], edges[i + 1], count, i * step, base - tall, step - 1, tall))
    middles = {"mean": statistics.fmean(values), "median": statistics.median(values)}
    marks = {kind: (value - low) / (high - low) * width for kind, value in middles.items()}
    return Histogram(width, height, base, low, high, bars, marks)


def chosen(rows: Sequence[Row], metric: str) -> dict[str, list[Row]]:
    """The best, median and worst by a score, best first, equal ones by name; all of them where they are one or two."""
    sign = 1 if METRICS[metric].better == "less" else -1
    order = sorted(rows, key=lambda row: (sign * row.scores[metric], row.pair.name))
    if len(order) < 3:
        return {"all": order}
    count = min(SHOWN, len(order) // 3)
    start = (len(order) - count) // 2
    return {"best": order[:count], "median": order[start : start + count], "worst": order[-count:]}


def thumbnail(file: Path) -> str | None:
    """A small JPEG of a picture as a data URI; None when it can no longer be read."""
    try:
        picture = images.load(file)
    except ImageError:  # it was there when it was compared: no reason to lose the page
        return None
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
