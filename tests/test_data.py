"""What an encoder is shown follows from the seed and the step, and is what it says it is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from golden_rule import arr, img
from pixel2style.data import SIDE, Photographs, augment, dice, mixed_codes, photo_files, read_folder
from pixel2style.errors import ConfigError, ImageError

CPU = torch.device("cpu")
ROWS, WIDTH = 16, 8


def paint(folder: Path, grays: list[int], side: int = 32) -> str:
    folder.mkdir(parents=True)
    for number, gray in enumerate(grays):
        Image.new("RGB", (side, side), (gray, gray, gray)).save(folder / f"{number}.png")
    return str(folder)


def test_a_step_always_throws_the_same_dice_and_every_step_and_seed_its_own():
    throws = {(seed, step): torch.randn(64, generator=dice(seed, step)) for seed in (0, 1) for step in (0, 1, 70_000)}
    assert all(torch.equal(torch.randn(64, generator=dice(*key)), throw) for key, throw in throws.items())
    throw = torch.stack(list(throws.values()))
    assert len(torch.unique(throw[:, 0])) == len(throws)


def test_a_batch_follows_from_its_seed_and_step(tmp_path):
    photographs = Photographs([paint(tmp_path / "a", list(range(0, 250, 10)))], CPU)
    batch = photographs.draw(8, dice(3, 5))
    assert batch.shape == (8, 3, SIDE, SIDE)
    assert torch.equal(batch, photographs.draw(8, dice(3, 5)))
    assert not torch.equal(batch, photographs.draw(8, dice(3, 6)))
    assert not torch.equal(batch, photographs.draw(8, dice(4, 5)))


def test_folders_are_drawn_from_by_the_square_root_of_their_size(tmp_path):
    photographs = Photographs([paint(tmp_path / "few", [0] * 4), paint(tmp_path / "many", [255] * 36)], CPU)
    assert len(photographs) == 40
    assert torch.allclose(photographs.shares, torch.tensor([0.25, 0.75]))
    bright = torch.cat([photographs.draw(8, dice(0, step))[:, 0, 0, 0] for step in range(25)]) > 0
    assert 0.65 < bright.float().mean() < 0.85


def test_half_of_the_photographs_are_mirrored_and_nothing_else_happens_to_them(tmp_path):
    (tmp_path / "a").mkdir()
    pixels = np.random.Generator(np.random.Philox(1)).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a" / "only.png")
    there = torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
    drawn = Photographs([str(tmp_path / "a")], CPU).draw(40, dice(0, 0))
    plain = [torch.equal(picture, there) for picture in drawn]
    mirrored = [torch.equal(picture, there.flip(2)) for picture in drawn]
    assert all(a != b for a, b in zip(plain, mirrored, strict=True))
    assert 10 <= sum(mirrored) <= 30


def test_every_picture_of_a_folder_is_read_to_the_bottom_at_256_pixels(tmp_path):
    paint(tmp_path / "a", [10, 20], side=300)
    paint(tmp_path / "a" / "deeper", [30], side=20)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    assert [file.name for file in photo_files(str(tmp_path / "a"))] == ["0.png", "1.png", "0.png"]
    pixels = read_folder(str(tmp_path / "a"))
    assert (pixels.shape, pixels.dtype) == ((3, 3, SIDE, SIDE), torch.uint8)
    assert pixels[:, 0, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_pictures_is_named(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=f"{folder} holds no pictures"):
        Photographs([str(tmp_path / folder)], CPU)


def test_a_broken_picture_is_named(tmp_path):
    paint(tmp_path / "a", [10])
    (tmp_path / "a" / "torn.png").write_bytes((tmp_path / "a" / "0.png").read_bytes()[:60])
    with pytest.raises(ImageError, match=r"torn\.png"):
        read_folder(str(tmp_path / "a"))


def test_augmented_pictures_keep_shape_and_range_and_some_stay_where_they_are():
    pictures = img("pictures", 48, 3, 16, 16)
    moved = augment(pictures, dice(0, 0))
    assert moved.shape == pictures.shape
    assert moved.min() >= -1
    assert moved.max() <= 1
    assert torch.equal(augment(pictures, dice(0, 0)), moved)
    assert (moved - pictures).abs().amax((1, 2, 3)).max() > 0.1
    still = augment(pictures, dice(0, 0), share=0.0)
    assert torch.allclose(still, pictures, atol=1e-5)
    half = augment(pictures, dice(0, 0), share=0.1)
    unmoved = (half - pictures).abs().amax((1, 2, 3)) < 1e-4
    assert 12 < int(unmoved.sum()) < 40  # 0.9 ** 7 of them, 23, in the mean


def test_known_rows_are_whole_rows_of_their_sources():
    """Every row points where a mapped code points (pulled by 0.7 to 1), or lies near a row of the bank at its place."""
    mapped = arr("mapped", 3 * 40, WIDTH)
    bank = 5 * arr("bank", 6, ROWS, WIDTH)
    ws = mixed_codes(mapped, bank, dice(0, 0))
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
    ws = mixed_codes(mapped, bank, dice(0, 0))
    cut = (ws[:, 1:] - ws[:, :-1]).abs().amax(2) > 0.9  # noise on the bank's rows stays below
    assert (cut.sum(0) > 0).all()
    whole = (ws[:, 1:] == ws[:, :-1]).all(2).all(1)
    assert 0 < int(whole.sum()) < 100


def test_photographs_are_moved_as_exactly_where_the_networks_run_in_bfloat16():
    batch = img("photographs", 8, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        moved = augment(batch, dice(0, 0))
    assert torch.equal(moved, augment(batch, dice(0, 0)))
