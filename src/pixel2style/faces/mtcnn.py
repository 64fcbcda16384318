"""MTCNN: find faces and five landmarks with three small networks in a row (Zhang et al. 2016, arXiv 1604.02878).

The proposal network slides a 12-pixel window over a pyramid of reduced pictures; the refining network looks again at
every window that passed, at 24 pixels; the output network once more, at 48, and places the landmarks. It does not know
about files, nor what the faces are wanted for.

Axes: ``b`` pictures of one size, ``n`` windows, ``h w`` pixels. A window is (left, top, right, bottom) in pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WINDOW = 12
"""Side of what the proposal network sees at once, pixels."""
STRIDE = 2
"""Step between neighbouring windows of the proposal network, pixels."""
REDUCTION = 0.709
"""Ratio of neighbouring pyramid levels: half the area."""
THRESHOLDS = (0.6, 0.7, 0.7)
"""What a window's probability must reach in each network."""


@dataclass(frozen=True)
class Detections:
    """The faces of one picture, most probable first: boxes [n 4], probabilities [n], landmarks [n 5 2]."""

    boxes: Tensor
    probabilities: Tensor
    landmarks: Tensor


def _conv(before: int, after: int, side: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, side), nn.PReLU(after)]


def _pool(side: int) -> nn.Module:
    return nn.MaxPool2d(side, stride=2, ceil_mode=True)


class ProposalNet(nn.Module):
    """Every 12-pixel window at once: ``[b 3 h w] -> (probability [b h' w'], offsets [b 4 h' w'])``."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*_conv(3, 10, 3), _pool(2), *_conv(10, 16, 3), *_conv(16, 32, 3))
        self.face = nn.Conv2d(32, 2, 1)
        self.offsets = nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of a face, and offsets of the four edges in units of the window's side."""
        maps = self.trunk(x)
        return self.face(maps).softmax(dim=1)[:, 1], self.offsets(maps)


class RefineNet(nn.Module):
    """Windows at 24 pixels: ``[n 3 24 24] -> (probability [n], offsets [n 4])``."""

    side = 24

    def __init__(self) -> None:
        super().__init__()
        convolutions = [*_conv(3, 28, 3), _pool(3), *_conv(28, 48, 3), _pool(3), *_conv(48, 64, 2)]
        self.trunk = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(576, 128), nn.PReLU(128))
        self.face = nn.Linear(128, 2)
        self.offsets = nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of a face, and offsets of the four edges in units of the window's sides."""
        features = self.trunk(x)
        return self.face(features).softmax(dim=1)[:, 1], self.offsets(features)


class OutputNet(nn.Module):
    """Windows at 48 pixels: ``[n 3 48 48] -> (probability [n], offsets [n 4], landmarks [n 5 2])``."""

    side = 48

    def __init__(self) -> None:
        super().__init__()
        convolutions = [*_conv(3, 32, 3), _pool(3), *_conv(32, 64, 3), _pool(3), *_conv(64, 64, 3), _pool(2)]
        self.trunk = nn.Sequential(*convolutions, *_conv(64, 128, 2), nn.Flatten(), nn.Linear(1152, 256), nn.PReLU(256))
        self.face = nn.Linear(256, 2)
        self.offsets = nn.Linear(256, 4)
        self.landmarks = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities, edge offsets, and landmarks as fractions of the window."""
        features = self.trunk(x)
        landmarks = self.landmarks(features).unflatten(1, (2, 5)).mT
        return self.face(features).softmax(dim=1)[:, 1], self.offsets(features), landmarks


class MTCNN(nn.Module):
    """The cascade of the three networks. Constructed without weights: load the bundled ``mtcnn`` file into it."""

    def __init__(self) -> None:
        super().__init__()
        self.propose = ProposalNet()
        self.refine = RefineNet()
        self.output = OutputNet()
        self.requires_grad_(False).eval()

    @torch.inference_mode()
    def detect(self, images: Tensor, min_face: float = 20.0) -> list[Detections]:
        """Every face of at least ``min_face`` pixels in each picture of ``images`` [b 3 h w], RGB in [-1, 1]."""
        with _without_kernels_for_each_shape():
            return self._detect(images, min_face)

    def _detect(self, images: Tensor, min_face: float) -> list[Detections]:
        owner, windows = self._proposals(images, min_face)

        crops = _crops(images, owner, windows, RefineNet.side)
        probability, offsets = self.refine(crops)
        passed = probability >= THRESHOLDS[1]
        owner, windows, probability, offsets = (t[passed] for t in (owner, windows, probability, offsets))
        kept = suppress(windows, probability, owner, 0.7)
        owner, windows = owner[kept], _square(_shift(windows[kept], offsets[kept], 1.0))

        crops = _crops(images, owner, windows, OutputNet.side)
        probability, offsets, landmarks = self.output(crops)
        passed = probability >= THRESHOLDS[2]
        owner, windows, probability, offsets, landmarks = (
            t[passed] for t in (owner, windows, probability, offsets, landmarks)
        )
        # The published networks count pixels from one, and a window's far edge as inside it.
        landmarks = landmarks * (_sides(windows) + 1.0)[:, None] + windows[:, None, :2] - 1.0
        boxes = _shift(windows, offsets, 1.0)
        kept = _suppress_nested(boxes, probability, owner, 0.7)
        owner, boxes, probability, landmarks = (t[kept] for t in (owner, boxes, probability, landmarks))
        return [
            Detections(boxes[mine], probability[mine], landmarks[mine])
            for mine in (owner == index for index in range(len(images)))
        ]

    def _proposals(self, images: Tensor, min_face: float) -> tuple[Tensor, Tensor]:
        """Square windows worth a second look: the picture each belongs to [n], and the windows [n 4]."""
        height, width = images.shape[-2:]
        owners, windows, probabilities, offsets = [], [], [], []
        scale = WINDOW / min_face
        while min(height, width) * scale >= WINDOW:
            level = F.interpolate(images, (int(height * scale + 1), int(width * scale + 1)), mode="area")
            probability, offset = self.propose(level)
            owner, row, column = (probability >= THRESHOLDS[0]).nonzero(as_tuple=True)
            corner = torch.stack((column, row), dim=1) * STRIDE
            window = torch.cat(((corner + 1) / scale, (corner + WINDOW) / scale), dim=1).floor()
            score = probability[owner, row, column]
            kept = suppress(window, score, owner, 0.5)
            owners.append(owner[kept])
            windows.append(window[kept])
            probabilities.append(score[kept])
            offsets.append(offset[owner, :, row, column][kept])
            scale *= REDUCTION
        if not owners:
            return images.new_zeros(0, dtype=torch.long), images.new_zeros(0, 4)
        owner, window = torch.cat(owners), torch.cat(windows)
        kept = suppress(window, torch.cat(probabilities), owner, 0.7)
        return owner[kept], _square(_shift(window[kept], torch.cat(offsets)[kept], 0.0))


@contextmanager
def _without_kernels_for_each_shape() -> Iterator[None]:
    """oneDNN builds and keeps a kernel for every shape it meets, and every photograph brings a pyramid of new ones.

    Over a folder of 200 photographs that came to 0.8 GB. These networks are as fast without it.
    """
    enabled = torch.backends.mkldnn.set_flags(False)[0]  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(enabled)  # type: ignore[no-untyped-call]


def _sides(windows: Tensor) -> Tensor:
    return windows[:, 2:] - windows[:, :2]


def _shift(windows: Tensor, offsets: Tensor, inclusive: float) -> Tensor:
    """Move the four edges by ``offsets`` times the window's sides, which count ``inclusive`` more pixels."""
    return windows + offsets * (_sides(windows) + inclusive).repeat(1, 2)


