"""Scores of the results of ``tasks.py``, of one and of all, and their tables in Markdown.

Every task has the scores of ``metrics.scores.Scorer``. Added are scores of hidden pixels, the yaw of the head, and
features for a Fréchet distance between all results and all photographs: AlexNet's last map as LPIPS uses it, averaged
over the picture.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pixel2style import images
from pixel2style.faces import pose
from pixel2style.faces.align import FaceAligner
from pixel2style.metrics import frechet
from pixel2style.metrics.scores import Scorer
from task_methods import Example, Result

SCORES = ("l2", "ms_ssim", "lpips", "lpips_vgg", "identity", "identity_dlib")
GROUPS = ((0, 10), (10, 20), (20, 180))
"""Groups of photographs by |yaw| in degrees: from the first number to below the second."""


@dataclass(frozen=True)
class ResultScores:
    """The scores of one result.

    ``features`` [2 256] are of result and photograph; ``yaws`` are theirs in degrees, None where no face was found.
    """

    scores: dict[str, float]
    features: Tensor
    yaws: tuple[float | None, float | None] | None = None
    seconds: float | None = None


class TaskScorer:
    """The networks that score results, loaded once."""

    def __init__(self) -> None:
        self.scorer = Scorer(full=True)
        self._aligner = FaceAligner()

    @torch.no_grad()
    def __call__(self, result: Result, example: Example, angles: bool = False) -> ResultScores:
        """Score one result; with ``angles``, also its yaw and the photograph's."""
        found = self.scorer(result.picture, example.target).means()
        scores = {name: found[name] for name in SCORES if name in found}
        if example.known is not None:
            scores |= self.hidden(result.picture, example.target, example.known)
        pictures = torch.cat([result.picture, example.target])
        yaws = (self.yaw(result.picture), self.yaw(example.target)) if angles else None
        return ResultScores(scores, self.features(pictures), yaws, result.seconds)

    def hidden(self, picture: Tensor, target: Tensor, known: Tensor) -> dict[str, float]:
        """L2 over hidden pixels only, and LPIPS of the picture with its known pixels taken from the target."""
        squared = ((picture - target).square() * (1 - known)).mean(1, keepdim=True)
        completed = torch.where(known > 0, target, picture)
        l2 = float(squared.sum() / (1 - known).sum().clamp(min=1))
        return {"l2_hidden": l2, "lpips_hidden": float(self.scorer.lpips(completed, target))}

    def features(self, pictures: Tensor) -> Tensor:
        """Features for a Fréchet distance, ``[b 3 256 256] -> [b 256]``."""
        *_, last = self.scorer.lpips.maps(pictures)
        return last.mean((2, 3))

    def yaw(self, picture: Tensor) -> float | None:
        """Degrees by which the largest face of ``[1 3 256 256]`` is turned; None when none is found."""
        faces = self._aligner.detect(images.to_picture(picture[0]))
        return float(pose.yaw(torch.from_numpy(faces[0].landmarks)[None])) if faces else None


@dataclass(frozen=True)
class YawGroup:
    """Results of the photographs with |yaw| from the first to below the second of ``degrees``.

    ``before`` and ``after`` are means of |yaw| where the result has a face; ``faceless`` of ``photographs`` have none.
    """

    degrees: tuple[int, int]
    photographs: int
    faceless: int
    before: float | None
    after: float | None
    identity: float | None
    identity_dlib: float | None


@dataclass(frozen=True)
class Row:
    """A method on a case: mean scores over ``photographs``, and the median of pictures per second.

    ``frechet`` is None where only some photographs were used: it falls with their number.
    """

    task: str
    kind: str
    method: str
    photographs: int
    scores: dict[str, float]
    frechet: float | None
    per_second: float | None
    yaw_groups: tuple[YawGroup, ...] = ()


def summarized(task: str, kind: str, method: str, results: Sequence[ResultScores], whole: bool) -> Row:
    """The row of a method, of its scores; ``whole``: they are of all photographs."""
    scores = {name: statistics.fmean(result.scores[name] for result in results) for name in results[0].scores}
    seconds = [result.seconds for result in results if result.seconds is not None]
    features = torch.stack([result.features for result in results], 1)
    return Row(
        task,
        kind,
        method,
        len(results),
        scores,
        frechet.distance(*features) if whole else None,
        1 / statistics.median(seconds) if seconds else None,
        tuple(_yaw_group(results, group) for group in ((0, 180), *GROUPS)) if results[0].yaws else (),
    )


def between_halves(features: Tensor) -> float | None:
    """The Fréchet distance between every other photograph and the rest, of features ``[n d]``."""
    return frechet.distance(features[::2], features[1::2])


