"""Image files to tensors and back. Nothing else in the package decodes or encodes image files.

Images are read as upright, opaque RGB. Files are not trusted: the size is checked before pixels are decoded, only
common formats are tried, and everything that is wrong with a file is an ImageError of one sentence.

A tensor is RGB, [3 h w] or [b 3 h w], in [-1, 1]: -1 is black, 1 is white.
"""

import contextlib
import ctypes
import ctypes.util
import functools
import os
import warnings
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from . import files
from .errors import ImageError, OutputError
from .photos import FORMATS

MAX_PIXELS = 64_000_000
"""Larger images are not decoded. This is 192 MB as RGB, and more than phones take."""
SUFFIXES = {suffix: kind for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF") for suffix in FORMATS[kind]}
"""Formats that are written, by suffix. All of ``FORMATS`` are read, AVIF only where Pillow has it, HEIF by pillow-heif;
of an animation, the first frame."""
QUALITY = {
    "JPEG": {"quality": 95},
    "WEBP": {"quality": 95},
    "PNG": {"compress_level": 4, "compress_type": zlib.Z_RLE},
}
"""Options of the encoders. For photographs, run-length compressed PNGs are as small and take half the time."""

WHITES = {
    "F": ((1.0, 0.0), (255.0, 16.0), (65535.0, 4096.0)),
    "I": ((255.0, 0.0), (65535.0, 256.0), (2.0**31, 2.0**27)),
    "I;16": ((65535.0, 0.0),),
}
"""Of deep gray, by Pillow's mode: what white may be, and how bright the brightest pixel then is at least."""
OVERSHOOT = 0.25
"""How far resampling of floating-point numbers leads beyond white and black, as a share of white."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TRANSPOSED = {_UPRIGHT[number] for number in (5, 6, 7, 8)}
_END = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 4096

Given = str | os.PathLike[str] | Image.Image | bytes | BytesIO | np.ndarray[Any, Any]
"""What stands for a picture: see ``opened``."""
Result = TypeVar("Result")


class _UnclearError(Exception):
    """An image that can be decoded but not shown; why, after its name."""


def load(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image in a file: RGB, turned upright by its EXIF data, transparent parts white.

    Raises ImageError for a file that is missing, empty, damaged, not an image, or larger than ``max_pixels``.
    """
    return _read(path, max_pixels, _upright_rgb)


def load_raw(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image in a file, upright, in its own mode: palette indices stay indices, transparency stays.

    For label maps, and for images whose alpha channel is data. Raises as ``load``.
    """
    return _read(path, max_pixels, _upright_raw)


def size(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height of the upright image in a file, without decoding it.

    A file that seems truncated is decoded, and refused if it is. Raises as ``load``.
    """
    return _read(path, max_pixels, _upright_size)


def is_deep(path: str | Path) -> bool:
    """Whether the image in a file has more than 8 bits for each colour. Raises as ``load``."""
    return _read(path, MAX_PIXELS, _has_deep_colours)


def from_bytes(data: bytes, name: str = "the picture", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image in ``data`` as ``load`` gives it; ``name`` stands for it in an ImageError."""
    return _of_bytes(data, name, max_pixels, _upright_rgb)


def opened(given: Given) -> Image.Image | Path:
    """What a user of the library gives for a picture: its path, or the picture in its own mode.

    A PIL image stays as it is. A file in memory (bytes, BytesIO) is turned upright by its EXIF data. An array is
    ``[h w]`` (gray), ``[h w 3]`` (RGB) or ``[h w 4]`` (RGBA), uint8. Raises ImageError for anything else.
    """
    if isinstance(given, str | os.PathLike):
        return Path(given)
    if isinstance(given, BytesIO):
        given = given.getvalue()  # wherever it is read to
    if isinstance(given, bytes | bytearray | memoryview):
        return _of_bytes(bytes(given), "the picture", MAX_PIXELS, _upright_raw)
    picture = _of_array(given) if isinstance(given, np.ndarray) else given
    if not isinstance(picture, Image.Image):
        raise ImageError(
            f"{type(given).__name__} is no picture: give a path, a PIL image, the bytes of a file, or a NumPy array "
            "[h w 3] of uint8 (of a tensor in [-1, 1]: images.to_picture)"
        )
    if not all(picture.size):
        raise ImageError(f"the picture has {picture.width} x {picture.height} pixels: give one that has some")
    return picture


def to_rgb(image: Image.Image) -> Image.Image:
    """A PIL image as RGB of 8 bits, as ``load`` makes it: transparent parts white, deeper gray scaled.

    Raises ImageError for numbers that have no clear range.
    """
    try:
        return _opaque(image)
    except _UnclearError as error:
        raise ImageError(f"the picture {error}") from None


def to_tensor(image: Image.Image) -> Tensor:
    """An image as [3 h w] in [-1, 1]."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    return pixels.contiguous().float().div_(127.5).sub_(1.0)


def to_mask(image: Image.Image) -> Tensor:
    """A gray image as [1 h w] in [0, 1]: 1 where it is white."""
    return to_tensor(image)[:1].add_(1.0).div_(2.0)


def to_picture(tensor: Tensor) -> Image.Image:
    """[3 h w] or gray [1 h w] as an image of 8 bits: clipped to [-1, 1] and rounded."""
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
        raise ValueError(f"a picture is [3 h w] or [1 h w], got {list(tensor.shape)}")
    levels = tensor.detach().float().add(1.0).mul_(127.5).round_().clamp_(0.0, 255.0)
    pixels = levels.to("cpu", torch.uint8).expand(3, -1, -1)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def save(image: Image.Image | Tensor, path: str | Path) -> None:
    """Write an image or a tensor [3 h w] in the format of the suffix, completely or not at all. Makes the folders.

    Raises OutputError when it cannot be written.
    """
    path = Path(path)
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise OutputError(f"{path} has no suffix of a picture: end it with one of {', '.join(SUFFIXES)}")
    picture = to_picture(image) if isinstance(image, Tensor) else image
    quality = QUALITY.get(kind, {})
    if kind in ("JPEG", "BMP") and picture.mode not in ("RGB", "L"):
        picture = to_rgb(picture)
    with files.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as part, part.open("wb") as file:
        picture.save(file, kind, **quality)


def save_animation(frames: Sequence[Image.Image], path: str | Path, seconds: float = 2.0) -> None:
    """Write frames as a GIF that goes forth and back in ``seconds`` each, without end. Raises OutputError."""
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise OutputError(f"{path} is no name of an animation: end it with .gif")
    around = [*frames, *frames[-2:0:-1]]
    palettes = [frame.convert("RGB").quantize(256, dither=Image.Dither.FLOYDSTEINBERG) for frame in around]
    shown = max(20, round(seconds * 1000 / max(1, len(frames) - 1)))
    with files.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as part, part.open("wb") as file:
        first, *rest = palettes
        first.save(file, "GIF", save_all=True, append_images=rest, duration=shown, loop=0)


def resize(images: Tensor, size: int | tuple[int, int], mode: Literal["bilinear", "bicubic"] = "bilinear") -> Tensor:
    """[b c h w] -> [b c size size], or to (height, width): antialiased; bicubic is sharper, and overshoots at edges."""
    target = (size, size) if isinstance(size, int) else size
    if tuple(images.shape[-2:]) == target:
        return images
    # float32, since CPUs have no kernel for half precision
    resized = F.interpolate(images.float(), target, mode=mode, antialias=True, align_corners=False)
    return resized.to(images.dtype)


def grid(images: Tensor | Sequence[Tensor] | Sequence[Image.Image], columns: int) -> Image.Image:
    """One image of several of one size, ``columns`` side by side; the rest of the last row is white."""
    tiles = [image if isinstance(image, Image.Image) else to_picture(image) for image in images]
    if not tiles or columns < 1:
        raise ValueError(f"a grid needs at least one image and one column, got {len(tiles)} and {columns}")
    width, height = tiles[0].size
    columns = min(columns, len(tiles))
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % columns * width, index // columns * height))
    return sheet


def _of_bytes(data: bytes, name: str, max_pixels: int, finish: Callable[[Image.Image], Result]) -> Result:
    if not data:
        raise ImageError(f"{name} is empty: send it again")
    return _decode(BytesIO(data), name, max_pixels, finish)


def _of_array(pixels: np.ndarray[Any, Any]) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise ImageError(
            f"an array of a picture is [h w], [h w 3] or [h w 4], uint8, not {list(pixels.shape)} of {pixels.dtype}: "
            "convert it"
        )
    return Image.fromarray(np.ascontiguousarray(pixels)) if pixels.size else Image.new("RGB", pixels.shape[1::-1])


def _read(path: str | Path, max_pixels: int, finish: Callable[[Image.Image], Result]) -> Result:
    path = Path(path)
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder: name a picture in it")
        if not path.exists():
            raise ImageError(f"{path} does not exist: check the name")
        if not path.is_file():
            raise ImageError(f"{path} is not a regular file: name a picture")
        if path.stat().st_size == 0:
            raise ImageError(f"{path} is empty: copy or download it again")
        with path.open("rb") as file:
            return _decode(file, str(path), max_pixels, finish)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise ImageError(f"{path} cannot be read ({_reason(error)}): check the name and its permissions") from error


def _decode(file: IO[bytes], name: str, max_pixels: int, finish: Callable[[Image.Image], Result]) -> Result:
    _prepare_codec(file)
    known = Image.registered_extensions().values()
    # Pillow warns about large images and odd metadata; the limit is ours, and an image is either read or refused.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(file, formats=[kind for kind in FORMATS if kind in known]) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise ImageError(
                        f"{name} has {width} x {height} pixels, more than {max_pixels / 1e6:g} million: make it smaller"
                    )
                return finish(image)
        except ImageError:
            raise
        except _UnclearError as error:
            raise ImageError(f"{name} {error}") from None
        except Image.DecompressionBombError as error:
            raise ImageError(
                f"{name} has far more than {max_pixels / 1e6:g} million pixels: make it smaller"
            ) from error
        except UnidentifiedImageError as error:
            raise ImageError(f"{name} is not a picture that can be read: convert it to PNG or JPEG") from error
        except MemoryError as error:
            raise ImageError(f"{name} needs more memory than is free: make it smaller") from error
        except Exception as error:  # Pillow raises many kinds of errors for damaged files
            raise ImageError(f"{name} is broken ({_reason(error)}): copy or export it again") from error


def _prepare_codec(file: IO[bytes]) -> None:
    """Let Pillow open HEIF, and TIFF without messages on stderr, where a file begins as those do."""
    begin = file.read(12)
    file.seek(0)
    if begin[4:8] == b"ftyp" and "HEIF" not in Image.OPEN:
        import pillow_heif

        pillow_heif.register_heif_opener()
    if begin[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        _silence_libtiff()


@functools.cache
def _silence_libtiff() -> None:
    """Set libtiff's handlers of messages to none: what is wrong with a file is an ImageError."""
    import PIL._imaging

    place = Path(PIL._imaging.__file__).parent
    bundled = [*place.parent.glob("pillow.libs/libtiff*"), *place.glob(".dylibs/libtiff*")]
    name = str(bundled[0]) if bundled else ctypes.util.find_library("tiff")
    with contextlib.suppress(OSError, AttributeError):
        if name is not None:
            library = ctypes.CDLL(name)
            library.TIFFSetErrorHandler(None)
            library.TIFFSetWarningHandler(None)


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.load()
    return _opaque(_upright(image))


def _upright_raw(image: Image.Image) -> Image.Image:
    image.load()
    upright = _upright(image)
    return upright.copy() if upright is image else upright  # a copy stays valid when the file is closed


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    if not _is_complete(image):
        image.load()
    return (height, width) if width != height and _orientation(image) in _TRANSPOSED else (width, height)


def _has_deep_colours(image: Image.Image) -> bool:
    """By Pillow's mode, and by what it reads: RGB of 16 bits is reduced to 8."""
    tiles = getattr(image, "tile", ())
    return image.mode[0] in "IF" or ";16" in str(tiles) or image.info.get("bit_depth", 8) > 8


def _is_complete(image: Image.Image) -> bool:
    """Whether the file has its format's end marker; False where only decoding could show it."""
    marker = _END.get(image.format or "")
    file = getattr(image, "fp", None)
    if marker is None or file is None:
        return False
    position = file.tell()
    file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
    complete = marker in file.read()
    file.seek(position)
    return complete


def _orientation(image: Image.Image) -> Image.Transpose | None:
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 (an image with damaged metadata, for which Pillow raises anything, is still valid)
        return None


def _upright(image: Image.Image) -> Image.Image:
    transpose = _orientation(image)
    return image.transpose(transpose) if transpose is not None else image


def _opaque(image: Image.Image) -> Image.Image:
    """RGB of 8 bits, on white."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _eight_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Gray of 16 or 32 bits or floating point as RGB, scaled by the range that its numbers suggest.

    Raises _UnclearError where they suggest none, or one in which the picture would be nearly black.
    """
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise _UnclearError("has NaN or infinite numbers: replace them")
    least, most = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    kind = image.mode if image.mode in WHITES else "I;16"
    beyond = OVERSHOOT if kind == "F" else 0.0
    white = next((white for white, darkest in WHITES[kind] if darkest <= most <= white * (1 + beyond)), None)
    if white is None or least < -white * beyond:
        raise _UnclearError(
            f"has numbers from {least:g} to {most:g}, which is neither 0 to 1 nor 0 to 255 nor 0 to 65535: scale them"
        )
    return Image.fromarray((values / white * 255.0).round().clip(0, 255).astype(np.uint8)).convert("RGB")


def _reason(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")
