import io
import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixel2style import images
from pixel2style.errors import ImageError, OutputError
from tests.support.paths import ROOT


def scene(width: int = 48, height: int = 32) -> Image.Image:
    """A picture without symmetry: red to the right, green downwards, a white spot near the top left."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None, :]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    pixels[2:8, 2:8] = 255
    return Image.fromarray(pixels)


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference in levels of 255; the sizes must agree."""
    assert one.size == other.size
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean())


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("suffix", "tolerance"),
    [("png", 0), ("bmp", 0), ("tiff", 0), ("ppm", 0), ("jpg", 4), ("webp", 4), ("gif", 40)],
)
def test_common_formats_come_in_as_they_were(tmp_path, suffix, tolerance):
    file = tmp_path / f"picture.{suffix}"
    scene().save(file)
    loaded = images.load(file)
    assert loaded.mode == "RGB"
    assert difference(loaded, scene()) <= tolerance


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_comes_in_upright(tmp_path, orientation, suffix):
    # How a camera would have stored the scene, by EXIF's own table: where its row 0 and its column 0 lie.
    stored = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],
        8: lambda p: np.rot90(p, -1),
    }[orientation](np.asarray(scene()))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"turned.{suffix}"
    lossless = {"quality": 95} if suffix in ("jpg", "webp") else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(file, exif=exif, **lossless)
    assert difference(images.load(file), scene()) < 4
    assert difference(images.load_raw(file), scene()) < 4
    assert images.size(file) == (48, 32)


def test_a_photograph_with_damaged_exif_is_read(tmp_path):
    file = tmp_path / "photo.jpg"
    scene().save(file, exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xffjunk")
    assert images.load(file).size == (48, 32)


def test_transparent_parts_become_white_in_every_mode(tmp_path):
    alpha = Image.new("L", (48, 32), 255)
    alpha.paste(0, (0, 0, 24, 32))
    rgba = scene()
    rgba.putalpha(alpha)
    gray = scene().convert("L")
    gray.putalpha(alpha)
    palette = scene().quantize(16)
    pixels = np.array(palette)
    pixels[:, :24] = 16
    see_through = Image.fromarray(pixels)
    see_through.putpalette(palette.getpalette()[:48] + [10, 20, 30])
    rgba.save(tmp_path / "rgba.png")
    rgba.save(tmp_path / "rgba.webp", lossless=True)
    gray.save(tmp_path / "la.png")
    see_through.save(tmp_path / "p.png", transparency=16)
    see_through.save(tmp_path / "bytes.png", transparency=bytes([255] * 16 + [0]))
    see_through.save(tmp_path / "p.gif", transparency=16)
    scene().save(tmp_path / "key.png", transparency=(255, 255, 255))
    for name in ("rgba.png", "rgba.webp", "la.png", "p.png", "bytes.png", "p.gif"):
        loaded = np.asarray(images.load(tmp_path / name))
        assert (loaded[:, :23] == 255).all(), name
        assert loaded[:, 25:].mean() < 200, name
    assert difference(images.load(tmp_path / "key.png"), scene()) == 0


def test_half_transparent_black_is_gray(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(tmp_path / "half.png")
    assert np.asarray(images.load(tmp_path / "half.png"))[0, 0].tolist() == [127, 127, 127]


def test_gray_has_three_equal_channels(tmp_path):
    scene().convert("L").save(tmp_path / "gray.jpg", quality=100)
    scene().convert("1").save(tmp_path / "ink.png")
    gray, ink = (np.asarray(images.load(tmp_path / name)) for name in ("gray.jpg", "ink.png"))
    assert np.abs(gray[..., 0].astype(float) - np.asarray(scene().convert("L"))).max() < 4
    assert (gray == gray[..., :1]).all() and (ink == ink[..., :1]).all()
    assert set(np.unique(ink)) == {0, 255}


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix):
    ramp = np.linspace(0, 65535, 64 * 4).reshape(4, 64).astype(np.uint16)
    file = tmp_path / f"deep.{suffix}"
    Image.fromarray(ramp).save(file)
    loaded = np.asarray(images.load(file))[..., 0].astype(float)
    assert np.abs(loaded - ramp / 257.0).max() <= 0.51


def test_a_dark_picture_of_sixteen_bits_stays_dark(tmp_path):
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(tmp_path / "dark.png")
    assert np.asarray(images.load(tmp_path / "dark.png")).max() == 4


def deep(path: Path, values: np.ndarray, dtype: type = np.float32) -> Path:
    """A gray TIFF with 64 numbers of 32 bits."""
    Image.fromarray(values.reshape(8, 8).astype(dtype)).save(path)
    return path


@pytest.mark.parametrize(("white", "most"), [(1.0, 1.0), (1.0, 0.01), (255.0, 200.0), (65535.0, 60000.0)])
def test_floating_point_gray_is_read_by_its_range(white: float, most: float, tmp_path: Path) -> None:
    values = np.linspace(0, most, 64)
    levels = np.asarray(images.load(deep(tmp_path / "deep.tiff", values)))[..., 0].reshape(-1)
    assert np.abs(levels - values / white * 255).max() <= 0.51


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_what_resampling_adds_beyond_white_and_black_is_clipped(white: float, tmp_path: Path) -> None:
    levels = np.asarray(images.load(deep(tmp_path / "deep.tiff", np.linspace(-0.1, 1.1, 64) * white)))[..., 0]
    assert levels.min() == 0 and levels.max() == 255 and 120 < levels.mean() < 135


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.linspace(0, 255_000, 64), np.float32),
        (np.linspace(0, 255_000, 64), np.int32),
        (np.linspace(-1, 1, 64), np.float32),
        (np.linspace(0, 3, 64), np.float32),
        (np.linspace(0, 1023, 64), np.float32),
        (np.linspace(-5, 255, 64), np.int32),
        (np.where(np.arange(64) == 5, np.nan, 0.5), np.float32),
        (np.where(np.arange(64) == 5, np.inf, 0.5), np.float32),
    ],
)
def test_deep_gray_whose_white_is_not_clear_is_refused(values: np.ndarray, dtype: type, tmp_path: Path) -> None:
    file = deep(tmp_path / "deep.tiff", values, dtype)
    with pytest.raises(ImageError, match="numbers") as caught:
        images.load(file)
    assert str(file) in str(caught.value)
    with Image.open(file) as picture, pytest.raises(ImageError, match="numbers"):
        images.to_rgb(picture)


