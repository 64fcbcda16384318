"""MTCNN: face detection with five landmarks by a cascade of three networks (Zhang et al. 2016, arXiv 1604.02878).

The proposal network slides a 12-pixel window over an image pyramid; the refinement network classifies the remaining
windows at 24 pixels; the output network classifies them at 48 pixels and predicts landmarks.

Axes: ``b`` images of one size, ``n`` windows, ``h w`` pixels. A window is (left, top, right, bottom) in pixels.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import assets

WINDOW = 12
"""Side of the proposal network's window, in pixels."""
STRIDE = 2
"""Step between neighbouring windows of the proposal network, in pixels."""
REDUCTION = 0.709
"""Ratio of the sides of neighbouring pyramid levels: half the area."""
THRESHOLDS = (0.6, 0.7, 0.7)
"""Least probability of a window in each network."""
_ONEDNN = threading.Lock()
"""Held while oneDNN is disabled: that is a setting of the process, which a second thread would find and restore."""


@dataclass(frozen=True)
class Detections:
    """Faces of one image, the most probable first: boxes [n 4], probabilities [n], landmarks [n 5 2]."""

    boxes: Tensor
    probabilities: Tensor
    landmarks: Tensor


def _conv(before: int, after: int, side: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, side), nn.PReLU(after)]


def _pool(side: int) -> nn.Module:
    return nn.MaxPool2d(side, stride=2, ceil_mode=True)


class ProposalNet(nn.Module):
    """All 12-pixel windows: ``[b 3 h w] -> (probability [b h' w'], offsets [b 4 h' w'])``."""

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
    """The cascade of the three networks, frozen. Weights are random; ``pretrained`` gives it with its own."""

    def __init__(self) -> None:
        super().__init__()
        self.propose = ProposalNet()
        self.refine = RefineNet()
        self.output = OutputNet()
        self.requires_grad_(False).eval()

    @torch.inference_mode()
    def detect(self, images: Tensor, min_face: float = 20.0) -> list[Detections]:
        """The faces of at least ``min_face`` pixels in ``images`` [b 3 h w], RGB in [-1, 1]; one result an image."""
        with _without_onednn():
            return self._detect(images, min_face)

    def _detect(self, images: Tensor, min_face: float) -> list[Detections]:
        owner, windows = self._proposals(images, min_face)

        crops = _crops(images, owner, windows, RefineNet.side)
        probability, offsets = self.refine(crops)
        accepted = probability >= THRESHOLDS[1]
        owner, windows, probability, offsets = (t[accepted] for t in (owner, windows, probability, offsets))
        kept = suppress(windows, probability, owner, 0.7)
        owner, windows = owner[kept], _square(_shift(windows[kept], offsets[kept], 1.0))

        crops = _crops(images, owner, windows, OutputNet.side)
        probability, offsets, landmarks = self.output(crops)
        accepted = probability >= THRESHOLDS[2]
        owner, windows, probability, offsets, landmarks = (
            t[accepted] for t in (owner, windows, probability, offsets, landmarks)
        )
        # The published networks count pixels from 1, and the right and lower edge as inside the window.
        landmarks = landmarks * (_sides(windows) + 1.0)[:, None] + windows[:, None, :2] - 1.0
        boxes = _shift(windows, offsets, 1.0)
        kept = _suppress_nested(boxes, probability, owner, 0.7)
        owner, boxes, probability, landmarks = (t[kept] for t in (owner, boxes, probability, landmarks))
        return [
            Detections(boxes[own], probability[own], landmarks[own])
            for own in (owner == index for index in range(len(images)))
        ]

    def _proposals(self, images: Tensor, min_face: float) -> tuple[Tensor, Tensor]:
        """Square windows for the refinement network: the index of each one's image [n], and the windows [n 4]."""
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


def pretrained() -> MTCNN:
    """The cascade with the bundled weights."""
    network = MTCNN()
    network.load_state_dict(assets.read("mtcnn"))
    return network


@contextmanager
def _without_onednn() -> Iterator[None]:
    """Disable oneDNN, which compiles and caches a kernel for every new shape, and pyramids have many.

    The cache grew by 0.8 GB over 200 photographs. These networks are as fast without it. One thread at a time detects.
    """
    with _ONEDNN:
        enabled = torch.backends.mkldnn.set_flags(False)[0]  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            torch.backends.mkldnn.set_flags(enabled)  # type: ignore[no-untyped-call]


def _sides(windows: Tensor) -> Tensor:
    return windows[:, 2:] - windows[:, :2]


def _shift(windows: Tensor, offsets: Tensor, inclusive: float) -> Tensor:
    """Move the four edges by ``offsets`` times the window's sides plus ``inclusive``."""
    return windows + offsets * (_sides(windows) + inclusive).repeat(1, 2)


def _square(windows: Tensor) -> Tensor:
    """The square of the longer side around each window's centre."""
    sides = _sides(windows)
    longest = sides.amax(dim=1, keepdim=True)
    corner = windows[:, :2] + (sides - longest) / 2
    return torch.cat((corner, corner + longest), dim=1)


def _crops(images: Tensor, owner: Tensor, windows: Tensor, side: int) -> Tensor:
    """The windows, clipped to the image and area-averaged to ``side``: ``[n 3 side side]``."""
    height, width = images.shape[-2:]
    edges = windows.trunc().long()
    left, top = (edges[:, i].clamp(min=1) - 1 for i in (0, 1))
    right, bottom = edges[:, 2].clamp(max=width), edges[:, 3].clamp(max=height)
    crops = images.new_zeros(len(windows), 3, side, side)
    boxes = torch.stack((owner, left, top, right, bottom), dim=1).tolist()
    for index, (image, x0, y0, x1, y1) in enumerate(boxes):
        if x1 > x0 and y1 > y0:
            crops[index] = F.adaptive_avg_pool2d(images[image, :, y0:y1, x0:x1], side)
    return crops.contiguous(memory_format=torch.channels_last)  # CPUs pool channels together with it


def suppress(boxes: Tensor, scores: Tensor, owner: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression within each image: indices of the remaining boxes, the best first.

    A box is removed if its intersection over union with a better remaining one exceeds ``threshold``. It runs on the
    CPU, and without torchvision, whose import takes as long as torch's.
    """
    order = scores.argsort(descending=True, stable=True)
    sorted_boxes, image = boxes[order].cpu().numpy(), owner[order].cpu().numpy()
    low, high = sorted_boxes[:, :2], sorted_boxes[:, 2:]
    area = (high - low).prod(axis=1)
    left, kept = np.arange(len(area)), list[int]()
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        sides = np.minimum(high[best], high[left]) - np.maximum(low[best], low[left])
        shared = sides.clip(min=0).prod(axis=1)
        overlaps = shared > threshold * (area[best] + area[left] - shared)
        left = left[~(overlaps & (image[left] == image[best]))]
    return order[torch.tensor(kept, dtype=torch.long, device=order.device)]


def _suppress_nested(boxes: Tensor, scores: Tensor, owner: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression by overlap relative to the *smaller* box, which removes a face inside another one."""
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
