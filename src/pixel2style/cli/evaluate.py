"""``pixel2style evaluate``."""

from pathlib import Path
from typing import Annotated

import tyro

from ..errors import complain
from . import progress
from .arguments import Count, Device, Flag, Folder


def evaluate(
    results: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RESULTS")],
    originals: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ORIGINALS")],
    /,
    out: Folder = Path("evaluation"),
    faces: Flag = True,
    inception: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    device: Device = "auto",
    batch: Count = 8,
    overwrite: Flag = False,
) -> int:
    """Measure how close results are to their originals.

    Pictures of the same name are compared at 256 pixels. DIR receives report.html for people, scores.csv with a line
    for each picture, and summary.json. A folder that invert wrote may be both: its NAME.aligned.png are the originals.

    Args:
        results: Folder of the pictures to measure, or one picture.
        originals: Folder of the pictures they should be, of the same names, suffix aside, cut as the results are (see
            align); or one picture.
        out: Folder for the report; created if it does not exist.
        faces: The pictures show no aligned faces: leave out identity, and look for no faces.
        inception: Also measure FID with torch-fidelity and its file of Inception weights.
        device: Where to compute. auto takes CUDA or Apple's GPU if there is one.
        batch: How many pictures to measure at once.
        overwrite: Replace an earlier report instead of refusing.
    """
    from ..evaluation import report

    evaluation = report.evaluate_into(
        out,
        results,
        originals,
        faces=faces,
        inception=inception,
        device=device,
        batch=batch,
        overwrite=overwrite,
        follow=progress.with_bar,
    )
    wrong = [str(row.error) for row in evaluation.failed] + evaluation.unmatched
    for sentence in wrong:
        complain(sentence)
    print(*report.lines(evaluation), f"report: {out / report.PAGE}", sep="\n")
    return 2 if wrong else 0