def _yaw_group(results: Sequence[ResultScores], degrees: tuple[int, int]) -> YawGroup:
    """The group of photographs; those without a detected face are in none."""
    low, high = degrees
    pairs = [(result.yaws, result.scores) for result in results if result.yaws]
    inside = [(made, abs(own), scores) for (made, own), scores in pairs if own is not None and low <= abs(own) < high]
    found = [(abs(made), own) for made, own, _ in inside if made is not None]
    return YawGroup(
        degrees,
        len(inside),
        len(inside) - len(found),
        _mean([own for _, own in found]),
        _mean([made for made, _ in found]),
        _mean([scores["identity"] for *_, scores in inside]),
        _mean([scores["identity_dlib"] for *_, scores in inside]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


Cell = Callable[[Row], str]
NONE = "–"


def number(value: float | None, form: str) -> str:
    return NONE if value is None else f"{value:{form}}"


def score(name: str, form: str) -> Cell:
    return lambda row: number(row.scores.get(name), form)


SCORED: dict[str, Cell] = {
    "L2": score("l2", ".4f"),
    "MS-SSIM": score("ms_ssim", ".4f"),
    "LPIPS-alex": score("lpips", ".4f"),
    "LPIPS-vgg": score("lpips_vgg", ".4f"),
    "identity": score("identity", ".3f"),
    "identity (dlib)": score("identity_dlib", ".3f"),
    "Fréchet": lambda row: number(row.frechet, ".2f"),
}
HIDDEN: dict[str, Cell] = {"L2, hidden": score("l2_hidden", ".4f"), "LPIPS, hidden": score("lpips_hidden", ".4f")}
SPEED: dict[str, Cell] = {"pictures/s": lambda row: number(row.per_second, ".2f")}
ANGLES: dict[str, Cell] = {
    "yaw before": lambda row: number(row.yaw_groups[0].before, ".1f"),
    "yaw after": lambda row: number(row.yaw_groups[0].after, ".1f"),
    "no face": lambda row: str(row.yaw_groups[0].faceless),
}
KINDS = {"superres": "factor", "inpaint": "mask"}
"""What differs between the cases of a task."""
ABOUT = {
    "invert": "Rows that draw the photograph again.",
    "superres": "Photographs reduced from 256 pixels by a factor. Optimised rows draw a picture that equals the source "
    "when it is reduced by the same factor.",
    "inpaint": "Photographs with hidden parts. *L2, hidden* is the mean over the hidden pixels, *LPIPS, hidden* that "
    "of the picture with its known pixels taken from the photograph. The other columns are of the whole picture, and "
    "favour the masked picture, whose known pixels are exact. Optimised rows use the known pixels only.",
    "frontalize": "Compared with the photograph: pixels should change, identity should not. *Yaw* is the mean of "
    "|yaw| in degrees, from MTCNN's five landmarks, before and after, where a face was found in both; *no face* "
    "counts results without one. Optimised rows are those of plain inversion.",
}


def of_task(task: str, model: str, rows: Sequence[Row]) -> str:
    """The table of a task with its title, its model and remarks."""
    columns = SCORED | (HIDDEN if task == "inpaint" else {}) | (ANGLES if task == "frontalize" else {}) | SPEED
    kind = [KINDS[task]] if task in KINDS else []
    most = max(row.photographs for row in rows)
    lines = []
    for row in rows:
        name = row.method if row.photographs == most else f"{row.method} ({row.photographs} of them)"
        lines.append([*([row.kind] if kind else []), name, *(cell(row) for cell in columns.values())])
    parts = [
        f"## {task}",
        f"{ABOUT[task]} The model is `{model}`.",
        markdown([*kind, f"{most} photographs", *columns], lines),
    ]
    if any(row.yaw_groups for row in rows):
        parts.append(_by_angle(rows, most))
    return "\n\n".join(parts)


def markdown(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table; every line has as many cells as there are titles."""
    texts = [f"| {' | '.join(line)} |" for line in (titles, *lines)]
    return "\n".join([texts[0], "|---" * len(titles) + "|", *texts[1:]])


def caption(photographs: int, between_halves: float | None) -> str:
    """The meaning of the columns; with the Fréchet distance between halves of the photographs."""
    floor = ""
    if between_halves is not None:
        floor = (
            f" Between two halves of the photographs, {photographs - photographs // 2} and {photographs // 2}, it is "
            f"{between_halves:.2f}."
        )
    return (
        "L2 (pixels in [-1, 1]), MS-SSIM, LPIPS by two networks (VGG's where its weights are in the cache folder) and "
        "cosines of identity, by MobileFaceNet and by dlib's network, are means over the photographs. *Fréchet* is the "
        "distance between the set of results and the set of "
        "photographs, in AlexNet's last map as LPIPS uses it, averaged over the picture. It is not FID, falls with "
        f"the number of pictures ({photographs} here), and is left out for fewer.{floor} *Pictures/s* is from the "
        "median wall time of encoding and decoding in full, one by one; optimisation counts as encoding, and cached "
        "rows count with the time of their optimisation. The model's steps minimise LPIPS-alex and MobileFaceNet's "
        "distance, direct optimisation minimises LPIPS-alex; LPIPS-vgg and dlib's network are independent."
    )


def _by_angle(rows: Sequence[Row], most: int) -> str:
    """The table of groups by yaw, of the methods that were used on all photographs."""
    lines = []
    for row in rows:
        if row.photographs == most:
            lines += [
                [_range(group), str(group.photographs), row.method, *_cells(group)] for group in row.yaw_groups[1:]
            ]
    titles = ["yaw before", "photographs", "", "mean before", "mean after", "identity", "identity (dlib)", "no face"]
    return markdown(titles, lines)


def _range(group: YawGroup) -> str:
    low, high = group.degrees
    return f"{low}° to {high}°" if high < 180 else f"over {low}°"


def _cells(group: YawGroup) -> list[str]:
    angles = [number(value, ".1f") for value in (group.before, group.after)]
    return [*angles, *(number(value, ".3f") for value in (group.identity, group.identity_dlib)), str(group.faceless)]
