"""Grids, morphs, walks and variants: what each tile and each frame shows."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import pixel2style as p2s
from pixel2style import images, photos
from pixel2style.cli import main
from pixel2style.errors import ConfigError, OutputError
from pixel2style.inference import edit, figures, folder
from pixel2style.inference.figures import TILE
from tests.support import stand_in
from tests.support.paths import ASTRONAUT, ROOT

pytestmark = pytest.mark.usefixtures("one_thread")
OTHER = ROOT / "examples" / "gallery" / "coelho.jpg"


def run(*words: object) -> int:
    return main([str(word) for word in words])


def tile(sheet: Image.Image, row: int, column: int) -> np.ndarray:
    return np.asarray(sheet.crop((column * TILE, row * TILE, (column + 1) * TILE, (row + 1) * TILE))).astype(int)


def shown(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.resize((TILE, TILE), Image.Resampling.LANCZOS)).astype(int)


def test_a_grid_has_photographs_down_others_across_and_their_mixtures(
    model: Path, session: p2s.Session, tmp_path: Path
) -> None:
    words = ("mix", ASTRONAUT, OTHER, "--with", OTHER, "--with", ASTRONAUT, "--grid", "--model", model)
    assert run(*words, "--rows", "0-", "--out", tmp_path) == 0
    sheet = images.load(tmp_path / "grid.png")
    assert sheet.size == (3 * TILE, 3 * TILE)
    assert (tile(sheet, 0, 0) == 255).all()
    one, other = (shown(session.invert(photo).reconstruction) for photo in (ASTRONAUT, OTHER))
    apart = np.abs(one - other).mean()
    for row, column, wanted in ((1, 0, one), (2, 0, other), (0, 1, other), (0, 2, one), (1, 1, other), (2, 2, one)):
        assert np.abs(tile(sheet, row, column) - wanted).mean() < apart / 4, (row, column)


def test_of_the_others_of_a_grid_one_photograph_at_a_time_is_in_memory(
    session: p2s.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results: list[weakref.ref[p2s.Result]] = []
    kept = []

    def invert(photo: Path, align: bool) -> p2s.Result:
        gc.collect()
        kept.append(sum(result() is not None for result in results))
        results.append(weakref.ref(result := p2s.Session.invert(session, photo, align)))
        return result

    monkeypatch.setattr(session, "invert", invert)
    others = [str(ASTRONAUT), str(OTHER), str(ASTRONAUT)]
    list(figures.grid_into(tmp_path / "out", photos.find([str(OTHER)]), session, others, rows="0-"))
    assert kept == [0, 1, 1]


def test_a_morph_begins_and_ends_with_the_faces_themselves(session: p2s.Session) -> None:
    one, other = session.invert(ASTRONAUT), session.invert(OTHER)
    pictures = session.morph(one, other, 4)
    assert len(pictures) == 4
    assert pictures[0].tobytes() == one.reconstruction.tobytes()
    assert pictures[-1].tobytes() == other.reconstruction.tobytes()
    away = [np.abs(np.asarray(p).astype(int) - np.asarray(other.reconstruction)).mean() for p in pictures]
    assert away == sorted(away, reverse=True)


def test_faces_of_tuned_generators_do_not_become_each_other(session: p2s.Session) -> None:
    one = session.invert(Image.new("RGB", (20, 20)), align=False)
    with pytest.raises(ConfigError, match="tuned"):
        session.morph(one, replace(one, generator=session.model.generator), 2)


def test_the_command_morphs_in_the_order_given(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("morph", ASTRONAUT, OTHER, "--model", model, "--steps", 3, "--gif", "--out", tmp_path / "out")
    assert run(*words) == 0
    assert images.load(tmp_path / "out" / "morph.png").size == (3 * TILE, TILE)
    with Image.open(tmp_path / "out" / "morph.gif") as animation:
        assert animation.format == "GIF" and animation.size == (TILE, TILE)
    capsys.readouterr()
    assert run("morph", ASTRONAUT, "--model", model, "--out", tmp_path / "one") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_animation_goes_forth_and_back_and_keeps_its_pace(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (32, 32), (level, level, level)) for level in (0, 100, 200)]
    images.save_animation(frames, tmp_path / "walk.gif", 1.0)
    with Image.open(tmp_path / "walk.gif") as animation:
        levels = []
        for number in range(animation.n_frames):
            animation.seek(number)
            levels.append(animation.convert("RGB").getpixel((5, 5))[0])
            assert animation.info["duration"] == 500
        assert animation.info["loop"] == 0
    assert levels == pytest.approx([0, 100, 200, 100], abs=3)
    with pytest.raises(OutputError, match=r"\.gif"):
        images.save_animation(frames, tmp_path / "walk.png")


def test_variants_keep_other_rows_and_follow_from_the_seed(model: Path, tmp_path: Path) -> None:
    words = ("mix", ASTRONAUT, "--model", model, "--rows", "3-", "--variants", 3)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(*words, "--seed", seed, "--out", tmp_path / name) == 0
    assert images.load(tmp_path / "a" / "astronaut.variants.png").size == (3 * stand_in.SIZE, stand_in.SIZE)
    rows = [load_file(tmp_path / name / "latents.safetensors") for name in "abc"]
    own, variants = rows[0]["astronaut"], rows[0]["astronaut.samples"]
    assert torch.equal(variants[:, :3], own[:3].expand(3, -1, -1)) and not torch.equal(variants[0, 3:], own[3:])
    assert torch.equal(variants, rows[1]["astronaut.samples"])
    assert not torch.equal(variants, rows[2]["astronaut.samples"])


def test_going_on_never_replaces_or_counts_results_of_another_command(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("invert", ASTRONAUT, "--model", model, "--out", tmp_path) == 0
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    words = ("mix", ASTRONAUT, "--model", model, "--rows", "3-", "--variants", 1, "--out", tmp_path)
    assert run(*words, "--skip-existing") == 2
    assert "astronaut.png" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert run(*words, "--overwrite") == 0
    made = (tmp_path / "astronaut.png").read_bytes()
    (tmp_path / "astronaut.variants.png").unlink()  # as where a run was killed
    assert run(*words, "--skip-existing") == 0
    assert (tmp_path / "astronaut.variants.png").is_file() and (tmp_path / "astronaut.png").read_bytes() == made


def test_a_strip_of_a_mixture_leads_from_the_photograph_to_it(model: Path, tmp_path: Path) -> None:
    words = ("mix", ASTRONAUT, "--with", OTHER, "--rows", "0-", "--strip", 3, "--gif", "--model", model)
    assert run(*words, "--out", tmp_path) == 0
    strip, mixed = (np.asarray(images.load(tmp_path / f"astronaut{end}.png")).astype(int) for end in (".strip", ""))
    assert strip.shape == (stand_in.SIZE, 3 * stand_in.SIZE, 3)
    assert (strip[:, -stand_in.SIZE :] == mixed).all()
    rows = load_file(tmp_path / "latents.safetensors")
    assert torch.allclose(rows["astronaut.samples"][1], (rows["astronaut"] + rows["astronaut.samples"][0]) / 2)
    assert (tmp_path / "astronaut.gif").stat().st_size > 100


def test_wide_pictures_keep_their_shape_and_have_no_regions(tmp_path: Path) -> None:
    p2s.save(stand_in.random_model(task="domain", height=48), tmp_path / "wide.safetensors")
    session = p2s.Session(tmp_path / "wide.safetensors", "cpu")
    result = session.invert(Image.new("RGB", (64, 64)), align=False)
    drawn = result.reconstruction
    assert drawn.size == (stand_in.SIZE, stand_in.SIZE * 3 // 4)
    folder._save_one(replace(result, samples=(drawn, result.aligned.resize(drawn.size))), "gif", tmp_path / "a.gif")
    assert images.load(tmp_path / "a.gif").size == drawn.size
    assert figures._tile(drawn).size == (TILE, TILE * 3 // 4)
    with pytest.raises(ConfigError, match="wide"):
        session.edit(result, result.ws, only="mouth")
    with pytest.raises(ConfigError, match="wide"):
        session.paint(result, drawn, torch.ones(1, 256, 256))


def test_walks_and_variants_of_impossible_numbers_are_refused(
    model: Path, session: p2s.Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ws = torch.zeros(stand_in.ROWS, stand_in.WIDTH)
    for steps in (1, 99):
        with pytest.raises(ConfigError, match="strip"):
            edit.walk(ws, ws, steps)
    with pytest.raises(ConfigError, match="variants"):
        edit.varied(ws, session.model.generator, 99, "0-", 0, 1.0)
    for number in (-1, 99):
        for wrong in (
            ("edit", "--set", "age=1", "--strip"),
            ("mix", "--with", OTHER, "--strip"),
            ("mix", "--variants"),
        ):
            assert run(wrong[0], ASTRONAUT, *wrong[1:], number, "--out", tmp_path / "early") == 2
            assert str(number) in capsys.readouterr().err and not (tmp_path / "early").exists()
    for wrong in (("--variants", 2, "--gif"), ("--grid",), ("--grid", "--with", OTHER, "--paste")):
        assert run("mix", ASTRONAUT, "--model", model, "--out", tmp_path / "out", *wrong) == 2
        assert capsys.readouterr().err.count("\n") == 1
