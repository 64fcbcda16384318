"""Pictures of a run: pairs of files, samples that follow from seeds, memory, and generated pictures."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pixel2style import images
from pixel2style.config import SourceConfig
from pixel2style.errors import ConfigError, ImageError
from pixel2style.ops import COMPARE_SIZE
from pixel2style.tasks import TASKS, Task, degrade
from pixel2style.training.batches import mix_codes
from pixel2style.training.dataset import (
    Pictures,
    augment,
    check_pairs,
    make_sources,
    photo_files,
    sample_seeds,
    step_rng,
)
from pixel2style.training.picture_cache import PictureCache, pack
from tests.support.golden_rule import arr, img

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS, WIDTH = 16, 8
SOURCE = SourceConfig(classes=4)


def problems(data: list[str], targets: list[str], task: Task, source: SourceConfig) -> list[str]:
    return check_pairs(data, targets, task, source)[1]


def paint(folder: Path, grays: list[int], side: int = 32) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for number, gray in enumerate(grays):
        Image.new("RGB", (side, side), (gray, gray, gray)).save(folder / f"{number}.png")
    return str(folder)


def noise(folder: Path, names: list[str], side: int = COMPARE_SIZE) -> str:
    """Pictures of which no two, and no two halves, are alike."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        pixels = np.random.Generator(np.random.Philox(number)).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return str(folder)


