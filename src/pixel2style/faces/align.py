"""Face alignment as in FFHQ: find a face, crop a square that is rotated and scaled with the head.

Encoders and generators of faces were trained on such crops. The crop is given by its *quad*: four corners in the
photograph, from the top left, counter-clockwise. FFHQ computed it from 68 landmarks; five (eyes, nose, mouth corners)
give the same result, because only the centres of the eyes and the mouth are used (Karras et al. 2019, arXiv 1812.04948,
appendix A; the dataset's own code).

Landmarks and quads are (x, y) in pixels of the upright photograph (``images.load``). Landmarks are left eye, right eye,
nose, left and right mouth corner *as seen in the image*.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ..errors import ConfigError, NoFaceError
from . import mtcnn

Points = NDArray[np.float64]
Choice = Literal["largest", "most_probable", "central"] | int
"""Which face of a photograph; a number counts from the left, from 1."""

DETECTION_SIDE = 1024
"""Larger photographs are reduced to this longest side for detection; it is enough for faces worth encoding."""
MIN_FACES = (40.0, 20.0)
"""Smallest face in pixels of the reduced photograph; the second value is tried when the first one finds nothing."""
SURE = 0.99
"""A photograph without a face this probable is turned too: upright faces nearly always are, others nearly never.

Half of the faces that lie on their side or upside down are found as if they were upright, at lower probabilities and
with landmarks in wrong places.
"""
BORDER = 0.1
"""Margin that is cropped around the quad and needed inside the photograph, in units of the quad's side."""
EDGE = 0.3
"""Width of the transition from photograph to padding where the quad leaves the photograph, in the same unit."""
BLUR = 0.02
"""Standard deviation of the blur of the padding, in the same unit."""


@dataclass(frozen=True, eq=False)
class Face:
    """A detected face: box (left, top, right, bottom) [4], probability, landmarks [5 2]; in pixels.

    Boxes may reach outside the photograph. Where this lies on its side or upside down, ``turned`` says by how many
    degrees, counter-clockwise, it has to be turned to be upright; box and landmarks are those in the photograph as it
    is, in which the left eye then is not on the left.
    """

    box: Points
    probability: float
    landmarks: Points
    turned: int = 0

    def area(self, size: tuple[int, int]) -> float:
        """Square pixels of the box inside a photograph of ``size`` (width, height)."""
        low, high = np.clip(self.box.reshape(2, 2), 0, size)
        return float(np.prod(high - low))

    @property
    def quad(self) -> Points:
        """The FFHQ crop [4 2]: top left, bottom left, bottom right, top right."""
        return ffhq_quad(self.landmarks)


