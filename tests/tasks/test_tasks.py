"""What each task shows an encoder, and that another task is one entry and one function."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pixel2style import images
from pixel2style.config import SourceConfig
from pixel2style.errors import ConfigError, ImageError
from pixel2style.tasks import TASKS, Task, channels_of, degrade, find_task, pencils, read_source
from tests.support.golden_rule import img
from tests.support.paths import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")
EXAMPLES = ROOT / "examples"
SOURCE = SourceConfig()
MADE = [name for name, task in TASKS.items() if task.source is not None]


@pytest.fixture(scope="module")
def astronaut() -> Tensor:
    return images.to_tensor(images.load(EXAMPLES / "astronaut.png").resize((64, 64)))


def dice(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shown(name: str, target: Tensor, seed: int, source: SourceConfig = SOURCE) -> Tensor:
    make = TASKS[name].source
    assert make is not None
    return make(target, dice(seed), source)


def test_there_are_the_eight_tasks_of_the_paper():
    assert list(TASKS) == [
        "invert",
        "frontalize",
        "sketch",
        "segmentation",
        "superres",
        "inpaint",
        "toonify",
        "domain",
    ]


def test_channels_are_what_sources_have(astronaut):
    expected = {"sketch": 1, "segmentation": 19, "inpaint": 4}
    for name, task in TASKS.items():
        assert channels_of(name, SOURCE) == channels_of(task, SOURCE) == expected.get(name, 3)
    for name in MADE:
        assert shown(name, astronaut, 0).shape == (channels_of(name, SOURCE), 64, 64)
    assert channels_of("segmentation", SourceConfig(classes=150)) == 150


@pytest.mark.parametrize("name", MADE)
def test_a_source_follows_from_its_dice_and_leaves_its_target_alone(astronaut, name):
    before = astronaut.clone()
    assert torch.equal(shown(name, astronaut, 7), shown(name, astronaut, 7))
    assert torch.equal(astronaut, before)


@pytest.mark.parametrize("name", ["sketch", "superres", "inpaint"])
def test_what_is_random_differs_from_sample_to_sample(astronaut, name):
    sources = [shown(name, astronaut, seed) for seed in range(12)]
    assert len({tuple(source.flatten().tolist()) for source in sources}) > 4


@pytest.mark.parametrize("name", ["invert", "frontalize", "toonify", "domain"])
def test_the_source_of_a_picture_is_the_picture(astronaut, name):
    assert torch.equal(shown(name, astronaut, 0), astronaut)


def test_each_factor_is_drawn_and_none_else(astronaut):
    source = SourceConfig(factors=(1, 4))
    kinds = [degrade.low_resolution(astronaut, factor) for factor in source.factors]
    found = [[torch.equal(shown("superres", astronaut, seed, source), kind) for kind in kinds] for seed in range(30)]
    assert all(sum(row) == 1 for row in found)
    assert 5 < sum(row[0] for row in found) < 25


def test_a_factor_that_does_not_divide_the_side_is_refused_at_the_first_picture_whatever_is_drawn(astronaut):
    for seed in range(6):
        with pytest.raises(ConfigError, match=r"6 does not divide 64 pixels.*--source\.factors"):
            shown("superres", astronaut, seed, SourceConfig(factors=(1, 2, 6)))


@pytest.mark.parametrize(("name", "option"), [("superres", "factors"), ("inpaint", "masks"), ("sketch", "sketches")])
def test_nothing_to_draw_from_is_named(astronaut, name, option):
    with pytest.raises(ConfigError, match=rf"--source\.{option}"):
        shown(name, astronaut, 0, dataclasses.replace(SOURCE, **{option: ()}))


def test_a_masked_picture_shows_what_is_known_and_says_what_is(astronaut):
    for kind in ("box", "half", "strokes"):
        source = shown("inpaint", astronaut, 1, SourceConfig(masks=(kind,)))
        known = source[3:] == 1
        assert torch.equal(source[:3], torch.where(known, astronaut, 0.0))
        assert (source[3:] == 0).any()


def test_only_the_drawings_that_are_asked_for_are_made(astronaut):
    source = SourceConfig(sketches=("lines",))
    rng = dice(3)
    torch.randint(1, (), generator=rng)  # which of the one
    assert torch.equal(shown("sketch", astronaut, 3, source), pencils.sketch(astronaut, "lines", rng))


def test_a_wrong_name_is_answered_with_the_nearest():
    assert find_task("sketch") is TASKS["sketch"]
    with pytest.raises(ConfigError, match="no task frontalise: did you mean frontalize"):
        find_task("frontalise")


def test_photographs_are_read_in_minus_one_to_one_and_sketches_from_zero_to_one(tmp_path):
    Image.new("RGB", (30, 30), (255, 0, 128)).save(tmp_path / "colour.png")
    colour = read_source(TASKS["invert"], tmp_path / "colour.png", 16, SOURCE)
    assert torch.allclose(colour[:, 0, 0], torch.tensor([1.0, -1.0, 128 / 127.5 - 1]), atol=1e-6)
    Image.new("L", (30, 30), 51).save(tmp_path / "gray.png")
    gray = read_source(TASKS["sketch"], tmp_path / "gray.png", 16, SOURCE)
    assert gray.shape == (1, 16, 16)
    assert torch.allclose(gray, torch.tensor(0.2))


def test_a_masked_file_hides_what_is_transparent(tmp_path):
    pixels = np.full((16, 16, 4), 255, np.uint8)
    pixels[:, :8, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "torn.png")
    source = read_source(TASKS["inpaint"], tmp_path / "torn.png", 16, SOURCE)
    assert (source[:, :, :8] == 0).all()
    assert (source[:, :, 8:] == 1).all()
    Image.fromarray(pixels[..., :3]).save(tmp_path / "whole.jpg")
    assert (read_source(TASKS["inpaint"], tmp_path / "whole.jpg", 16, SOURCE)[3] == 1).all()


def test_a_pixel_that_is_partly_hidden_is_hidden(tmp_path):
    """Reduced, the border of a hole is half hole: its colour is not what the picture shows there."""
    pixels = np.full((16, 16, 4), 255, np.uint8)
    pixels[:, :7] = 0
    Image.fromarray(pixels).save(tmp_path / "torn.png")
    source = read_source(TASKS["inpaint"], tmp_path / "torn.png", 8, SOURCE)
    assert source[3, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_small_pictures_are_enlarged_as_those_that_were_made_small(tmp_path):
    """A user's own 8-pixel picture looks to the encoder like a photograph reduced to 8 pixels."""
    few = img("few", 3, 8, 8)
    images.save(few, tmp_path / "few.png")
    few = images.to_tensor(images.load(tmp_path / "few.png"))
    matrix = degrade.enlargement(8, 8).float()
    inside = (slice(None), slice(20, -20), slice(20, -20))
    read = read_source(TASKS["superres"], tmp_path / "few.png", 64, SOURCE)
    apart = (read - (matrix @ few @ matrix.T).clamp(-1, 1))[inside].abs()
    assert apart.max() < 0.04  # bytes are rounded and clipped between the two directions
    assert apart.mean() < 0.004