@pytest.mark.parametrize("most", [255, 65535, 2**31 - 1])
def test_whole_numbers_of_32_bits_are_read_by_their_range(most: int, tmp_path: Path) -> None:
    loaded = np.asarray(images.load(deep(tmp_path / "deep.tiff", np.linspace(0, most, 64), np.int32)))
    assert loaded[0, 0].tolist() == [0] * 3 and loaded[-1, -1].tolist() == [255] * 3


def test_what_a_program_has_in_memory_is_opened_as_its_file_would_be(tmp_path: Path) -> None:
    pixels = np.asarray(scene())
    scene().save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    read_to_its_end = io.BytesIO(content)
    read_to_its_end.read()
    for given in (scene(), pixels, pixels[:, ::-1][:, ::-1], content, bytearray(content), read_to_its_end):
        found = images.opened(given)
        assert isinstance(found, Image.Image)
        assert difference(images.to_rgb(found), scene()) == 0
    assert images.opened(str(tmp_path / "a.png")) == images.opened(tmp_path / "a.png") == tmp_path / "a.png"
    gray = images.opened(pixels[..., 0])
    assert isinstance(gray, Image.Image) and gray.mode == "L"
    clear = images.opened(np.zeros((4, 4, 4), np.uint8))
    assert isinstance(clear, Image.Image)
    assert images.to_rgb(clear).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "given",
    [
        None,
        3,
        torch.zeros(3, 8, 8),
        b"",
        b"no picture",
        io.BytesIO(),
        Image.new("RGB", (0, 0)),
        np.zeros((8, 8, 3)),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((0, 0, 3), np.uint8),
        [scene()],
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_is_no_picture_in_memory_is_refused_in_a_sentence(given: object) -> None:
    with pytest.raises(ImageError) as caught:
        images.opened(given)
    assert ": " in str(caught.value) and "\n" not in str(caught.value)


def test_cmyk_keeps_its_colours(tmp_path):
    scene().convert("CMYK").save(tmp_path / "print.jpg", quality=98)
    assert difference(images.load(tmp_path / "print.jpg"), scene()) < 4


def test_a_single_pixel_is_a_picture(tmp_path):
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "dot.png")
    assert images.load(tmp_path / "dot.png").getpixel((0, 0)) == (10, 20, 30)


def test_of_an_animation_the_first_picture_counts(tmp_path):
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    for name in ("moving.gif", "moving.webp", "moving.png"):
        red.save(tmp_path / name, save_all=True, append_images=[blue], duration=100)
        r, _, b = images.load(tmp_path / name).getpixel((4, 4))
        assert r > 240 and b < 15, name


def test_what_a_file_holds_counts_not_its_suffix(tmp_path):
    scene().save(tmp_path / "really.png")
    (tmp_path / "really.png").rename(tmp_path / "claims.jpg")
    assert difference(images.load(tmp_path / "claims.jpg"), scene()) == 0