def maps(folder: Path, names: list[str], side: int = 64, top: int = 3) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        pixels = np.random.Generator(np.random.Philox(number)).integers(0, top + 1, (side, side), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return str(folder)


def pictures(data: str, task: str = "invert", targets: str | None = None, **how: object) -> Pictures:
    return Pictures([data], [targets] if targets else [], TASKS[task], SOURCE, **how)  # type: ignore[arg-type]


def test_a_step_always_has_the_same_random_numbers_and_every_step_and_seed_its_own():
    throws = {
        (seed, step): torch.randn(64, generator=step_rng(seed, step)) for seed in (0, 1) for step in (0, 1, 70_000)
    }
    assert all(torch.equal(torch.randn(64, generator=step_rng(*key)), throw) for key, throw in throws.items())
    throw = torch.stack(list(throws.values()))
    assert len(torch.unique(throw[:, 0])) == len(throws)


def test_the_places_of_a_batch_have_seeds_of_their_own_whatever_the_batch():
    found = {seed for step in range(40) for run in (0, 1) for seed in sample_seeds(run, step, 8)}
    assert len(found) == 40 * 2 * 8
    assert sample_seeds(3, 5, 8)[:3] == sample_seeds(3, 5, 3)
    assert step_rng(3, 5).initial_seed() not in sample_seeds(3, 5, 8)


@pytest.mark.parametrize("task", ["invert", "frontalize", "sketch", "superres", "inpaint"])
def test_a_sample_is_its_seeds_however_the_batch_is_split(tmp_path, task):
    """Two processes, or two accumulated parts, see together what one sees."""
    folder = noise(tmp_path / "a", [f"{number}.png" for number in range(5)], 64)
    one = pictures(folder, task, augment=True, readers=3)
    other = pictures(folder, task, augment=True, readers=1, memory=0)
    drawn = sample_seeds(0, 7, 6)
    sources, targets = one.batch(drawn)
    parts = [other.batch(drawn[:1]), other.batch(drawn[1:4]), other.batch(drawn[4:])]
    assert torch.equal(sources, torch.cat([part[0] for part in parts]))
    assert torch.equal(targets, torch.cat([part[1] for part in parts]))
    backwards = one.batch(drawn[::-1])
    assert torch.equal(backwards[0], sources.flip(0))
    assert not torch.equal(one.batch(sample_seeds(0, 8, 6))[1], targets)


def test_folders_are_drawn_from_by_the_square_root_of_their_size(tmp_path):
    folders = [paint(tmp_path / "few", [0] * 4), paint(tmp_path / "many", [255] * 36)]
    both = Pictures(folders, [], TASKS["invert"], SOURCE)
    assert len(both) == 40
    assert torch.allclose(both.shares, torch.tensor([0.25, 0.75]).double())
    bright = both.batch(sample_seeds(0, 0, 200))[1][:, 0, 0, 0] > 0
    assert 0.65 < bright.float().mean() < 0.85


def test_every_picture_is_drawn(tmp_path):
    grays = list(range(0, 250, 10))
    _, targets = pictures(paint(tmp_path / "a", grays)).batch(sample_seeds(0, 0, 300))
    found = ((targets[:, 0, 0, 0] + 1) * 127.5).round()
    assert sorted(set(found.tolist())) == grays


def turns(target: Tensor, plain: Tensor) -> bool:
    """Whether ``target`` is ``plain`` mirrored; it must be one of the two."""
    assert torch.equal(target, plain) != torch.equal(target, plain.flip(2))
    return torch.equal(target, plain.flip(2))


def test_half_of_the_photographs_are_mirrored_and_nothing_else_happens_to_them(tmp_path):
    noise(tmp_path / "a", ["only.png"])
    there = images.to_tensor(images.load(tmp_path / "a" / "only.png"))
    sources, targets = pictures(str(tmp_path / "a")).batch(sample_seeds(0, 0, 40))
    assert torch.equal(sources, targets)
    assert 10 <= sum(turns(target, there) for target in targets) <= 30
    still = pictures(str(tmp_path / "a"), mirror=False).batch(sample_seeds(0, 0, 10))[1]
    assert all(torch.equal(target, there) for target in still)


def test_frontalization_mirrors_source_and_target_independently(tmp_path):
    noise(tmp_path / "a", ["only.png"])
    there = images.to_tensor(images.load(tmp_path / "a" / "only.png"))
    drawn = pictures(str(tmp_path / "a"), "frontalize").batch(sample_seeds(0, 0, 60))
    orders = [(turns(source, there), turns(target, there)) for source, target in zip(*drawn, strict=True)]
    assert {(False, False), (False, True), (True, False), (True, True)} == set(orders)
    assert all(orders.count(order) >= 6 for order in set(orders))


def test_pairs_of_files_are_mirrored_as_one_and_never_moved(tmp_path):
    sources = noise(tmp_path / "sources", ["only.png"])
    targets = noise(tmp_path / "targets", ["only.jpg"])
    given = pictures(sources, "invert", targets, augment=True)
    source, target = (both[0] for both in given.fixed(0, 1))
    assert not torch.equal(source, target)  # a JPEG, and so another picture
    drawn = given.batch(sample_seeds(0, 0, 30))
    orders = [(turns(first, source), turns(second, target)) for first, second in zip(*drawn, strict=True)]
    assert set(orders) == {(False, False), (True, True)}


def test_label_maps_are_not_mirrored_since_classes_have_sides(tmp_path):
    data, targets = maps(tmp_path / "maps", ["only.png"]), noise(tmp_path / "faces", ["only.png"])
    given = pictures(data, "segmentation", targets)
    plain = given.fixed(0, 1)
    sources, faces = given.batch(sample_seeds(0, 0, 20))
    assert (sources == plain[0]).all()
    assert (faces == plain[1]).all()


@pytest.mark.parametrize("task", [name for name in TASKS if name != "segmentation"])
def test_validation_is_the_same_twice_to_the_bit_and_its_targets_are_the_files(tmp_path, task):
    folder = noise(tmp_path / "a", [f"{number}.png" for number in range(6)], 64)
    once, again = pictures(folder, task, augment=True), pictures(folder, task, readers=1, memory=0)
    first, second = once.fixed(0, 6), again.fixed(0, 6)
    once.batch(sample_seeds(0, 0, 4))
    parts = [once.fixed(0, 2), once.fixed(2, 5), once.fixed(5, 99)]
    for place in range(2):
        assert torch.equal(first[place], second[place])
        assert torch.equal(first[place], torch.cat([part[place] for part in parts]))
    for file, target in zip(photo_files(folder), first[1], strict=True):
        assert torch.equal(
            target, images.to_tensor(images.load(file).resize((COMPARE_SIZE, COMPARE_SIZE), Image.Resampling.BICUBIC))
        )


def test_validation_shows_more_than_one_mask(tmp_path):
    sources, _ = pictures(paint(tmp_path / "a", [9] * 12), "inpaint").fixed(0, 12)
    assert len({tuple(known.flatten().tolist()) for known in sources[:, 3, ::16, ::16]}) > 6


def test_validation_of_frontalization_has_mirrored_and_plain_sources(tmp_path):
    there = noise(tmp_path / "a", [f"{number}.png" for number in range(20)])
    sources, targets = pictures(there, "frontalize", mirror=False).fixed(0, 20)
    mirrored = [turns(source, target) for source, target in zip(sources, targets, strict=True)]
    assert 4 <= sum(mirrored) <= 16


def test_every_picture_of_a_folder_is_found_to_the_bottom_and_shown_at_256_pixels(tmp_path):
    paint(tmp_path / "a", [10, 20], side=300)
    paint(tmp_path / "a" / "deeper", [30], side=20)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    (tmp_path / "a" / "._0.png").write_bytes(b"what a file manager leaves behind")
    found = pictures(str(tmp_path / "a"))
    assert found.names == ["0", "1", "deeper/0"]
    _, targets = found.fixed(0, 3)
    assert targets.shape == (3, 3, COMPARE_SIZE, COMPARE_SIZE)
    assert ((targets[:, 0, 0, 0] + 1) * 127.5).round().tolist() == [10, 20, 30]


def test_sources_that_are_files_have_the_encoders_side_and_targets_theirs(tmp_path):
    data, targets = maps(tmp_path / "maps", ["a.png"], 512), noise(tmp_path / "faces", ["a.jpg"], 128)
    source, target = pictures(data, "segmentation", targets, side=192).batch([1])
    assert source.shape == (1, 4, 192, 192)
    assert target.shape == (1, 3, COMPARE_SIZE, COMPARE_SIZE)
    assert set(source.unique().tolist()) == {0.0, 1.0}


def test_pairs_are_matched_by_stem_where_their_order_would_be_wrong(tmp_path):
    """Sorted, b.left.png comes before b.png, and b.left.jpg after b.jpg."""
    sources, targets = tmp_path / "sources", tmp_path / "targets"
    for folder, suffix in ((sources, "png"), (targets, "jpg")):
        (folder / "deep").mkdir(parents=True)
        for name, gray in {"b": 10, "b.left": 20, "a": 30, "deep/b": 40}.items():
            Image.new("RGB", (16, 16), (gray,) * 3).save(folder / f"{name}.{suffix}")
    by_order = zip(photo_files(str(sources)), photo_files(str(targets)), strict=True)
    assert any(source.stem != target.stem for source, target in by_order)
    given = pictures(str(sources), "invert", str(targets))
    assert sorted(given.names) == given.names == ["a", "b", "b.left", "deep/b"]
    shown, wanted = given.fixed(0, 4)
    assert (shown - wanted).abs().max() < 0.02
    assert len(set(wanted[:, 0, 0, 0].tolist())) == 4


def test_a_task_that_makes_its_sources_takes_files_of_them_too(tmp_path):
    (tmp_path / "drawn").mkdir()
    Image.new("L", (64, 64), 51).save(tmp_path / "drawn" / "a.png")
    given = pictures(str(tmp_path / "drawn"), "sketch", noise(tmp_path / "faces", ["a.png"], 64))
    assert torch.allclose(given.batch([5])[0], torch.full((1, 1, COMPARE_SIZE, COMPARE_SIZE), 0.2))


def faulty(tmp_path: Path) -> tuple[str, str]:
    """Four good pairs, and one of each fault."""
    good = [f"{number}.png" for number in range(4)]
    data = maps(tmp_path / "maps", [*good, "lonely.png", "torn.png", "wide.png", "strange.png", "big.png", "twice.png"])
    targets = noise(tmp_path / "faces", [*good, "torn.png", "wide.png", "strange.png", "twice.png", "alone.png"], 64)
    Path(data, "torn.png").write_bytes(Path(data, "0.png").read_bytes()[:900])
    Image.fromarray(np.zeros((64, 80), np.uint8)).save(Path(data, "wide.png"))
    Image.fromarray(np.full((64, 64), 9, np.uint8)).save(Path(data, "strange.png"))
    Image.new("L", (64, 64)).save(Path(data, "twice.bmp"))
    Image.new("RGB", (90, 64)).save(Path(targets, "big.png"))
    return data, targets


def test_every_file_that_cannot_be_used_is_listed_with_its_fault(tmp_path):
    data, targets = faulty(tmp_path)
    said = problems([data], [targets], TASKS["segmentation"], SOURCE)
    expected = {
        "lonely.png": "no target",
        "alone.png": "no source",
        "torn.png": "broken",
        "strange.png": "class 9",
        "twice.png": "has the name of",
        "maps/wide.png": "80 x 64, of another shape",
        "maps/big.png": "64 x 64, of another shape",
        "faces/big.png": "90 x 64, no aligned face",
    }
    assert len(said) == len(expected)
    for name, fault in expected.items():
        assert any(name in line and fault in line for line in said), (name, said)
    with pytest.raises(ConfigError, match=r"8 files .*; and 5 more"):
        pictures(data, "segmentation", targets)


def test_good_pairs_have_no_problems(tmp_path):
    names = [f"{number}.png" for number in range(4)]
    data, targets = maps(tmp_path / "maps", names), noise(tmp_path / "faces", names, 64)
    assert problems([data], [targets], TASKS["segmentation"], SOURCE) == []
    assert [pair.name for pair in check_pairs([data], [targets], TASKS["segmentation"], SOURCE)[0][0]] == list("0123")


def test_a_truncated_photograph_is_found_before_training(tmp_path):
    """Its header is whole; its pixels end too early."""
    folder = Path(noise(tmp_path / "a", ["0.jpg", "1.jpg", "2.png", "3.webp"], 64))
    for name in ("1.jpg", "2.png", "3.webp"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
    said = problems([str(folder)], [], TASKS["invert"], SOURCE)
    assert [name for name in ("0.jpg", "1.jpg", "2.png", "3.webp") if any(name in line for line in said)] == [
        "1.jpg",
        "2.png",
        "3.webp",
    ]


def test_pictures_that_are_no_faces_may_have_any_shape(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (90, 60)).save(tmp_path / "a" / "car.png")
    assert problems([str(tmp_path / "a")], [], TASKS["domain"], SOURCE) == []
    assert len(problems([str(tmp_path / "a")], [], TASKS["invert"], SOURCE)) == 1


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_pictures_is_named(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=f"{folder} holds no pictures"):
        pictures(str(tmp_path / folder))


@pytest.mark.parametrize(
    ("data", "targets", "said"),
    [([], [], "--data"), (["a"], [], "19 classes, not 4"), (["a", "a"], ["a"], "2 folders of data and 1 of targets")],
)
def test_folders_that_cannot_be_paired_are_the_users_error(tmp_path, data, targets, said):
    there = paint(tmp_path / "a", [1])
    with pytest.raises(ConfigError, match=said):
        Pictures([there for _ in data], [there for _ in targets], TASKS["segmentation"], SOURCE)


def test_a_picture_that_breaks_during_training_is_named(tmp_path):
    folder = Path(paint(tmp_path / "a", [10, 20]))
    there = pictures(str(folder), memory=0)
    (folder / "0.png").write_bytes(b"gone")
    with pytest.raises(ImageError, match=r"0\.png"):
        there.batch(sample_seeds(0, 0, 20))


def test_a_task_that_says_the_wrong_channels_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="says 2 channels and its sources have 3"):
        Pictures([paint(tmp_path / "a", [1])], [], Task("wrong", channels=2), SOURCE)


def test_colours_may_be_listed_in_a_file(tmp_path):
    (tmp_path / "maps").mkdir()
    Image.new("RGB", (16, 16), "#00ff00").save(tmp_path / "maps" / "0.png")
    (tmp_path / "colours.txt").write_text("#000000 ground\n#00ff00 sky\n")
    source = SourceConfig(classes=2, colours=(str(tmp_path / "colours.txt"),))
    folders = [str(tmp_path / "maps")], [paint(tmp_path / "faces", [1], 16)]
    there = Pictures(*folders, TASKS["segmentation"], source)
    assert there.source.colours == ("#000000", "#00ff00")
    assert (there.batch([0])[0].argmax(1) == 1).all()


def test_files_are_read_once_as_long_as_memory_lasts(tmp_path, monkeypatch):
    folder = noise(tmp_path / "a", [f"{number}.png" for number in range(6)], 32)
    read: list[str] = []
    load = images.load

    def counted(path: Path) -> Image.Image:
        read.append(Path(path).name)
        return load(path)

    monkeypatch.setattr(images, "load", counted)
    picture = 3 * COMPARE_SIZE * COMPARE_SIZE / 1e9
    for memory, again in ((6.5 * picture, 0), (3.5 * picture, 3), (0, 6)):
        there = pictures(folder, memory=memory)
        there.fixed(0, 6)
        read.clear()
        there.fixed(0, 6)
        assert len(read) == again


@pytest.mark.parametrize(
    ("tensor", "size"),
    [
        (lambda: (img("a", 3, 9, 9) > 0).float(), 31),
        (lambda: torch.arange(256).float() / 127.5 - 1, 256),
        (lambda: torch.arange(256).float() / 255, 256),
        (lambda: arr("numbers", 5, 5), 100),
    ],
)
def test_what_is_kept_comes_back_to_the_bit_in_fewer_bytes_where_it_can(tensor: Callable[[], Tensor], size: int):
    there = tensor()
    small = pack(there)
    assert small.content.nbytes == size
    assert torch.equal(small.tensor(), there)
    kept = PictureCache(1)
    first = kept("a", lambda: there.clone())
    kept("a", lambda: there.clone()).zero_()  # what one caller does to his is nothing to the next
    assert torch.equal(kept("a", lambda: there * 0 + 7), first)


def test_generated_pictures_get_the_sources_of_their_seeds():
    targets = img("made", 4, 3, 64, 64)
    for name in ("sketch", "superres", "inpaint"):
        sources = make_sources(TASKS[name], targets, [1, 2, 3, 4], SOURCE)
        alone = [make_sources(TASKS[name], targets[i : i + 1], [i + 1], SOURCE) for i in range(4)]
        assert torch.equal(sources, torch.cat(alone))
    assert torch.equal(make_sources(TASKS["invert"], targets, [1, 2, 3, 4], SOURCE), targets)


def test_sources_of_generated_pictures_are_mirrored_only_where_the_task_mirrors_apart():
    targets = img("made", 30, 3, 8, 8)
    mirrored = [
        turns(source, target)
        for source, target in zip(make_sources(TASKS["frontalize"], targets, range(30), SOURCE), targets, strict=True)
    ]
    assert 6 <= sum(mirrored) <= 24
    assert torch.equal(make_sources(TASKS["frontalize"], targets, range(30), SOURCE, mirror=False), targets)


def test_a_task_whose_sources_are_files_makes_none_of_generated_pictures():
    with pytest.raises(ConfigError, match="makes no sources"):
        make_sources(Task("files", source=None), img("made", 1, 3, 8, 8), [0], SOURCE)


def test_what_a_source_is_made_of_is_the_augmented_target(tmp_path):
    """Where the face went, its sketch went too."""
    folder = noise(tmp_path / "a", ["0.png"], 64)
    source = dataclasses.replace(SOURCE, factors=(4,))
    there = Pictures([folder], [], TASKS["superres"], source, augment=True)
    sources, targets = there.batch(sample_seeds(0, 0, 6))
    assert torch.allclose(sources, degrade.low_resolution(targets, 4), atol=1e-5)
    plain = there.fixed(0, 1)[1]
    assert sum(bool((target - plain[0]).abs().max() > 0.1) for target in targets) >= 4


def test_augmented_pictures_keep_shape_and_range_and_some_stay_where_they_are():
    picture = img("picture", 3, 16, 16)
    moved = torch.stack([augment(picture, step_rng(0, step)) for step in range(60)])
    assert moved.shape[1:] == picture.shape
    assert moved.min() >= -1
    assert moved.max() <= 1
    assert torch.equal(augment(picture, step_rng(0, 3)), moved[3])
    assert (moved - picture).abs().amax((1, 2, 3)).max() > 0.1
    assert torch.allclose(augment(picture, step_rng(0, 0), share=0.0), picture, atol=1e-5)
    half = torch.stack([augment(picture, step_rng(0, step), share=0.1) for step in range(60)])
    unmoved = (half - picture).abs().amax((1, 2, 3)) < 1e-4
    assert 16 < int(unmoved.sum()) < 48  # 0.9 ** 7 of them, 29, in the mean


def test_augmentation_is_the_same_under_bfloat16_autocast():
    picture = img("photograph", 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        moved = augment(picture, step_rng(0, 0))
    assert torch.equal(moved, augment(picture, step_rng(0, 0)))


def test_known_rows_are_whole_rows_of_their_sources():
    """Every row is a mapped code, truncated by 0.7 to 1, or close to the same row of the bank."""
    mapped = arr("mapped", 3 * 40, WIDTH)
    bank = 5 * arr("bank", 6, ROWS, WIDTH)
    ws = mix_codes(mapped, bank, step_rng(0, 0))
    assert ws.shape == (40, ROWS, WIDTH)
    kinds = []
    for number, rows in enumerate(ws):
        own = mapped[3 * number : 3 * number + 3]
        pulls = (rows @ own.T) / own.square().sum(1)
        far = (rows[:, None] - pulls[..., None] * own).norm(dim=2)
        from_mapped = (far < 1e-4) & (pulls > 0.7 - 1e-4) & (pulls < 1 + 1e-4)
        noise = (rows[None] - bank).square().mean(2).sqrt()  # 0.15 where the row is the bank's
        assert (from_mapped.any(1) | (noise < 0.4).any(0)).all()
        kinds.append(bool(from_mapped.any(1).all()))
        assert from_mapped.any(1).all() or not from_mapped.any()
        picked = from_mapped.float().argmax(1) if kinds[-1] else noise.argmin(0)
        assert len(torch.unique_consecutive(picked)) <= 3  # up to three sources, cut at two places
    assert 10 <= sum(kinds) <= 30


def test_rows_are_mixed_at_places_all_over_them():
    mapped, bank = arr("mapped", 3 * 200, WIDTH), torch.zeros(1, ROWS, WIDTH)
    ws = mix_codes(mapped, bank, step_rng(0, 0))
    cut = (ws[:, 1:] - ws[:, :-1]).abs().amax(2) > 0.9  # noise on the bank's rows stays below
    assert (cut.sum(0) > 0).all()
    whole = (ws[:, 1:] == ws[:, :-1]).all(2).all(1)
    assert 0 < int(whole.sum()) < 100
