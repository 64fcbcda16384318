"""Fit the mean face of ``pixel2style.faces.pose`` to the landmarks that MTCNN finds in aligned photographs.

    python tools/fit_face.py FOLDER... --limit 800

Every photograph is used twice, as it is and mirrored, and has a scaled orthographic camera of its own; all share five
symmetric points, eyes at (-.5, 0, 0) and (.5, 0, 0). The error of a photograph is robust (Cauchy), so that a wrong
landmark has little effect; a weak penalty on all pitches defines which tilt is level, which does not affect yaw. Prints
the nose's y and z, then a mouth corner's x, y and z.

Axes: ``n`` faces, five landmarks in the order of ``pixel2style.faces.align``.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from pixel2style import images
from pixel2style.faces.align import FaceAligner
from pixel2style.training.dataset import photo_files

FIRST = (0.6, 0.5, 0.4, 1.1, 0.1)
"""Initial values of the five numbers."""
OUTLIER, LEVEL = 1e-3, 1e-3


def landmarks(files: list[Path]) -> Tensor:
    """Landmarks of faces and their mirror images, centred, of unit size: ``[n 5 2]``, float64."""
    aligner = FaceAligner()
    found = [faces[0].landmarks for file in files if (faces := aligner.detect(images.load(file)))]
    places = torch.stack([torch.from_numpy(face) for face in found])
    mirrored = (places * torch.tensor([-1.0, 1.0]))[:, [1, 0, 2, 4, 3]]
    every = torch.cat([places, mirrored])
    every = every - every.mean(1, keepdim=True)
    return every / every.square().sum((1, 2), keepdim=True).sqrt()


def face(numbers: Tensor) -> Tensor:
    """The points ``[5 3]`` of five numbers, centred."""
    nose_y, nose_z, mouth_x, mouth_y, mouth_z = numbers
    zero, half = torch.zeros_like(nose_y), torch.full_like(nose_y, 0.5)
    eyes = [torch.stack([x, zero, zero]) for x in (-half, half)]
    mouth = [torch.stack([x, mouth_y, mouth_z]) for x in (-mouth_x, mouth_x)]
    points = torch.stack([*eyes, torch.stack([zero, nose_y, nose_z]), *mouth])
    return points - points.mean(0)


def projected(points: Tensor, yaw: Tensor, pitch: Tensor, roll: Tensor, scale: Tensor) -> Tensor:
    """The points in each of ``n`` cameras: ``[n 5 2]``."""
    x, y, z = points.T[:, None]
    x, z = yaw.cos() * x + yaw.sin() * z, yaw.cos() * z - yaw.sin() * x
    y = pitch.cos() * y - pitch.sin() * z
    return scale[..., None] * torch.stack([roll.cos() * x - roll.sin() * y, roll.sin() * x + roll.cos() * y], -1)


def fitted(places: Tensor) -> Tensor:
    """The five numbers that explain landmarks ``[n 5 2]`` best."""
    numbers = torch.tensor(FIRST, dtype=torch.float64, requires_grad=True)
    aside = (places[:, 2, 0] - places[:, [0, 1, 3, 4], 0].mean(1)) / (places[:, 1, 0] - places[:, 0, 0])
    yaw = (2 * aside).clamp(-0.9, 0.9).asin()[:, None].requires_grad_()
    pitch, roll = (torch.zeros_like(yaw).detach().requires_grad_() for _ in range(2))
    scale = torch.full_like(yaw, 0.55).detach().requires_grad_()
    search = torch.optim.LBFGS(
        [numbers, yaw, pitch, roll, scale], max_iter=2000, history_size=50, line_search_fn="strong_wolfe"
    )

    def loss() -> float:
        search.zero_grad()
        error = (projected(face(numbers), yaw, pitch, roll, scale) - places).square().sum((1, 2))
        total = OUTLIER * (error / OUTLIER).log1p().sum() + LEVEL * pitch.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return float(total.detach())

    search.step(loss)  # type: ignore[no-untyped-call]
    return numbers.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="folders of aligned photographs")
    parser.add_argument("--limit", type=int, default=800, help="so many of each, evenly spaced")
    given = parser.parse_args()
    files: list[Path] = []
    for folder in given.folders:
        every = photo_files(folder)
        files += every[:: max(1, len(every) // given.limit)][: given.limit]
    print(" ".join(f"{number:.3f}" for number in fitted(landmarks(files)).tolist()))


if __name__ == "__main__":
    main()