def whole(suffix: str) -> bytes:
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(data, suffix)
    return data.getvalue()


BAD_FILES = {
    "empty.png": (b"", "is empty"),
    "text.png": (b"this is no picture at all\n" * 20, "is not a picture"),
    "random.jpg": (np.random.default_rng(1).bytes(5000), "is not a picture"),
    "postscript.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "is not a picture"),
    "cut.png": (whole("png")[:4000], "is broken"),
    "cut.jpg": (whole("jpeg")[:2000], "is broken"),
    "cut.webp": (whole("webp")[:2000], "is (broken|not a picture)"),
    "cut.bmp": (whole("bmp")[:2000], "is broken"),
    "cut.tiff": (whole("tiff")[:2000], "is (broken|not a picture)"),
    "header.png": (whole("png")[:20], "is (broken|not a picture)"),
    "bomb.png": (png_header(30_000, 30_000), "far more than 64 million pixels"),
    "larger.png": (png_header(8_001, 8_001), "8001 x 8001 pixels"),
    "hollow.png": (png_header(500, 500), "is broken"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_in_one_sentence_that_names_it(tmp_path, name):
    content, complaint = BAD_FILES[name]
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ImageError, match=complaint) as caught:
        images.load(file)
    sentence = str(caught.value)
    assert str(file) in sentence and "\n" not in sentence
    assert ": " in sentence, "it must also say what to do"


@pytest.mark.parametrize("door", [images.load_raw, images.size])
@pytest.mark.parametrize("name", sorted(BAD_FILES.keys() - {"hollow.png"}))
def test_the_other_doors_refuse_the_same_files(tmp_path, door, name):
    """Of the hollow one ``size`` sees a header and an end, which is all it looks at."""
    content, complaint = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=complaint):
        door(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_whole_picture_is_measured_without_decoding_it(tmp_path, monkeypatch, suffix):
    from PIL import ImageFile

    scene(40, 40).save(tmp_path / f"a.{suffix}")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it was decoded"))
    assert images.size(tmp_path / f"a.{suffix}") == (40, 40)


def test_what_is_behind_the_end_of_a_picture_does_no_harm(tmp_path):
    scene().save(tmp_path / "a.jpg")
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(bytes(10_000))  # as some telephones do
    assert images.size(tmp_path / "a.jpg") == (48, 32)


def test_raw_pictures_keep_indices_and_transparency(tmp_path):
    indices = Image.frombytes("P", (2, 2), bytes([0, 3, 1, 2]))
    indices.putpalette([9] * 12)  # all of one colour
    indices.save(tmp_path / "a.png")
    assert np.asarray(images.load_raw(tmp_path / "a.png")).tolist() == [[0, 3], [1, 2]]
    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "b.png")
    assert images.load_raw(tmp_path / "b.png").getpixel((0, 0)) == (10, 20, 30, 0)


def test_the_same_bytes_are_refused_without_a_file():
    for content, complaint in BAD_FILES.values():
        with pytest.raises(ImageError, match=complaint):
            images.from_bytes(content, "the upload")
    assert images.from_bytes(whole("png")).size == (64, 64)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        images.load(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="is a folder"):
        images.load(tmp_path)
    with pytest.raises(ImageError, match="not a regular file"):
        images.load("/dev/null")
    with pytest.raises(ImageError):
        images.load("null\0byte.png")


def test_no_pixel_of_a_picture_that_is_too_large_is_decoded(tmp_path, monkeypatch):
    from PIL import ImageFile

    scene().save(tmp_path / "large.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match="make it smaller"):
        images.load(tmp_path / "large.png", max_pixels=48 * 32 - 1)


def test_pillows_warnings_stay_inside(tmp_path, monkeypatch):
    scene().save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert images.load(tmp_path / "large.png").size == (48, 32)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(ImageError, match="make it smaller"):
        images.load(tmp_path / "large.png")


def test_any_damage_is_an_image_error_or_a_picture():
    """Flip bytes of real files at random: nothing but ImageError may come out, whatever Pillow raises inside."""
    random = np.random.default_rng(5)
    refused = 0
    for kind in ("png", "jpeg", "webp", "bmp", "tiff", "gif", "ppm"):
        data = np.frombuffer(whole(kind), np.uint8)
        for _ in range(40):
            damaged = data.copy()
            damaged[random.integers(0, min(400, len(data)), 4)] = random.integers(0, 256, 4)
            try:
                assert images.from_bytes(damaged.tobytes()).mode == "RGB"
            except ImageError:
                refused += 1
    assert refused > 20


def test_black_is_minus_one_and_white_is_one():
    picture = Image.fromarray(np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0]]], np.uint8))
    tensor = images.to_tensor(picture)
    assert tensor.shape == (3, 1, 3) and tensor.dtype == torch.float32
    assert tensor[:, 0].T.tolist() == [[-1, -1, -1], [1, 1, 1], [1, -1, -1]]