class FaceAligner:
    """Detection with the bundled MTCNN on one device, and alignment."""

    def __init__(self, device: str | torch.device = "cpu"):
        self.device = torch.device(device)
        self._detector = mtcnn.pretrained().to(self.device)

    def detect(self, image: Image.Image) -> list[Face]:
        """All faces in an upright photograph; first the one with the largest area inside it."""
        ratio = min(1.0, DETECTION_SIDE / max(image.size))
        width, height = (max(1, round(side * ratio)) for side in image.size)
        reduced = _rgb(image).resize((width, height), Image.Resampling.BOX)
        scale = np.array(image.size) / np.array(reduced.size)
        pixels = torch.from_numpy(np.array(reduced)).to(self.device).permute(2, 0, 1)[None].contiguous()
        pixels = pixels.float().sub_(127.5).div_(128.0)
        for min_face in MIN_FACES:
            found = self._detector.detect(pixels, min_face)[0]
            faces = [
                Face(box * np.tile(scale, 2), float(probability), landmarks * scale)
                for box, probability, landmarks in zip(
                    found.boxes.double().cpu().numpy(),
                    found.probabilities.cpu().numpy(),
                    found.landmarks.double().cpu().numpy(),
                    strict=True,
                )
            ]
            if faces:
                break
        return sorted(faces, key=lambda face: face.area(image.size), reverse=True)

    def detect_turned(self, image: Image.Image) -> list[Face]:
        """All faces in a photograph that may lie on its side or upside down, in the order of ``detect``.

        It is turned only where no face, or none that is ``SURE``, is found without.
        """
        faces = self.detect(image)
        if _best(faces) >= SURE:
            return faces
        ways = [[_turned_back(face, degrees, image.size) for face in found] for degrees, found in self._turns(image)]
        other = max(ways, key=_best)
        return other if other and (not faces or _best(other) >= SURE) else faces

    def _turns(self, image: Image.Image) -> Iterator[tuple[int, list[Face]]]:
        """The faces in the photograph turned by 90, 180 and 270 degrees, in pixels of the turned one."""
        ways = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
        for degrees, way in ways.items():
            yield degrees, self.detect(image.transpose(way))

    def find(self, image: Image.Image, choice: Choice = "largest") -> Face:
        """One face of the photograph. Raises NoFaceError when there is none, ConfigError for an unknown choice."""
        return pick(self.detect_turned(image), choice, image.size)

    def align(
        self, image: Image.Image, size: int = 256, transform_size: int | None = None, choice: Choice = "largest"
    ) -> Image.Image:
        """The FFHQ crop of one face of an upright photograph, ``size`` x ``size``. Raises NoFaceError."""
        return crop(image, self.find(image, choice).quad, size, transform_size)


def pick(faces: Sequence[Face], choice: Choice, size: tuple[int, int]) -> Face:
    """One of the faces of a photograph of ``size`` (width, height).

    Raises NoFaceError when there is none or none of that number, ConfigError for an unknown choice.
    """
    check_choice(choice)
    if not faces:
        raise NoFaceError("no face was found: choose a picture that shows one, or pass --no-align if it is cropped")
    if choice == "most_probable":
        return max(faces, key=lambda face: face.probability)
    if choice == "central":
        centre = np.array(size) / 2
        return min(faces, key=lambda face: float(np.hypot(*(_centre(face) - centre))))
    if choice == "largest":
        return max(faces, key=lambda face: face.area(size))
    if choice > len(faces):
        there = "there is one face" if len(faces) == 1 else f"there are {len(faces)} faces"
        raise NoFaceError(f"no face is number {choice}: {there}, counted from the left")
    return from_left(faces, size)[choice - 1]


def from_left(faces: Sequence[Face], size: tuple[int, int]) -> list[Face]:
    """The faces of a photograph of ``size`` from left to right, as it is seen upright."""

    def place(face: Face) -> float:
        (x, y), (width, height) = _centre(face), size
        return float({0: x, 90: y, 180: width - x, 270: height - y}[face.turned])

    return sorted(faces, key=place)


def check_choice(choice: object) -> None:
    """Raise ConfigError for what is no ``Choice``."""
    number = isinstance(choice, int) and not isinstance(choice, bool) and choice >= 1
    if not number and choice not in ("largest", "most_probable", "central"):
        raise ConfigError(f"a face is largest, central, or a number from 1, counted from the left; not {choice!r}")


def _best(faces: Sequence[Face]) -> float:
    return max((face.probability for face in faces), default=0.0)


def _centre(face: Face) -> Points:
    return np.asarray(face.box.reshape(2, 2).mean(axis=0))


def _turned_back(face: Face, degrees: int, size: tuple[int, int]) -> Face:
    """A face of a photograph of ``size`` that was turned counter-clockwise, in pixels of the photograph."""
    width, height = size

    def back(points: Points) -> Points:
        x, y = points[:, 0], points[:, 1]
        places = {90: (width - 1 - y, x), 180: (width - 1 - x, height - 1 - y), 270: (y, height - 1 - x)}
        return np.stack(places[degrees], axis=1)

    corners = back(face.box.reshape(2, 2))
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    return Face(box, face.probability, back(face.landmarks), degrees)