def test_a_label_map_is_read_by_its_classes(tmp_path):
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(tmp_path / "map.png")
    one_hot = read_source(TASKS["segmentation"], tmp_path / "map.png", 4, SOURCE)
    assert one_hot.argmax(0).flatten().tolist() == list(range(16))
    with pytest.raises(ImageError, match=r"map\.png holds classes 8, 9"):
        read_source(TASKS["segmentation"], tmp_path / "map.png", 4, SourceConfig(classes=8))


def test_channels_that_no_picture_has_need_a_function_that_reads_them(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "any.png")
    with pytest.raises(ConfigError, match="5 channels"):
        read_source(Task("layers", channels=5), tmp_path / "any.png", 4, SOURCE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", MADE)
def test_a_source_is_made_where_its_target_is(astronaut, name):
    there = shown(name, astronaut.cuda(), 4)
    assert there.device.type == "cuda"
    assert torch.allclose(there.cpu(), shown(name, astronaut, 4), atol=2e-3)


def test_every_command_of_the_document_is_one_and_every_preset_of_a_task_is_there():
    from pixel2style.cli.train import parse_config

    said = {}
    for line in (EXAMPLES.parent / "docs" / "tasks.md").read_text().splitlines():
        if line.startswith("    pixel2style train "):
            name, *words = line.split()[2:]
            if name != "colourise":  # of the example, which is not installed here
                said[name] = parse_config("train", "", [name, *words])
    assert said.keys() == {name + kind for name in TASKS for kind in ("", "-compact")}
    for name, config in said.items():
        assert config.task == name.removesuffix("-compact")
        assert config.data and config.out
        assert bool(config.targets) == (config.task == "segmentation")


def test_the_document_shows_the_example_as_it_is():
    code = (EXAMPLES / "colourise" / "colourise.py").read_text().split('"""\n', 1)[1].strip()
    assert code in (EXAMPLES.parent / "docs" / "tasks.md").read_text()