def test_every_level_survives_a_round_trip():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    picture = Image.fromarray(levels)
    assert difference(images.to_picture(images.to_tensor(picture)), picture) == 0


def test_values_outside_the_range_are_clipped_and_gray_is_spread():
    out = np.asarray(images.to_picture(torch.tensor([[[-3.0, 0.0, 3.0]]])))
    assert out[0].tolist() == [[0] * 3, [128] * 3, [255] * 3]
    with pytest.raises(ValueError, match=re.escape("[2, 4, 4]")):
        images.to_picture(torch.zeros(2, 4, 4))


def test_a_tensor_with_gradients_in_half_precision_can_be_saved(tmp_path):
    images.save(torch.zeros(3, 4, 4, dtype=torch.bfloat16, requires_grad=True), tmp_path / "gray.png")
    assert images.load(tmp_path / "gray.png").getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize("name", ["a.png", "deep/er/b.PNG", "c.jpg", "d.jpeg", "e.webp", "f.bmp", "g.tiff"])
def test_what_is_saved_loads_again(tmp_path, name):
    images.save(scene(), tmp_path / name)
    assert difference(images.load(tmp_path / name), scene()) < 4
    assert [file.name for file in (tmp_path / name).parent.iterdir()] == [Path(name).name]


def test_a_png_keeps_every_pixel_and_is_as_small_as_pillows_own(tmp_path):
    photo = images.load(ROOT / "examples" / "astronaut.png")
    images.save(photo, tmp_path / "ours.png")
    photo.save(tmp_path / "pillow.png")
    with Image.open(tmp_path / "ours.png") as found:
        assert np.array_equal(np.asarray(found), np.asarray(photo))
    assert (tmp_path / "ours.png").stat().st_size < 1.05 * (tmp_path / "pillow.png").stat().st_size


def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "kept.png"
    images.save(scene(), file)

    def fail(self, handle, *args, **kwargs):
        handle.write(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OutputError, match=r"(?i)no space left"):
        images.save(Image.new("RGB", (4, 4)), file)
    monkeypatch.undo()
    assert difference(images.load(file), scene()) == 0
    assert list(tmp_path.iterdir()) == [file]


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        images.save(scene(), tmp_path / "file" / "picture.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        images.save(scene(), tmp_path / "folder.png")
    with pytest.raises(OutputError, match="suffix"):
        images.save(scene(), tmp_path / "picture.doc")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_resizing_keeps_the_mean_and_does_not_alias():
    stripes = torch.ones(1, 3, 64, 64)
    stripes[..., ::2] = -1.0
    assert images.resize(stripes, 16).abs().max() < 0.1
    random = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(images.resize(random, 32).mean((2, 3)), random.mean((2, 3)), atol=0.01)
    assert images.resize(random, (8, 24)).shape == (2, 3, 8, 24)
    assert images.resize(random, 96) is random


def test_a_grid_reads_in_rows():
    tiles = [torch.full((3, 2, 2), level) for level in (-1.0, 0.0, 1.0, -1.0)]
    sheet = np.asarray(images.grid(tiles, 3))
    assert sheet.shape == (4, 6, 3)
    assert sheet[0, ::2, 0].tolist() == [0, 128, 255]
    assert sheet[2, ::2, 0].tolist() == [0, 255, 255], "what is left of the last row is white"
    assert images.grid(torch.zeros(2, 3, 4, 4), 5).size == (8, 4)


def test_heic_is_read_upright(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    gradient = np.linspace(0, 255, 48, dtype=np.uint8)
    picture = Image.fromarray(np.stack([np.tile(gradient, (32, 1))] * 3, 2))
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned clockwise by a quarter
    pillow_heif.from_pillow(picture).save(tmp_path / "phone.heic", quality=95, exif=turned.tobytes())
    upright = np.asarray(images.load(tmp_path / "phone.heic").convert("L")).astype(int)
    wanted = np.asarray(picture.transpose(Image.Transpose.ROTATE_270).convert("L")).astype(int)
    assert upright.shape == wanted.shape
    assert np.abs(upright - wanted).mean() < 6
    (tmp_path / "broken.heic").write_bytes((tmp_path / "phone.heic").read_bytes()[:200])
    with pytest.raises(ImageError):
        images.load(tmp_path / "broken.heic")
