"""The only door between files and tensors: pictures come in upright, opaque RGB, and leave whole or not at all.

Files are written by strangers, so a picture's size is checked before a pixel is decoded, only common formats are tried,
and whatever is wrong with one becomes an ImageError of one sentence. This module does not know what a picture shows.

A tensor is RGB, [3 h w] or [b 3 h w], in [-1, 1]: -1 is black, 1 is white.
"""

import os
import secrets
import warnings
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from .errors import ImageError, OutputError

MAX_PIXELS = 64_000_000
"""The largest picture that is decoded: 192 MB as RGB, and more than any telephone takes."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")
"""What is read, by Pillow's names; AVIF only where Pillow has it. Of an animation, the first picture."""
SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""What is written, by suffix."""
QUALITY = {
    "JPEG": {"quality": 95},
    "WEBP": {"quality": 95},
    "PNG": {"compress_level": 4, "compress_type": zlib.Z_RLE},
}
"""How well. In photographs little but runs repeats: PNGs that seek no more are as small and take half as long."""

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
_LYING = {_UPRIGHT[number] for number in (5, 6, 7, 8)}
_END = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 4096

Found = TypeVar("Found")


def load(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in a file, upright as its EXIF data says, RGB, transparent parts white.

    Raises ImageError for a file that is missing, empty, broken, not a picture, or of more than ``max_pixels``.
    """
    return _read(path, max_pixels, _opaque_and_upright)


def load_raw(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in a file as it is stored: palette indices stay indices, transparency stays. Upright.

    For what is no photograph: label maps, and pictures whose alpha channel means something. Raises what ``load`` does.
    """
    return _read(path, max_pixels, _raw_and_upright)


def size(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height of the picture in a file, upright, without decoding it.

    A file that has no end is decoded all the same, and refused if it is torn. Raises what ``load`` does.
    """
    return _read(path, max_pixels, _measured)


def from_bytes(data: bytes, name: str = "the picture", max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture that ``data`` holds, as ``load`` gives it; ``name`` is what an ImageError calls it."""
    if not data:
        raise ImageError(f"{name} is empty: send it again")
    return _decode(BytesIO(data), name, max_pixels, _opaque_and_upright)


def to_tensor(image: Image.Image) -> Tensor:
    """A picture as [3 h w] in [-1, 1]."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    return pixels.contiguous().float().div_(127.5).sub_(1.0)


def to_picture(tensor: Tensor) -> Image.Image:
    """[3 h w] or gray [1 h w] as a picture: rounded, and clipped to [-1, 1]."""
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
        raise ValueError(f"a picture is [3 h w] or [1 h w], got {list(tensor.shape)}")
    levels = tensor.detach().float().add(1.0).mul_(127.5).round_().clamp_(0.0, 255.0)
    pixels = levels.to("cpu", torch.uint8).expand(3, -1, -1)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def save(image: Image.Image | Tensor, path: str | Path) -> None:
    """Write a picture or a tensor [3 h w], in the format of the suffix, folders included; whole or not at all.

    Raises OutputError when it cannot be written there.
    """
    path = Path(path)
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise OutputError(f"{path} has no suffix of a picture: end it with one of {', '.join(SUFFIXES)}")
    picture = to_picture(image) if isinstance(image, Tensor) else image
    quality = QUALITY.get(kind, {})
    if kind in ("JPEG", "BMP") and picture.mode not in ("RGB", "L"):
        picture = picture.convert("RGB")
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("xb") as file:
                picture.save(file, kind, **quality)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({_reason(error)}): choose another place") from error


def resize(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """[b c h w] -> [b c size size], bilinear; a reduction averages everything it covers, so nothing aliases."""
    target = (size, size) if isinstance(size, int) else size
    if tuple(images.shape[-2:]) == target:
        return images
    # in float32, since CPUs have no kernel for less
    resized = F.interpolate(images.float(), target, mode="bilinear", antialias=True, align_corners=False)
    return resized.to(images.dtype)


def grid(images: Tensor | Sequence[Tensor] | Sequence[Image.Image], columns: int) -> Image.Image:
    """Pictures of one size, tensors [3 h w] or not, in rows of ``columns``; the rest of the last row stays white."""
    tiles = [image if isinstance(image, Image.Image) else to_picture(image) for image in images]
    if not tiles or columns < 1:
        raise ValueError(f"a grid needs a picture and a column, got {len(tiles)} and {columns}")
    width, height = tiles[0].size
    columns = min(columns, len(tiles))
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % columns * width, index // columns * height))
    return sheet


def _read(path: str | Path, max_pixels: int, finish: Callable[[Image.Image], Found]) -> Found:
    path = Path(path)
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder: name a picture in it")
        if not path.exists():
            raise ImageError(f"{path} does not exist: check the name")
        if not path.is_file():
            raise ImageError(f"{path} is not an ordinary file: name a picture")
        if path.stat().st_size == 0:
            raise ImageError(f"{path} is empty: copy or download it again")
        with path.open("rb") as file:
            return _decode(file, str(path), max_pixels, finish)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise ImageError(f"{path} cannot be read ({_reason(error)}): check the name and its permissions") from error


def _decode(file: IO[bytes], name: str, max_pixels: int, finish: Callable[[Image.Image], Found]) -> Found:
    known = Image.registered_extensions().values()
    # Pillow warns about large pictures and odd metadata; here the limit is ours, and a picture is fine or refused.
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
        except Image.DecompressionBombError as error:
            raise ImageError(
                f"{name} has far more than {max_pixels / 1e6:g} million pixels: make it smaller"
            ) from error
        except UnidentifiedImageError as error:
            raise ImageError(f"{name} is not a picture that can be read: convert it to PNG or JPEG") from error
        except MemoryError as error:
            raise ImageError(f"{name} needs more memory than there is: make it smaller") from error
        except Exception as error:  # Pillow's readers raise nearly anything on a broken file
            raise ImageError(f"{name} is broken ({_reason(error)}): copy or export it again") from error


def _opaque_and_upright(image: Image.Image) -> Image.Image:
    image.load()
    return _opaque(_upright(image))


def _raw_and_upright(image: Image.Image) -> Image.Image:
    image.load()
    turned = _upright(image)
    return turned.copy() if turned is image else turned  # a copy outlives its file


def _measured(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    if not _ends(image):
        image.load()
    return (height, width) if width != height and _turn(image) in _LYING else (width, height)


def _ends(image: Image.Image) -> bool:
    """Whether a file ends as a whole one of its format does; False where that cannot be told without decoding."""
    mark = _END.get(image.format or "")
    file = getattr(image, "fp", None)
    if mark is None or file is None:
        return False
    place = file.tell()
    file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
    found = mark in file.read()
    file.seek(place)
    return found


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 (broken metadata, raised as nearly anything, does not spoil the picture)
        return None


def _upright(image: Image.Image) -> Image.Image:
    turn = _turn(image)
    return image.transpose(turn) if turn is not None else image


def _opaque(image: Image.Image) -> Image.Image:
    """RGB in 8 bits, on white."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _eight_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Gray of 16 or 32 bits, or floating point: scaled from the range its values say it has, never clipped."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32))
    top = float(values.max(initial=0.0))
    if image.mode == "F":
        white = next((limit for limit in (1.0, 255.0, 65535.0) if top <= limit), top)
    else:
        white = 65535.0 if top <= 65535.0 else 2.0**31 - 1
    return Image.fromarray((values / white * 255.0).round().clip(0, 255).astype(np.uint8)).convert("RGB")


def _reason(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")
