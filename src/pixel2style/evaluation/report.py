"""An evaluation as three files: a line for each picture, a summary for programs, a page to look at.

``evaluate_into`` is what the command line calls: everything that can be refused is refused before the first picture is
judged, and each file is whole or not there. This module does not judge (``judging``) and does not draw (``page``).
"""

import csv
import io
import json
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from .. import photos
from ..errors import ConfigError, OutputError
from ..faces.align import FaceAligner
from ..metrics import fid
from ..metrics.scores import METRICS, Judges
from ..runtime import Device, choose_device
from . import compare, page
from .compare import Evaluation, Verdict

SCORES, SUMMARY, PAGE = "scores.csv", "summary.json", "report.html"
Follow = Callable[[Iterable[Verdict], int], Iterable[Verdict]]


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
    follow: Follow = lambda verdicts, total: verdicts,
) -> Evaluation:
    """Judge the pictures of ``results`` against those of one name in ``originals``; three files in ``out`` tell it.

    ``faces=False`` for pictures that show none: no identity, nobody counted as undetected. ``inception`` is a file of
    weights, for FID. ``follow`` sees every verdict pass, and how many there will be. Raises ConfigError or OutputError
    before anything is judged, CheckpointError for weights that do not fit.
    """
    if batch < 1:
        raise ConfigError(f"a batch holds at least one picture, not {batch}: pass --batch 1 or more")
    network = fid.Inception(inception) if inception else None
    pairs, alone = compare.matched(results, originals, leave_out=out)
    files = [out / name for name in (SCORES, SUMMARY, PAGE)]
    photos.claim(out, files, [file for pair in pairs for file in (pair.result, pair.original)], overwrite)
    where = choose_device(device)
    judges = Judges(where, faces=faces, full=True)
    aligner = FaceAligner(where if where.type == "cuda" else "cpu") if faces else None
    start = time.perf_counter()
    verdicts = list(follow(compare.verdicts(pairs, judges, aligner, batch), len(pairs)))
    seconds = time.perf_counter() - start
    evaluation = Evaluation(results, originals, verdicts, alone, seconds)
    write(evaluation, out)
    if network is not None:  # last, so that weights that do not fit cost nobody the rest
        inside = [verdict.pair for verdict in evaluation.judged]
        crowds = [pair.result for pair in inside], [pair.original for pair in inside]
        evaluation = replace(evaluation, fid=network.fid(*crowds, where))
        write(evaluation, out)
    return evaluation


def write(evaluation: Evaluation, out: Path) -> None:
    """The three files. Raises OutputError when they cannot be written."""
    _put(out / SCORES, table(evaluation))
    _put(out / SUMMARY, json.dumps(evaluation.summary(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    _put(out / PAGE, page.html(evaluation))


def table(evaluation: Evaluation) -> str:
    """A line of CSV for each judged picture, in the order of names."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    metrics = evaluation.metrics
    rows.writerow(["name", *metrics, "face_found", "result", "original"])
    for verdict in evaluation.judged:
        face = "" if verdict.face is None else "yes" if verdict.face else "no"
        scores = [f"{verdict.scores[metric]:.6g}" for metric in metrics]
        rows.writerow([verdict.pair.name, *scores, face, verdict.pair.result, verdict.pair.original])
    return text.getvalue()


def lines(evaluation: Evaluation) -> list[str]:
    """What a terminal shows: means and medians, distances, and what is missing."""
    summary = evaluation.summary()
    pictures, undetected = summary["pictures"], summary["undetected"]
    if not pictures:
        return ["no picture could be judged"]
    faces = f"; no face found in {undetected}" if undetected else ""
    title = f"{pictures} picture{'s' if pictures > 1 else ''}, {summary['pictures_per_second']:.3g} a second{faces}"
    told = [title, f"{'':<22}{'mean':>10}{'median':>10}"]
    for metric, values in summary["scores"].items():
        numbers = "".join(f"{page.number(values[key]):>10}" for key in ("mean", "median"))
        told.append(f"{METRICS[metric].title:<22}{numbers}")
    distances = {"Fréchet (VGG16)": summary["frechet_vgg"], "FID": summary["fid"]}
    told += [f"{title:<22}{page.number(value):>10}" for title, value in distances.items() if value is not None]
    return told + evaluation.notes()


def _put(file: Path, text: str) -> None:
    """Write whole or not at all; bytes of a name that are no text are spelled out."""
    unfinished = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        try:
            unfinished.write_bytes(text.encode(errors="backslashreplace"))
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"{file} cannot be written ({reason}): choose another --out") from error
