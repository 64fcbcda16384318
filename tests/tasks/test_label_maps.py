"""A label map's numbers are classes: they are never blended, never taken from colours by chance, never out of range."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixel2style.config import SourceConfig
from pixel2style.errors import ConfigError, ImageError
from pixel2style.tasks import label_maps

FOUR = SourceConfig(classes=4)
COLOURS = ("#000000", "#FF0000", "00ff00", "#0000ff")
DRAWN = SourceConfig(classes=4, colours=COLOURS)


def numbers(side: int = 12, classes: int = 4) -> np.ndarray:
    return np.random.Generator(np.random.Philox(3)).integers(0, classes, (side, side), np.uint8)


def palette(values: np.ndarray) -> Image.Image:
    """Indices whose colours say something else: class 1 is drawn as (3, 3, 3)."""
    picture = Image.fromarray(values, "L").convert("L")
    picture = Image.frombytes("P", picture.size, values.tobytes())
    picture.putpalette([level for index in range(8) for level in (3 * index,) * 3])
    return picture


def in_colours(values: np.ndarray) -> Image.Image:
    table = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    return Image.fromarray(table[values])


def saved(picture: Image.Image, path: Path, **how: object) -> Path:
    picture.save(path, **how)
    return path


@pytest.mark.parametrize("kind", ["palette", "bits", "gray", "deep", "gray in three channels", "colours", "opaque"])
def test_one_map_reads_the_same_however_it_is_stored(tmp_path, kind):
    values = numbers()
    picture, source = {
        "palette": (palette(values), FOUR),
        "bits": (palette(values), FOUR),
        "gray": (Image.fromarray(values), FOUR),
        "deep": (Image.fromarray(values.astype(np.uint16)), FOUR),
        "gray in three channels": (Image.fromarray(values).convert("RGB"), FOUR),
        "colours": (in_colours(values), DRAWN),
        "opaque": (in_colours(values).convert("RGBA"), DRAWN),
    }[kind]
    path = saved(picture, tmp_path / "map.png", **({"bits": 4} if kind == "bits" else {}))
    assert np.array_equal(label_maps.classes_in(path, source), values)


def test_a_palette_says_classes_by_index_even_where_a_table_of_colours_is_given(tmp_path):
    values = numbers()
    path = saved(palette(values), tmp_path / "map.png")
    assert np.array_equal(label_maps.classes_in(path, DRAWN), values)


@pytest.mark.parametrize("side", [5, 12, 31, 256])
def test_a_label_map_is_never_interpolated(tmp_path, side):
    """Between class 0 and class 3 a blend would find 1 and 2."""
    values = numbers(classes=2) * 3
    one_hot = label_maps.read(saved(palette(values), tmp_path / "map.png"), side, FOUR)
    assert one_hot.shape == (4, side, side)
    assert set(one_hot.unique().tolist()) == {0.0, 1.0}
    assert (one_hot.sum(0) == 1).all()
    assert one_hot[1:3].sum() == 0
    assert one_hot[0].sum() > 0 < one_hot[3].sum()


def test_at_its_own_side_a_map_stays_as_it_is_and_at_twice_it_every_pixel_is_four(tmp_path):
    values = numbers()
    path = saved(palette(values), tmp_path / "map.png")
    assert np.array_equal(label_maps.read(path, 12, FOUR).argmax(0), values)
    assert np.array_equal(label_maps.read(path, 24, FOUR).argmax(0), values.repeat(2, 0).repeat(2, 1))


def test_a_reduction_takes_pixels_from_the_middle_of_what_it_covers():
    places = np.arange(81).reshape(9, 9)
    assert label_maps.nearest(places, 3).tolist() == places[1::3, 1::3].tolist()


def test_there_may_be_more_classes_than_a_byte_counts(tmp_path):
    values = np.arange(400, dtype=np.uint16).reshape(20, 20)
    path = saved(Image.fromarray(values), tmp_path / "map.png")
    assert np.array_equal(label_maps.read(path, 20, SourceConfig(classes=400)).argmax(0), values)


def test_a_class_out_of_range_is_named_with_its_file_and_the_classes_there_are(tmp_path):
    values = numbers()
    values[3, 3], values[5, 5] = 4, 255
    path = saved(Image.fromarray(values), tmp_path / "map.png")
    with pytest.raises(ImageError, match=r"map\.png holds classes 4, 255, and classes go from 0 to 3"):
        label_maps.read(path, 12, FOUR)


def test_many_wrong_classes_are_counted(tmp_path):
    path = saved(Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10)), tmp_path / "map.png")
    with pytest.raises(ImageError, match="classes 4, 5, 6, 7, 8 and 91 more"):
        label_maps.read(path, 12, FOUR)


def test_an_unknown_colour_is_named_with_its_file(tmp_path):
    picture = in_colours(numbers())
    picture.putpixel((2, 2), (255, 128, 0))
    with pytest.raises(ImageError, match=r"map\.png holds colour #ff8000, of none of the 4 classes"):
        label_maps.read(saved(picture, tmp_path / "map.png"), 12, DRAWN)


def test_colours_without_a_table_are_no_numbers(tmp_path):
    with pytest.raises(ImageError, match=r"map\.png is drawn in colours.*--source\.colours"):
        label_maps.read(saved(in_colours(numbers()), tmp_path / "map.png"), 12, FOUR)


def test_a_jpeg_is_refused_since_its_numbers_are_not_exact(tmp_path):
    with pytest.raises(ImageError, match="PNG"):
        label_maps.read(saved(Image.fromarray(numbers()), tmp_path / "map.jpg"), 12, FOUR)


def test_fractions_are_no_classes(tmp_path):
    path = saved(Image.fromarray(np.full((4, 4), 0.5, np.float32)), tmp_path / "map.tif")
    with pytest.raises(ImageError, match=r"map\.tif holds fractions"):
        label_maps.read(path, 4, FOUR)


def test_a_broken_map_is_named(tmp_path):
    path = saved(palette(numbers(64)), tmp_path / "map.png")
    path.write_bytes(path.read_bytes()[:-80])
    with pytest.raises(ImageError, match=r"map\.png is broken"):
        label_maps.read(path, 12, FOUR)


@pytest.mark.parametrize("text", ["#000000\n#ff0000\n\n00FF00 hair\n#0000ff\tskin\n", "000000\nff0000\n00ff00\n0000ff"])
def test_a_file_may_list_the_colours_with_what_they_mean_behind_them(tmp_path, text):
    (tmp_path / "table.txt").write_text(text)
    table = label_maps.colour_table(SourceConfig(classes=4, colours=(str(tmp_path / "table.txt"),)))
    assert table == ("#000000", "#ff0000", "#00ff00", "#0000ff") == label_maps.colour_table(DRAWN)
    assert label_maps.colour_table(SourceConfig(classes=4, colours=table)) == table


def test_without_colours_there_is_no_table():
    assert label_maps.colour_table(FOUR) == ()


@pytest.mark.parametrize(
    ("colours", "said"),
    [
        (("#000000", "#ff0000"), "2 colours are listed for 4 classes"),
        (("#000000", "#ff0000", "#FF0000", "#0000ff"), "#ff0000 is listed for two classes"),
        (("#000000", "red", "#00ff00", "#0000ff"), "red"),
        (("nowhere.txt",), "nowhere.txt is neither a colour"),
    ],
)
def test_a_table_that_cannot_work_is_the_users_error(colours, said):
    with pytest.raises(ConfigError, match=said):
        label_maps.colour_table(SourceConfig(classes=4, colours=colours))


def test_one_class_may_have_one_colour(tmp_path):
    path = saved(Image.new("RGB", (4, 4), "#123456"), tmp_path / "map.png")
    source = SourceConfig(classes=1, colours=("#123456",))
    assert torch.equal(label_maps.read(path, 4, source), torch.ones(1, 4, 4))