def _square(windows: Tensor) -> Tensor:
    """The square of the longer side around each window's centre."""
    sides = _sides(windows)
    longest = sides.amax(dim=1, keepdim=True)
    corner = windows[:, :2] + (sides - longest) / 2
    return torch.cat((corner, corner + longest), dim=1)


def _crops(images: Tensor, owner: Tensor, windows: Tensor, side: int) -> Tensor:
    """What the windows show, inside the picture only, area-averaged to ``side``: ``[n 3 side side]``."""
    height, width = images.shape[-2:]
    edges = windows.trunc().long()
    left, top = (edges[:, i].clamp(min=1) - 1 for i in (0, 1))
    right, bottom = edges[:, 2].clamp(max=width), edges[:, 3].clamp(max=height)
    crops = images.new_zeros(len(windows), 3, side, side)
    places = torch.stack((owner, left, top, right, bottom), dim=1).tolist()
    for index, (picture, x0, y0, x1, y1) in enumerate(places):
        if x1 > x0 and y1 > y0:
            crops[index] = F.adaptive_avg_pool2d(images[picture, :, y0:y1, x0:x1], side)
    return crops.contiguous(memory_format=torch.channels_last)  # in which CPUs pool several channels at once


def suppress(boxes: Tensor, scores: Tensor, owner: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression within each picture: places of the boxes that stay, best first.

    A box goes when its intersection over union with a better one that stays is above ``threshold``. On the processor,
    and without torchvision, which takes as long to import as all of torch.
    """
    order = scores.argsort(descending=True, stable=True)
    sorted_boxes, picture = boxes[order].cpu().numpy(), owner[order].cpu().numpy()
    low, high = sorted_boxes[:, :2], sorted_boxes[:, 2:]
    area = (high - low).prod(axis=1)
    left, kept = np.arange(len(area)), list[int]()
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        sides = np.minimum(high[best], high[left]) - np.maximum(low[best], low[left])
        shared = sides.clip(min=0).prod(axis=1)
        too_near = shared > threshold * (area[best] + area[left] - shared)
        left = left[~(too_near & (picture[left] == picture[best]))]
    return order[torch.tensor(kept, dtype=torch.long, device=order.device)]


def _suppress_nested(boxes: Tensor, scores: Tensor, owner: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression by overlap over the *smaller* box: a face found inside a face goes."""
    order = scores.argsort(descending=True, stable=True)
    area = (_sides(boxes) + 1).prod(dim=1)
    kept: list[int] = []
    for index in order.tolist():
        rivals = [k for k in kept if owner[k] == owner[index]]
        if rivals:
            near = torch.maximum(boxes[rivals, :2], boxes[index, :2])
            far = torch.minimum(boxes[rivals, 2:], boxes[index, 2:])
            overlap = (far - near + 1).clamp(min=0).prod(dim=1) / torch.minimum(area[rivals], area[index])
            if bool((overlap > threshold).any()):
                continue
        kept.append(index)
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)
