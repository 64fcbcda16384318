"""Masks that follow a face: its mouth, its eyes, a half of it.

Points are (x, y) in units of the side of an aligned square, from its top left corner. Landmarks [5 2] are left and
right eye, nose, left and right mouth corner as seen in the picture (``faces.align``).

Axes: ``s`` side of a mask, in pixels.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError
from ..faces.align import Points, ffhq_quad, in_square
from ..faces.pose import FACE
from . import degrade

Grid = NDArray[np.float64]

_MEAN = np.array(FACE)[:, :2]
ALIGNED = in_square(_MEAN, ffhq_quad(_MEAN))
"""Landmarks of a face that is aligned already and has the mean proportions."""
LEAST_HIDDEN = 0.2
"""How much of the face a drawn mask hides at least: most boxes and strokes in training hide less, or none of it."""
MOST_TRIES = 200


def _segment(start: Points, end: Points, radius: float) -> Callable[[Grid], NDArray[np.bool_]]:
    """Everything within ``radius`` of a line."""

    def inside(points: Grid) -> NDArray[np.bool_]:
        along = end - start
        share = np.clip((points - start) @ along / max(float(along @ along), 1e-12), 0, 1)
        return np.asarray(np.hypot(*np.moveaxis(points - start - share[..., None] * along, -1, 0)) <= radius)

    return inside


def _oval(landmarks: Points) -> Callable[[Grid], NDArray[np.bool_]]:
    """From the forehead to the chin."""
    eyes, mouth = _eyes(landmarks), _mouth(landmarks)
    down = (mouth - eyes) / np.hypot(*(mouth - eyes))
    centre = eyes + 0.35 * (mouth - eyes)

    def inside(points: Grid) -> NDArray[np.bool_]:
        long = (points - centre) @ down / 0.35
        across = (points - centre) @ np.array([-down[1], down[0]]) / 0.27
        return np.asarray(np.hypot(long, across) <= 1)

    return inside


def _beyond(point: Points, direction: Points) -> Callable[[Grid], NDArray[np.bool_]]:
    """Everything on one side of the line through a point that is perpendicular to ``direction``."""
    return lambda points: np.asarray((points - point) @ direction > 0)


def _eyes(landmarks: Points) -> Points:
    return np.asarray(landmarks[:2].mean(axis=0))


def _mouth(landmarks: Points) -> Points:
    return np.asarray(landmarks[3:].mean(axis=0))


def _down(landmarks: Points) -> Points:
    return _mouth(landmarks) - _eyes(landmarks)


def _right(landmarks: Points) -> Points:
    down = _down(landmarks)
    return np.array([down[1], -down[0]])


SHAPES: dict[str, Callable[[Points], Callable[[Grid], NDArray[np.bool_]]]] = {
    "mouth": lambda marks: _segment(marks[3], marks[4], 0.07),
    "eyes": lambda marks: _segment(marks[0], marks[1], 0.085),
    "nose": lambda marks: _segment(_eyes(marks) + 0.4 * (marks[2] - _eyes(marks)), marks[2], 0.065),
    "face": _oval,
    "left": lambda marks: _beyond(_eyes(marks), -_right(marks)),
    "right": lambda marks: _beyond(_eyes(marks), _right(marks)),
    "top": lambda marks: _beyond(marks[2], -_down(marks)),
    "bottom": lambda marks: _beyond(marks[2], _down(marks)),
}
"""What each named mask hides. Halves are divided by the line from the eyes to the mouth, or at the tip of the nose."""
MASKS = (*degrade.MASKS, *SHAPES)
"""All masks that have names: drawn at random, or following the face."""


def mask(kind: str, side: int, landmarks: Points, rng: torch.Generator) -> Tensor:
    """Which pixels of a face are known: ``[1 s s]``, 1 where they are, 0 where they are hidden.

    ``kind``: one of ``SHAPES``, which the landmarks [5 2] decide, or of ``degrade.MASKS``, drawn again and again until
    it hides ``LEAST_HIDDEN`` of the face. Raises ConfigError for any other.
    """
    if kind in SHAPES:
        return 1 - _hidden(kind, side, landmarks)
    face = _hidden("face", side, landmarks)
    for _ in range(MOST_TRIES):
        known = degrade.mask(kind, side, rng)
        if float((face * (1 - known)).sum()) >= LEAST_HIDDEN * float(face.sum()):
            return known
    raise ConfigError(f"--mask {kind} missed the face {MOST_TRIES} times: choose another --seed")


def _hidden(kind: str, side: int, landmarks: Points) -> Tensor:
    middles = (np.arange(side) + 0.5) / side
    points = np.stack(np.meshgrid(middles, middles), axis=-1)
    return torch.from_numpy(SHAPES[kind](landmarks)(points))[None].float()