def ffhq_quad(landmarks: Points) -> Points:
    """The quad [4 2] of FFHQ's crop from five landmarks [5 2]: a square that is rotated with the head.

    Its half side is the larger of 2 eye distances and 1.8 times the distance from eyes to mouth; its centre is a tenth
    of the way from eyes to mouth; its x axis is the mean of the line through the eyes and the normal of the line from
    eyes to mouth.
    """
    left, right, _, *mouth = np.asarray(landmarks, dtype=np.float64)
    eyes = (left + right) / 2
    across = right - left
    down = np.mean(mouth, axis=0) - eyes
    axis = across + np.array([down[1], -down[0]])
    axis *= max(2.0 * np.hypot(*across), 1.8 * np.hypot(*down)) / np.hypot(*axis)
    normal = np.array([-axis[1], axis[0]])
    centre = eyes + 0.1 * down
    return np.stack([centre - axis - normal, centre - axis + normal, centre + axis + normal, centre + axis - normal])


def in_square(points: Points, quad: Points) -> Points:
    """Points [n 2] of a photograph in units of the quad's side, from its top left corner."""
    across, down = quad[3] - quad[0], quad[1] - quad[0]
    return np.asarray((points - quad[0]) @ np.stack([across, down], axis=1) / (across @ across))


def crop(image: Image.Image, quad: Points, size: int = 256, transform_size: int | None = None) -> Image.Image:
    """The part of ``image`` in ``quad`` [4 2], resampled to ``size`` x ``size``.

    A quad much larger than ``size`` is reduced first. Where it leaves the photograph, this is padded as in FFHQ:
    mirrored, blurred and faded to the median colour. The rotated square is resampled at ``transform_size`` (by default
    the quad's side, at most 4 ``size``) and reduced to ``size``.
    """
    image = _rgb(image)
    quad = np.array(quad, dtype=np.float64)
    side = float(np.hypot(*(quad[3] - quad[0])))

    shrink = int(side / size / 2)
    if shrink > 1:
        # Crop first: reducing a whole large photograph for a small face wastes time and memory.
        image, quad = _crop_around(image, quad, side)
        reduced = (max(1, round(image.width / shrink)), max(1, round(image.height / shrink)))
        quad = (quad + 0.5) * (np.array(reduced) / np.array(image.size)) - 0.5
        image, side = image.resize(reduced, Image.Resampling.LANCZOS), side / shrink

    image, quad = _crop_around(image, quad, side)
    image, quad = _pad(image, quad, side)

    if transform_size is None:
        transform_size = size * min(4, max(1, int(np.ceil(side / size))))
    corners = tuple((quad + 0.5).ravel().tolist())
    square = image.transform((transform_size, transform_size), Image.Transform.QUAD, corners, Image.Resampling.BILINEAR)
    return square if transform_size == size else square.resize((size, size), Image.Resampling.LANCZOS)


