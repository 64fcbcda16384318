"""What judges say of the answers to a task, picture by picture and of all.

To scores that every task has (``evaluate.Scorer``) come those of hidden pixels, the angle of the face, and features for
a Fréchet distance between all answers and all photographs: AlexNet's last map that LPIPS compares, averaged over the
picture. This module does not know where answers come from.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from answers import Answer, Example
from pixel2style import images
from pixel2style.faces import pose
from pixel2style.faces.align import FaceAligner
from pixel2style.metrics import frechet
from pixel2style.metrics.scores import Scorer

SCORES = ("l2", "lpips", "identity", "identity_dlib")
HIDDEN = ("l2_hidden", "lpips_hidden")
GROUPS = ((0, 10), (10, 20), (20, 180))
"""Of photographs by how far their faces are turned, degrees: from the first number to below the second."""


@dataclass(frozen=True)
class Verdict:
    """What was found of one answer.

    ``crowd`` [2 256] are features of answer and photograph; ``yaws`` are their degrees, None where no face was found.
    """

    scores: dict[str, float]
    crowd: Tensor
    yaws: tuple[float | None, float | None] | None = None
    seconds: float | None = None


class Panel:
    """The judges of every task, loaded once."""

    def __init__(self) -> None:
        self.judges = Scorer(full=True)
        self._aligner = FaceAligner()

    @torch.no_grad()
    def __call__(self, answer: Answer, example: Example, angles: bool = False) -> Verdict:
        """Judge one answer; with ``angles``, also which way it and the photograph look."""
        said = self.judges(answer.picture, example.target).means()
        scores = {name: said[name] for name in SCORES}
        if example.known is not None:
            scores |= self.hidden(answer.picture, example.target, example.known)
        pictures = torch.cat([answer.picture, example.target])
        yaws = (self.yaw(answer.picture), self.yaw(example.target)) if angles else None
        return Verdict(scores, self.crowd(pictures), yaws, answer.seconds)

    def hidden(self, picture: Tensor, target: Tensor, known: Tensor) -> dict[str, float]:
        """L2 over hidden pixels only, and LPIPS of the picture with its known pixels taken from the target."""
        squared = ((picture - target).square() * (1 - known)).mean(1, keepdim=True)
        completed = torch.where(known > 0, target, picture)
        l2 = float(squared.sum() / (1 - known).sum().clamp(min=1))
        return {"l2_hidden": l2, "lpips_hidden": float(self.judges.lpips(completed, target))}

    def crowd(self, pictures: Tensor) -> Tensor:
        """Features for a Fréchet distance, ``[b 3 256 256] -> [b 256]``."""
        *_, last = self.judges.lpips.maps(pictures)
        return last.mean((2, 3))

    def yaw(self, picture: Tensor) -> float | None:
        """Degrees by which the largest face of ``[1 3 256 256]`` is turned; None when none is found."""
        faces = self._aligner.detect(images.to_picture(picture[0]))
        return float(pose.yaw(torch.from_numpy(faces[0].landmarks)[None])) if faces else None


@dataclass(frozen=True)
class Turned:
    """Photographs turned by as many ``degrees`` at least and at most, and what became of them.

    ``before`` and ``after`` are means of |yaw| where the answer has a face; ``faceless`` of ``photographs`` have none.
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
    """All answers of one kind: mean scores over ``photographs``, and the median of pictures a second.

    ``frechet`` is there only where all photographs were answered: it falls with their number.
    """

    task: str
    kind: str
    answer: str
    photographs: int
    scores: dict[str, float]
    frechet: float | None
    per_second: float | None
    turned: tuple[Turned, ...] = ()


def summed(task: str, kind: str, answer: str, verdicts: Sequence[Verdict], whole: bool) -> Row:
    """The row of one kind of answer; ``whole`` says that every photograph was answered."""
    scores = {name: statistics.fmean(verdict.scores[name] for verdict in verdicts) for name in verdicts[0].scores}
    seconds = [verdict.seconds for verdict in verdicts if verdict.seconds is not None]
    crowds = torch.stack([verdict.crowd for verdict in verdicts], 1)
    return Row(
        task,
        kind,
        answer,
        len(verdicts),
        scores,
        frechet.distance(*crowds) if whole else None,
        1 / statistics.median(seconds) if seconds else None,
        tuple(_turned(verdicts, group) for group in ((0, 180), *GROUPS)) if verdicts[0].yaws else (),
    )


def between_halves(crowd: Tensor) -> float | None:
    """The Fréchet distance of every other photograph to the rest, of features ``[n d]``."""
    return frechet.distance(crowd[::2], crowd[1::2])


def _turned(verdicts: Sequence[Verdict], degrees: tuple[int, int]) -> Turned:
    """Photographs without a face that is found are in no group."""
    low, high = degrees
    pairs = [(verdict.yaws, verdict.scores) for verdict in verdicts if verdict.yaws]
    mine = [(made, abs(own), scores) for (made, own), scores in pairs if own is not None and low <= abs(own) < high]
    found = [(abs(made), own) for made, own, _ in mine if made is not None]
    return Turned(
        degrees,
        len(mine),
        len(mine) - len(found),
        _mean([own for _, own in found]),
        _mean([made for made, _ in found]),
        _mean([scores["identity"] for *_, scores in mine]),
        _mean([scores["identity_dlib"] for *_, scores in mine]),
    )


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