def paste_back(
    photo: Image.Image, aligned: Image.Image, quad: Points, feather: float = 0.1, mask: Image.Image | None = None
) -> Image.Image:
    """``photo`` with the image ``aligned`` inserted at ``quad`` [4 2].

    ``mask``, gray and of any size, says how much of each part is inserted; by default all. It is also blended at the
    edges of the quad over ``feather`` times its side. Where nothing is inserted, pixels are those of ``photo``.
    """
    photo = _rgb(photo)
    quad = np.asarray(quad, dtype=np.float64)
    across, down = quad[3] - quad[0], quad[1] - quad[0]
    side = float(np.hypot(*across))
    low = np.maximum(np.floor(quad.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(quad.max(axis=0)).astype(int) + 1, photo.size)
    if side < 1.0 or (high <= low).any():
        return photo.copy()

    # Reduced first, because a transform samples single pixels and would alias.
    length = min(aligned.width, max(1, round(side)))
    patch = _rgb(aligned).resize((length, length), Image.Resampling.LANCZOS)
    depth = np.minimum(np.arange(length) + 0.5, length - 0.5 - np.arange(length)) / length
    depth = np.minimum(depth[None, :], depth[:, None]) / max(feather, 0.5 / length)
    share = depth.clip(0.0, 1.0)
    if mask is not None:
        share *= np.asarray(mask.convert("L").resize((length, length), Image.Resampling.BILINEAR)) / 255.0
    opacity = Image.fromarray((share * 255.0).round().astype(np.uint8))

    # A point p of the photograph has the coordinates ((p - corner) . across, (p - corner) . down) / side^2 in the quad.
    # Pillow passes pixel centres, which are half a pixel to the right of and below the landmarks' coordinates.
    rows = np.stack([across, down]) * length / side**2
    offset = rows @ (low - quad[0] - 0.5)
    matrix = (*rows[0].tolist(), float(offset[0]), *rows[1].tolist(), float(offset[1]))
    extent = (int(high[0] - low[0]), int(high[1] - low[1]))
    placed = patch.transform(extent, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    opacity = opacity.transform(extent, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    result = photo.copy()
    result.paste(placed, (int(low[0]), int(low[1])), opacity)
    return result


def _rgb(image: Image.Image) -> Image.Image:
    """The image as RGB, without a copy where it is RGB already."""
    return image if image.mode == "RGB" else image.convert("RGB")


def _crop_around(image: Image.Image, quad: Points, side: float) -> tuple[Image.Image, Points]:
    """The part of the photograph around the quad, and the quad in its coordinates."""
    border = max(round(side * BORDER), 3)
    low = np.maximum(np.floor(quad.min(axis=0)).astype(int) - border, 0)
    high = np.minimum(np.ceil(quad.max(axis=0)).astype(int) + border, image.size)
    low = np.minimum(low, np.array(image.size) - 1)
    high = np.maximum(high, low + 1)
    return image.crop((int(low[0]), int(low[1]), int(high[0]), int(high[1]))), quad - low


def _pad(image: Image.Image, quad: Points, side: float) -> tuple[Image.Image, Points]:
    """Pad the photograph where the quad needs more than a few pixels outside of it; the quad in the new coordinates."""
    border = max(round(side * BORDER), 3)
    before = np.maximum(border - np.floor(quad.min(axis=0)).astype(int), 0)
    after = np.maximum(np.ceil(quad.max(axis=0)).astype(int) + border - np.array(image.size), 0)
    if max(before.max(), after.max()) <= max(border - 4, 0):
        return image, quad
    minimum = round(side * EDGE)
    before, after = np.maximum(before, minimum), np.maximum(after, minimum)

    pixels = np.pad(np.asarray(image), ((before[1], after[1]), (before[0], after[0]), (0, 0)), mode="reflect")
    height, width = pixels.shape[:2]
    # Depth in the padding: below 0 in the photograph, 1 at the outer edge.
    x = np.arange(width)
    y = np.arange(height)
    depth_x = 1.0 - np.minimum(x / before[0], (width - 1 - x) / after[0])
    depth_y = 1.0 - np.minimum(y / before[1], (height - 1 - y) / after[1])
    depth = np.maximum(depth_x[None, :], depth_y[:, None]).astype(np.float32)[:, :, None]

    mirrored = Image.fromarray(pixels)
    blurred = np.asarray(mirrored.filter(ImageFilter.GaussianBlur(side * BLUR)), dtype=np.float32)
    padded = pixels.astype(np.float32)
    padded += (blurred - padded) * np.clip(depth * 3.0 + 1.0, 0.0, 1.0)
    padded += (np.median(pixels, axis=(0, 1)).astype(np.float32) - padded) * np.clip(depth, 0.0, 1.0)
    return Image.fromarray(padded.round().clip(0, 255).astype(np.uint8)), quad + before
